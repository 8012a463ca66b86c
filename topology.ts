/** The shape of one cluster across two regions: names, addresses, quorums and who leads. Pure: no cloud, no Pulumi. */

/** The two regions, by the names that the settings, the stacks' outputs and Restate's locations use. */
export const regionNames = ["region1", "region2"] as const;
export type RegionName = (typeof regionNames)[number];

/** Which regions should take work: both, or one alone while the other is drained. */
export const servingValues = ["both", ...regionNames] as const;
export type Serving = (typeof servingValues)[number];

/** The port on which Restate nodes talk to each other. It carries unauthenticated cluster control. */
export const nodePort = 5122;

/** What both stacks must agree on: from it alone every node's name and address follow, before any node exists. */
export interface ClusterShape {
  /** Restate's cluster name. */
  cluster: string;
  /** Restate nodes in each region, 1 to 9. */
  replicas: number;
  /** DNS domain under which every region has a subdomain of its own, e.g. `restate.example.com`. */
  domain: string;
  /** The region that owns what exists once: the IAM role, and provisioning while both regions serve. */
  home: RegionName;
  /** The regions that should take work. */
  serving: Serving;
}

/** One Restate node, as it is known before it exists. */
export interface NodeIdentity {
  region: RegionName;
  /** Position in its region's StatefulSet, from 0. */
  index: number;
  /** Name of its pod, e.g. `restate-0`. */
  pod: string;
  /** Restate's node name, unique in the cluster, e.g. `restate-0.region1`. */
  name: string;
  /** DNS name of its load balancer, e.g. `restate-0.region1.restate.example.com`. */
  hostname: string;
  /** What other nodes dial, e.g. `http://restate-0.region1.restate.example.com:5122`. */
  address: string;
}

/** Replication of logs and partitions, in restatectl's notation, e.g. `{node: 3, region: 2}`. */
export interface Replication {
  log: string;
  partition: string;
}

/** The other region. */
export function otherRegion(region: RegionName): RegionName {
  return region === "region1" ? "region2" : "region1";
}

/** The region whose stack runs cluster-wide actions: home while both serve, else the serving one. */
export function leadRegion(shape: Pick<ClusterShape, "home" | "serving">): RegionName {
  return shape.serving === "both" ? shape.home : shape.serving;
}

/** Suffix that makes a pod's name the DNS name of its load balancer. */
export function regionDomain(region: RegionName, domain: string): string {
  return `${region}.${domain}`;
}

/** The nodes of one region, in the order of their pods. */
export function regionNodes(shape: Pick<ClusterShape, "replicas" | "domain">, region: RegionName): NodeIdentity[] {
  return Array.from({ length: shape.replicas }, (_, index) => {
    const pod = `restate-${index}`;
    const hostname = `${pod}.${regionDomain(region, shape.domain)}`;
    return { region, index, pod, name: `${pod}.${region}`, hostname, address: `http://${hostname}:${nodePort}` };
  });
}

/** Every node of the cluster, region1's first: the members of the replicated metadata store. */
export function clusterNodes(shape: Pick<ClusterShape, "replicas" | "domain">): NodeIdentity[] {
  return regionNames.flatMap((region) => regionNodes(shape, region));
}

/**
 * Replication with which the cluster is provisioned: every record in both regions, and on three nodes where the cluster
 * has that many, so that the loss of one node leaves copies in both regions.
 */
export function provisionedReplication(replicas: number): Replication {
  const copies = Math.min(3, 2 * replicas);
  return { log: `{node: ${copies}, region: 2}`, partition: "{region: 2}" };
}

/** Replication while one region serves alone: on two nodes, so that the loss of one loses nothing; on the only one if there is one. */
export function soloReplication(replicas: number): Replication {
  const copies = `{node: ${Math.min(2, replicas)}}`;
  return { log: copies, partition: copies };
}

/** Metadata members that must answer for the metadata store to take writes: a majority of both regions' nodes. */
export function metadataQuorum(replicas: number): number {
  return replicas + 1;
}

/** Name of a node's network load balancer; AWS allows 32 characters, which the settings check. */
export function loadBalancerName(prefix: string, region: RegionName, index: number): string {
  return `${prefix}-${region}-${index}`;
}

/** Longest name that AWS allows for a load balancer. Source: Elastic Load Balancing API, CreateLoadBalancer. */
export const maxLoadBalancerName = 32;
