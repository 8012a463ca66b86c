/**
 * `aws.s3.BucketServerSideEncryptionConfiguration`.
 * Rules are compared in their order (AWS takes one); keys are not looked up in KMS.
 */
import type { s3, types } from "@pulumi/aws";
import { boolean, list, object, type Plain, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { bucketId, bucketNotSeen, onBucket, parseBucketId } from "./shared";

type Args = s3.BucketServerSideEncryptionConfigurationArgs;
type ByDefault = types.input.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefault;

/** The id is the bucket's name, with `,owner` where an owner is expected. */
export const bucketServerSideEncryptionConfiguration = resource<
  Args,
  s3.BucketServerSideEncryptionConfigurationState,
  AwsContext
>({
  token: "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    expectedBucketOwner: text({ replaces: true }),
    region: text({ computed: true, replaces: true }),
    rules: list(
      object<types.input.s3.BucketServerSideEncryptionConfigurationRule>({
        applyServerSideEncryptionByDefault: object<ByDefault>({
          kmsMasterKeyId: text(),
          sseAlgorithm: text({ required: true, oneOf: ["AES256", "aws:kms", "aws:kms:dsse"] }),
        }),
        blockedEncryptionTypes: list(text(), { computed: true }),
        bucketKeyEnabled: boolean(),
      }),
      { required: true },
    ),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return bucketId(inputs);
  },
  async read(request, id, known) {
    const { GetBucketEncryptionCommand } = await import("@aws-sdk/client-s3");
    const where = { region: known.region ?? request.context.region, ...parseBucketId(id) };
    const client = await request.context.s3(where.region);
    const found = await unlessGone(
      ["NoSuchBucket", "ServerSideEncryptionConfigurationNotFoundError"],
      call(request, `reading S3 Bucket encryption (${id})`, (options) =>
        client.send(new GetBucketEncryptionCommand(onBucket(where)), options),
      ),
    );
    if (!found) return undefined;
    const rules = (found.ServerSideEncryptionConfiguration?.Rules ?? []).map((rule) => ({
      applyServerSideEncryptionByDefault: rule.ApplyServerSideEncryptionByDefault && {
        kmsMasterKeyId: rule.ApplyServerSideEncryptionByDefault.KMSMasterKeyID,
        sseAlgorithm: rule.ApplyServerSideEncryptionByDefault.SSEAlgorithm ?? "",
      },
      blockedEncryptionTypes: rule.BlockedEncryptionTypes?.EncryptionType,
      bucketKeyEnabled: rule.BucketKeyEnabled,
    }));
    return { id: bucketId(where), state: { ...where, rules } };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region }) {
    const { DeleteBucketEncryptionCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const command = new DeleteBucketEncryptionCommand(onBucket(parseBucketId(id)));
    const doing = `deleting S3 Bucket encryption (${id})`;
    const deleted = call(request, doing, (options) => client.send(command, options));
    await unlessGone(["NoSuchBucket", "ServerSideEncryptionConfigurationNotFoundError"], deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<Args>): Promise<void> {
  const { PutBucketEncryptionCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const Rules = inputs.rules.map((rule) => ({
    ...(rule.applyServerSideEncryptionByDefault && {
      ApplyServerSideEncryptionByDefault: {
        SSEAlgorithm: rule.applyServerSideEncryptionByDefault.sseAlgorithm as "AES256",
        ...(rule.applyServerSideEncryptionByDefault.kmsMasterKeyId && {
          KMSMasterKeyID: rule.applyServerSideEncryptionByDefault.kmsMasterKeyId,
        }),
      },
    }),
    ...(rule.blockedEncryptionTypes && {
      BlockedEncryptionTypes: { EncryptionType: rule.blockedEncryptionTypes as "NONE"[] },
    }),
    BucketKeyEnabled: rule.bucketKeyEnabled,
  }));
  const command = new PutBucketEncryptionCommand({
    ...onBucket(inputs),
    ServerSideEncryptionConfiguration: { Rules },
  });
  const doing = `setting S3 Bucket encryption (${inputs.bucket})`;
  await call(request, doing, (options) => client.send(command, options), bucketNotSeen);
}
