/**
 * One screen over both regions: what is wrong first, with the next command.
 *
 *     npm run status -- [--stacks region1,region2] [--json]
 *
 * Reads the stacks' outputs, and the live cluster through the Kubernetes API alone. A region that cannot be reached is
 * shown as such. Exit code 0 if all is well, 1 if something is wrong, 2 if it could not look: wrong flags, a stack that
 * does not exist, settings with faults.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { handoverRecord, recordCommand } from "../restate/handover";
import { snapshotCommand, snapshotDocument, snapshotScript } from "../restate/snapshots";
import { sqlCommand, sqlRows } from "../restate/sql";
import { candidatesOf, firstAnswer, inPod, type Reachable, readRegion } from "./regions";
import {
  type ClusterView,
  judge,
  type LogRow,
  type NodeRow,
  namesAlive,
  type PartitionRow,
  partitionRow,
  render,
  type StatusView,
  withStanding,
} from "./report";
import { summarize } from "./snapshots";
import { runCommand, twoStacks } from "./stacks";

const usage = `npm run status -- [options]: one screen over both regions, what is wrong first

  --stacks A,B  the two stacks (default: region1,region2)
  --json        all of it as JSON`;

/** Longest that a look at a region's snapshots may take, in milliseconds: it asks S3, with deadlines of its own. */
const snapshotPatience = 20_000;

/**
 * Each partition's processors. The sequencer is that of the segment that holds the record which a processor reads next, as long as it
 * runs as it did then.
 */
const partitionsSql = `
  select s.partition_id, n.name as node, s.effective_mode, s.replay_status, s.applied_log_lsn, s.target_tail_lsn, s.archived_log_lsn,
    q.name as sequencer
  from partition_state s
  join nodes n on n.plain_node_id = s.plain_node_id
  left join (
    select log_id, sequencer, base_lsn, lead(base_lsn) over (partition by log_id order by base_lsn) as next_lsn from logs
  ) l on l.log_id = s.partition_id and l.base_lsn <= s.applied_log_lsn + 1
    and (l.next_lsn is null or l.next_lsn > s.applied_log_lsn + 1)
  left join nodes q on q.gen_node_id = l.sequencer
  order by s.partition_id`;

/**
 * Looks at the processors again while some of nodes that are alive are behind and have not moved, for longer than nodes take to tell how
 * far they are: about a second.
 */
async function lookAgain(
  seen: PartitionRow[],
  look: () => Promise<PartitionRow[]>,
  alive: ReadonlySet<string>,
): Promise<PartitionRow[]> {
  const began = Date.now();
  for (let now = withStanding(seen, seen, alive); ; now = withStanding(seen, await look(), alive)) {
    if (!now.some((row) => row.stands) || Date.now() - began >= 3_000) return now;
    await sleep(500);
  }
}

/** Asks the Restate cluster in the first pod that answers, whichever region it is in; ready ones are asked first. */
async function askCluster(regions: Reachable[]): Promise<{ cluster?: ClusterView; noCluster?: string }> {
  const candidates = candidatesOf(regions).sort((a, b) => Number(b.pod.ready) - Number(a.pod.ready));
  const { answer, reasons } = await firstAnswer(candidates, async (candidate): Promise<ClusterView> => {
    const query = async <T>(sql: string) => sqlRows<T>(await inPod(candidate, sqlCommand(sql)));
    const processors = async () => (await query<PartitionRow>(partitionsSql)).map(partitionRow);
    const [nodes, logs, seen, record] = await Promise.all([
      query<NodeRow>(
        "select name, state, location, storage_state, worker_state, metadata_server_state, binary_version from nodes order by name",
      ),
      query<LogRow>("select log_id, replication from logs_tail_segments order by log_id"),
      processors(),
      // Without a majority of the metadata store nobody knows; that is told by the nodes.
      inPod(candidate, recordCommand).then(handoverRecord, () => undefined),
    ]);
    const partitions = await lookAgain(seen, processors, namesAlive(nodes));
    const askedIn = { stack: candidate.view.stack, pod: candidate.pod.name };
    return { askedIn, nodes, logs, partitions, ...(record ? { record } : {}) };
  });
  return answer ? { cluster: answer } : { noCluster: reasons.join("; ") || "no Restate pod runs" };
}

/** Looks at a region's snapshots and their way to the peer: in one of its own pods, else in one of the peer's. */
async function askSnapshots(region: Reachable, peer: Reachable): Promise<void> {
  const { view, bucket } = region;
  if (!bucket) return;
  const command = snapshotCommand(bucket, peer.bucket);
  const { answer, reasons } = await firstAnswer(candidatesOf([region, peer]), async (candidate) => {
    const { stack, region: name } = candidate.view;
    const printed = await inPod(candidate, command, snapshotPatience, snapshotScript());
    return { ...snapshotDocument(printed), askedIn: { stack, region: name, pod: candidate.pod.name } };
  });
  if (answer) view.snapshots = answer;
  else if (reasons.length > 0) view.noSnapshots = reasons.join("; ");
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      stacks: { type: "string", default: "region1,region2" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const [home, peer] = twoStacks(values.stacks);
  const regions = await Promise.all([readRegion(home), readRegion(peer)]);
  const [cluster] = await Promise.all([
    askCluster(regions),
    askSnapshots(regions[0], regions[1]),
    askSnapshots(regions[1], regions[0]),
  ]);
  const view: StatusView = {
    regions: regions.map((one) => one.view),
    ...cluster,
    serving: regions[0].settings.serving,
    home: regions[0].settings.home,
    replicas: regions[0].settings.replicas,
    partitions: regions[0].settings.partitions,
  };
  const findings = judge(view);
  const summed = view.regions.map((region) => ({
    ...region,
    ...(region.snapshots ? { snapshotSummary: summarize(region.snapshots, view.cluster, view.partitions) } : {}),
  }));
  console.log(
    values.json
      ? JSON.stringify({ healthy: findings.length === 0, findings, ...view, regions: summed }, null, 2)
      : render(view),
  );
  return findings.length === 0 ? 0 : 1;
}

runCommand(usage, main);
