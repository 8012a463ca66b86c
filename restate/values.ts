/** Values of Restate's Helm chart for one region, by Restate version. Pure: what goes in decides what comes out. */
import { clusterNodes, nodePort, type RegionName, regionDomain } from "../topology";
import { rocksdbMemory } from "./quantity";
import { knownVersionsText, versionTraits } from "./versions";

/** What the chart's values are made of; the settings' defaults are applied already. */
export interface ValuesInput {
  region: RegionName;
  cluster: string;
  /** Nodes of each region. */
  replicas: number;
  /** Nodes of this region that run now; default: all. */
  runningReplicas?: number;
  domain: string;
  restateVersion: string;
  image: { repository: string; tag?: string; digest?: string; pullPolicy: string };
  serviceAccountAnnotations: Record<string, string>;
  podAnnotations: Record<string, string>;
  resources: { requests: { cpu: string; memory: string }; limits: { cpu: string; memory: string } };
  /** In Restate's notation, e.g. `3GB`; derived from the memory limit when not given. */
  rocksdbMemory?: string;
  storage: { size: string; storageClass?: string };
  topologySpread: { maxSkew: number; topologyKey: string; whenUnsatisfiable: string };
  tolerations: Record<string, unknown>[];
  nodeSelector: Record<string, string>;
  podDisruptionBudget?: { maxUnavailable?: number | string; minAvailable?: number | string };
  snapshots: { bucket: string; intervalRecords: number; interval?: string; retained: number; trimDelay: string };
  awsRegion: string;
  /** Further environment of the container; must not name a variable that this module sets. */
  env: Record<string, string>;
}

/** One environment variable as the chart takes it. */
export interface EnvVar {
  name: string;
  value: string;
}

/** Prefix of the snapshots' objects in a region's bucket. */
const snapshotPrefix = "snapshots";

/** The environment of every Restate node of a region, in the order in which the chart renders it. */
export function nodeEnvironment(input: ValuesInput): EnvVar[] {
  const traits = versionTraits(input.restateVersion);
  if (!traits) throw new Error(unknownVersion(input.restateVersion));
  const addresses = clusterNodes(input).map((node) => node.address);
  const env: [string, string | undefined][] = [
    ["RESTATE_LOG_FORMAT", "json"],
    ["RESTATE_CLUSTER_NAME", input.cluster],
    ["RESTATE_AUTO_PROVISION", "false"],
    ["RESTATE_ROLES", JSON.stringify(["worker", "admin", "metadata-server", "log-server", "http-ingress"])],
    ["RESTATE_NODE_NAME", `$(POD_NAME).${input.region}`],
    ["RESTATE_LOCATION", input.region],
    ["RESTATE_ADVERTISED_ADDRESS", `http://$(POD_NAME).${regionDomain(input.region, input.domain)}:${nodePort}`],
    ["RESTATE_METADATA_CLIENT__ADDRESSES", JSON.stringify(addresses)],
    ...(traits.gossipSettings ? gossip(input.replicas) : []),
    ["RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE", input.rocksdbMemory ?? rocksdbMemory(input.resources.limits.memory)],
    ["RESTATE_WORKER__SNAPSHOTS__DESTINATION", `s3://${input.snapshots.bucket}/${snapshotPrefix}`],
    ["RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL_NUM_RECORDS", String(input.snapshots.intervalRecords)],
    ["RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL", traits.snapshotInterval ? input.snapshots.interval : undefined],
    [
      "RESTATE_WORKER__SNAPSHOTS__NUM_RETAINED",
      traits.snapshotRetention ? String(input.snapshots.retained) : undefined,
    ],
    [
      "RESTATE_WORKER__EXPERIMENTAL_PARTITION_DRIVEN_LOG_TRIMMING",
      traits.partitionDrivenTrimmingSwitch ? "true" : undefined,
    ],
    ["RESTATE_WORKER__TRIM_DELAY_INTERVAL", input.snapshots.trimDelay],
    ["AWS_REGION", input.awsRegion],
    ...Object.entries(input.env),
  ];
  return env.flatMap(([name, value]) => (value === undefined ? [] : [{ name, value }]));
}

/**
 * Who leads a partition is told from node to node, with every tenth message and to two nodes at a time by default: a node
 * then sends calls to where the leader was for up to three seconds. With every message, and to all nodes, it is a tenth
 * of a second (docs/decisions.md has the figures).
 */
const gossip = (replicas: number): [string, string][] => [
  ["RESTATE_GOSSIP_EXTRAS_EXCHANGE_FREQUENCY", "1"],
  ["RESTATE_GOSSIP_NUM_PEERS", String(2 * replicas - 1)],
];

/** Variables that the chart or this module sets: the settings refuse them as extra environment. */
export const managedVariables: ReadonlySet<string> = new Set([
  "POD_NAME",
  "SERVICE_NAME",
  "RESTATE_LOG_FORMAT",
  "RESTATE_LOG_FILTER",
  "RESTATE_CLUSTER_NAME",
  "RESTATE_AUTO_PROVISION",
  "RESTATE_ROLES",
  "RESTATE_NODE_NAME",
  "RESTATE_LOCATION",
  "RESTATE_ADVERTISED_ADDRESS",
  "RESTATE_METADATA_CLIENT__ADDRESSES",
  "RESTATE_GOSSIP_EXTRAS_EXCHANGE_FREQUENCY",
  "RESTATE_GOSSIP_NUM_PEERS",
  "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE",
  "RESTATE_WORKER__SNAPSHOTS__DESTINATION",
  "RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL_NUM_RECORDS",
  "RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL",
  "RESTATE_WORKER__SNAPSHOTS__NUM_RETAINED",
  "RESTATE_WORKER__EXPERIMENTAL_PARTITION_DRIVEN_LOG_TRIMMING",
  "RESTATE_WORKER__TRIM_DELAY_INTERVAL",
  "AWS_REGION",
]);

/** The chart's values. Throws for a version whose settings are not known, naming those that are. */
export function chartValues(input: ValuesInput): Record<string, unknown> {
  const traits = versionTraits(input.restateVersion);
  if (!traits) throw new Error(unknownVersion(input.restateVersion));
  const { repository, digest, pullPolicy } = input.image;
  const tag = input.image.tag ?? input.restateVersion;
  return {
    replicaCount: input.runningReplicas ?? input.replicas,
    nameOverride: "restate",
    ...(traits.chartImageTag ? {} : { version: tag }),
    image: traits.chartImageTag
      ? { repository, pullPolicy, tag, ...(digest ? { digest } : {}) }
      : { repository, pullPolicy },
    serviceAccount: { create: true, annotations: input.serviceAccountAnnotations },
    podAnnotations: input.podAnnotations,
    // Name and address are set through env: the chart's own would be known inside the region alone.
    nodeName: "",
    advertisedAddress: "",
    env: nodeEnvironment(input),
    service: { type: "ClusterIP" },
    resources: input.resources,
    storage: {
      size: input.storage.size,
      ...(input.storage.storageClass ? { storageClassName: input.storage.storageClass } : {}),
    },
    topologySpreadConstraints: input.topologySpread,
    ...(input.podDisruptionBudget ? { podDisruptionBudget: input.podDisruptionBudget } : {}),
    ...(traits.chartNodeSelector ? { nodeSelector: input.nodeSelector } : {}),
    ...(traits.chartTolerations ? { tolerations: input.tolerations } : {}),
    // The chart's own reads every node twice, through both Services; components/monitoring.ts makes one that does not.
    serviceMonitor: { enabled: false },
  };
}

/** Says that a version's settings are not known, which are, and what to do. */
export function unknownVersion(version: string): string {
  return `the settings of Restate ${version} are not known; known are ${knownVersionsText()}`;
}
