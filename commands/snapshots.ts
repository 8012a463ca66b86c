/** What the state of the snapshots means: how old they are, how far behind, whether the peer's bucket has them. Pure. */
import { lateIntervals, slowReplication } from "../restate/snapshotRules";
import type { SnapshotDocument } from "../restate/snapshots";
import type { ClusterView, Finding, RegionView } from "./report";

/** The snapshots in one region's bucket, and their replication to the peer's. */
export type SnapshotState = SnapshotDocument & {
  /** Whose nodes were asked: the peer's, where the region itself cannot be reached. */
  askedIn: { stack: string; region: string; pod: string };
};

/** A duration for people, in its largest unit. */
export function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

const countText = (n: number, what: string) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** Several names or numbers, the first ten of them. */
function listText(all: (string | number)[]): string {
  return all.length > 10 ? `${all.slice(0, 10).join(", ")} and ${all.length - 10} more` : all.join(", ");
}

/** What a bucket's snapshots come to, against what the cluster has applied. */
export interface SnapshotSummary {
  newestSeconds?: number;
  /** The partition whose newest snapshot is the oldest. */
  oldest?: { partition: number; seconds: number };
  /** Partitions of which the bucket has no snapshot; empty if the list is not complete. */
  without: number[];
  /** Records that the newest snapshots lack, at most, of those partitions that have one; absent if not known. */
  recordsBehind?: number;
}

/** Last record that any node of a partition has applied, by partition. */
function appliedRecords(cluster: ClusterView | undefined): Map<number, number> {
  const applied = new Map<number, number>();
  for (const { partition_id: id, applied_log_lsn: lsn } of cluster?.partitions ?? []) {
    if (lsn !== null) applied.set(id, Math.max(applied.get(id) ?? 0, lsn));
  }
  return applied;
}

/** Sums up what one bucket holds. */
export function summarize(state: SnapshotState, cluster: ClusterView | undefined, partitions: number): SnapshotSummary {
  const applied = appliedRecords(cluster);
  const oldest = state.partitions.reduce<SnapshotState["partitions"][number] | undefined>(
    (worst, one) => (worst && worst.ageSeconds >= one.ageSeconds ? worst : one),
    undefined,
  );
  const behind = state.partitions.flatMap(({ partition, lsn }) => {
    const last = applied.get(partition);
    return last === undefined || lsn === null ? [] : [Math.max(0, last - lsn)];
  });
  const has = new Set(state.partitions.map(({ partition }) => partition));
  return {
    ...(oldest
      ? {
          newestSeconds: Math.min(...state.partitions.map(({ ageSeconds }) => ageSeconds)),
          oldest: { partition: oldest.partition, seconds: oldest.ageSeconds },
        }
      : {}),
    without: state.complete ? Array.from({ length: partitions }, (_, id) => id).filter((id) => !has.has(id)) : [],
    ...(behind.length > 0 ? { recordsBehind: Math.max(...behind) } : {}),
  };
}

/** Partitions whose snapshots are overdue, by the settings, wherever they are. Nothing while the cluster cannot be asked. */
export function overdueSnapshots(
  regions: RegionView[],
  cluster: ClusterView,
  create: (partitions: number[]) => string,
): Finding[] {
  const rules = regions.flatMap(({ snapshotRules: one }) => one ?? []);
  if (rules.length === 0) return [];
  // Where the regions differ, the patient one counts: which of them makes the next snapshot depends on the leader.
  const interval = Math.max(...rules.map(({ intervalRecords }) => intervalRecords));
  const intervalSeconds = Math.max(...rules.map((one) => one.intervalSeconds ?? 0));
  const none: number[] = [];
  const late: { id: number; behind: number; age: number | undefined }[] = [];
  let most = 0;
  for (const [id, applied] of [...appliedRecords(cluster)].sort(([a], [b]) => a - b)) {
    const stored = regions.flatMap(
      ({ snapshots }) => snapshots?.partitions.filter((one) => one.partition === id) ?? [],
    );
    const told = cluster.partitions.filter((row) => row.partition_id === id).map((row) => row.archived_log_lsn);
    const lsns = [...stored.map(({ lsn }) => lsn), ...told].filter((lsn) => lsn !== null);
    const behind = applied - Math.max(0, ...lsns);
    if (behind <= lateIntervals * interval) continue;
    const age = stored.length > 0 ? Math.min(...stored.map(({ ageSeconds }) => ageSeconds)) : undefined;
    if (lsns.length === 0) {
      none.push(id);
      most = Math.max(most, applied);
    } else if (age === undefined || age > lateIntervals * intervalSeconds) late.push({ id, behind, age });
  }
  const findings: Finding[] = [];
  const partitionsText = (ids: number[]) => `${ids.length === 1 ? "partition" : "partitions"} ${listText(ids)}`;
  if (none.length > 0) {
    const verb = none.length === 1 ? "has" : "have";
    findings.push({
      severity: "error",
      what: `${partitionsText(none)} ${verb} no snapshot after ${most} records; one is due every ${interval}`,
      next: create(none),
    });
  }
  if (late.length > 0) {
    const ids = late.map(({ id }) => id);
    const ages = late.flatMap(({ age }) => (age === undefined ? [] : [age]));
    findings.push({
      severity: "warning",
      what: `the newest ${late.length === 1 ? "snapshot" : "snapshots"} of ${partitionsText(ids)} ${late.length === 1 ? "is" : "are"} up to ${Math.max(...late.map(({ behind }) => behind))} records behind${ages.length > 0 ? ` and ${durationText(Math.max(...ages))} old` : ""}; one is due every ${interval} records`,
      next: create(ids),
    });
  }
  return findings;
}

/** Commands that an operator may need for a region's snapshots. */
export interface SnapshotCommands {
  /** Looks whether anybody is there to be asked. */
  pods: string;
  /** Makes a snapshot of every partition. */
  create: string;
  /** What the nodes themselves say of snapshots. */
  logs: string;
  /** Brings the role's permissions and trust back: the home region's stack owns it. */
  repairRole: string;
  /** Brings the region's own bucket and replication back. */
  repairRegion: string;
}

/** What is wrong with the snapshots in a region's bucket, and with their way to the peer. */
export function judgeSnapshots(region: RegionView, peer: RegionView, commands: SnapshotCommands): Finding[] {
  const findings: Finding[] = [];
  const error = (what: string, next: string) => findings.push({ severity: "error", what, next });
  const warning = (what: string, next: string) => findings.push({ severity: "warning", what, next });
  const { snapshots: state, noSnapshots, snapshotRules: rules } = region;
  if (!state) {
    if (noSnapshots) warning(`${region.region}: its snapshots cannot be looked at: ${noSnapshots}`, commands.pods);
    return findings;
  }

  const told = { credentials: "take their role", list: "list", read: "read all of" };
  // What befalls both buckets alike is one thing to mend.
  for (const [i, { step, code, message }] of state.problems.entries()) {
    const alike = state.problems.filter((one) => one.step === step && one.code === code);
    if (alike[0] !== state.problems[i]) continue;
    const buckets = alike.flatMap(({ bucket }) => bucket ?? []);
    const refused = /denied|forbidden|unauthorized|HTTP 40[13]|identity|token/i.test(code);
    error(
      `${state.askedIn.region}: nodes cannot ${[told[step], buckets.join(" and ")].filter(Boolean).join(" ")}: ${code}: ${message}`,
      refused ? commands.repairRole : commands.logs,
    );
  }

  const { replication } = state;
  if (!replication) return findings;
  const objects = (n: number) => countText(n, "object");
  const remake = `${commands.repairRegion}; then ${commands.create}`;
  if (replication.failed > 0) {
    error(`S3 gave up copying ${objects(replication.failed)} from ${region.region} to ${peer.region}`, remake);
  }
  const { waiting, oldestWaitingSeconds: oldest } = replication;
  if (rules && oldest !== null && oldest > slowReplication(rules)) {
    const what = `${objects(waiting)} of ${region.region}'s snapshots ${waiting === 1 ? "waits" : "wait"} to be copied to ${peer.region}, the oldest for ${durationText(oldest)}`;
    if (oldest >= rules.trimDelaySeconds) {
      error(
        `${what}: beyond the trim delay of ${durationText(rules.trimDelaySeconds)} the log may lack what ${peer.region}'s bucket lacks`,
        commands.repairRegion,
      );
    } else warning(what, commands.repairRegion);
  }
  if (replication.neverCopied > 0) {
    warning(
      `S3 never copies ${objects(replication.neverCopied)} of ${region.region}'s newest snapshots to ${peer.region}: written while there was no replication`,
      remake,
    );
  }
  if (replication.gone > 0) {
    warning(
      `${peer.region}'s bucket has lost its copies of ${objects(replication.gone)} of ${region.region}'s newest snapshots`,
      commands.create,
    );
  }
  return findings;
}

/** What became of the copies, for people. */
function replicationText({ replication, peerBucket }: SnapshotState, peer: string): string {
  if (!peerBucket) return "no peer yet";
  if (!replication) return "?";
  const { waiting, oldestWaitingSeconds: oldest, failed, neverCopied, gone, notLookedAt } = replication;
  const parts = [
    ...(waiting > 0 ? [`${countText(waiting, "object")}, oldest ${durationText(oldest ?? 0)}`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(neverCopied > 0 ? [`${neverCopied} never copied`] : []),
    ...(gone > 0 ? [`${gone} deleted there`] : []),
    ...(notLookedAt > 0 ? [`${notLookedAt} not looked at`] : []),
  ];
  return `to ${peer}: ${parts.join(", ") || "nothing waiting"}`;
}

/** The rows of the screen's table of snapshots; none if nobody was asked for them. */
export function snapshotRows(regions: RegionView[], cluster: ClusterView | undefined, partitions: number): string[][] {
  if (regions.every(({ snapshots, noSnapshots }) => !snapshots && !noSnapshots)) return [];
  return [
    ["SNAPSHOTS", "NEWEST", "OLDEST", "RECORDS BEHIND", "REPLICATION"],
    ...regions.map((region) => {
      const { snapshots: state } = region;
      if (!state || state.objects === null) return [region.region, "?", "?", "?", "?"];
      const { newestSeconds, oldest, without, recordsBehind } = summarize(state, cluster, partitions);
      const peer = regions.find((one) => one !== region)?.region ?? "the peer";
      const missing =
        without.length === 0 || !oldest
          ? ""
          : without.length === 1
            ? `; none of partition ${without[0]}`
            : `; none of ${without.length} partitions`;
      return [
        region.region,
        newestSeconds === undefined ? "none" : durationText(newestSeconds),
        oldest ? `${durationText(oldest.seconds)} (partition ${oldest.partition})${missing}` : "none",
        recordsBehind === undefined ? "?" : String(recordsBehind),
        `${replicationText(state, peer)}${state.complete ? "" : ` (first ${state.objects} objects)`}`,
      ];
    }),
  ];
}
