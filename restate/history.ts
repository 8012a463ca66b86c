/** The receipts of handovers in one region's bucket, as operations/history.sh tells of them from inside a Restate pod. */
import { z } from "zod";
import { receiptSchema } from "../outputs";
import { type Bucket, bucketScript, problemSchema } from "./snapshots";

/** The script that reads them. */
export const historyScript = () => bucketScript("history.sh");

/** Which receipts are read: the newest ones, so many at most, or that of one handover. */
export type Asked = { most: number } | { number: number };

/** The command that reads receipts in a bucket. */
export const historyCommand = (bucket: Bucket, asked: Asked): string[] => [
  ...["bash", "-s", "--", bucket.name, bucket.awsRegion],
  ...("most" in asked ? [String(asked.most)] : ["1", String(asked.number)]),
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
