/** Where the Restate pods really run: reads pods, volumes and nodes from a cluster, and waits until all are scheduled. */

import { setMaxListeners } from "node:events";
import type {
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1PersistentVolumeClaimList,
  V1Pod,
  V1PodList,
} from "@kubernetes/client-node";
import { RunError } from "@pulumi/pulumi/errors";
import type { ClusterAccess } from "./access";
import { type Read, reader } from "./reader";

/** Label of a Kubernetes node that names its zone. */
const zoneLabel = "topology.kubernetes.io/zone";

/** Keys under which a volume's node affinity names its zone: the general one, and that of older EBS volumes. */
const volumeZoneKeys = [zoneLabel, "topology.ebs.csi.aws.com/zone"];

/** Where one pod runs. */
export interface Placement {
  pod: string;
  zone: string;
  /** `volume`: the zone that lasts, since the volume is pinned to it. `node`: the node's label, for lack of a volume. */
  source: "volume" | "node";
}

/** What is known of one region's pods. */
export interface Sighting {
  pods: readonly V1Pod[];
  claims: readonly V1PersistentVolumeClaim[];
  volumes: readonly V1PersistentVolume[];
  nodes: readonly V1Node[];
}

/** The zone that a volume's node affinity pins it to. */
function volumeZone(volume: V1PersistentVolume): string | undefined {
  for (const term of volume.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? []) {
    for (const key of volumeZoneKeys) {
      const expression = term.matchExpressions?.find((e) => e.key === key && e.operator === "In");
      if (expression?.values?.length === 1) return expression.values[0];
    }
  }
  return undefined;
}

/** What one look at a cluster tells of the expected pods. */
export interface Findings {
  placements: Placement[];
  /** Pods without a zone, each with the reason. */
  missing: string[];
  /** Pods that have a zone, since their volume is pinned to it, but are not scheduled, each with the reason. */
  unscheduled: string[];
}

/**
 * Zones of the named pods. Pure. A pod that is being deleted counts as not scheduled: its successor may go elsewhere
 * unless its volume pins it.
 *
 * @param standby those of them that need not run: they are where their volumes are
 */
export function findPlacements(expected: readonly string[], seen: Sighting, standby: readonly string[] = []): Findings {
  const placements: Placement[] = [];
  const missing: string[] = [];
  const unscheduled: string[] = [];
  for (const name of expected) {
    const pod = seen.pods.find((p) => p.metadata?.name === name);
    const zonesOf = (claims: readonly string[]) =>
      claims.flatMap((claimName) => {
        const claim = seen.claims.find((c) => c.metadata?.name === claimName);
        const volume = seen.volumes.find((v) => v.metadata?.name === claim?.spec?.volumeName);
        return (volume && volumeZone(volume)) ?? [];
      });
    if (!pod) {
      // The chart's name for the volume of a pod.
      const [zone] = standby.includes(name) ? zonesOf([`storage-${name}`]) : [];
      if (zone === undefined) missing.push(`pod ${name} does not exist`);
      else placements.push({ pod: name, zone, source: "volume" });
      continue;
    }
    const zones = zonesOf((pod.spec?.volumes ?? []).flatMap((v) => v.persistentVolumeClaim?.claimName ?? []));
    const node = seen.nodes.find((n) => n.metadata?.name === pod.spec?.nodeName);
    const nodeZone = node?.metadata?.labels?.[zoneLabel];
    const condition = pod.status?.conditions?.find((c) => c.type === "PodScheduled");
    const notScheduled = `pod ${name} is not scheduled${condition?.message ? `: ${condition.message}` : ""}`;
    if (zones[0] !== undefined) {
      placements.push({ pod: name, zone: zones[0], source: "volume" });
      if (!pod.spec?.nodeName) unscheduled.push(notScheduled);
    } else if (!pod.spec?.nodeName) {
      missing.push(notScheduled);
    } else if (pod.metadata?.deletionTimestamp) {
      missing.push(`pod ${name} is being replaced`);
    } else if (nodeZone === undefined) {
      missing.push(`pod ${name} runs on node ${pod.spec.nodeName}, which has no label ${zoneLabel}`);
    } else {
      placements.push({ pod: name, zone: nodeZone, source: "node" });
    }
  }
  return { placements, missing, unscheduled };
}

/** Pods that were not scheduled before the deadline. */
export class NotScheduledError extends RunError {
  constructor(namespace: string, seconds: number, missing: readonly string[]) {
    super(
      `after ${seconds} s these pods of namespace ${namespace} have no zone yet:\n  ${missing.join("\n  ")}\n` +
        `See why with kubectl -n ${namespace} describe pods -l app=restate; restate:scheduling (timeout, tolerations, ` +
        "nodeSelector), restate:resources and restate:storage.storageClass decide where they fit. Then run pulumi up again.",
    );
    this.name = "NotScheduledError";
  }
}

/** Reads everything that says where a namespace's Restate pods run. */
async function sight(read: Read, namespace: string, signal: AbortSignal): Promise<Sighting> {
  const inNamespace = `/api/v1/namespaces/${namespace}`;
  const [{ items: pods }, { items: claims }] = await Promise.all([
    read<V1PodList>(`${inNamespace}/pods?labelSelector=app%3Drestate`, signal),
    read<V1PersistentVolumeClaimList>(`${inNamespace}/persistentvolumeclaims`, signal),
  ]);
  const all = <T>(kind: string, names: readonly string[]) =>
    Promise.all([...new Set(names)].map((name) => read<T>(`/api/v1/${kind}/${name}`, signal)));
  const [volumes, nodes] = await Promise.all([
    all<V1PersistentVolume>(
      "persistentvolumes",
      claims.flatMap((claim) => claim.spec?.volumeName ?? []),
    ),
    all<V1Node>(
      "nodes",
      pods.flatMap((pod) => pod.spec?.nodeName ?? []),
    ),
  ]);
  return { pods, claims, volumes, nodes };
}

/** One look at a cluster. Rejects after the given milliseconds: an API server may take a request and never answer it. */
async function look(access: ClusterAccess, namespace: string, patienceMs: number): Promise<Sighting> {
  // Not part of the patience: on a busy machine it takes its time to load, and that says nothing about the cluster.
  const read = await reader(access);
  const end = new AbortController();
  // As many requests as there are volumes and nodes listen to it.
  setMaxListeners(0, end.signal);
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${patienceMs} ms`)), patienceMs);
  });
  try {
    return await Promise.race([sight(read, namespace, end.signal), patience]);
  } finally {
    clearTimeout(timer);
    end.abort();
  }
}

/** Longest that one look at a cluster may take in a preview before it goes on without, in milliseconds. */
const previewPatience = 5_000;

/** Placements as they are now, or undefined if not all are known or the cluster does not answer. For previews. */
export async function glancePlacements(
  access: ClusterAccess,
  namespace: string,
  expected: readonly string[],
  { standby = [], patienceMs = previewPatience }: { standby?: readonly string[]; patienceMs?: number } = {},
): Promise<Placement[] | undefined> {
  try {
    const { placements, missing } = findPlacements(expected, await look(access, namespace, patienceMs), standby);
    return missing.length === 0 ? placements : undefined;
  } catch {
    return undefined;
  }
}

/** Longest that one look may take in an update before the next is tried, in milliseconds. */
const updatePatience = 15_000;

/**
 * How long, in seconds, a pod whose volume pins it to a zone may stay unscheduled before its load balancer is placed all
 * the same: long enough for a pod that just starts, short enough not to hold up an `up` while a node is down.
 */
const pinnedPatience = 30;

/** How often the cluster is looked at while pods are not scheduled, in milliseconds. */
const pollInterval = 500;

/**
 * Waits until every expected pod is scheduled, and at the least has a zone that lasts. Errors of the API are retried until the deadline, for a cluster that is
 * upgraded meanwhile answers again. Throws `NotScheduledError` naming each pod and why.
 *
 * @param timeout seconds
 * @param progress told what is still missing whenever that changes
 * @param standby those of the pods that need not run
 */
export async function awaitPlacements(
  access: ClusterAccess,
  namespace: string,
  expected: readonly string[],
  timeout: number,
  progress: (message: string) => void,
  standby: readonly string[] = [],
): Promise<Placement[]> {
  const begun = Date.now();
  const deadline = begun + timeout * 1000;
  let last = "";
  for (;;) {
    let missing: string[];
    try {
      const patienceMs = Math.min(updatePatience, Math.max(1000, deadline - Date.now()));
      const found = findPlacements(expected, await look(access, namespace, patienceMs), standby);
      const patient = Date.now() < Math.min(begun + pinnedPatience * 1000, deadline);
      if (found.missing.length === 0 && (found.unscheduled.length === 0 || !patient)) {
        for (const one of found.unscheduled) progress(`${one}; its load balancer goes to the zone of its volume`);
        return found.placements;
      }
      missing = [...found.missing, ...found.unscheduled];
    } catch (error) {
      missing = [`the cluster does not answer: ${error instanceof Error ? error.message.split("\n")[0] : error}`];
    }
    if (Date.now() >= deadline) throw new NotScheduledError(namespace, timeout, missing);
    const text = missing.join("; ");
    if (text !== last) progress(`waiting for pods to be scheduled: ${text}`);
    last = text;
    await new Promise((done) => setTimeout(done, pollInterval));
  }
}
