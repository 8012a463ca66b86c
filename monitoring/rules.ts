/**
 * Alerts of one region, as Prometheus evaluates them. Pure: the component and promtool get the same rules.
 *
 * Every metric is one that Restate 1.7.12 was seen to export, or one of the kubelet and of kube-state-metrics; a unit test
 * holds that against recordings of real nodes. Restate itself labels each series with the names of cluster and node.
 */
import { laggingRecords } from "../restate/lagging";
import { lateIntervals, type SnapshotRules } from "../restate/snapshotRules";
import { metadataQuorum, otherRegion, type RegionName, type Serving } from "../topology";

/** What the rules are made of. */
export interface RulesInput {
  cluster: string;
  region: RegionName;
  namespace: string;
  serving: Serving;
  /** Nodes of each region, and those of this region that run now. */
  replicas: number;
  runningReplicas: number;
  /** Whether the Prometheus that evaluates the rules has the metrics of both regions. */
  bothRegions: boolean;
  /** Seconds that a handover may take. */
  handoverTimeout: number;
  snapshots: SnapshotRules;
}

/** One alert, in Prometheus's words. */
interface AlertRule {
  alert: string;
  expr: string;
  for?: string;
  labels: Record<string, string>;
  annotations: { summary: string; description: string; runbook: string };
}

/** What `groups` of a rule file and of a PrometheusRule consists of. */
export interface RuleGroup {
  name: string;
  rules: AlertRule[];
}

/** Labels of every series of the cluster, and of those of one region's nodes. */
export const ofCluster = (cluster: string) => `cluster_name="${cluster}"`;
const ofRegion = (cluster: string, region: string) => `${ofCluster(cluster)},node_name=~".+[.]${region}"`;

/** A gauge once for each node, however often the node is read: through two Services, or by two Prometheuses. */
export const perNode = (metric: string, labels: string) => `max by (node_name) (${metric}{${labels}})`;

/** What a counter grew by, once for each node. */
const growth = (metric: string, labels: string, window: string) =>
  `max by (node_name) (increase(${metric}{${labels}}[${window}]))`;

/** Nodes of which a counter grew, or is there for the first time: it appears with what it counts first. */
const grew = (metric: string, labels: string, window: string) =>
  `(increase(${metric}{${labels}}[${window}]) > 0 or (${metric}{${labels}} > 0 unless ${metric}{${labels}} offset ${window}))`;

/** Least time in which a snapshot is waited for, in seconds. */
const snapshotWindow = 3600;

/** The rules of one region. Where metrics cannot tell something there is no rule: docs/monitoring.md says what does. */
export function alertRules(input: RulesInput): RuleGroup[] {
  const { cluster, region, namespace, serving, runningReplicas: running } = input;
  const peer = otherRegion(region);
  const serves = serving === "both" || serving === region;
  const own = ofRegion(cluster, region);
  /** Where leaders are looked for: everywhere if that can be seen, here if all of them have to be here. */
  const everywhere = input.bothRegions ? ofCluster(cluster) : own;
  const seesLeaders = input.bothRegions || serving === region;

  const answering = `count(${perNode("restate_num_partitions", own)})`;
  const alive = `max(restate_failure_detector_nodes_total{${own},state="alive"})`;
  const processors = `sum(${perNode("restate_num_active_partitions", own)})`;
  const leaders = `sum(${perNode("restate_num_active_partition_leaders", everywhere)})`;
  const committed = "restate_bifrost_sequencer_committed_records_total";
  const waves = "restate_bifrost_sequencer_append_wave_duration_seconds_count";
  const window = `${Math.max(snapshotWindow, lateIntervals * (input.snapshots.intervalSeconds ?? 0))}s`;
  const [members, majority] =
    serving === "both"
      ? [2 * input.replicas, metadataQuorum(input.replicas)]
      : [input.replicas, Math.floor(input.replicas / 2) + 1];
  const volume = `namespace="${namespace}",persistentvolumeclaim=~"storage-restate-.+"`;
  const diskLeft = `kubelet_volume_stats_available_bytes{${volume}} / kubelet_volume_stats_capacity_bytes{${volume}}`;
  const jobs = `namespace="${namespace}",job_name=~"restate-(handover|serve)-.+"`;
  const lastDone = `max by (namespace) (kube_job_status_completion_time{${jobs}})`;
  const pods = `kubectl -n ${namespace} get pods`;
  const snapshot = `kubectl -n ${namespace} exec restate-0 -- restatectl snapshots create`;

  const rules: (Alert | false)[] = [
    running > 0 && {
      alert: "RestateNodeDown",
      severity: "warning",
      region,
      for: "5m",
      expr: `(${answering} or vector(0)) < ${running}`,
      summary: `{{ $value }} of ${running} Restate nodes of ${region} answer`,
      description: `One node of a region may be missing, and comes back by itself. If it stays away: npm run status, and ${pods}.`,
      section: "a-node-is-down",
    },
    serves && {
      alert: "RestateRegionWithoutFollowers",
      severity: "critical",
      region,
      for: "5m",
      expr: `(${processors} or vector(0)) < (max(restate_num_partitions{${own}}) or vector(1))`,
      summary: `some partitions have no processor in ${region}`,
      description: `{{ $value }} processors run in ${region}, fewer than there are partitions: it could not carry the cluster alone. Next: npm run status.`,
      section: "a-region-is-out-of-reach",
    },
    serves && {
      alert: "RestateProcessorBehind",
      severity: "warning",
      region,
      for: "10m",
      expr: `${perNode("restate_partition_applied_lsn_lag", `${own},quantile="1.0"`)} > ${laggingRecords}`,
      summary: "a processor on {{ $labels.node_name }} is {{ $value }} records behind",
      description:
        "It could not take its partition over, and no handover begins. Next: npm run status, which names what to restart if it gets no further.",
      section: "a-node-is-stuck",
    },
    serving !== region && {
      alert: "RestateOtherRegionAway",
      severity: "critical",
      region: peer,
      for: "2m",
      expr: `${alive} - ${answering} <= 0`,
      summary: `no Restate node of ${peer} is alive, as seen from ${region}`,
      description: `${serving === "both" ? "While both regions serve nothing is written in either until they reach each other again" : `${peer} serves alone`}. Next: npm run status.`,
      section: "a-region-is-out-of-reach",
    },
    serves &&
      members > majority && {
        alert: "RestateMetadataQuorumAtRisk",
        severity: "critical",
        for: "2m",
        expr: `${serving === "both" ? alive : answering} == ${majority}`,
        summary: `{{ $value }} of ${members} metadata members are alive, and ${majority} are needed`,
        description: `The loss of one more node stops the metadata store. Restart no node. Next: npm run status, and ${pods}.`,
        section: "a-node-is-down",
      },
    serves && {
      alert: "RestateMetadataQuorumLost",
      severity: "critical",
      for: "1m",
      expr: `max(restate_metadata_server_replicated_leader_id{${own}}) == 0`,
      summary: `the metadata store has no leader, as seen from ${region}`,
      description:
        "No leader can move and no log can be reconfigured until a majority of its members reach each other. Next: npm run status.",
      section: "a-region-is-out-of-reach",
    },
    seesLeaders && {
      alert: "RestateLeaderMissing",
      severity: "critical",
      for: "2m",
      expr: `${leaders} < max(restate_num_partitions{${everywhere}})`,
      summary: "only {{ $value }} partitions have a leader",
      description: "Calls to the others wait. Next: npm run status, which names them.",
      section: "a-region-is-out-of-reach",
    },
    serves && {
      alert: "RestateAppendsFail",
      severity: "critical",
      region,
      for: "2m",
      expr: `${growth(waves, own, "5m")} > 0 unless ${growth(committed, own, "5m")} > 0`,
      summary: "{{ $labels.node_name }} cannot write to its logs",
      description:
        "It tries again and again, and no record is committed: in one of the regions too few nodes answer it. Next: npm run status.",
      section: "a-region-is-out-of-reach",
    },
    serves && {
      alert: "RestateLogNotInRegion",
      severity: "critical",
      region,
      for: "5m",
      // Each record is stored in each region that serves, at least once. By half: a counter that begins lacks its first value.
      expr: `sum(${growth("restate_log_server_store_records_total", `${own},status="ok"`, "15m")}) < 0.5 * sum(${growth(committed, everywhere, "15m")})`,
      summary: `records are written of which ${region} has no copy`,
      description: `In 15 minutes ${region} stored {{ printf "%.0f" $value }} records, and more than twice as many were committed. Next: npm run status (LOG REPLICATION), then npm run up.`,
      section: "a-handover-that-stopped",
    },
    serves && {
      alert: "RestateSnapshotFails",
      severity: "critical",
      region,
      expr: `max by (node_name) ${grew("restate_partition_store_snapshots_upload_failed_total", own, "15m")}`,
      summary: "{{ $labels.node_name }} cannot write snapshots",
      description: `Records pile up on the nodes' disks, and a node that is lost takes longer to replace. Next: npm run status, and kubectl -n ${namespace} logs restate-0 | grep -i snapshot.`,
      section: "snapshots-are-behind",
    },
    serves && {
      alert: "RestateSnapshotOverdue",
      severity: "warning",
      region,
      for: "5m",
      // So many records for each leader that at least one partition must have made a snapshot meanwhile.
      expr:
        // A node that only follows does not hear of newer ones.
        `max(${perNode("restate_partition_snapshot_age_seconds", `${own},quantile="1.0"`)} and ${perNode("restate_num_active_partition_leaders", own)} > 0) and on () ` +
        `(sum(${growth(committed, everywhere, window)}) > ${lateIntervals * input.snapshots.intervalRecords} * clamp_min(${leaders}, 1)) ` +
        `unless on () ${grew("restate_partition_store_snapshots_upload_total", everywhere, window)}`,
      summary: "no snapshot is made, the oldest is {{ humanizeDuration $value }} old",
      description: `Enough records were written since. Next: npm run status, and ${snapshot}.`,
      section: "snapshots-are-behind",
    },
    ...(
      [
        ["warning", 0.2],
        ["critical", 0.1],
      ] as const
    ).map(([severity, left]) => ({
      alert: "RestateDiskFull",
      severity,
      region,
      for: "10m",
      expr: `${diskLeft} < ${left}`,
      summary: "{{ humanizePercentage $value }} of the volume {{ $labels.persistentvolumeclaim }} are left",
      description: `A node whose volume is full stops. Next: npm run status (are snapshots behind?), and ${snapshot} --trim-log --yes.`,
      section: "a-volume-fills-up",
    })),
    {
      alert: "RestateHandoverStuck",
      severity: "critical",
      region,
      expr: `time() - kube_job_status_start_time{${jobs}} > ${input.handoverTimeout} and on (namespace, job_name) kube_job_status_active{${jobs}} > 0`,
      summary: "the handover {{ $labels.job_name }} has run for {{ humanizeDuration $value }}",
      description: `It had ${input.handoverTimeout} s. Next: kubectl -n ${namespace} logs job/{{ $labels.job_name }}, then npm run up.`,
      section: "a-handover-that-stopped",
    },
    {
      alert: "RestateHandoverFailed",
      severity: "critical",
      region,
      // A later one that was completed settles it.
      expr: `kube_job_failed{${jobs},condition="true"} == 1 unless on (namespace, job_name) (kube_job_created{${jobs}} < on (namespace) group_left () ${lastDone})`,
      summary: "the handover {{ $labels.job_name }} failed",
      description: `The cluster may be between two regions. Next: kubectl -n ${namespace} logs job/{{ $labels.job_name }}, then npm run up.`,
      section: "a-handover-that-stopped",
    },
  ];

  return [
    {
      name: `restate-${cluster}-${region}`,
      rules: rules.flatMap((one) => (one ? [alertRule(cluster, one)] : [])),
    },
  ];
}

interface Alert {
  alert: string;
  severity: "critical" | "warning";
  /** Region that it is about. One about the whole cluster has none: both stacks make it, and the Alertmanager sees one. */
  region?: RegionName;
  for?: string;
  expr: string;
  summary: string;
  description: string;
  /** Section of docs/operations.md. */
  section: string;
}

function alertRule(cluster: string, { alert, severity, region, expr, ...one }: Alert): AlertRule {
  return {
    alert,
    expr,
    ...(one.for ? { for: one.for } : {}),
    labels: { severity, restate_cluster: cluster, ...(region ? { restate_region: region } : {}) },
    annotations: {
      summary: `${cluster}: ${one.summary}`,
      description: one.description,
      runbook: `docs/operations.md#${one.section}`,
    },
  };
}
