/** When snapshots count as late, by the settings of a region: for npm run status, and for the alerts. Pure. */
import type { Settings } from "../settings";

/** What a region's settings say of snapshots. */
export interface SnapshotRules {
  /** Records after which Restate makes the next one. */
  intervalRecords: number;
  /** Time that must have passed as well, in seconds; absent where records alone decide. */
  intervalSeconds?: number;
  /** How long Restate keeps log records that a snapshot holds, in seconds. */
  trimDelaySeconds: number;
}

const unitSeconds: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds of a duration as settings have it, e.g. `1h30m`. */
export function durationSeconds(text: string): number {
  return [...text.matchAll(/(\d+)(ms|[smhd])/g)].reduce((sum, [, n, unit]) => sum + Number(n) * unitSeconds[unit!]!, 0);
}

/** The rules that follow from a region's settings. */
export function snapshotRules({ intervalRecords, interval, trimDelay }: Settings["snapshots"]): SnapshotRules {
  return {
    intervalRecords,
    ...(interval ? { intervalSeconds: durationSeconds(interval) } : {}),
    trimDelaySeconds: durationSeconds(trimDelay),
  };
}

/** How many intervals a snapshot may be late: Restate looks whether one is due only now and then, and making it takes time. */
export const lateIntervals = 2;

/** Longest wait for replication that is never worth a word, in seconds: what S3 promises for 99.99 % of objects. */
const usualReplication = 15 * 60;

/** From which wait on replication is told of, in seconds: half of the trim delay is left to mend it. */
export const slowReplication = (rules: SnapshotRules) => Math.min(usualReplication, rules.trimDelaySeconds / 2);
