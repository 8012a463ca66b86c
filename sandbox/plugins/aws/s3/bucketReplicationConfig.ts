/** `aws.s3.BucketReplicationConfig`: role and rules are one document, replaced whole. Both buckets must have versioning. */
import type { ReplicationRule, ReplicationRuleFilter } from "@aws-sdk/client-s3";
import type { s3, types } from "@pulumi/aws";
import { list, number, object, type Plain, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { hasCode, unlessGone } from "../errors";
import { tagList, tagMap } from "../tags";
import { bucketNotSeen, parseBucketId } from "./shared";

type Rule = types.input.s3.BucketReplicationConfigRule;
const gone = ["NoSuchBucket", "ReplicationConfigurationNotFoundError"];
const status = () => text({ required: true, oneOf: ["Enabled", "Disabled"] });

/** The id is the bucket's name. */
export const bucketReplicationConfig = resource<
  s3.BucketReplicationConfigArgs,
  s3.BucketReplicationConfigState,
  AwsContext
>({
  token: "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    region: text({ computed: true, replaces: true }),
    role: text({ required: true }),
    rules: list(
      object<Rule>({
        deleteMarkerReplication: object<types.input.s3.BucketReplicationConfigRuleDeleteMarkerReplication>({
          status: status(),
        }),
        destination: object<types.input.s3.BucketReplicationConfigRuleDestination>(
          {
            accessControlTranslation:
              object<types.input.s3.BucketReplicationConfigRuleDestinationAccessControlTranslation>({
                owner: text({ required: true, oneOf: ["Destination"] }),
              }),
            account: text(),
            bucket: text({ required: true }),
            encryptionConfiguration:
              object<types.input.s3.BucketReplicationConfigRuleDestinationEncryptionConfiguration>({
                replicaKmsKeyId: text({ required: true }),
              }),
            metrics: object<types.input.s3.BucketReplicationConfigRuleDestinationMetrics>({
              eventThreshold: object<types.input.s3.BucketReplicationConfigRuleDestinationMetricsEventThreshold>({
                minutes: number({ required: true }),
              }),
              status: status(),
            }),
            replicationTime: object<types.input.s3.BucketReplicationConfigRuleDestinationReplicationTime>({
              status: status(),
              time: object<types.input.s3.BucketReplicationConfigRuleDestinationReplicationTimeTime>(
                { minutes: number({ required: true }) },
                { required: true },
              ),
            }),
            storageClass: text(),
          },
          { required: true },
        ),
        existingObjectReplication: object<types.input.s3.BucketReplicationConfigRuleExistingObjectReplication>({
          status: status(),
        }),
        filter: object<types.input.s3.BucketReplicationConfigRuleFilter>({
          and: object<types.input.s3.BucketReplicationConfigRuleFilterAnd>({ prefix: text(), tags: texts() }),
          prefix: text(),
          tag: object<types.input.s3.BucketReplicationConfigRuleFilterTag>({
            key: text({ required: true }),
            value: text({ required: true }),
          }),
        }),
        id: text({ computed: true }),
        prefix: text(),
        priority: number({ computed: true }),
        sourceSelectionCriteria: object<types.input.s3.BucketReplicationConfigRuleSourceSelectionCriteria>({
          replicaModifications:
            object<types.input.s3.BucketReplicationConfigRuleSourceSelectionCriteriaReplicaModifications>({
              status: status(),
            }),
          sseKmsEncryptedObjects:
            object<types.input.s3.BucketReplicationConfigRuleSourceSelectionCriteriaSseKmsEncryptedObjects>({
              status: status(),
            }),
        }),
        status: status(),
      }),
      { required: true },
    ),
    token: text({ providerOnly: true, secret: true }),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return inputs.bucket;
  },
  async read(request, id, known) {
    const { GetBucketReplicationCommand } = await import("@aws-sdk/client-s3");
    const { bucket, region = known.region ?? request.context.region } = parseBucketId(id);
    const client = await request.context.s3(region);
    const found = await unlessGone(
      gone,
      call(request, `reading S3 Bucket Replication Configuration (${id})`, (options) =>
        client.send(new GetBucketReplicationCommand({ Bucket: bucket }), options),
      ),
    );
    const configuration = found?.ReplicationConfiguration;
    if (!configuration) return undefined;
    const rules = (configuration.Rules ?? []).map(fromAws);
    return { id: bucket, state: { bucket, region, role: configuration.Role, rules } };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region }) {
    const { DeleteBucketReplicationCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const deleted = call(request, `deleting S3 Bucket Replication Configuration (${id})`, (options) =>
      client.send(new DeleteBucketReplicationCommand({ Bucket: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<s3.BucketReplicationConfigArgs>): Promise<void> {
  const { PutBucketReplicationCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const command = new PutBucketReplicationCommand({
    Bucket: inputs.bucket,
    ...(inputs.token && { Token: inputs.token }),
    ReplicationConfiguration: { Role: inputs.role, Rules: inputs.rules.map(toAws) },
  });
  await call(
    request,
    `setting S3 Bucket Replication Configuration (${inputs.bucket})`,
    (options) => client.send(command, options),
    // Versioning turned on just before may not be seen yet.
    (error) =>
      bucketNotSeen(error) ||
      (hasCode(error, ["InvalidRequest"]) && /versioning must be/i.test((error as Error).message)),
  );
}

function toAws(rule: Plain<Rule>): ReplicationRule {
  const { destination, filter, sourceSelectionCriteria: criteria } = rule;
  const { accessControlTranslation, encryptionConfiguration, metrics, replicationTime } = destination;
  return {
    ...(rule.id && { ID: rule.id }),
    Status: rule.status as "Enabled",
    ...(rule.deleteMarkerReplication && {
      DeleteMarkerReplication: { Status: rule.deleteMarkerReplication.status as "Enabled" },
    }),
    Destination: {
      Bucket: destination.bucket,
      ...(destination.account && { Account: destination.account }),
      ...(destination.storageClass && { StorageClass: destination.storageClass as "STANDARD" }),
      ...(accessControlTranslation && {
        AccessControlTranslation: { Owner: accessControlTranslation.owner as "Destination" },
      }),
      ...(encryptionConfiguration && {
        EncryptionConfiguration: { ReplicaKmsKeyID: encryptionConfiguration.replicaKmsKeyId },
      }),
      ...(metrics && {
        Metrics: {
          Status: metrics.status as "Enabled",
          ...(metrics.eventThreshold && { EventThreshold: { Minutes: metrics.eventThreshold.minutes } }),
        },
      }),
      ...(replicationTime && {
        ReplicationTime: {
          Status: replicationTime.status as "Enabled",
          Time: { Minutes: replicationTime.time.minutes },
        },
      }),
    },
    ...(rule.existingObjectReplication && {
      ExistingObjectReplication: { Status: rule.existingObjectReplication.status as "Enabled" },
    }),
    // A rule with a filter, even an empty one, is of version 2; version 1 has a prefix instead, and no priority.
    ...(filter
      ? { Filter: filterToAws(filter), Priority: rule.priority ?? 0 }
      : { Prefix: rule.prefix ?? "", ...(rule.priority && { Priority: rule.priority }) }),
    ...(criteria && {
      SourceSelectionCriteria: {
        ...(criteria.replicaModifications && {
          ReplicaModifications: { Status: criteria.replicaModifications.status as "Enabled" },
        }),
        ...(criteria.sseKmsEncryptedObjects && {
          SseKmsEncryptedObjects: { Status: criteria.sseKmsEncryptedObjects.status as "Enabled" },
        }),
      },
    }),
  };
}

function filterToAws(filter: NonNullable<Plain<Rule>["filter"]>): ReplicationRuleFilter {
  if (filter.and)
    return {
      And: {
        ...(filter.and.prefix && { Prefix: filter.and.prefix }),
        ...(filter.and.tags && { Tags: tagList(filter.and.tags) }),
      },
    };
  if (filter.tag) return { Tag: { Key: filter.tag.key, Value: filter.tag.value } };
  return { Prefix: filter.prefix ?? "" };
}

const statusOf = (value: { Status?: string | undefined } | undefined) => value && { status: value.Status ?? "" };

function fromAws(rule: ReplicationRule): Plain<Rule> {
  const { Destination, Filter, SourceSelectionCriteria: criteria } = rule;
  return {
    id: rule.ID,
    prefix: rule.Prefix,
    priority: rule.Priority,
    status: rule.Status ?? "",
    deleteMarkerReplication: statusOf(rule.DeleteMarkerReplication),
    destination: {
      account: Destination?.Account,
      bucket: Destination?.Bucket ?? "",
      storageClass: Destination?.StorageClass,
      accessControlTranslation: Destination?.AccessControlTranslation && {
        owner: Destination.AccessControlTranslation.Owner ?? "",
      },
      encryptionConfiguration: Destination?.EncryptionConfiguration && {
        replicaKmsKeyId: Destination.EncryptionConfiguration.ReplicaKmsKeyID ?? "",
      },
      metrics: Destination?.Metrics && {
        status: Destination.Metrics.Status ?? "",
        eventThreshold: Destination.Metrics.EventThreshold && {
          minutes: Destination.Metrics.EventThreshold.Minutes ?? 0,
        },
      },
      replicationTime: Destination?.ReplicationTime && {
        status: Destination.ReplicationTime.Status ?? "",
        time: { minutes: Destination.ReplicationTime.Time?.Minutes ?? 0 },
      },
    },
    existingObjectReplication: statusOf(rule.ExistingObjectReplication),
    filter: Filter && {
      and: Filter.And && { prefix: Filter.And.Prefix, tags: Filter.And.Tags && tagMap(Filter.And.Tags) },
      prefix: Filter.Prefix,
      tag: Filter.Tag && { key: Filter.Tag.Key ?? "", value: Filter.Tag.Value ?? "" },
    },
    sourceSelectionCriteria: criteria && {
      replicaModifications: statusOf(criteria.ReplicaModifications),
      sseKmsEncryptedObjects: statusOf(criteria.SseKmsEncryptedObjects),
    },
  };
}
