/**
 * Compares what callers know with what the state says: every acknowledged call must have taken effect exactly once, and
 * nothing may have taken effect that nobody asked for. Pure.
 */
import type { AccountState } from "./admin";
import type { CallRecord } from "./load";

/** What was found. Calls are named by their keys. */
export interface Verdict {
  /** Calls that were sent. */
  sent: number;
  acknowledged: number;
  /** Calls without an answer, by whether they took effect: neither is wrong. */
  open: { effective: number; ineffective: number };
  /** Acknowledged, and not in the state. */
  lost: string[];
  /** In the state more than once, acknowledged or not. */
  doubled: string[];
  /** In the state, and never sent. */
  unsent: string[];
  /** In the state with an amount that was not sent, or in an account that it was not sent to. */
  distorted: string[];
  /** Refused for good, and yet in the state. */
  refusedYetEffective: string[];
  /** The same key was answered twice, differently. */
  answeredDifferently: string[];
  /** Acknowledged with a number in their account under which the state has another call. */
  misplaced: string[];
  /** Accounts whose balance is not what their lines add up to, or whose lines are not numbered from 1. */
  unbalanced: string[];
}

/** Compares the calls with the state of all accounts that they were sent to. */
export function judgeCalls(calls: readonly CallRecord[], state: ReadonlyMap<string, AccountState>): Verdict {
  const verdict: Verdict = {
    sent: calls.length,
    acknowledged: 0,
    open: { effective: 0, ineffective: 0 },
    lost: [],
    doubled: [],
    unsent: [],
    distorted: [],
    refusedYetEffective: [],
    answeredDifferently: [],
    misplaced: [],
    unbalanced: [],
  };
  const times = new Map<string, number>();
  for (const { lines } of state.values()) {
    for (const { id } of lines.values()) times.set(id, (times.get(id) ?? 0) + 1);
  }
  verdict.doubled = [...times].filter(([, count]) => count > 1).map(([key]) => key);

  const byKey = new Map<string, CallRecord>();
  for (const call of calls) {
    const { key, account, outcome, receipt, repeated } = call;
    if (byKey.has(key)) throw new Error(`two calls have the key ${key}: the records of one load are needed`);
    byKey.set(key, call);
    const effective = times.has(key);
    if (outcome === "open") verdict.open[effective ? "effective" : "ineffective"]++;
    if (outcome === "refused" && effective) verdict.refusedYetEffective.push(key);
    if (outcome !== "acknowledged") continue;
    verdict.acknowledged++;
    if (receipt?.id !== key || (repeated && JSON.stringify(repeated) !== JSON.stringify(receipt))) {
      verdict.answeredDifferently.push(key);
    }
    if (!effective) verdict.lost.push(key);
    else if (state.get(account)?.lines.get(receipt?.count ?? 0)?.id !== key) verdict.misplaced.push(key);
  }
  for (const [account, { balance, lines }] of state) {
    let sum = 0;
    let last = 0;
    for (const [number, { id, amount }] of lines) {
      sum += amount;
      last = Math.max(last, number);
      const call = byKey.get(id);
      if (!call) verdict.unsent.push(id);
      else if (call.account !== account || call.amount !== amount) verdict.distorted.push(id);
    }
    if (balance.count !== lines.size || balance.sum !== sum || last !== lines.size) verdict.unbalanced.push(account);
  }
  return verdict;
}

const faults = {
  lost: "acknowledged calls are not in the state",
  doubled: "calls took effect more than once",
  unsent: "calls are in the state that nobody sent",
  distorted: "calls are in the state with another amount or account than was sent",
  refusedYetEffective: "refused calls took effect",
  answeredDifferently: "calls were answered differently when they were repeated, or with another call's answer",
  misplaced: "calls are not where their answers say that they were written down",
  unbalanced: "accounts do not add up to their lines",
} as const satisfies Partial<Record<keyof Verdict, string>>;

/** All that is wrong, in words, with a few names each; empty when every call counts exactly once. */
export function faultsOf(verdict: Verdict): string[] {
  return (Object.keys(faults) as (keyof typeof faults)[]).flatMap((kind) => {
    const names = verdict[kind];
    if (names.length === 0) return [];
    const some = names.slice(0, 5).join(", ");
    return [`${names.length} ${faults[kind]}: ${some}${names.length > 5 ? ", …" : ""}`];
  });
}
