/** `aws.s3.BucketLifecycleConfiguration`: its rules are one document, replaced whole. `timeouts` is kept and not used. */
import type { LifecycleRule, LifecycleRuleFilter } from "@aws-sdk/client-s3";
import type { s3, types } from "@pulumi/aws";
import { boolean, list, number, object, type Plain, set, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { tagList, tagMap } from "../tags";
import { bucketId, bucketNotSeen, onBucket, parseBucketId } from "./shared";

type Args = s3.BucketLifecycleConfigurationArgs;
type Rule = types.input.s3.BucketLifecycleConfigurationRule;
const gone = ["NoSuchBucket", "NoSuchLifecycleConfiguration"];

/** The id is the bucket's name, with `,owner` where an owner is expected. */
export const bucketLifecycleConfiguration = resource<Args, s3.BucketLifecycleConfigurationState, AwsContext>({
  token: "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    expectedBucketOwner: text({ replaces: true }),
    region: text({ computed: true, replaces: true }),
    rules: list(
      object<Rule>({
        abortIncompleteMultipartUpload:
          object<types.input.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload>({
            daysAfterInitiation: number(),
          }),
        expiration: object<types.input.s3.BucketLifecycleConfigurationRuleExpiration>({
          date: text({ compareAs: (date) => String(Date.parse(date)) }),
          days: number(),
          expiredObjectDeleteMarker: boolean({ computed: true }),
        }),
        filter: object<types.input.s3.BucketLifecycleConfigurationRuleFilter>({
          and: object<types.input.s3.BucketLifecycleConfigurationRuleFilterAnd>({
            objectSizeGreaterThan: number(),
            objectSizeLessThan: number(),
            prefix: text(),
            tags: texts(),
          }),
          objectSizeGreaterThan: number(),
          objectSizeLessThan: number(),
          prefix: text(),
          tag: object<types.input.s3.BucketLifecycleConfigurationRuleFilterTag>({
            key: text({ required: true }),
            value: text({ required: true }),
          }),
        }),
        id: text({ required: true }),
        noncurrentVersionExpiration: object<types.input.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpiration>(
          {
            newerNoncurrentVersions: number(),
            noncurrentDays: number({ required: true }),
          },
        ),
        noncurrentVersionTransitions: set(
          object<types.input.s3.BucketLifecycleConfigurationRuleNoncurrentVersionTransition>({
            newerNoncurrentVersions: number(),
            noncurrentDays: number({ required: true }),
            storageClass: text({ required: true }),
          }),
        ),
        prefix: text(),
        status: text({ required: true, oneOf: ["Enabled", "Disabled"] }),
        transitions: set(
          object<types.input.s3.BucketLifecycleConfigurationRuleTransition>({
            date: text(),
            days: number(),
            storageClass: text({ required: true }),
          }),
        ),
      }),
    ),
    timeouts: object<types.input.s3.BucketLifecycleConfigurationTimeouts>(
      { create: text(), update: text() },
      { providerOnly: true },
    ),
    transitionDefaultMinimumObjectSize: text({
      computed: true,
      oneOf: ["all_storage_classes_128K", "varies_by_storage_class"],
    }),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return bucketId(inputs);
  },
  async read(request, id, known) {
    const { GetBucketLifecycleConfigurationCommand } = await import("@aws-sdk/client-s3");
    const where = { region: known.region ?? request.context.region, ...parseBucketId(id) };
    const client = await request.context.s3(where.region);
    const found = await unlessGone(
      gone,
      call(request, `reading S3 Bucket Lifecycle Configuration (${id})`, (options) =>
        client.send(new GetBucketLifecycleConfigurationCommand(onBucket(where)), options),
      ),
    );
    if (!found) return undefined;
    const transitionDefaultMinimumObjectSize =
      found.TransitionDefaultMinimumObjectSize ??
      known.transitionDefaultMinimumObjectSize ??
      "all_storage_classes_128K";
    const rules = (found.Rules ?? []).map(fromAws);
    return { id: bucketId(where), state: { ...where, rules, transitionDefaultMinimumObjectSize } };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region }) {
    const { DeleteBucketLifecycleCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const deleted = call(request, `deleting S3 Bucket Lifecycle Configuration (${id})`, (options) =>
      client.send(new DeleteBucketLifecycleCommand(onBucket(parseBucketId(id))), options),
    );
    await unlessGone(gone, deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<Args>): Promise<void> {
  const { PutBucketLifecycleConfigurationCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const size = inputs.transitionDefaultMinimumObjectSize;
  const command = new PutBucketLifecycleConfigurationCommand({
    ...onBucket(inputs),
    ...(size && { TransitionDefaultMinimumObjectSize: size as "all_storage_classes_128K" }),
    LifecycleConfiguration: { Rules: (inputs.rules ?? []).map(toAws) },
  });
  const doing = `setting S3 Bucket Lifecycle Configuration (${inputs.bucket})`;
  await call(request, doing, (options) => client.send(command, options), bucketNotSeen);
}

const dateOf = (date: string | undefined) => (date ? { Date: new Date(date) } : {});
const dateText = (date: Date | undefined) => date?.toISOString().replace(".000Z", "Z");

function toAws(rule: Plain<Rule>): LifecycleRule {
  const { abortIncompleteMultipartUpload: abort, expiration, noncurrentVersionExpiration: noncurrent } = rule;
  return {
    ID: rule.id,
    Status: rule.status as "Enabled",
    // A rule needs one of the two; an empty prefix means every object.
    ...(rule.prefix ? { Prefix: rule.prefix } : { Filter: filterToAws(rule.filter) }),
    ...(abort && { AbortIncompleteMultipartUpload: { DaysAfterInitiation: abort.daysAfterInitiation } }),
    ...(expiration && {
      Expiration: {
        ...dateOf(expiration.date),
        ...(expiration.days && { Days: expiration.days }),
        ...(expiration.expiredObjectDeleteMarker && { ExpiredObjectDeleteMarker: true }),
      },
    }),
    ...(noncurrent && {
      NoncurrentVersionExpiration: {
        NewerNoncurrentVersions: noncurrent.newerNoncurrentVersions,
        NoncurrentDays: noncurrent.noncurrentDays,
      },
    }),
    ...(rule.noncurrentVersionTransitions?.length && {
      NoncurrentVersionTransitions: rule.noncurrentVersionTransitions.map((transition) => ({
        NewerNoncurrentVersions: transition.newerNoncurrentVersions,
        NoncurrentDays: transition.noncurrentDays,
        StorageClass: transition.storageClass as "GLACIER",
      })),
    }),
    ...(rule.transitions?.length && {
      Transitions: rule.transitions.map(({ date, days, storageClass }) => ({
        ...dateOf(date),
        ...(days !== undefined && { Days: days }),
        StorageClass: storageClass as "GLACIER",
      })),
    }),
  };
}

function filterToAws(filter: Plain<Rule>["filter"]): LifecycleRuleFilter {
  if (filter?.and)
    return {
      And: {
        ObjectSizeGreaterThan: filter.and.objectSizeGreaterThan,
        ObjectSizeLessThan: filter.and.objectSizeLessThan,
        Prefix: filter.and.prefix,
        ...(filter.and.tags && { Tags: tagList(filter.and.tags) }),
      },
    };
  if (filter?.tag) return { Tag: { Key: filter.tag.key, Value: filter.tag.value } };
  if (filter?.objectSizeGreaterThan) return { ObjectSizeGreaterThan: filter.objectSizeGreaterThan };
  if (filter?.objectSizeLessThan) return { ObjectSizeLessThan: filter.objectSizeLessThan };
  return { Prefix: filter?.prefix ?? "" };
}

function fromAws(rule: LifecycleRule): Plain<Rule> {
  const { AbortIncompleteMultipartUpload: abort, Expiration, Filter, NoncurrentVersionExpiration: noncurrent } = rule;
  return {
    id: rule.ID ?? "",
    status: rule.Status ?? "",
    prefix: rule.Prefix,
    filter: Filter && {
      and: Filter.And && {
        objectSizeGreaterThan: Filter.And.ObjectSizeGreaterThan,
        objectSizeLessThan: Filter.And.ObjectSizeLessThan,
        prefix: Filter.And.Prefix,
        tags: Filter.And.Tags && tagMap(Filter.And.Tags),
      },
      objectSizeGreaterThan: Filter.ObjectSizeGreaterThan,
      objectSizeLessThan: Filter.ObjectSizeLessThan,
      prefix: Filter.Prefix,
      tag: Filter.Tag && { key: Filter.Tag.Key ?? "", value: Filter.Tag.Value ?? "" },
    },
    abortIncompleteMultipartUpload: abort && { daysAfterInitiation: abort.DaysAfterInitiation },
    expiration: Expiration && {
      date: dateText(Expiration.Date),
      days: Expiration.Days,
      expiredObjectDeleteMarker: Expiration.ExpiredObjectDeleteMarker,
    },
    noncurrentVersionExpiration: noncurrent && {
      newerNoncurrentVersions: noncurrent.NewerNoncurrentVersions,
      noncurrentDays: noncurrent.NoncurrentDays ?? 0,
    },
    noncurrentVersionTransitions: rule.NoncurrentVersionTransitions?.map((transition) => ({
      newerNoncurrentVersions: transition.NewerNoncurrentVersions,
      noncurrentDays: transition.NoncurrentDays ?? 0,
      storageClass: transition.StorageClass ?? "",
    })),
    transitions: rule.Transitions?.map((transition) => ({
      date: dateText(transition.Date),
      days: transition.Days,
      storageClass: transition.StorageClass ?? "",
    })),
  };
}
