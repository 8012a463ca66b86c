/** `aws.iam.RolePolicy`: a policy inside a role. */
import type { iam } from "@pulumi/aws";
import { json, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { hasCode, unlessGone } from "../errors";
import { uniqueName } from "../names";
import { normalizePolicy } from "../policy";

const gone = ["NoSuchEntityException", "NoSuchEntity"];

/** A change of name or role replaces it. The id is `role:name`. */
export const rolePolicy = resource<iam.RolePolicyArgs, iam.RolePolicyState, AwsContext>({
  token: "aws:iam/rolePolicy:RolePolicy",
  nameInput: "name",
  inputs: {
    name: text({ computed: true, replaces: true, autoName: { maxLength: 128 }, conflictsWith: ["namePrefix"] }),
    namePrefix: text({ replaces: true, providerOnly: true, conflictsWith: ["name"] }),
    policy: json({ required: true, normalize: normalizePolicy }),
    role: text({ required: true, replaces: true }),
  },
  outputs: {},

  async create(request, inputs) {
    const name = inputs.name ?? uniqueName(inputs.namePrefix ?? "");
    await put(request, inputs.role, name, inputs.policy, true);
    return `${inputs.role}:${name}`;
  },
  async read(request, id) {
    const { GetRolePolicyCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const { role, name } = parseId(id);
    const found = await unlessGone(
      gone,
      call(request, `reading IAM Role Policy (${id})`, (options) =>
        client.send(new GetRolePolicyCommand({ RoleName: role, PolicyName: name }), options),
      ),
    );
    return found && { state: { name, role, policy: decodeURIComponent(found.PolicyDocument ?? "") } };
  },
  async update(request, id, inputs) {
    const { role, name } = parseId(id);
    await put(request, role, name, inputs.policy, false);
  },
  async delete(request, id) {
    const { DeleteRolePolicyCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const { role, name } = parseId(id);
    const deleted = call(request, `deleting IAM Role Policy (${id})`, (options) =>
      client.send(new DeleteRolePolicyCommand({ RoleName: role, PolicyName: name }), options),
    );
    await unlessGone(gone, deleted);
  },
});

function parseId(id: string): { role: string; name: string } {
  const [role, name] = id.split(":");
  if (!role || !name) throw new Error(`${id} is no id of an IAM role policy: write role:policy`);
  return { role, name };
}

async function put(request: AwsRequest, role: string, name: string, policy: string, fresh: boolean): Promise<void> {
  const { PutRolePolicyCommand } = await import("@aws-sdk/client-iam");
  const client = await request.context.iam();
  const command = new PutRolePolicyCommand({ RoleName: role, PolicyName: name, PolicyDocument: policy });
  const doing = `putting IAM Role Policy (${role}:${name})`;
  // A role made just before may not be seen everywhere yet.
  const settling = fresh ? (error: unknown) => hasCode(error, gone) : undefined;
  await call(request, doing, (options) => client.send(command, options), settling);
}
