/** `aws.s3.BucketPolicy`: documents that mean the same make no difference. */
import type { s3 } from "@pulumi/aws";
import { json, type Plain, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { normalizePolicy, principalNotSeen } from "../policy";
import { bucketNotSeen, parseBucketId } from "./shared";

const gone = ["NoSuchBucket", "NoSuchBucketPolicy"];

/** The id is the bucket's name. */
export const bucketPolicy = resource<s3.BucketPolicyArgs, s3.BucketPolicyState, AwsContext>({
  token: "aws:s3/bucketPolicy:BucketPolicy",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    policy: json({ required: true, normalize: normalizePolicy }),
    region: text({ computed: true, replaces: true }),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return inputs.bucket;
  },
  async read(request, id, known) {
    const { GetBucketPolicyCommand } = await import("@aws-sdk/client-s3");
    const { bucket, region = known.region ?? request.context.region } = parseBucketId(id);
    const client = await request.context.s3(region);
    const found = await unlessGone(
      gone,
      call(request, `reading S3 Bucket Policy (${id})`, (options) =>
        client.send(new GetBucketPolicyCommand({ Bucket: bucket }), options),
      ),
    );
    return found?.Policy ? { id: bucket, state: { bucket, region, policy: found.Policy } } : undefined;
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region }) {
    const { DeleteBucketPolicyCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const deleted = call(request, `deleting S3 Bucket Policy (${id})`, (options) =>
      client.send(new DeleteBucketPolicyCommand({ Bucket: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<s3.BucketPolicyArgs>): Promise<void> {
  const { PutBucketPolicyCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const command = new PutBucketPolicyCommand({ Bucket: inputs.bucket, Policy: inputs.policy });
  await call(
    request,
    `setting S3 Bucket Policy (${inputs.bucket})`,
    (options) => client.send(command, options),
    (error) => bucketNotSeen(error) || principalNotSeen(error),
  );
}
