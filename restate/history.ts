/** The receipts of handovers in one region's bucket, as operations/history.sh tells of them from inside a Restate pod. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { z } from "zod";
import { receiptSchema } from "../outputs";
import { type Bucket, problemSchema } from "./snapshots";

/** The script that reads them: what `historyCommand` reads from standard input. */
export const historyScript = () =>
  ["aws.sh", "history.sh"].map((name) => readFileSync(resolve(__dirname, "../operations", name), "utf8")).join("");

/** The command that reads the newest receipts in a bucket, so many at most. */
export const historyCommand = (bucket: Bucket, most: number): string[] => [
  ...["bash", "-s", "--", bucket.name, bucket.awsRegion, String(most)],
];

/** What the script prints; there it is told what each part means. */
const documentSchema = z.object({
  bucket: z.string(),
  count: z.number().int().nonnegative().nullable(),
  receipts: z.array(receiptSchema),
  problems: z.array(problemSchema),
});

/** The receipts in one region's bucket. */
export type HistoryDocument = z.infer<typeof documentSchema>;

/** Reads what the script printed. Throws if that is not its document. */
export const historyDocument = (printed: string): HistoryDocument => documentSchema.parse(JSON.parse(printed));
