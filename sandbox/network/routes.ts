/**
 * Where a connection goes: from a load balancer's listener over its targets to the pods' addresses; and from a Service's
 * cluster address to its pods. Takes the place of kube-proxy's node ports: a target `instance:nodePort` leads to the
 * pods behind the Service that owns the node port, on whatever node they run. Pure.
 */
import type { V1EndpointSlice, V1Node, V1Service } from "@kubernetes/client-node";
import type { WorldRegion, Zone } from "../world/regions";
import { instanceId } from "./nlb-model";

/** A pod's address for one port. */
export interface Endpoint {
  ip: string;
  port: number;
  /** Name of the node where the pod runs, where known. */
  node?: string;
}

/** The ready endpoints of a Service's port; with publishNotReadyAddresses all count as ready. */
export function endpointAddresses(slices: V1EndpointSlice[], service: V1Service, portName: string): Endpoint[] {
  const { name, namespace } = service.metadata!;
  const result: Endpoint[] = [];
  for (const slice of slices) {
    if (slice.metadata?.namespace !== namespace) continue;
    if (slice.metadata?.labels?.["kubernetes.io/service-name"] !== name || slice.addressType !== "IPv4") continue;
    const port = slice.ports?.find((p) => (p.name ?? "") === portName)?.port;
    if (!port) continue;
    for (const endpoint of slice.endpoints ?? []) {
      if (endpoint.conditions?.ready === false) continue;
      for (const ip of endpoint.addresses) result.push({ ip, port, node: endpoint.nodeName });
    }
  }
  return result;
}

/** A load balancer as the data plane reads it from the AWS API. */
export interface LoadBalancerView {
  arn: string;
  name: string;
  dnsName: string;
  scheme: string;
  /** Enabled zones, with the subnet of each. */
  zones: { zone: string; subnetId: string }[];
  crossZone: boolean;
  /** `namespace/name` of the Service that it was made for; undefined when something else made it. */
  service?: string;
  listeners: { port: number; targetGroupArn: string }[];
}

/** A target group as the data plane reads it from the AWS API. */
export interface TargetGroupView {
  arn: string;
  name: string;
  targetType: string;
  health: {
    protocol: string;
    /** `traffic-port` or a number. */
    port: string;
    path: string;
    successCodes: string;
    intervalSeconds: number;
    timeoutSeconds: number;
    healthyThreshold: number;
    unhealthyThreshold: number;
  };
  targets: { id: string; port: number }[];
}

/** What Kubernetes says of a region. */
export interface ClusterView {
  services: V1Service[];
  slices: V1EndpointSlice[];
  nodes: V1Node[];
}

/** A registered target, with the pods that it leads to. */
export interface Route {
  id: string;
  port: number;
  /** Zone of the instance or of the address; undefined when unknown. */
  zone?: string;
  endpoints: Endpoint[];
  /** Why there is nowhere to go, or undefined. */
  problem?: string;
}

/** An IPv4 address as a number. */
export function ipNumber(ip: string): number {
  return ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** Says whether an address lies in a range such as `10.1.0.0/16`. */
export function inCidr(ip: string, cidr: string): boolean {
  const [base, bits] = cidr.split("/") as [string, string];
  const size = 2 ** (32 - Number(bits));
  return Math.floor(ipNumber(ip) / size) === Math.floor(ipNumber(base) / size);
}

/** The region that an address belongs to. */
export function regionOfIp(ip: string, regions: readonly WorldRegion[]): WorldRegion | undefined {
  return regions.find((region) => inCidr(ip, region.vpcCidr));
}

/** The zone that an address belongs to. */
export function zoneOfIp(ip: string, regions: readonly WorldRegion[]): Zone | undefined {
  return regionOfIp(ip, regions)?.zones.find((zone) => inCidr(ip, zone.subnetCidr));
}

/** Follows every target of a group to its pods. */
export function routesOf(group: TargetGroupView, region: WorldRegion, cluster: ClusterView): Route[] {
  return group.targets.map((target) => {
    if (group.targetType === "ip") {
      const zone = zoneOfIp(target.id, [region])?.name;
      const node = region.zones.find((z) => z.name === zone)?.nodeName;
      return { ...target, zone, endpoints: [{ ip: target.id, port: target.port, node }] };
    }
    const node = cluster.nodes.find((n) => instanceId(n) === target.id);
    if (!node) return { ...target, endpoints: [], problem: `no node has the instance ${target.id}` };
    const zone = node.metadata?.labels?.["topology.kubernetes.io/zone"];
    const owner = cluster.services
      .flatMap((service) => (service.spec?.ports ?? []).map((port) => ({ service, port })))
      .find(({ port }) => port.nodePort === target.port);
    if (!owner) return { ...target, zone, endpoints: [], problem: `no Service has the node port ${target.port}` };
    const local = owner.service.spec?.externalTrafficPolicy === "Local";
    const endpoints = endpointAddresses(cluster.slices, owner.service, owner.port.name ?? "").filter(
      (endpoint) => !local || endpoint.node === node.metadata?.name,
    );
    const { namespace, name } = owner.service.metadata!;
    return {
      ...target,
      zone,
      endpoints,
      ...(endpoints.length === 0 ? { problem: `Service ${namespace}/${name} has no ready pod` } : {}),
    };
  });
}

/**
 * The targets that a load balancer's address in `zone` may use. A target in a zone that the load balancer does not have
 * is never used; one in another of its zones only with cross-zone load balancing.
 */
export function usableRoutes(routes: Route[], loadBalancer: LoadBalancerView, zone: string): Route[] {
  return routes.filter((route) =>
    loadBalancer.crossZone ? loadBalancer.zones.some((z) => z.zone === route.zone) : route.zone === zone,
  );
}

/** The target of a new connection: a healthy one; when none is healthy, any, as a real load balancer fails open. */
export function pickEndpoint(
  routes: Route[],
  isHealthy: (route: Route) => boolean,
  random: () => number = Math.random,
): Endpoint | undefined {
  const healthy = routes.filter(isHealthy);
  const choice = healthy.length > 0 ? healthy : routes;
  const route = choice[Math.floor(random() * choice.length)];
  return route?.endpoints[Math.floor(random() * route.endpoints.length)];
}
