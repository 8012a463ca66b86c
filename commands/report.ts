/** What the state of both regions means: findings, worst first, each with the next command. Pure. */
import type { Receipt } from "../outputs";
import { type HandoverRecord, serveTemplate } from "../restate/handover";
import { laggingRecords } from "../restate/lagging";
import type { SnapshotRules } from "../restate/snapshotRules";
import { leadRegion, type RegionName, type Serving } from "../topology";
import { judgeSnapshots, overdueSnapshots, type SnapshotState, snapshotRows } from "./snapshots";

/** One row of Restate's table `nodes`. */
export interface NodeRow {
  name: string;
  state: string;
  location: string;
  storage_state: string;
  worker_state: string;
  metadata_server_state: string;
  /** The version of Restate that it runs, where it is told. */
  binary_version?: string;
}

/** One row of `logs_tail_segments`. */
export interface LogRow {
  log_id: number;
  replication: string | null;
}

/** One row of `partition_state`: one partition's processor on one node. */
export interface PartitionRow {
  partition_id: number;
  node: string;
  effective_mode: string | null;
  replay_status: string | null;
  applied_log_lsn: number | null;
  target_tail_lsn: number | null;
  archived_log_lsn: number | null;
  /** Node that sequenced the records it reads next; null if that node was restarted since, or it has applied nothing. */
  sequencer: string | null;
  /** That it was behind at two looks, seconds apart, and applied nothing in between. */
  stands?: boolean;
}

/** A row as restatectl prints it, without what is null there, made whole. */
export function partitionRow(
  printed: Partial<PartitionRow> & Pick<PartitionRow, "partition_id" | "node">,
): PartitionRow {
  return {
    effective_mode: null,
    replay_status: null,
    applied_log_lsn: null,
    target_tail_lsn: null,
    archived_log_lsn: null,
    sequencer: null,
    ...printed,
  };
}

/** One Restate pod. */
export interface PodRow {
  name: string;
  phase: string;
  ready: boolean;
  restarts: number;
  kubernetesNode: string;
}

/** One region, as its stack and its Kubernetes cluster tell. */
export interface RegionView {
  stack: string;
  region: string;
  /** Namespace of its Restate pods. */
  namespace: string;
  /** Kubeconfig and context as its settings name them; absent where kubectl's own are as good. */
  kubeconfig?: string;
  context?: string;
  /** Why its cluster cannot be read; absent if it can. */
  unreachable?: string;
  /** What its stack waits for, each with the next command after `Next: `; one without means an `up` of this stack. */
  pending: string[];
  /** What the stack says of its nodes. */
  nodes: { name: string; pod: string; zone: string; loadBalancer: { name: string; hostname: string } }[];
  /** The version of Restate that its settings ask for. */
  restateVersion: string;
  /** Restate nodes that it should run now: fewer than it has where a drained region stands by. Absent: all. */
  runningReplicas?: number;
  /** The regions that were to serve when its stack was last brought up. */
  serving?: Serving;
  /** The last handover that its stack knows of. */
  receipt?: Receipt;
  pods: PodRow[];
  /** Load balancers that the cluster's Services have now, by pod. */
  loadBalancers: Record<string, string | undefined>;
  /** What its settings say of snapshots. */
  snapshotRules?: SnapshotRules;
  /** The snapshots in its bucket, and their replication to the peer's. */
  snapshots?: SnapshotState;
  /** Why they could not be looked at, though somebody was there to be asked. */
  noSnapshots?: string;
}

/** The Restate cluster; absent while nobody could be asked. */
export interface ClusterView {
  /** Pod that was asked. */
  askedIn: { stack: string; pod: string };
  nodes: NodeRow[];
  logs: LogRow[];
  partitions: PartitionRow[];
  /** Where the handovers have led; absent if the metadata store does not answer. */
  record?: HandoverRecord;
}

/** Everything that the report is made from. */
export interface StatusView {
  regions: RegionView[];
  cluster?: ClusterView;
  /** Why the Restate cluster could not be asked. */
  noCluster?: string;
  /** The regions that are to serve, and the home region, as the settings have it. */
  serving: Serving;
  home: RegionName;
  replicas: number;
  partitions: number;
}

/** Something that is not as it should be. */
export interface Finding {
  severity: "error" | "warning";
  what: string;
  next: string;
}

/** Whether a processor is in a mode; Restate changed the spelling in 1.7.3. */
const isIn = (mode: string) => (row: PartitionRow) => row.effective_mode?.toLowerCase() === mode;

/** Whether a processor leads its partition. */
export const leads = isIn("leader");

/** Whether a processor is chosen to lead its partition, and does not yet: it has first to apply all that there is. */
const isCandidate = isIn("candidate");

/** The beginning of a command that asks a region's cluster. */
function kubectl({ namespace, kubeconfig, context }: RegionView): string {
  const access = [...(kubeconfig ? ["--kubeconfig", kubeconfig] : []), ...(context ? ["--context", context] : [])];
  return [
    "kubectl",
    ...access.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word}'`)),
    "-n",
    namespace,
  ].join(" ");
}

/** Separates what waits from the next command, which the text of a pending step ends with. */
function splitPending(text: string, stack: string): { what: string; next: string } {
  const [, what, next] = /^(.*?)\.? Next: (.*)$/s.exec(text) ?? [];
  return { what: what ?? text, next: next ?? `pulumi up --stack ${stack}` };
}

/** Names of the nodes that are alive. What was last heard of another is remembered for minutes, and says nothing. */
export const namesAlive = (nodes: NodeRow[]): ReadonlySet<string> =>
  new Set(nodes.filter(({ state }) => state === "alive").map(({ name }) => name));

/** The rows of a later look, which tell of each processor that was and is far behind whether it stands, if its node is alive. Pure. */
export function withStanding(before: PartitionRow[], now: PartitionRow[], alive: ReadonlySet<string>): PartitionRow[] {
  // Further than one is that has just been written to.
  const behind = (row: PartitionRow) => recordsBehind(row) > 100;
  const same = (a: PartitionRow, b: PartitionRow) =>
    a.partition_id === b.partition_id && a.node === b.node && a.applied_log_lsn === b.applied_log_lsn;
  const stands = (row: PartitionRow) =>
    alive.has(row.node) && behind(row) && before.some((was) => behind(was) && same(was, row));
  return now.map((row) => (stands(row) ? { ...row, stands: true } : row));
}

/** Records that a processor has yet to apply. */
function recordsBehind(row: PartitionRow): number {
  if (row.target_tail_lsn === null) return 0;
  return Math.max(0, row.target_tail_lsn - 1 - (row.applied_log_lsn ?? 0));
}

/** Names of the nodes that a drained region does not run now. */
const standingBy = ({ nodes, runningReplicas = nodes.length }: RegionView) =>
  new Set(nodes.slice(runningReplicas).map(({ name }) => name));

/** Whether a handover has withdrawn the node: it takes no records, has no partitions, and is no member of the metadata store. */
const isWithdrawn = (node: NodeRow) =>
  node.storage_state === "read-only" && node.worker_state === "draining" && node.metadata_server_state !== "member";

/** Whether a node's volume is empty, or another one, and the node has to join again under a new number. */
const lostVolume = (node: NodeRow) => node.storage_state === "data-loss";

/** What is wrong about who serves: the cluster against its own record of handovers, and against the settings. */
function judgeServing(view: StatusView, cluster: ClusterView): Finding[] {
  const { record } = cluster;
  if (!record) return [];
  const { serving, lock } = record;
  const leadOf = (wanted: Serving) =>
    view.regions.find(({ region }) => region === leadRegion({ home: view.home, serving: wanted }));
  const up = `pulumi up --stack ${leadOf(view.serving)?.stack ?? leadRegion(view)}`;
  if (lock) {
    const where = view.regions.map((region) => `${kubectl(region)} get pods -l app.kubernetes.io/component=handover`);
    const what = `handover ${lock.number} to ${lock.to} runs, or was stopped (${lock.holder}, at: ${lock.step})`;
    return [{ severity: "warning", what, next: `${where.join("; ")}; if none runs: ${up}` }];
  }
  const kept = cluster.nodes.filter((node) => !lostVolume(node));
  const astray = kept.filter((node) =>
    serving === "both" || serving === node.location
      ? node.storage_state !== "read-write" || node.worker_state !== "active" || node.metadata_server_state !== "member"
      : !isWithdrawn(node),
  );
  if (record.number > 0 && astray.length > 0) {
    const names = astray.map(({ name }) => name).join(", ");
    const what = `the cluster is between two regions: its last handover led to ${serving}, and that does not hold for ${names}`;
    // An `up` finds the Job of that handover done.
    const template = serveTemplate(serving);
    const again = `${kubectl(leadOf(serving)!)} create job --from=cronjob/${template} ${template}-again`;
    return [{ severity: "error", what, next: serving === view.serving ? again : up }];
  }
  if (serving === view.serving) return [];
  return [
    {
      severity: "warning",
      what: `the cluster is served by ${serving}, and serving is set to ${view.serving}`,
      next: up,
    },
  ];
}

/** Nodes that run another version of Restate than their stack's settings ask for, or than those of the other region. */
function judgeVersions({ regions }: StatusView, { nodes }: ClusterView): Finding[] {
  const versionsIn = ({ region }: RegionView) => {
    const found = nodes.filter(({ location }) => location === region).flatMap((node) => node.binary_version ?? []);
    return [...new Set(found)].sort().join(" and ");
  };
  const findings = regions.flatMap((region): Finding[] => {
    const versions = versionsIn(region);
    if (versions === "" || versions === region.restateVersion) return [];
    const what = `nodes of ${region.region} run Restate ${versions}, and ${region.restateVersion} is set`;
    const next = `pulumi up --stack ${region.stack}; ${kubectl(region)} rollout status statefulset/restate`;
    return [{ severity: "warning", what, next }];
  });
  if (findings.length === 0 && new Set(regions.map(({ restateVersion }) => restateVersion)).size > 1) {
    const each = regions.map(({ region, restateVersion }) => `${region} runs Restate ${restateVersion}`);
    const next = "give both stacks the same restate:restateVersion (docs/deploy.md, Upgrades), then npm run up";
    findings.push({ severity: "warning", what: each.join(", and "), next });
  }
  return findings;
}

/** All that is wrong, errors first. */
export function judge(view: StatusView): Finding[] {
  const findings: Finding[] = [];
  const error = (what: string, next: string) => findings.push({ severity: "error", what, next });
  const warning = (what: string, next: string) => findings.push({ severity: "warning", what, next });

  for (const region of view.regions) {
    for (const one of region.pending) {
      const { what, next } = splitPending(one, region.stack);
      warning(`${region.region}: ${what}`, next);
    }
    if (region.serving !== undefined && region.serving !== view.serving && region.pending.length === 0) {
      warning(
        `${region.region} was last brought up with serving ${region.serving}, which is set to ${view.serving} now`,
        `pulumi up --stack ${region.stack}`,
      );
    }
    if (region.unreachable) {
      error(`${region.region} cannot be reached: ${region.unreachable}`, `${kubectl(region)} get pods`);
      continue;
    }
    const resting = standingBy(region);
    for (const node of region.nodes) {
      const pod = region.pods.find((p) => p.name === node.pod);
      if (!pod && resting.has(node.name)) continue;
      if (!pod) error(`${node.name}: its pod does not exist`, `${kubectl(region)} describe statefulset restate`);
      else if (!pod.ready) {
        error(
          `${node.name}: its pod is ${pod.phase}, not ready (${pod.restarts} restarts)`,
          `${kubectl(region)} describe pod ${pod.name}`,
        );
      }
      const hostname = region.loadBalancers[node.pod];
      if (hostname !== node.loadBalancer.hostname) {
        error(
          `${node.name}: its load balancer is ${hostname ?? "gone"}, and the stack made ${node.loadBalancer.hostname}`,
          `pulumi up --refresh --stack ${region.stack}`,
        );
      }
    }
  }

  const { cluster } = view;
  for (const region of view.regions) {
    const peer = view.regions.find((one) => one !== region) ?? region;
    const asker = view.regions.find((one) => one.stack === region.snapshots?.askedIn.stack) ?? region;
    const pod = region.snapshots?.askedIn.pod ?? "restate-0";
    findings.push(
      ...judgeSnapshots(region, peer, {
        pods: `${kubectl(asker)} get pods -l app=restate`,
        create: `${kubectl(asker)} exec ${pod} -- restatectl snapshots create`,
        logs: `${kubectl(asker)} logs ${pod} | grep -i snapshot`,
        repairRole: `pulumi up --refresh --stack ${view.regions[0]!.stack}`,
        repairRegion: `pulumi up --refresh --stack ${region.stack}`,
      }),
    );
  }
  if (!cluster) {
    error(
      `the Restate cluster cannot be asked: ${view.noCluster ?? "no Restate pod runs"}`,
      view.regions.map((region) => `${kubectl(region)} get pods -l app=restate`).join("; "),
    );
    return order(findings);
  }
  const asked = view.regions.find((region) => region.stack === cluster.askedIn.stack)!;
  const status = `${kubectl(asked)} exec ${cluster.askedIn.pod} -- restatectl status`;
  const restarts = new Map(
    view.regions.flatMap((region) =>
      region.nodes.map(({ name, pod }): [string, string] => [name, `${kubectl(region)} delete pod ${pod}`]),
    ),
  );
  /**
   * What is to be done about a processor that gets no further. Nodes believe a segment's sequencer how far it was written, and one that
   * was cut off while it was sealed goes on saying less (github.com/restatedev/restate/pull/5054): it is restarted first.
   */
  const ifStuck = ({ sequencer, node }: PartitionRow) => {
    const commands = [...new Set([sequencer, node])].flatMap((name) => restarts.get(name ?? "") ?? []);
    return commands.length > 0
      ? `${status}; if it is as far behind in a minute: ${commands.join("; when that pod is ready again: ")}`
      : status;
  };
  const members = cluster.nodes.filter((node) => node.metadata_server_state === "member");
  findings.push(...judgeServing(view, cluster), ...judgeVersions(view, cluster));
  const resting = new Set(view.regions.flatMap((region) => [...standingBy(region)]));
  for (const node of cluster.nodes.filter((one) => one.state !== "alive")) {
    if (lostVolume(node)) continue;
    if (!resting.has(node.name) || !isWithdrawn(node)) error(`${node.name} is ${node.state}`, status);
  }
  for (const { name } of cluster.nodes.filter(lostVolume)) {
    error(
      `${name} has come back without what was on its volume, and the cluster refuses it`,
      `${kubectl(asked)} exec ${cluster.askedIn.pod} -- restatectl nodes list --extra; then docs/operations.md, A node's volume is lost`,
    );
  }
  const expected = 2 * view.replicas;
  if (cluster.nodes.length !== expected)
    error(`the cluster has ${cluster.nodes.length} nodes, not ${expected}`, status);
  const aliveMembers = members.filter((node) => node.state === "alive").length;
  if (members.length === 0) {
    error("the metadata store has no members", status);
  } else if (aliveMembers <= members.length / 2) {
    error(`the metadata store has lost its majority: ${aliveMembers} of ${members.length} members are alive`, status);
  }
  if (cluster.logs.length < view.partitions) {
    error(`${cluster.logs.length} of ${view.partitions} logs exist`, status);
  }
  const alive = namesAlive(cluster.nodes);
  for (let id = 0; id < view.partitions; id++) {
    const rows = cluster.partitions.filter((row) => row.partition_id === id);
    const candidate = rows.some(leads) ? undefined : rows.find(isCandidate);
    if (candidate) {
      error(
        `partition ${id} has no leader: ${candidate.node} is to lead it, and is ${recordsBehind(candidate)} records behind`,
        ifStuck(candidate),
      );
    } else if (!rows.some(leads)) error(`partition ${id} has no leader`, status);
    for (const row of rows.filter(({ node }) => alive.has(node))) {
      const behind = recordsBehind(row);
      if (row !== candidate && (row.stands || behind > laggingRecords)) {
        const further = row.stands ? ", and gets no further" : "";
        warning(`partition ${id} on ${row.node} is ${behind} records behind${further}`, ifStuck(row));
      }
    }
  }
  const create = `${kubectl(asked)} exec ${cluster.askedIn.pod} -- restatectl snapshots create`;
  findings.push(...overdueSnapshots(view.regions, cluster, (ids) => `${create} ${ids.join(" ")}`));
  return order(findings);
}

function order(findings: Finding[]): Finding[] {
  return [...findings.filter((f) => f.severity === "error"), ...findings.filter((f) => f.severity === "warning")];
}

/** A table with aligned columns; rows may be shorter than others. */
export function table(rows: string[][]): string {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `  ${row
          .map((cell, i) => cell.padEnd(widths[i]!))
          .join("  ")
          .trimEnd()}`,
    )
    .join("\n");
}

/** The table of snapshots, if anybody was asked for them. */
function snapshotTable({ regions, cluster, partitions }: StatusView): string[] {
  const rows = snapshotRows(regions, cluster, partitions);
  return rows.length > 0 ? [table(rows)] : [];
}

/** A time without what is finer than a second. */
export const wholeSeconds = (time: string): string => time.replace(/\.\d+Z$/, "Z");

/** Who serves, in one line; empty before the first handover. */
function servingLine({ cluster, regions }: StatusView): string[] {
  const { record } = cluster ?? {};
  if (!record || record.number === 0) return [];
  const receipt = regions.map((region) => region.receipt).find((one) => one?.number === record.number);
  const since = receipt ? ` since ${wholeSeconds(receipt.ended)}` : "";
  const alone =
    record.serving === "both" ? "both regions" : `${record.serving} alone: its loss would be the loss of the cluster`;
  return [`served by ${alone} (handover ${record.number}${since}; npm run history)`];
}

/** What the table says of a node's pod. */
function podText(region: RegionView, { name, pod: podName }: RegionView["nodes"][number]): string {
  if (region.unreachable) return "?";
  const pod = region.pods.find((one) => one.name === podName);
  if (pod) return pod.ready ? "ready" : pod.phase;
  return standingBy(region).has(name) ? "standby" : "none";
}

/** The whole report, for people: what is wrong first. */
export function render(view: StatusView): string {
  const findings = judge(view);
  const parts: string[] = [];
  if (findings.length === 0) parts.push("✓ all is well");
  for (const { severity, what, next } of findings)
    parts.push(`${severity === "error" ? "✗" : "!"} ${what}\n    next: ${next}`);
  parts.push(...servingLine(view));

  const rowOf = (name: string) => view.cluster?.nodes.find((node) => node.name === name);
  const leadCount = (id: string) => view.cluster?.partitions.filter((row) => row.node === id && leads(row)).length ?? 0;
  parts.push(
    table([
      ["NODE", "POD", "STATE", "STORAGE", "WORKER", "METADATA", "LEADS", "ZONE", "LOAD BALANCER"],
      ...view.regions.flatMap((region) =>
        region.nodes.map((node) => {
          const row = rowOf(node.name);
          return [
            node.name,
            podText(region, node),
            row?.state ?? "?",
            row?.storage_state ?? "?",
            row?.worker_state ?? "?",
            row?.metadata_server_state ?? "?",
            view.cluster ? String(leadCount(node.name)) : "?",
            node.zone,
            node.loadBalancer.name,
          ];
        }),
      ),
    ]),
  );
  if (view.cluster) {
    const { logs, partitions, askedIn } = view.cluster;
    const ids = [...new Set(partitions.map((row) => row.partition_id))].sort((a, b) => a - b);
    parts.push(
      table([
        ["PARTITION", "LEADER", "APPLIED", "IN SNAPSHOTS", "BEHIND", "LOG REPLICATION"],
        ...ids.map((id) => {
          const rows = partitions.filter((row) => row.partition_id === id);
          const leader = rows.find(leads);
          return [
            String(id),
            leader?.node ?? "none",
            String(leader?.applied_log_lsn ?? "?"),
            String(leader?.archived_log_lsn ?? "none"),
            String(Math.max(...rows.map(recordsBehind))),
            logs.find((log) => log.log_id === id)?.replication ?? "?",
          ];
        }),
      ]),
    );
    parts.push(...snapshotTable(view));
    parts.push(`asked in pod ${askedIn.pod} of ${askedIn.stack}`);
  } else parts.push(...snapshotTable(view));
  return parts.join("\n\n");
}
