/** `aws.s3.BucketVersioning`. Deleting it suspends versioning, as AWS offers no way back to none. */
import type { s3, types } from "@pulumi/aws";
import { object, text } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { bucketId, bucketNotSeen, onBucket, parseBucketId } from "./shared";

/** The id is the bucket's name, with `,owner` where an owner is expected. */
export const bucketVersioning = resource<s3.BucketVersioningArgs, s3.BucketVersioningState, AwsContext>({
  token: "aws:s3/bucketVersioning:BucketVersioning",
  inputs: {
    bucket: text({ required: true, replaces: true }),
    expectedBucketOwner: text({ replaces: true }),
    mfa: text({ providerOnly: true }),
    region: text({ computed: true, replaces: true }),
    versioningConfiguration: object<types.input.s3.BucketVersioningVersioningConfiguration>(
      {
        mfaDelete: text({ computed: true, oneOf: ["Enabled", "Disabled"] }),
        status: text({ required: true, oneOf: ["Enabled", "Suspended", "Disabled"] }),
      },
      { required: true },
    ),
  },
  outputs: {},
  derive: ({ region }, context) => ({ region: region ?? context.region }),

  async create(request, inputs) {
    // `Disabled` says that versioning was never turned on: there is nothing to set.
    if (inputs.versioningConfiguration.status !== "Disabled") await put(request, inputs);
    return bucketId(inputs);
  },
  async read(request, id, known) {
    const { GetBucketVersioningCommand } = await import("@aws-sdk/client-s3");
    const where = { region: known.region ?? request.context.region, ...parseBucketId(id) };
    const client = await request.context.s3(where.region);
    const found = await unlessGone(
      ["NoSuchBucket", "NotFound"],
      call(request, `reading S3 Bucket Versioning (${id})`, (options) =>
        client.send(new GetBucketVersioningCommand(onBucket(where)), options),
      ),
    );
    if (!found) return undefined;
    const status = found.Status ?? "Disabled";
    const versioningConfiguration = { status, ...(found.MFADelete && { mfaDelete: found.MFADelete }) };
    return { id: bucketId(where), state: { ...where, versioningConfiguration } };
  },
  async update(request, _, inputs) {
    await put(request, inputs);
  },
  async delete(request, id, state) {
    if (state.versioningConfiguration?.status !== "Enabled") return;
    const versioningConfiguration = { status: "Suspended" };
    const suspended = put(request, { ...state, bucket: parseBucketId(id).bucket, versioningConfiguration });
    await unlessGone(["NoSuchBucket", "NotFound"], suspended);
  },
});

async function put(
  request: Parameters<typeof call>[0],
  inputs: {
    bucket: string;
    expectedBucketOwner?: string | undefined;
    mfa?: string | undefined;
    region?: string | undefined;
    versioningConfiguration: { status: string; mfaDelete?: string | undefined };
  },
): Promise<void> {
  const { PutBucketVersioningCommand } = await import("@aws-sdk/client-s3");
  const { status, mfaDelete } = inputs.versioningConfiguration;
  const client = await request.context.s3(inputs.region);
  const command = new PutBucketVersioningCommand({
    ...onBucket(inputs),
    ...(inputs.mfa && { MFA: inputs.mfa }),
    VersioningConfiguration: {
      Status: status as "Enabled",
      ...(mfaDelete && { MFADelete: mfaDelete as "Enabled" }),
    },
  });
  const doing = `setting S3 Bucket Versioning (${inputs.bucket})`;
  // A bucket that is being deleted is gone for good: only a new one is waited for, and then by its first call.
  await call(
    request,
    doing,
    (options) => client.send(command, options),
    status === "Suspended" ? undefined : bucketNotSeen,
  );
}
