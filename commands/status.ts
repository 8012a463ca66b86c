/**
 * One screen over both regions: what is wrong first, with the next command.
 *
 *     npm run status -- [--stacks region1,region2] [--json]
 *
 * Reads the stacks' outputs, and the live cluster through the Kubernetes API alone. A region that cannot be reached is
 * shown as such. Exit code 0 if all is well, 1 if something is wrong, 2 if it could not look: wrong flags, a stack that
 * does not exist, settings with faults.
 */
import { homedir } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { DescribeClusterCommand, EKSClient } from "@aws-sdk/client-eks";
import type { CoreV1Api } from "@kubernetes/client-node";
import { type ClusterAccess, eksKubeconfig, readKubeconfig } from "../kubernetes/access";
import { coreApi } from "../kubernetes/client";
import { within } from "../kubernetes/deadline";
import { runInPod } from "../kubernetes/exec";
import { peerOutputsSchema } from "../outputs";
import { type Bucket, snapshotCommand, snapshotDocument, snapshotScript } from "../restate/snapshots";
import { sqlCommand, sqlRows } from "../restate/sql";
import { loadSettings, type Settings } from "../settings";
import {
  type ClusterView,
  judge,
  type LogRow,
  type NodeRow,
  type PartitionRow,
  type PodRow,
  partitionRow,
  type RegionView,
  render,
  type StatusView,
} from "./report";
import { snapshotRules, summarize } from "./snapshots";
import { openStackWithOutputs, organizationOf, projectFolder, reasonOf, runCommand, twoStacks } from "./stacks";

const usage = `npm run status -- [options]: one screen over both regions, what is wrong first

  --stacks A,B  the two stacks (default: region1,region2)
  --json        all of it as JSON`;

/** Longest that a cluster may take for an answer, in milliseconds. */
const patience = 10_000;

/** Longest that a look at a region's snapshots may take, in milliseconds: it asks S3, with deadlines of its own. */
const snapshotPatience = 20_000;

/** A region with the means to ask its cluster; without them if they could not be had. */
interface Reachable {
  view: RegionView;
  settings: Settings;
  access?: ClusterAccess;
  /** Its snapshots' bucket, once its stack has made one. */
  bucket?: Bucket;
}

/** How a region's cluster is reached, by its settings. */
async function accessOf(settings: Settings): Promise<ClusterAccess> {
  const { kubernetes, awsRegion, kubeconfigContents } = settings;
  if (kubernetes.eksCluster) {
    const { cluster } = await new EKSClient({ region: awsRegion }).send(
      new DescribeClusterCommand({ name: kubernetes.eksCluster }),
    );
    const { endpoint, certificateAuthority, status } = cluster ?? {};
    if (!endpoint || !certificateAuthority?.data) {
      throw new Error(`EKS cluster ${kubernetes.eksCluster} is ${status ?? "unknown"} and has no endpoint`);
    }
    return {
      kubeconfig: eksKubeconfig({
        name: kubernetes.eksCluster,
        awsRegion,
        endpoint,
        certificateAuthority: certificateAuthority.data,
      }),
    };
  }
  const kubeconfig = kubeconfigContents ?? readKubeconfig(kubernetes.kubeconfig as string, projectFolder);
  return { kubeconfig, ...(kubernetes.context ? { context: kubernetes.context } : {}) };
}

/** Why a stack's outputs tell nothing of its nodes. */
function withoutNodes(stack: string, outputs: Record<string, unknown>, faults: string): string {
  return Object.keys(outputs).length === 0
    ? `stack ${stack} was never brought up, or is destroyed`
    : `the outputs of stack ${stack} are not those of this program (${faults})`;
}

/** Reads one stack and, if it answers, its cluster. */
async function readRegion(stackName: string): Promise<Reachable> {
  const { stack, outputs } = await openStackWithOutputs(stackName);
  const [config, project, organization] = await Promise.all([
    stack.getAllConfig(),
    stack.workspace.projectSettings(),
    organizationOf(stack),
  ]);
  const values = Object.fromEntries(Object.entries(config).map(([key, { value }]) => [key, value]));
  const settings = loadSettings(values, {
    stack: stackName.split("/").at(-1)!,
    project: project.name,
    organization,
    awsRegion: values["aws:region"],
  });
  const { kubernetes, kubeconfigContents, namespace } = settings;
  const parsed = peerOutputsSchema.safeParse(outputs);
  const faults = parsed.error?.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ") ?? "";
  const view: RegionView = {
    stack: stackName,
    region: settings.region,
    namespace,
    ...(kubernetes.kubeconfig && !kubeconfigContents
      ? { kubeconfig: resolve(projectFolder, kubernetes.kubeconfig.replace(/^~(?=\/)/, homedir())) }
      : {}),
    ...(kubernetes.context ? { context: kubernetes.context } : {}),
    pending: parsed.success ? ((outputs.pending as string[]) ?? []) : [withoutNodes(stackName, outputs, faults)],
    nodes: parsed.success ? parsed.data.nodes : [],
    pods: [],
    loadBalancers: {},
    snapshotRules: snapshotRules(settings.snapshots),
  };
  const found: Reachable = {
    view,
    settings,
    ...(parsed.success ? { bucket: { name: parsed.data.bucket.name, awsRegion: settings.awsRegion } } : {}),
  };
  try {
    const access = await within(patience, accessOf(settings));
    await within(patience, readCluster(await coreApi(access), namespace, view));
    return { ...found, access };
  } catch (error) {
    view.unreachable = reasonOf(error).split("\n")[0]!;
    return found;
  }
}

async function readCluster(api: CoreV1Api, namespace: string, view: RegionView): Promise<void> {
  const [pods, services] = await Promise.all([
    api.listNamespacedPod({ namespace, labelSelector: "app=restate" }),
    api.listNamespacedService({ namespace }),
  ]);
  view.pods = pods.items.map(
    (pod): PodRow => ({
      name: pod.metadata?.name ?? "",
      phase: pod.status?.phase ?? "Unknown",
      ready: pod.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false,
      restarts: pod.status?.containerStatuses?.[0]?.restartCount ?? 0,
      kubernetesNode: pod.spec?.nodeName ?? "",
    }),
  );
  for (const service of services.items) {
    if (service.spec?.type !== "LoadBalancer") continue;
    view.loadBalancers[service.metadata?.name ?? ""] = service.status?.loadBalancer?.ingress?.[0]?.hostname;
  }
}

/** A pod that runs, with the region that it is in. */
interface Candidate {
  access: ClusterAccess;
  view: RegionView;
  pod: PodRow;
}

/** The pods that may be asked, those of the given regions in that order, ready ones first in each. */
function candidatesOf(regions: Reachable[]): Candidate[] {
  return regions.flatMap(({ access, view }) =>
    access
      ? view.pods
          .filter((pod) => pod.phase === "Running")
          .sort((a, b) => Number(b.ready) - Number(a.ready))
          .map((pod) => ({ access, view, pod }))
      : [],
  );
}

/** Runs a program in a pod and returns what it prints. */
function inPod(
  { access, view, pod }: Candidate,
  command: string[],
  milliseconds = patience,
  input?: string,
): Promise<string> {
  return runInPod(
    access,
    { namespace: view.namespace, pod: pod.name, container: "restate" },
    command,
    milliseconds,
    input,
  );
}

/** Asks one pod after another until one answers; otherwise why none did. */
async function firstAnswer<T>(
  candidates: Candidate[],
  ask: (candidate: Candidate) => Promise<T>,
): Promise<{ answer?: T; reasons: string[] }> {
  const reasons: string[] = [];
  for (const candidate of candidates) {
    try {
      return { answer: await ask(candidate), reasons };
    } catch (error) {
      reasons.push(`${candidate.pod.name} of ${candidate.view.region}: ${reasonOf(error)}`);
    }
  }
  return { reasons };
}

/** Asks the Restate cluster in the first pod that answers, whichever region it is in; ready ones are asked first. */
async function askCluster(regions: Reachable[]): Promise<{ cluster?: ClusterView; noCluster?: string }> {
  const candidates = candidatesOf(regions).sort((a, b) => Number(b.pod.ready) - Number(a.pod.ready));
  const { answer, reasons } = await firstAnswer(candidates, async (candidate): Promise<ClusterView> => {
    const query = async <T>(sql: string) => sqlRows<T>(await inPod(candidate, sqlCommand(sql)));
    const [nodes, logs, partitions] = await Promise.all([
      query<NodeRow>(
        "select name, state, location, storage_state, worker_state, metadata_server_state from nodes order by name",
      ),
      query<LogRow>("select log_id, replication from logs_tail_segments order by log_id"),
      query<PartitionRow>(
        "select s.partition_id, n.name as node, s.effective_mode, s.replay_status, s.applied_log_lsn, s.target_tail_lsn, s.archived_log_lsn from partition_state s join nodes n on s.plain_node_id = n.plain_node_id order by s.partition_id",
      ),
    ]);
    const askedIn = { stack: candidate.view.stack, pod: candidate.pod.name };
    return { askedIn, nodes, logs, partitions: partitions.map(partitionRow) };
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
