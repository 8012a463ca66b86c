/** `aws.s3.BucketOwnershipControls`. */
import type { s3, types } from "@pulumi/aws";
import { object, type Plain, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { type AwsRequest, call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { bucketNotSeen, parseBucketId } from "./shared";

const gone = ["NoSuchBucket", "OwnershipControlsNotFoundError"];

/** The id is the bucket's name. */
export const bucketOwnershipControls = resource<
  s3.BucketOwnershipControlsArgs,
  s3.BucketOwnershipControlsState,
  AwsContext
>({
  token: "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    region: text({ computed: true, replaces: true }),
    rule: object<types.input.s3.BucketOwnershipControlsRule>(
      {
        objectOwnership: text({
          required: true,
          oneOf: ["BucketOwnerPreferred", "BucketOwnerEnforced", "ObjectWriter"],
        }),
      },
      { required: true },
    ),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    await put(request, inputs);
    return inputs.bucket;
  },
  async read(request, id, known) {
    const { GetBucketOwnershipControlsCommand } = await import("@aws-sdk/client-s3");
    const { bucket, region = known.region ?? request.context.region } = parseBucketId(id);
    const client = await request.context.s3(region);
    const found = await unlessGone(
      gone,
      call(request, `reading S3 Bucket Ownership Controls (${id})`, (options) =>
        client.send(new GetBucketOwnershipControlsCommand({ Bucket: bucket }), options),
      ),
    );
    const objectOwnership = found?.OwnershipControls?.Rules?.[0]?.ObjectOwnership;
    return objectOwnership && { id: bucket, state: { bucket, region, rule: { objectOwnership } } };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, { region }) {
    const { DeleteBucketOwnershipControlsCommand } = await import("@aws-sdk/client-s3");
    const client = await request.context.s3(region);
    const deleted = call(request, `deleting S3 Bucket Ownership Controls (${id})`, (options) =>
      client.send(new DeleteBucketOwnershipControlsCommand({ Bucket: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});

async function put(request: AwsRequest, inputs: Plain<s3.BucketOwnershipControlsArgs>): Promise<void> {
  const { PutBucketOwnershipControlsCommand } = await import("@aws-sdk/client-s3");
  const client = await request.context.s3(inputs.region);
  const command = new PutBucketOwnershipControlsCommand({
    Bucket: inputs.bucket,
    OwnershipControls: { Rules: [{ ObjectOwnership: inputs.rule.objectOwnership as "BucketOwnerEnforced" }] },
  });
  const doing = `setting S3 Bucket Ownership Controls (${inputs.bucket})`;
  await call(request, doing, (options) => client.send(command, options), bucketNotSeen);
}
