/** Receipts of handovers, as this stack comes to know of them: from its own memory, and from the Job that has just ended. */
import { RunError } from "@pulumi/pulumi/errors";
import { z } from "zod";
import type { ClusterAccess } from "../kubernetes/access";
import { lastLineOfJob } from "../kubernetes/jobLog";
import { type PeerOutputs, type Receipt, receiptSchema } from "../outputs";
import { readMemory } from "../peer";
import type { Settings } from "../settings";
import { servingValues } from "../topology";
import { type HandoverMemory, handoverMemoryName } from "./plan";

/** What the `Stash` holds. */
const memorySchema = z.object({
  receipt: receiptSchema,
  askedBy: z.record(z.string(), z.unknown()).optional(),
  after: z.number().optional(),
  before: z.enum(servingValues).optional(),
});

/**
 * The last handover that a stack's own state remembers. Not looked for where nothing hints at any: both regions serve, and
 * the peer, where it can be seen, has not heard of one. Throws if it cannot be read, since the cluster might then be handed over by mistake.
 */
export async function lastHandover(
  ownStack: string,
  settings: Pick<Settings, "serving" | "region" | "home">,
  seenPeer: PeerOutputs | undefined,
): Promise<HandoverMemory | undefined> {
  if (settings.serving === "both" && seenPeer && !seenPeer.handover) return undefined;
  const memory = await readMemory(ownStack, handoverMemoryName);
  if (memory.state === "none") return undefined;
  if (memory.state === "unreadable") {
    throw new RunError(
      `this stack's own state cannot tell which handover was the last (${memory.reason}).\n` +
        "Nothing was changed. Run pulumi up again when the state can be read.",
    );
  }
  return memorySchema.parse(memory.value);
}

/** Reads the receipt that a handover's Job printed. */
export async function readReceipt(access: ClusterAccess, namespace: string, job: string): Promise<Receipt> {
  let found: unknown;
  try {
    found = await lastLineOfJob(access, namespace, job);
  } catch (error) {
    throw new RunError(
      `the handover is done, and its receipt cannot be read (${error instanceof Error ? error.message : error}).\n` +
        `Have it printed again, which changes nothing else: kubectl -n ${namespace} delete job ${job}, then pulumi up --refresh`,
    );
  }
  const parsed = receiptSchema.safeParse(found);
  if (parsed.success) return parsed.data;
  throw new RunError(`what Job ${job} printed last is no receipt. Look at it: kubectl -n ${namespace} logs job/${job}`);
}
