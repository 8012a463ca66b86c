/**
 * `aws.iam.Role`: the role, its trust policy, permissions boundary and tags.
 *
 * Not done: inline and managed policies as arguments of the role (both deprecated upstream), and the outputs of these names.
 */

import type { IAMClient } from "@aws-sdk/client-iam";
import type { iam } from "@pulumi/aws";
import { boolean, json, number, refused, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { uniqueName } from "../names";
import { normalizePolicy, principalNotSeen } from "../policy";
import { allTags, tagChanges, tagList, tagMap, tagOutputs } from "../tags";

/** A change of name or path replaces it. The id is the name. */
export const role = resource<iam.RoleArgs, iam.RoleState, AwsContext>({
  token: "aws:iam/role:Role",
  nameInput: "name",
  inputs: {
    assumeRolePolicy: json({ required: true, normalize: normalizePolicy }),
    description: text(),
    forceDetachPolicies: boolean({ default: false, providerOnly: true }),
    inlinePolicies: refused("use the resource aws.iam.RolePolicy"),
    managedPolicyArns: refused("use the resource aws.iam.RolePolicyAttachment of the official plugin"),
    maxSessionDuration: number({ default: 3600 }),
    name: text({ computed: true, replaces: true, autoName: { maxLength: 64 }, conflictsWith: ["namePrefix"] }),
    namePrefix: text({ replaces: true, providerOnly: true, conflictsWith: ["name"] }),
    path: text({ default: "/", replaces: true }),
    permissionsBoundary: text(),
    tags: texts(),
  },
  outputs: { arn: text(), createDate: text(), tagsAll: texts(), uniqueId: text() },
  derive: ({ tags }, context) => ({ tagsAll: allTags(context, tags) }),
  check: ({ maxSessionDuration: seconds }) =>
    typeof seconds === "number" && (seconds < 3600 || seconds > 43200)
      ? [{ property: "maxSessionDuration", reason: `maxSessionDuration must be 3600 to 43200 seconds, not ${seconds}` }]
      : [],

  async create(request, inputs) {
    const { CreateRoleCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const name = inputs.name ?? uniqueName(inputs.namePrefix ?? "");
    const tags = allTags(request.context, inputs.tags);
    const command = new CreateRoleCommand({
      RoleName: name,
      AssumeRolePolicyDocument: inputs.assumeRolePolicy,
      Path: inputs.path,
      MaxSessionDuration: inputs.maxSessionDuration,
      ...(inputs.description && { Description: inputs.description }),
      ...(inputs.permissionsBoundary && { PermissionsBoundary: inputs.permissionsBoundary }),
      ...(Object.keys(tags).length > 0 && { Tags: tagList(tags) }),
    });
    const doing = `creating IAM Role (${name})`;
    await call(request, doing, (options) => client.send(command, options), principalNotSeen);
    return name;
  },

  async read(request, id, known) {
    const { GetRoleCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const found = await unlessGone(
      ["NoSuchEntityException", "NoSuchEntity"],
      call(request, `reading IAM Role (${id})`, (options) =>
        client.send(new GetRoleCommand({ RoleName: id }), options),
      ),
    );
    if (!found?.Role) return undefined;
    const { Role } = found;
    return {
      state: {
        arn: Role.Arn,
        assumeRolePolicy: decodeURIComponent(Role.AssumeRolePolicyDocument ?? ""),
        createDate: Role.CreateDate?.toISOString().replace(/\.\d+Z$/, "Z"),
        description: Role.Description,
        maxSessionDuration: Role.MaxSessionDuration,
        name: Role.RoleName,
        path: Role.Path,
        permissionsBoundary: Role.PermissionsBoundary?.PermissionsBoundaryArn,
        uniqueId: Role.RoleId,
        ...tagOutputs(request.context, tagMap(Role.Tags), known.tags),
      },
    };
  },

  async update(request, id, inputs, before) {
    const {
      DeleteRolePermissionsBoundaryCommand,
      PutRolePermissionsBoundaryCommand,
      TagRoleCommand,
      UntagRoleCommand,
      UpdateAssumeRolePolicyCommand,
      UpdateRoleCommand,
    } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const doing = `updating IAM Role (${id})`;
    const on = { RoleName: id };
    const trust = new UpdateAssumeRolePolicyCommand({ ...on, PolicyDocument: inputs.assumeRolePolicy });
    await call(request, `${doing}: trust policy`, (options) => client.send(trust, options), principalNotSeen);
    const main = new UpdateRoleCommand({
      ...on,
      Description: inputs.description ?? "",
      MaxSessionDuration: inputs.maxSessionDuration,
    });
    await call(request, doing, (options) => client.send(main, options));
    const boundary = inputs.permissionsBoundary;
    if (boundary) {
      const put = new PutRolePermissionsBoundaryCommand({ ...on, PermissionsBoundary: boundary });
      await call(request, `${doing}: permissions boundary`, (options) => client.send(put, options));
    } else if (before.permissionsBoundary) {
      const remove = new DeleteRolePermissionsBoundaryCommand(on);
      await call(request, `${doing}: permissions boundary`, (options) => client.send(remove, options));
    }
    const changes = tagChanges(before.tagsAll ?? {}, allTags(request.context, inputs.tags));
    if (changes.remove.length > 0)
      await call(request, `${doing}: tags`, (options) =>
        client.send(new UntagRoleCommand({ ...on, TagKeys: changes.remove }), options),
      );
    if (Object.keys(changes.set).length > 0)
      await call(request, `${doing}: tags`, (options) =>
        client.send(new TagRoleCommand({ ...on, Tags: tagList(changes.set) }), options),
      );
  },

  async delete(request, id, { forceDetachPolicies }) {
    const { DeleteRoleCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const gone = ["NoSuchEntityException", "NoSuchEntity"];
    if (forceDetachPolicies) await unlessGone(gone, detachPolicies(request, client, id));
    const deleted = call(request, `deleting IAM Role (${id})`, (options) =>
      client.send(new DeleteRoleCommand({ RoleName: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});

async function detachPolicies(request: AwsRequest, client: IAMClient, id: string): Promise<void> {
  const sdk = await import("@aws-sdk/client-iam");
  const doing = `detaching the policies of IAM Role (${id})`;
  const on = { RoleName: id };
  const attached = await call(request, doing, (o) => client.send(new sdk.ListAttachedRolePoliciesCommand(on), o));
  for (const { PolicyArn } of attached.AttachedPolicies ?? [])
    await call(request, doing, (o) => client.send(new sdk.DetachRolePolicyCommand({ ...on, PolicyArn }), o));
  const inline = await call(request, doing, (o) => client.send(new sdk.ListRolePoliciesCommand(on), o));
  for (const PolicyName of inline.PolicyNames ?? [])
    await call(request, doing, (o) => client.send(new sdk.DeleteRolePolicyCommand({ ...on, PolicyName }), o));
}
