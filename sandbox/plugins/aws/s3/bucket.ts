/**
 * `aws.s3.Bucket`: the bucket, its tags and its deletion.
 *
 * Not done: the deprecated arguments that configure the bucket itself (ACL, CORS, lifecycle, logging, policy, ...: each has
 * a resource type of its own), and the outputs of the same names, which the official provider fills in from what those
 * resources set. `bucketNamespace` is refused.
 */
import type { S3Client } from "@aws-sdk/client-s3";
import type { s3 } from "@pulumi/aws";
import { boolean, refused, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import { type AwsContext, partitionOf } from "../context";
import { fault, unlessGone } from "../errors";
import { uniqueName } from "../names";
import { allTags, tagList, tagMap, tagOutputs } from "../tags";
import { bucketNotSeen, parseBucketId } from "./shared";

const own = (type: string) => refused(`use the resource aws.s3.${type}`);

/** The hosted zones of S3's website endpoints, by region (AWS General Reference). */
const hostedZones: Record<string, string> = {
  "us-east-1": "Z3AQBSTGFJSTF",
  "us-east-2": "Z2O1EMRO9K5GLX",
  "us-west-1": "Z2F56UZL2M1ACD",
  "us-west-2": "Z3BJ6K6RIION7M",
  "eu-central-1": "Z21DNDUVLTQW6Q",
  "eu-west-1": "Z1BKCTXD74EZPE",
  "eu-west-2": "Z3GKZC51ZF0DB4",
};

/** Kept under its name: a change of name, object lock or region replaces it. The id is the name. */
export const bucket = resource<s3.BucketArgs, s3.BucketState, AwsContext>({
  token: "aws:s3/bucket:Bucket",
  nameInput: "bucket",
  inputs: {
    accelerationStatus: own("BucketAccelerateConfiguration"),
    acl: own("BucketAcl"),
    bucket: text({
      computed: true,
      replaces: true,
      autoName: { maxLength: 63, lowerCase: true },
      conflictsWith: ["bucketPrefix"],
    }),
    bucketNamespace: refused("leave it out"),
    bucketPrefix: text({ replaces: true, providerOnly: true, conflictsWith: ["bucket"] }),
    corsRules: own("BucketCorsConfiguration"),
    forceDestroy: boolean({ default: false, providerOnly: true }),
    grants: own("BucketAcl"),
    lifecycleRules: own("BucketLifecycleConfiguration"),
    logging: own("BucketLogging"),
    objectLockConfiguration: own("BucketObjectLockConfiguration"),
    objectLockEnabled: boolean({ computed: true, replaces: true }),
    policy: own("BucketPolicy"),
    region: text({ computed: true, replaces: true }),
    replicationConfiguration: own("BucketReplicationConfig"),
    requestPayer: own("BucketRequestPaymentConfiguration"),
    serverSideEncryptionConfiguration: own("BucketServerSideEncryptionConfiguration"),
    tags: texts(),
    versioning: own("BucketVersioning"),
    website: own("BucketWebsiteConfiguration"),
  },
  outputs: {
    arn: text(),
    bucketDomainName: text(),
    bucketRegion: text(),
    bucketRegionalDomainName: text(),
    hostedZoneId: text(),
    tagsAll: texts(),
    websiteDomain: text(),
    websiteEndpoint: text(),
  },
  derive: ({ region, tags }, context) => ({ region: region ?? context.region, tagsAll: allTags(context, tags) }),
  check: ({ bucket: name }) =>
    name !== undefined && !/^[0-9a-f-]{36}$|^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name)
      ? [
          {
            property: "bucket",
            reason: `${name} is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens`,
          },
        ]
      : [],

  async create(request, inputs) {
    const { CreateBucketCommand, HeadBucketCommand } = await import("@aws-sdk/client-s3");
    const region = inputs.region ?? request.context.region;
    const client = await request.context.s3(region);
    const name = inputs.bucket ?? uniqueName(inputs.bucketPrefix ?? "");
    const doing = `creating S3 Bucket (${name})`;
    // In us-east-1 AWS lets the owner create a bucket again: without this look, two stacks could share one unawares.
    if (region === "us-east-1") {
      const head = call(request, doing, (options) => client.send(new HeadBucketCommand({ Bucket: name }), options));
      if (await unlessGone(["NotFound", "NoSuchBucket"], head))
        throw new Error(`${doing}: BucketAlreadyExists: a bucket of this name exists already`);
    }
    await call(request, doing, (options) =>
      client.send(
        new CreateBucketCommand({
          Bucket: name,
          ...(inputs.objectLockEnabled && { ObjectLockEnabledForBucket: true }),
          ...(region !== "us-east-1" && {
            CreateBucketConfiguration: { LocationConstraint: region as "us-west-2" },
          }),
        }),
        options,
      ),
    );
    request.made(name);
    const tags = allTags(request.context, inputs.tags);
    if (Object.keys(tags).length > 0) await putTags(request, client, name, tags);
    return name;
  },

  async read(request, id, known) {
    const { GetBucketTaggingCommand, GetObjectLockConfigurationCommand, HeadBucketCommand } = await import(
      "@aws-sdk/client-s3"
    );
    const { bucket: name, region = known.region ?? request.context.region } = parseBucketId(id);
    const client = await request.context.s3(region);
    const doing = `reading S3 Bucket (${name})`;
    const on = { Bucket: name };
    const head = await unlessGone(
      ["NotFound", "NoSuchBucket"],
      call(request, doing, (options) => client.send(new HeadBucketCommand(on), options)),
    );
    if (!head) return undefined;
    const tagging = await unlessGone(
      ["NoSuchTagSet"],
      call(request, doing, (options) => client.send(new GetBucketTaggingCommand(on), options)),
    );
    const lock = await unlessGone(
      ["ObjectLockConfigurationNotFoundError"],
      call(request, doing, (options) => client.send(new GetObjectLockConfigurationCommand(on), options)),
    );
    const { dnsSuffix, partition } = partitionOf(region);
    return {
      id: name,
      state: {
        bucket: name,
        bucketPrefix: known.bucketPrefix,
        region,
        objectLockEnabled: lock?.ObjectLockConfiguration?.ObjectLockEnabled === "Enabled",
        arn: `arn:${partition}:s3:::${name}`,
        bucketDomainName: `${name}.s3.amazonaws.com`,
        bucketRegion: head.BucketRegion ?? region,
        bucketRegionalDomainName: `${name}.s3.${region}.${dnsSuffix}`,
        hostedZoneId: hostedZones[region],
        ...tagOutputs(request.context, tagMap(tagging?.TagSet), known.tags),
      },
    };
  },

  async update(request, id, inputs) {
    const client = await request.context.s3(inputs.region);
    await putTags(request, client, id, allTags(request.context, inputs.tags));
  },

  async delete(request, id, { region, forceDestroy }) {
    const { DeleteBucketCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const doing = `deleting S3 Bucket (${id})`;
    if (forceDestroy) await emptyBucket(request, client, id);
    const deleted = call(request, doing, (options) => client.send(new DeleteBucketCommand({ Bucket: id }), options));
    await unlessGone(["NoSuchBucket", "NotFound"], deleted);
  },
});

async function putTags(request: AwsRequest, client: S3Client, name: string, tags: Record<string, string>) {
  const { DeleteBucketTaggingCommand, PutBucketTaggingCommand } = await import("@aws-sdk/client-s3");
  const put = { Bucket: name, Tagging: { TagSet: tagList(tags) } };
  await call(
    request,
    `setting the tags of S3 Bucket (${name})`,
    async (options) =>
      Object.keys(tags).length > 0
        ? client.send(new PutBucketTaggingCommand(put), options)
        : client.send(new DeleteBucketTaggingCommand({ Bucket: name }), options),
    bucketNotSeen,
  );
}

/** Deletes every version of every object, every delete marker and every upload under way. */
async function emptyBucket(request: AwsRequest, client: S3Client, name: string): Promise<void> {
  const { AbortMultipartUploadCommand, DeleteObjectsCommand, ListMultipartUploadsCommand, ListObjectVersionsCommand } =
    await import("@aws-sdk/client-s3");
  const doing = `emptying S3 Bucket (${name})`;
  const on = { Bucket: name };
  const gone = ["NoSuchBucket", "NotFound"];
  for (;;) {
    const page = await unlessGone(
      gone,
      call(request, doing, (options) => client.send(new ListObjectVersionsCommand(on), options)),
    );
    const Objects = [...(page?.Versions ?? []), ...(page?.DeleteMarkers ?? [])].map(({ Key, VersionId }) => ({
      Key,
      VersionId,
    }));
    if (Objects.length === 0) break;
    const { Errors = [] } = await call(request, doing, (options) =>
      client.send(new DeleteObjectsCommand({ ...on, Delete: { Objects, Quiet: true } }), options),
    );
    const [first] = Errors;
    if (first)
      throw fault(`${doing}: object ${first.Key} version ${first.VersionId}`, { ...first, message: first.Message });
  }
  const uploads = await unlessGone(
    gone,
    call(request, doing, (options) => client.send(new ListMultipartUploadsCommand(on), options)),
  );
  for (const { Key, UploadId } of uploads?.Uploads ?? [])
    await call(request, doing, (options) =>
      client.send(new AbortMultipartUploadCommand({ ...on, Key, UploadId }), options),
    );
}
