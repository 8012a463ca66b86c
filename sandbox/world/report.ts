/** What the sandbox's world says about itself, and the judgement of it: pure, for `status` and for tests. */
import type { WorldStatus } from "./control";

/** One Kubernetes cluster. */
export interface ClusterReport {
  region: string;
  /** Nodes, when its API server answers. */
  nodes?: { name: string; zone: string; ready: boolean; unschedulable: boolean; pods: number }[];
  /** Why it does not answer. */
  error?: string;
}

/** One network load balancer. */
interface LoadBalancerReport {
  region: string;
  name: string;
  hostname: string;
  zone?: string;
  address?: string;
  /** Targets that its health checks find healthy, of all. */
  healthyTargets: number;
  targets: number;
}

/** Copying from one bucket to another. */
interface ReplicationReport {
  source: string;
  destination: string;
  pending: number;
  failed: number;
  /** Age of the oldest pending operation. */
  lagSeconds: number;
}

/** Something that was broken on purpose and not mended yet. */
interface FaultReport {
  /** What it does, in words. */
  what: string;
  /** Command that mends it. */
  heal: string;
}

/** What the real plan reports. A stand-in that cannot be asked is named in `unanswered` with the reason. */
export interface WorldReport {
  clusters: ClusterReport[];
  loadBalancers: LoadBalancerReport[];
  replication: ReplicationReport[];
  faults: FaultReport[];
  unanswered: Record<string, string>;
}

/** Something that is wrong, and what to type next. */
export interface Problem {
  what: string;
  next: string;
}

const bringUp = "npm run sandbox -- up";

/** All that is wrong with the world, worst first; none when all is well. */
export function problemsOf(status: WorldStatus | undefined, report: WorldReport | undefined): Problem[] {
  if (!status) return [{ what: "the sandbox is not running", next: bringUp }];
  const problems: Problem[] = [];
  for (const part of status.parts) {
    const log = `npm run sandbox -- logs ${part.name}`;
    if (part.state === "dead")
      problems.push({ what: `${part.name} has ended: ${part.ended}`, next: `${log}; then ${bringUp}` });
    if (part.state === "failed") problems.push({ what: `${part.name} failed: ${part.ended}`, next: bringUp });
    if (part.state === "stopped" && part.group === "main") {
      problems.push({ what: `${part.name} is stopped (${part.ended})`, next: bringUp });
    }
    if (part.state === "paused") {
      problems.push({ what: `${part.name} is paused`, next: `npm run sandbox -- fault resume ${part.name}` });
    }
    if (part.state === "waiting" || part.state === "starting" || part.state === "stopping") {
      const why = part.notReady ?? (part.waitsFor?.length ? `waits for ${part.waitsFor.join(", ")}` : "");
      problems.push({
        what: `${part.name} is ${part.state}${why ? `: ${why}` : ""}`,
        next: part.kind === "part" ? log : bringUp,
      });
    }
    if (part.state === "ready" && part.answers === false) {
      problems.push({ what: `${part.name} runs and does not answer`, next: log });
    }
  }
  if (!status.hostPorts) problems.push({ what: "nothing keeps the ports on 127.0.0.1", next: bringUp });
  for (const cluster of report?.clusters ?? []) {
    if (cluster.error)
      problems.push({ what: `the cluster of ${cluster.region} does not answer: ${cluster.error}`, next: bringUp });
    for (const node of cluster.nodes ?? []) {
      if (!node.ready) {
        problems.push({
          what: `node ${node.name} (${cluster.region}, ${node.zone}) is not ready`,
          next: `npm run sandbox -- logs ${cluster.region}/node-${node.zone}`,
        });
      }
    }
  }
  for (const fault of report?.faults ?? []) problems.push({ what: `fault: ${fault.what}`, next: fault.heal });
  for (const lb of report?.loadBalancers ?? []) {
    if (lb.healthyTargets === 0) {
      problems.push({
        what: `load balancer ${lb.name} (${lb.region}) has no healthy target of ${lb.targets}`,
        next: "npm run sandbox -- logs network/nlb",
      });
    }
  }
  for (const { source, destination, failed } of report?.replication ?? []) {
    if (failed > 0)
      problems.push({
        what: `${failed} objects could not be copied from ${source} to ${destination}`,
        next: "npm run sandbox -- logs aws",
      });
  }
  for (const [who, why] of Object.entries(report?.unanswered ?? {})) {
    problems.push({ what: `${who} cannot be asked: ${why}`, next: "npm run sandbox -- status --json" });
  }
  return problems;
}
