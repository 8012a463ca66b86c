/** `aws.eks.PodIdentityAssociation`: a Kubernetes service account's role. */
import type { eks } from "@pulumi/aws";
import { boolean, json, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { normalizePolicy } from "../policy";
import { allTags, tagChanges, tagOutputs } from "../tags";

const gone = ["ResourceNotFoundException"];

/** A change of cluster, namespace or service account replaces it. The id is the association's; an import takes `cluster,id`. */
export const podIdentityAssociation = resource<
  eks.PodIdentityAssociationArgs,
  eks.PodIdentityAssociationState,
  AwsContext
>({
  token: "aws:eks/podIdentityAssociation:PodIdentityAssociation",
  inputs: {
    clusterName: text({ required: true, replaces: true }),
    disableSessionTags: boolean({ computed: true }),
    namespace: text({ required: true, replaces: true }),
    policy: json({ normalize: normalizePolicy }),
    region: text({ computed: true, replaces: true }),
    roleArn: text({ required: true }),
    serviceAccount: text({ required: true, replaces: true }),
    tags: texts(),
    targetRoleArn: text(),
  },
  outputs: { associationArn: text(), associationId: text(), externalId: text({ volatile: true }), tagsAll: texts() },
  derive: ({ region, tags }, context) => ({ region: region ?? context.region, tagsAll: allTags(context, tags) }),

  async create(request, inputs) {
    const { CreatePodIdentityAssociationCommand } = await import("@aws-sdk/client-eks");
    const client = await request.context.eks(inputs.region);
    const command = new CreatePodIdentityAssociationCommand({
      clusterName: inputs.clusterName,
      namespace: inputs.namespace,
      serviceAccount: inputs.serviceAccount,
      roleArn: inputs.roleArn,
      disableSessionTags: inputs.disableSessionTags,
      policy: inputs.policy,
      targetRoleArn: inputs.targetRoleArn,
      tags: allTags(request.context, inputs.tags),
    });
    const doing = `creating EKS Pod Identity Association (${inputs.clusterName}/${inputs.namespace}/${inputs.serviceAccount})`;
    const made = await call(
      request,
      doing,
      (options) => client.send(command, options),
      // A role made just before may not be seen everywhere yet.
      (error) => /role .*(not found|does not exist|cannot be found)/i.test((error as Error).message),
    );
    return made.association?.associationId ?? "";
  },

  async read(request, id, known) {
    const { DescribePodIdentityAssociationCommand } = await import("@aws-sdk/client-eks");
    const region = known.region ?? request.context.region;
    const client = await request.context.eks(region);
    const [first, second] = id.split(",");
    const clusterName = known.clusterName ?? (second ? first : undefined);
    if (!clusterName) throw new Error(`${id} is no id to import an EKS pod identity association by: write cluster,id`);
    const found = await unlessGone(
      gone,
      call(request, `reading EKS Pod Identity Association (${id})`, (options) =>
        client.send(new DescribePodIdentityAssociationCommand({ clusterName, associationId: second ?? id }), options),
      ),
    );
    const association = found?.association;
    return (
      association && {
        id: association.associationId ?? id,
        state: {
          region,
          clusterName: association.clusterName,
          namespace: association.namespace,
          serviceAccount: association.serviceAccount,
          roleArn: association.roleArn,
          targetRoleArn: association.targetRoleArn,
          disableSessionTags: association.disableSessionTags,
          policy: association.policy,
          associationArn: association.associationArn,
          associationId: association.associationId,
          externalId: association.externalId,
          ...tagOutputs(request.context, association.tags ?? {}, known.tags),
        },
      }
    );
  },

  async update(request, id, inputs, before) {
    const { TagResourceCommand, UntagResourceCommand, UpdatePodIdentityAssociationCommand } = await import(
      "@aws-sdk/client-eks"
    );
    const client = await request.context.eks(inputs.region);
    const doing = `updating EKS Pod Identity Association (${id})`;
    const command = new UpdatePodIdentityAssociationCommand({
      clusterName: inputs.clusterName,
      associationId: id,
      roleArn: inputs.roleArn,
      disableSessionTags: inputs.disableSessionTags,
      policy: inputs.policy,
      targetRoleArn: inputs.targetRoleArn ?? (before.targetRoleArn ? "" : undefined),
    });
    await call(request, doing, (options) => client.send(command, options));
    const changes = tagChanges(before.tagsAll ?? {}, allTags(request.context, inputs.tags));
    const on = { resourceArn: before.associationArn };
    if (changes.remove.length > 0)
      await call(request, `${doing}: tags`, (options) =>
        client.send(new UntagResourceCommand({ ...on, tagKeys: changes.remove }), options),
      );
    if (Object.keys(changes.set).length > 0)
      await call(request, `${doing}: tags`, (options) =>
        client.send(new TagResourceCommand({ ...on, tags: changes.set }), options),
      );
  },

  async delete(request, id, { clusterName, region }) {
    const { DeletePodIdentityAssociationCommand } = await import("@aws-sdk/client-eks");
    const client = await request.context.eks(region);
    const deleted = call(request, `deleting EKS Pod Identity Association (${id})`, (options) =>
      client.send(new DeletePodIdentityAssociationCommand({ clusterName, associationId: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});
