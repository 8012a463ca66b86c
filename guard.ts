/**
 * The guard of a region: `pulumi destroy` asks the live cluster first, and is refused while the cluster needs the region.
 *
 * It is a hook before the deletion of a resource that depends on all others, so that nothing is deleted before it
 * agrees. A destroy that does not run the program cannot run hooks, and Pulumi refuses it: `--run-program` is needed.
 */
import type { ClusterAccess } from "./kubernetes/access";
import { coreApi } from "./kubernetes/client";
import { runInPod } from "./kubernetes/exec";
import { neededOf, type RemovalFacts, removalQueries } from "./restate/removal";
import {
  type Bucket,
  type SnapshotDocument,
  snapshotCommand,
  snapshotDocument,
  snapshotScript,
} from "./restate/snapshots";
import { sqlCommand, sqlRows } from "./restate/sql";

/** Name of the resource that carries the guard. */
export const guardName = "destroy-guard";

/** Longest that one question to the cluster may take, in milliseconds. */
const patience = 30_000;

/** What the guard must know of its region. */
export interface GuardedRegion {
  region: string;
  cluster: string;
  stack: string;
  /** This region's bucket, and the peer's where there is one. */
  buckets: { own: Bucket; peer?: Bucket };
}

/** Snapshots of this region that its peer does not have, in words; nothing to say where all are there. Pure. */
export function unreplicated(report: Pick<SnapshotDocument, "replication" | "problems">, bucket: string): string[] {
  const { replication, problems } = report;
  if (!replication) {
    const reasons = problems.map(({ step, code, message }) => `${step}: ${code} ${message}`).join("; ");
    return [`whether the peer has the snapshots of ${bucket} cannot be told (${reasons || "no reason given"})`];
  }
  const missing = replication.waiting + replication.failed + replication.neverCopied;
  return [
    ...(missing > 0
      ? [
          `${missing} objects of ${bucket} are not in the peer's bucket (${replication.waiting} still being copied, ${replication.failed} failed, ${replication.neverCopied} never copied)`,
        ]
      : []),
    ...(replication.notLookedAt > 0
      ? [`${replication.notLookedAt} objects of ${bucket} were not looked at; try again when replication has caught up`]
      : []),
  ];
}

/** The error of a refused destroy: every reason, and the ways on. Pure. */
export function refusal(guarded: Pick<GuardedRegion, "region" | "cluster" | "stack">, urn: string, reasons: string[]) {
  const { region, cluster, stack } = guarded;
  return new Error(
    `${region} is not destroyed; nothing was changed. Without it the cluster ${cluster} would lose what it needs:\n` +
      `  - ${reasons.join("\n  - ")}\n` +
      "If the cluster is to be given up with all its data, take the guard away, then destroy:\n" +
      `  pulumi state delete --stack ${stack} '${urn}'\n` +
      `  pulumi destroy --stack ${stack}`,
  );
}

/** How the guard asks; apart, so that its decisions can be tried without a cluster. */
export interface Asking {
  /** Names of the region's Restate pods that run, how many there are in all, and how many volumes its nodes have. */
  look(): Promise<{ pods: string[]; all: number; claims: number }>;
  /** Runs a program in a pod and returns what it printed; rejects if it fails. */
  run(pod: string, command: string[], input?: string): Promise<string>;
}

/** Asks the region's cluster. */
export function askCluster(access: ClusterAccess, namespace: string): Asking {
  return {
    look: async () => {
      const api = await coreApi(access);
      const [pods, claims] = await Promise.all([
        api.listNamespacedPod({ namespace, labelSelector: "app=restate" }),
        api.listNamespacedPersistentVolumeClaim({ namespace }),
      ]);
      const running = pods.items.filter((pod) => pod.status?.phase === "Running");
      return {
        pods: running.map((pod) => pod.metadata?.name as string),
        all: pods.items.length,
        claims: claims.items.length,
      };
    },
    run: (pod, command, input) => runInPod(access, { namespace, pod, container: "restate" }, command, patience, input),
  };
}

/** First line of an error. */
export const said = (error: unknown) => (error instanceof Error ? error.message : String(error)).split("\n")[0];

/** A node's own account of itself: `node_id` is there once it belongs to a provisioned cluster. */
const healthCommand = [
  "curl",
  "--fail",
  "--silent",
  "--show-error",
  "--max-time",
  "10",
  "http://127.0.0.1:5122/health",
];

/**
 * What the cluster still needs of this region, one sentence each; empty if it can go. What cannot be found out is a
 * reason too. Never rejects.
 */
export async function reasonsToKeep(asking: Asking, guarded: GuardedRegion): Promise<string[]> {
  const { region, buckets } = guarded;
  let seen: Awaited<ReturnType<Asking["look"]>>;
  try {
    seen = await asking.look();
  } catch (error) {
    return [`whether it is needed cannot be told, since its Kubernetes cluster does not answer: ${said(error)}`];
  }
  // Nothing was ever there, or all of it is gone.
  if (seen.pods.length === 0 && seen.claims === 0) return [];

  const failures: string[] = [];
  const joined: string[] = [];
  await Promise.all(
    seen.pods.map(async (pod) => {
      try {
        const { node_id } = JSON.parse(await asking.run(pod, healthCommand)) as { node_id?: unknown };
        if (node_id !== undefined && node_id !== null) joined.push(pod);
      } catch (error) {
        failures.push(`${pod}: ${said(error)}`);
      }
    }),
  );
  if (seen.pods.length > 0 && joined.length === 0 && failures.length === 0) return [];

  for (const pod of joined.sort()) {
    const query = async <K extends keyof RemovalFacts>(key: K) =>
      sqlRows(await asking.run(pod, sqlCommand(removalQueries[key]))) as RemovalFacts[K];
    try {
      const [nodes, logs, segments, partitions] = await Promise.all([
        query("nodes"),
        query("logs"),
        query("segments"),
        query("partitions"),
      ]);
      const needs = neededOf(region, { nodes, logs, segments, partitions });
      const { own, peer } = buckets;
      if (!peer) return needs;
      const report = await asking.run(pod, snapshotCommand(own, peer), snapshotScript());
      return [...needs, ...unreplicated(snapshotDocument(report), own.name)];
    } catch (error) {
      failures.push(`${pod}: ${said(error)}`);
    }
  }
  return [`whether it is needed cannot be told, since no pod answers: ${failures.sort().join("; ") || "none runs"}`];
}
