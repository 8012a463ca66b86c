/** The bucket that a region's nodes write their snapshots to. */
import * as s3 from "@pulumi/aws/s3";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { tlsOnly } from "../aws/documents";

/** Days after which S3 discards the parts of an upload that was neither completed nor aborted. */
const abandonedUploadDays = 3;

export interface SnapshotBucketArgs {
  /** Beginning of the bucket's name, at most 54 characters; a random suffix of 8 makes it unique. */
  namePrefix: string;
  /** Days that replaced and deleted objects are kept as noncurrent versions. */
  noncurrentDays: number;
  /** Refuse deletion by Pulumi of the bucket and of the suffix that names it. */
  protect: boolean;
  /** Delete the bucket's contents with it. */
  forceDestroy: boolean;
  tags: Record<string, string>;
}

/**
 * A private, versioned, encrypted bucket that takes TLS only, with the clean-up that versioning calls for. Both regions
 * use the same rules, since S3 does not replicate what lifecycle rules do.
 */
export class SnapshotBucket extends pulumi.ComponentResource {
  readonly name: pulumi.Output<string>;
  readonly arn: pulumi.Output<string>;
  /** Replication can be configured only once this is there. */
  readonly versioning: s3.BucketVersioning;

  constructor(name: string, args: SnapshotBucketArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:SnapshotBucket", name, {}, opts);
    const child = { parent: this };
    const kept = { parent: this, protect: args.protect };

    const suffix = new random.RandomId(`${name}-suffix`, { byteLength: 4 }, kept);
    const bucket = new s3.Bucket(
      name,
      {
        bucket: pulumi.interpolate`${args.namePrefix}-${suffix.hex}`,
        forceDestroy: args.forceDestroy,
        tags: args.tags,
      },
      kept,
    );
    const bucketName = bucket.bucket;

    new s3.BucketOwnershipControls(
      `${name}-ownership`,
      { bucket: bucketName, rule: { objectOwnership: "BucketOwnerEnforced" } },
      child,
    );
    const access = new s3.BucketPublicAccessBlock(
      `${name}-access`,
      {
        bucket: bucketName,
        blockPublicAcls: true,
        blockPublicPolicy: true,
        ignorePublicAcls: true,
        restrictPublicBuckets: true,
      },
      child,
    );
    new s3.BucketServerSideEncryptionConfiguration(
      `${name}-encryption`,
      { bucket: bucketName, rules: [{ applyServerSideEncryptionByDefault: { sseAlgorithm: "AES256" } }] },
      child,
    );
    // S3 refuses two changes of a bucket's access at the same time.
    new s3.BucketPolicy(
      `${name}-policy`,
      { bucket: bucketName, policy: bucket.arn.apply(tlsOnly) },
      { ...child, dependsOn: [access] },
    );
    this.versioning = new s3.BucketVersioning(
      `${name}-versioning`,
      { bucket: bucketName, versioningConfiguration: { status: "Enabled" } },
      child,
    );
    new s3.BucketLifecycleConfiguration(
      `${name}-lifecycle`,
      {
        bucket: bucketName,
        rules: [
          {
            id: "clean-up",
            status: "Enabled",
            filter: { prefix: "" },
            noncurrentVersionExpiration: { noncurrentDays: args.noncurrentDays },
            expiration: { expiredObjectDeleteMarker: true },
            abortIncompleteMultipartUpload: { daysAfterInitiation: abandonedUploadDays },
          },
        ],
      },
      { ...child, dependsOn: [this.versioning] },
    );

    this.name = bucketName;
    this.arn = bucket.arn;
    this.registerOutputs({ name: this.name, arn: this.arn });
  }
}
