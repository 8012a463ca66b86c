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
import { PassThrough } from "node:stream";
import { parseArgs } from "node:util";
import { DescribeClusterCommand, EKSClient } from "@aws-sdk/client-eks";
import type { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { type ClusterAccess, eksKubeconfig, readKubeconfig } from "../kubernetes/access";
import { peerOutputsSchema } from "../outputs";
import { loadSettings, type Settings } from "../settings";
import { type ClusterView, judge, type NodeRow, type PodRow, type RegionView, render, type StatusView } from "./report";
import { openStack, organizationOf, plainOutputs, projectFolder, reasonOf, runCommand, twoStacks } from "./stacks";

const usage = `npm run status -- [options]: one screen over both regions, what is wrong first

  --stacks A,B  the two stacks (default: region1,region2)
  --json        all of it as JSON`;

/** Longest that a cluster may take for an answer, in milliseconds. */
const patience = 10_000;

/** A region with the means to ask its cluster; without them if they could not be had. */
interface Reachable {
  view: RegionView;
  settings: Settings;
  config?: KubeConfig;
}

/** Rejects if the work takes longer than a cluster may. */
async function within<T>(work: Promise<T>, milliseconds = patience): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds / 1000} s`)), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
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
  const stack = await openStack(stackName);
  const [outputs, config, project, organization] = await Promise.all([
    plainOutputs(stack),
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
  };
  try {
    const access = await within(accessOf(settings));
    const { CoreV1Api, KubeConfig } = await import("@kubernetes/client-node");
    const kube = new KubeConfig();
    kube.loadFromString(access.kubeconfig);
    if (access.context) kube.setCurrentContext(access.context);
    await within(readCluster(kube.makeApiClient(CoreV1Api), namespace, view));
    return { view, settings, config: kube };
  } catch (error) {
    view.unreachable = reasonOf(error).split("\n")[0]!;
    return { view, settings };
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

/** Runs a program in a pod and returns what it prints. */
async function inPod(config: KubeConfig, namespace: string, pod: string, command: string[]): Promise<string> {
  const { Exec } = await import("@kubernetes/client-node");
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  const stdout = new PassThrough().on("data", (data: Buffer) => void chunks.push(data));
  const stderr = new PassThrough().on("data", (data: Buffer) => void errors.push(data));
  await within(
    new Promise<void>((done, reject) => {
      new Exec(config)
        .exec(namespace, pod, "restate", command, stdout, stderr, null, false, (status) =>
          status.status === "Success"
            ? done()
            : reject(new Error(Buffer.concat(errors).toString().trim().split("\n").at(-1) || status.message)),
        )
        .catch(reject);
    }),
  );
  return Buffer.concat(chunks).toString();
}

/** Asks the Restate cluster in the first pod that answers, whichever region it is in; ready ones are asked first. */
async function askCluster(regions: Reachable[]): Promise<{ cluster?: ClusterView; noCluster?: string }> {
  const reasons: string[] = [];
  const candidates = regions
    .flatMap(({ config, settings, view }) =>
      config ? view.pods.map((pod) => ({ config, namespace: settings.namespace, view, pod })) : [],
    )
    .filter(({ pod }) => pod.phase === "Running")
    .sort((a, b) => Number(b.pod.ready) - Number(a.pod.ready));
  for (const { config, namespace, view, pod } of candidates) {
    const query = async <T>(sql: string): Promise<T[]> => {
      const text = await inPod(config, namespace, pod.name, ["restatectl", "sql", "--json", sql]);
      const begin = text.indexOf("[");
      if (begin < 0) throw new Error(`restatectl sql printed no rows: ${text.trim()}`);
      return JSON.parse(text.slice(begin)) as T[];
    };
    try {
      return {
        cluster: {
          askedIn: { stack: view.stack, pod: pod.name },
          nodes: await query<NodeRow>(
            "select name, state, location, storage_state, worker_state, metadata_server_state from nodes order by name",
          ),
          logs: await query("select log_id, replication from logs_tail_segments order by log_id"),
          partitions: await query(
            "select s.partition_id, n.name as node, s.effective_mode, s.replay_status, s.applied_log_lsn, s.target_tail_lsn, s.archived_log_lsn from partition_state s join nodes n on s.plain_node_id = n.plain_node_id order by s.partition_id",
          ),
        },
      };
    } catch (error) {
      reasons.push(`${pod.name} of ${view.region}: ${reasonOf(error)}`);
    }
  }
  return { noCluster: reasons.join("; ") || "no Restate pod runs" };
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
  const regions = await Promise.all(twoStacks(values.stacks).map(readRegion));
  const view: StatusView = {
    regions: regions.map((one) => one.view),
    ...(await askCluster(regions)),
    replicas: regions[0]!.settings.replicas,
    partitions: regions[0]!.settings.partitions,
  };
  const findings = judge(view);
  console.log(
    values.json ? JSON.stringify({ healthy: findings.length === 0, findings, ...view }, null, 2) : render(view),
  );
  return findings.length === 0 ? 0 : 1;
}

runCommand(usage, main);
