/**
 * The handovers of the cluster, newest first: their receipts, from both regions' buckets.
 *
 *     npm run history -- [<number>] [--most N] [--stacks region1,region2] [--json]
 *
 * With a number: that one in full, step by step. Each bucket is read in a pod of its own region, else in one of its peer's,
 * with the nodes' own role; receipts are copied between the buckets as snapshots are, so that one region's loss loses none.
 * Exit code 0 if both buckets could be read, 1 if not, 2 if it could not look: wrong flags, a stack that does not exist.
 */
import { parseArgs } from "node:util";
import type { Receipt } from "../outputs";
import { type Asked, type HistoryDocument, historyCommand, historyDocument, historyScript } from "../restate/history";
import { candidatesOf, firstAnswer, inPod, type Reachable, readRegion } from "./regions";
import { table, wholeSeconds } from "./report";
import { runCommand, twoStacks, UsageError } from "./stacks";

const usage = `npm run history -- [<number>] [options]: the handovers of the cluster, newest first

  <number>      one of them in full, step by step
  --most N      how many of them at most (default: 20)
  --stacks A,B  the two stacks (default: region1,region2)
  --json        all of it as JSON`;

/** Longest that reading a bucket may take, in milliseconds: the script has deadlines of its own for each object. */
const patience = 60_000;

/** What was found, and what could not be read. */
export interface History {
  /** Newest first, each once. */
  receipts: Receipt[];
  /** In words, with the region first. */
  problems: string[];
}

/** The history from what each region's bucket has; a text says why it could not be read. Pure. */
export function mergeHistory(found: Record<string, HistoryDocument | string>): History {
  const receipts = new Map<number, Receipt>();
  const problems: string[] = [];
  for (const [region, document] of Object.entries(found)) {
    if (typeof document === "string") {
      problems.push(`${region}: ${document}`);
      continue;
    }
    for (const one of document.receipts) receipts.set(one.number, one);
    for (const { step, bucket, code, message } of document.problems) {
      problems.push(`${region}: ${step}${bucket ? ` of ${bucket}` : ""}: ${code}: ${message}`);
    }
  }
  return { receipts: [...receipts.values()].sort((a, b) => b.number - a.number), problems };
}

/** Who asked for a handover, in a few words. */
function askerOf({ askedBy }: Receipt): string {
  const { user, commit, dirty } = askedBy as { user?: string; commit?: string; dirty?: boolean };
  return [user, commit ? `at ${commit.slice(0, 12)}${dirty ? " with changes" : ""}` : ""].filter(Boolean).join(" ");
}

const seconds = (value: number) => `${value.toFixed(1)} s`;

/** The list, for people. */
export function renderHistory({ receipts, problems }: History, most: number): string {
  const parts = problems.map((problem) => `✗ ${problem}\n    next: npm run status`);
  if (receipts.length > 0) {
    const rows = receipts
      .slice(0, most)
      .map((one) => [
        String(one.number),
        wholeSeconds(one.ended),
        `${one.from} -> ${one.to}`,
        seconds(one.seconds),
        String(one.changes),
        one.saved ? "yes" : "not all",
        askerOf(one),
      ]);
    parts.push(table([["HANDOVER", "ENDED", "SERVING", "TOOK", "CHANGES", "IN SNAPSHOTS", "ASKED BY"], ...rows]));
    parts.push("One in full: npm run history -- <number>");
  } else if (problems.length === 0) parts.push("There was no handover yet: both regions serve since the beginning.");
  return parts.join("\n\n");
}

/** One of them in full, for people. */
export function renderReceipt(one: Receipt): string {
  const logs = one.logsAfter.map((tail) => {
    const old = one.logsBefore.find(({ log }) => log === tail.log);
    return [
      String(tail.log),
      `${old?.segment ?? "?"} -> ${tail.segment}`,
      `${old?.applied ?? "?"} -> ${tail.applied ?? "?"}`,
      `${old?.replication ?? "?"} -> ${tail.replication ?? "?"}`,
      `${old?.nodeset ?? "?"} -> ${tail.nodeset ?? "?"}`,
    ];
  });
  return [
    `handover ${one.number}: ${one.from} -> ${one.to}, ${wholeSeconds(one.began)} to ${wholeSeconds(one.ended)} (${seconds(one.seconds)}), run in ${one.ranIn}`,
    `asked for by: ${askerOf(one)}\nrecords from before it are in snapshots: ${one.saved ? "yes" : "not all of them"}`,
    table([
      ["STEP", "TOOK", "CHANGES"],
      ...one.steps.map(({ step, seconds: took, changes }) => [step, seconds(took), String(changes)]),
    ]),
    table([
      ["NODE", "NAME", "STORAGE", "WORKER", "METADATA"],
      ...[...one.nodes]
        .sort((a, b) => a.name.localeCompare(b.name))
        .map(({ id, name, storage, worker, metadata }) => [id, name, storage, worker, metadata]),
    ]),
    table([["LOG", "SEGMENT", "APPLIED", "REPLICATION", "NODES"], ...logs]),
  ].join("\n\n");
}

/** Reads one region's bucket. */
async function readBucket(region: Reachable, peer: Reachable, asked: Asked): Promise<HistoryDocument | string> {
  const { bucket, view } = region;
  if (!bucket) return view.pending[0] ?? `stack ${view.stack} has no bucket`;
  const { answer, reasons } = await firstAnswer(candidatesOf([region, peer]), async (candidate) =>
    historyDocument(await inPod(candidate, historyCommand(bucket, asked), patience, historyScript())),
  );
  return answer ?? (reasons.join("; ") || "no pod runs in either region that could read its bucket");
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      stacks: { type: "string", default: "region1,region2" },
      most: { type: "string", default: "20" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const whole = (what: string, text: string) => {
    if (!/^[1-9]\d{0,5}$/.test(text)) throw new UsageError(`${what} must be a whole number from 1 on, not ${text}`);
    return Number(text);
  };
  const most = whole("--most", values.most);
  if (positionals.length > 1) throw new UsageError(`one number at most, not ${positionals.join(" ")}`);
  const number = positionals[0] === undefined ? undefined : whole("the handover's number", positionals[0]);

  const stacks = twoStacks(values.stacks);
  const [home, peer] = await Promise.all([readRegion(stacks[0]), readRegion(stacks[1])]);
  const asked = number === undefined ? { most } : { number };
  const [first, second] = await Promise.all([readBucket(home, peer, asked), readBucket(peer, home, asked)]);
  const history = mergeHistory({ [home.view.region]: first, [peer.view.region]: second });
  if (number === undefined) {
    const shown = { ...history, receipts: history.receipts.slice(0, most) };
    console.log(values.json ? JSON.stringify(shown, null, 2) : renderHistory(history, most));
    return history.problems.length === 0 ? 0 : 1;
  }
  const one = history.receipts.find((receipt) => receipt.number === number);
  if (!one) {
    const why = history.problems.map((problem) => `\n  ${problem}`).join("");
    throw new Error(`there is no receipt of handover ${number}${why}\nNext: npm run history`);
  }
  console.log(values.json ? JSON.stringify(one, null, 2) : renderReceipt(one));
  return 0;
}

if (require.main === module) runCommand(usage, main);
