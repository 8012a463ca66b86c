/** What the S3 resource types share: their ids, and which failures mean that something is gone or not seen yet. */
import { hasCode } from "../errors";

/** A bucket that was made just before may not be seen everywhere yet. */
export const bucketNotSeen = (error: unknown) => hasCode(error, ["NoSuchBucket", "NotFound"]);

/** What an id of a bucket's configuration says: `bucket`, `bucket,owner`, and `@region` after either for an import. */
export function parseBucketId(id: string): { bucket: string; expectedBucketOwner?: string; region?: string } {
  const [name, region] = id.split("@");
  const [bucket, expectedBucketOwner] = name!.split(",");
  return { bucket: bucket!, ...(expectedBucketOwner && { expectedBucketOwner }), ...(region && { region }) };
}

/** The id of a bucket's configuration. */
export function bucketId({
  bucket,
  expectedBucketOwner,
}: {
  bucket: string;
  expectedBucketOwner?: string | undefined;
}) {
  return expectedBucketOwner ? `${bucket},${expectedBucketOwner}` : bucket;
}

/** Parameters that most calls on a bucket have. */
export function onBucket({
  bucket,
  expectedBucketOwner,
}: {
  bucket: string;
  expectedBucketOwner?: string | undefined;
}) {
  return { Bucket: bucket, ...(expectedBucketOwner && { ExpectedBucketOwner: expectedBucketOwner }) };
}
