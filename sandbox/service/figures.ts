/** Figures of a load: how long calls took, and for how long nobody was answered. Pure. */
import type { CallRecord } from "./load";

/** Figures of some calls; times in milliseconds. */
export interface Figures {
  calls: number;
  acknowledged: number;
  /** Calls that had to be sent more than once. */
  retried: number;
  perSecond: number;
  p50: number;
  p99: number;
  slowest: number;
  /** The longest time between two answers, from the first call's start to the last one's end. */
  longestSilence: number;
}

/** The value that a share of all values does not exceed; 0 of none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}

/** Figures of calls. A call takes from its first attempt to its answer. */
export function figuresOf(calls: readonly CallRecord[]): Figures {
  const answered = calls.filter((call) => call.outcome === "acknowledged");
  const took = answered.map((call) => call.end - call.start);
  const starts = calls.map((call) => call.start);
  const begin = starts.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const ends = answered.map((call) => call.end).sort((a, b) => a - b);
  const finish = calls.reduce((latest, call) => Math.max(latest, call.end), begin);
  const moments = [begin, ...ends, finish];
  const silences = moments.slice(1).map((moment, i) => moment - moments[i]!);
  const span = finish - begin;
  return {
    calls: calls.length,
    acknowledged: answered.length,
    retried: calls.filter((call) => call.attempts.length > 1).length,
    perSecond: span > 0 ? (1000 * answered.length) / span : 0,
    p50: percentile(took, 0.5),
    p99: percentile(took, 0.99),
    slowest: took.reduce((a, b) => Math.max(a, b), 0),
    longestSilence: calls.length === 0 ? 0 : silences.reduce((a, b) => Math.max(a, b), 0),
  };
}

/**
 * What callers noticed between two moments: figures of the calls that were under way at some time in between, and of the
 * silences that fall into it, also in part.
 */
export function figuresBetween(calls: readonly CallRecord[], from: number, to: number): Figures {
  const answered = calls.filter((call) => call.outcome === "acknowledged");
  const ends = answered.map((call) => call.end).sort((a, b) => a - b);
  const first = ends.findLast((end) => end <= from) ?? from;
  const last = ends.find((end) => end >= to) ?? to;
  const moments = [first, ...ends.filter((end) => end > first && end < last), last];
  const meanwhile = calls.filter((call) => call.end >= from && call.start <= to);
  const inTime = ends.filter((end) => end >= from && end <= to).length;
  return {
    ...figuresOf(meanwhile),
    perSecond: to > from ? (1000 * inTime) / (to - from) : 0,
    longestSilence: moments.slice(1).reduce((longest, moment, i) => Math.max(longest, moment - moments[i]!), 0),
  };
}

/** Figures by the region that answered, or was asked last. */
export function figuresByRegion(calls: readonly CallRecord[]): Record<string, Figures> {
  const names = [...new Set(calls.map((call) => call.region))].sort();
  return Object.fromEntries(names.map((name) => [name, figuresOf(calls.filter((call) => call.region === name))]));
}
