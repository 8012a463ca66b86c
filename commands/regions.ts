/** Both regions, for the commands that look at them: settings and outputs of the stacks, and their clusters through the Kubernetes API. */
import { homedir } from "node:os";
import { resolve } from "node:path";
import { DescribeClusterCommand, EKSClient } from "@aws-sdk/client-eks";
import type { CoreV1Api } from "@kubernetes/client-node";
import type { Stack } from "@pulumi/pulumi/automation";
import { type ClusterAccess, eksKubeconfig, readKubeconfig } from "../kubernetes/access";
import { coreApi } from "../kubernetes/client";
import { within } from "../kubernetes/deadline";
import { runInPod } from "../kubernetes/exec";
import { peerOutputsSchema } from "../outputs";
import { snapshotRules } from "../restate/snapshotRules";
import type { Bucket } from "../restate/snapshots";
import { loadSettings, type Settings } from "../settings";
import type { PodRow, RegionView } from "./report";
import { openStackWithOutputs, organizationOf, projectFolder, reasonOf } from "./stacks";

/** Longest that a cluster may take for an answer, in milliseconds. */
export const patience = 10_000;

/** A region with the means to ask its cluster; without them if they could not be had. */
export interface Reachable {
  view: RegionView;
  settings: Settings;
  access?: ClusterAccess;
  /** Its snapshots' bucket, once its stack has made one. */
  bucket?: Bucket;
}

/** How a region's cluster is reached, by its settings. */
export async function accessOf(settings: Settings): Promise<ClusterAccess> {
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

/** A stack's settings, as its program reads them. */
export async function settingsOf(stack: Stack): Promise<Settings> {
  const [config, project, organization] = await Promise.all([
    stack.getAllConfig(),
    stack.workspace.projectSettings(),
    organizationOf(stack),
  ]);
  const values = Object.fromEntries(Object.entries(config).map(([key, { value }]) => [key, value]));
  return loadSettings(values, {
    stack: stack.name.split("/").at(-1)!,
    project: project.name,
    organization,
    awsRegion: values["aws:region"],
  });
}

/** Reads one stack and, if it answers, its cluster. */
export async function readRegion(stackName: string): Promise<Reachable> {
  const { stack, outputs } = await openStackWithOutputs(stackName);
  const settings = await settingsOf(stack);
  const { kubernetes, kubeconfigContents, namespace } = settings;
  const { data: told, error: unread } = peerOutputsSchema.safeParse(outputs);
  const faults = unread?.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ") ?? "";
  const view: RegionView = {
    stack: stackName,
    region: settings.region,
    namespace,
    ...(kubernetes.kubeconfig && !kubeconfigContents
      ? { kubeconfig: resolve(projectFolder, kubernetes.kubeconfig.replace(/^~(?=\/)/, homedir())) }
      : {}),
    ...(kubernetes.context ? { context: kubernetes.context } : {}),
    pending: told ? ((outputs.pending as string[]) ?? []) : [withoutNodes(stackName, outputs, faults)],
    nodes: told?.nodes ?? [],
    restateVersion: settings.restateVersion,
    runningReplicas: told?.runningReplicas,
    serving: told?.serving,
    receipt: told?.handover?.receipt,
    pods: [],
    loadBalancers: {},
    snapshotRules: snapshotRules(settings.snapshots),
  };
  const found: Reachable = {
    view,
    settings,
    ...(told ? { bucket: { name: told.bucket.name, awsRegion: settings.awsRegion } } : {}),
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
export interface Candidate {
  access: ClusterAccess;
  view: RegionView;
  pod: PodRow;
}

/** The pods that may be asked, those of the given regions in that order, ready ones first in each. */
export function candidatesOf(regions: Reachable[]): Candidate[] {
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
export function inPod(
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
export async function firstAnswer<T>(
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
