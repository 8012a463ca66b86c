/** The snapshots in one region's bucket, as operations/snapshots.sh tells of them from inside a Restate pod. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { z } from "zod";

/** A bucket and where it is. */
export interface Bucket {
  name: string;
  awsRegion: string;
}

/** A script that reads a bucket, with what it needs of AWS: what its command reads from standard input. */
export const bucketScript = (script: "snapshots.sh" | "history.sh") =>
  ["aws.sh", script].map((name) => readFileSync(resolve(__dirname, "../operations", name), "utf8")).join("");

/** The script that gathers the state of a region's snapshots. */
export const snapshotScript = () => bucketScript("snapshots.sh");

/** The command that looks at a region's bucket and, where there is one, at the peer's. */
export const snapshotCommand = (own: Bucket, peer?: Bucket): string[] => [
  ...["bash", "-s", "--", own.name, own.awsRegion],
  ...(peer ? [peer.name, peer.awsRegion] : []),
];

const count = z.number().int().nonnegative();

/** What a script that reads buckets could not do. */
export const problemSchema = z.object({
  step: z.enum(["credentials", "list", "read"]),
  bucket: z.string().nullable(),
  code: z.string(),
  message: z.string(),
});

/** What the script prints; there it is told what each part means. */
const documentSchema = z.object({
  bucket: z.string(),
  peerBucket: z.string().nullable(),
  objects: count.nullable(),
  complete: z.boolean(),
  partitions: z.array(z.object({ partition: count, lsn: count.nullable(), ageSeconds: count })),
  replication: z
    .object({
      waiting: count,
      oldestWaitingSeconds: count.nullable(),
      failed: count,
      neverCopied: count,
      gone: count,
      notLookedAt: count,
    })
    .nullable(),
  problems: z.array(problemSchema),
});

/** The snapshots in one region's bucket, and their replication to the peer's. */
export type SnapshotDocument = z.infer<typeof documentSchema>;

/** Reads what the script printed. Throws if that is not its document. */
export const snapshotDocument = (printed: string): SnapshotDocument => documentSchema.parse(JSON.parse(printed));
