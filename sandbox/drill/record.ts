/** What a drill leaves behind: everything that its report is made of. */
import type { Receipt } from "../../outputs";
import { type Serving, servingValues } from "../../topology";
import type { Verdict } from "../service/check";
import type { CallRecord } from "../service/load";

/** The cluster at one moment, as one of its nodes saw it. */
export interface Sample {
  /** Milliseconds since 1970. */
  at: number;
  /** By partition. */
  partitions: {
    id: number;
    /** Id of the node that leads it. */
    leader: string | null;
    /** Replication of its log's newest segment, and the nodes that take its records; null and empty while it is sealed. */
    replication: string | null;
    nodeset: string[];
  }[];
  nodes: NodeSample[];
}

/** One node at that moment. */
export interface NodeSample {
  id: string;
  name: string;
  region: string;
  storage: string;
  worker: string;
  metadata: string;
}

/** One handover of a drill. */
export interface DrillHandover {
  from: Serving;
  to: Serving;
  /** When `npm run up` began and ended, in milliseconds since 1970. */
  began: number;
  ended: number;
  /** What the cluster says of it; absent where it was not done. */
  receipt?: Receipt;
  /** Why it was not done. */
  problem?: string;
}

/** One drill. Times are in milliseconds since 1970. */
export interface Drill {
  /** Its name, which is the beginning of every call's key. */
  run: string;
  began: number;
  ended: number;
  restateVersion: string;
  machine: { cores: number; model: string; node: string; load: number };
  clients: number;
  accounts: number;
  /** How often the cluster was looked at, in milliseconds. */
  interval: number;
  handovers: DrillHandover[];
  samples: Sample[];
  calls: readonly CallRecord[];
  /** The judgement of all calls by the state as each region has it. */
  verdicts: Record<string, Verdict>;
  /** All that is wrong, in words; empty when every handover was done and every acknowledged call counts exactly once. */
  faults: string[];
}

/** Which regions serve, by the states of the nodes; undefined where they are between two. */
export function servingOf(nodes: readonly NodeSample[]): Serving | undefined {
  const looksLike = (serving: Serving) =>
    nodes.every(({ region, storage, worker, metadata }) =>
      serving === "both" || region === serving
        ? storage === "read-write" && worker === "active" && metadata === "member"
        : storage !== "read-write" && worker !== "active" && metadata !== "member",
    );
  return servingValues.find(looksLike);
}

/** When the script of a handover ran: from its first line to the end of its last step. Undefined where it was not done. */
export function scriptSpan({ receipt }: DrillHandover): { from: number; to: number } | undefined {
  if (!receipt) return undefined;
  const from = Date.parse(receipt.began);
  return { from, to: from + 1000 * receipt.seconds };
}

/** The steps of a handover, each with its beginning and end. */
export function stepSpans(receipt: Receipt): { step: string; changes: number; from: number; to: number }[] {
  let at = Date.parse(receipt.began);
  return receipt.steps.map(({ step, seconds, changes }) => {
    const from = at;
    at += 1000 * seconds;
    return { step, changes, from, to: at };
  });
}

/** The drill as JSON: calls are rows without names, since there are many. Times of calls count from the drill's beginning. */
export function drillJson(drill: Drill): string {
  const since = (at: number) => Math.round((at - drill.began) * 1000) / 1000;
  const calls = {
    columns: ["key", "account", "client", "amount", "region", "outcome", "start", "end", "attempts"],
    rows: drill.calls.map(({ key, account, client, amount, region, outcome, start, end, attempts }) => [
      ...[key, account, client, amount, region, outcome, since(start), since(end)],
      attempts.length === 1
        ? 1
        : attempts.map(({ region, start, end, error }) => [region, since(start), since(end), error]),
    ]),
  };
  // One line a sample and a call: such a file can still be looked at.
  const lines = (rows: readonly unknown[]) => `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]`;
  const { calls: _, samples, ...rest } = drill;
  return [
    `${JSON.stringify(rest, null, 1).slice(0, -2)},`,
    ` "samples": ${lines(samples)},`,
    ` "calls": {"columns": ${JSON.stringify(calls.columns)}, "rows": ${lines(calls.rows)}}`,
    "}\n",
  ].join("\n");
}
