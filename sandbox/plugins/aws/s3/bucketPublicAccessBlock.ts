/** `aws.s3.BucketPublicAccessBlock`. */
import type { s3 } from "@pulumi/aws";
import { boolean, type Plain, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { bucketNotSeen, parseBucketId } from "./shared";

/** The id is the bucket's name. */
export const bucketPublicAccessBlock = resource<
  s3.BucketPublicAccessBlockArgs,
  s3.BucketPublicAccessBlockState,
  AwsContext
>({
  token: "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
  inputs: {
    blockPublicAcls: boolean(),
    blockPublicPolicy: boolean(),
    bucket: text({ required: true, replaces: true }),
    ignorePublicAcls: boolean(),
    region: text({ computed: true, replaces: true }),
    restrictPublicBuckets: boolean(),
    skipDestroy: boolean({ providerOnly: true }),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return inputs.bucket;
  },
  async read(request, id, known) {
    const { GetPublicAccessBlockCommand } = await import("@aws-sdk/client-s3");
    const { bucket, region = known.region ?? request.context.region } = parseBucketId(id);
    const client = await request.context.s3(region);
    const found = await unlessGone(
      ["NoSuchBucket", "NoSuchPublicAccessBlockConfiguration"],
      call(request, `reading S3 Bucket Public Access Block (${id})`, (options) =>
        client.send(new GetPublicAccessBlockCommand({ Bucket: bucket }), options),
      ),
    );
    if (!found) return undefined;
    const block = found.PublicAccessBlockConfiguration ?? {};
    return {
      id: bucket,
      state: {
        bucket,
        region,
        blockPublicAcls: block.BlockPublicAcls ?? false,
        blockPublicPolicy: block.BlockPublicPolicy ?? false,
        ignorePublicAcls: block.IgnorePublicAcls ?? false,
        restrictPublicBuckets: block.RestrictPublicBuckets ?? false,
      },
    };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region, skipDestroy }) {
    if (skipDestroy) return;
    const { DeletePublicAccessBlockCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const deleted = call(request, `deleting S3 Bucket Public Access Block (${id})`, (options) =>
      client.send(new DeletePublicAccessBlockCommand({ Bucket: id }), options),
    );
    await unlessGone(["NoSuchBucket", "NoSuchPublicAccessBlockConfiguration"], deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<s3.BucketPublicAccessBlockArgs>): Promise<void> {
  const { PutPublicAccessBlockCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const command = new PutPublicAccessBlockCommand({
    Bucket: inputs.bucket,
    PublicAccessBlockConfiguration: {
      BlockPublicAcls: inputs.blockPublicAcls ?? false,
      BlockPublicPolicy: inputs.blockPublicPolicy ?? false,
      IgnorePublicAcls: inputs.ignorePublicAcls ?? false,
      RestrictPublicBuckets: inputs.restrictPublicBuckets ?? false,
    },
  });
  const doing = `setting S3 Bucket Public Access Block (${inputs.bucket})`;
  await call(request, doing, (options) => client.send(command, options), bucketNotSeen);
}
