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
  /** Acknowledged with a count that another acknowledged call of the account has too. */
  sharedCounts: string[];
  /** Accounts whose balance is not what their calls add up to. */
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
    sharedCounts: [],
    unbalanced: [],
  };
  const byKey = new Map<string, CallRecord>();
  const counts = new Map<string, string>();
  for (const call of calls) {
    if (byKey.has(call.key)) throw new Error(`two calls have the key ${call.key}: the records of one load are needed`);
    byKey.set(call.key, call);
    const effective = state.get(call.account)?.calls.has(call.key) ?? false;
    if (call.outcome === "open") verdict.open[effective ? "effective" : "ineffective"]++;
    if (call.outcome === "refused" && effective) verdict.refusedYetEffective.push(call.key);
    if (call.outcome !== "acknowledged") continue;
    verdict.acknowledged++;
    if (!effective) verdict.lost.push(call.key);
    const { receipt, repeated } = call;
    if (receipt?.id !== call.key || (repeated && JSON.stringify(repeated) !== JSON.stringify(receipt))) {
      verdict.answeredDifferently.push(call.key);
    }
    const count = `${call.account} ${receipt?.count}`;
    if (counts.has(count)) verdict.sharedCounts.push(call.key);
    counts.set(count, call.key);
  }
  for (const [account, { balance, calls: traces }] of state) {
    let count = 0;
    let sum = 0;
    for (const [key, { times, amount }] of traces) {
      count += times;
      sum += amount;
      const call = byKey.get(key);
      if (times !== 1) verdict.doubled.push(key);
      if (!call) verdict.unsent.push(key);
      else if (call.account !== account || amount !== times * call.amount) verdict.distorted.push(key);
    }
    if (balance.count !== count || balance.sum !== sum) verdict.unbalanced.push(account);
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
  sharedCounts: "calls were given a place in their account that another call has",
  unbalanced: "accounts do not add up to their calls",
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
