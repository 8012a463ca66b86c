/** What the load balancer controller decides, without doing it: subnets, security groups, nodes, and what must change. Pure. */
import type { V1Node } from "@kubernetes/client-node";
import type { LoadBalancerPlan } from "./annotations";

/** What the controller looks up in a region's EC2. */
export interface VpcFacts {
  vpcId: string;
  subnets: { id: string; zone: string; vpcId: string; tags: Record<string, string> }[];
  securityGroups: { id: string; vpcId: string; name: string; tags: Record<string, string> }[];
}

/** A subnet that was found, with its zone. */
export interface ZonedSubnet {
  id: string;
  zone: string;
}

/** The subnets that a plan asks for: by id, by Name tag, or discovered by role tag. At most one a zone. */
export function resolveSubnets(
  plan: Pick<LoadBalancerPlan, "subnets" | "scheme">,
  facts: VpcFacts,
): { subnets: ZonedSubnet[]; faults: string[] } {
  const faults: string[] = [];
  const found: ZonedSubnet[] = [];
  if (plan.subnets) {
    for (const wanted of plan.subnets) {
      const matches = facts.subnets.filter((s) =>
        wanted.startsWith("subnet-") ? s.id === wanted : s.tags.Name === wanted && s.vpcId === facts.vpcId,
      );
      const subnet = matches[0];
      if (!subnet) faults.push(`InvalidSubnetID.NotFound: the subnet '${wanted}' does not exist in this region`);
      else if (subnet.vpcId !== facts.vpcId) {
        faults.push(`subnet '${wanted}' is in ${subnet.vpcId}, not in the cluster's ${facts.vpcId}`);
      } else found.push({ id: subnet.id, zone: subnet.zone });
    }
  } else {
    const role = plan.scheme === "internal" ? "kubernetes.io/role/internal-elb" : "kubernetes.io/role/elb";
    const byZone = new Map<string, ZonedSubnet>();
    const tagged = facts.subnets.filter((s) => s.vpcId === facts.vpcId && ["", "1"].includes(s.tags[role] ?? "no"));
    for (const subnet of tagged.sort((a, b) => a.id.localeCompare(b.id))) {
      if (!byZone.has(subnet.zone)) byZone.set(subnet.zone, { id: subnet.id, zone: subnet.zone });
    }
    found.push(...byZone.values());
    if (found.length === 0) {
      faults.push(`unable to resolve at least one subnet: none in ${facts.vpcId} has the tag ${role}`);
    }
  }
  for (const zone of new Set(found.map((s) => s.zone))) {
    const inZone = found.filter((s) => s.zone === zone).map((s) => s.id);
    if (inZone.length > 1) faults.push(`subnets ${inZone.join(", ")} are all in zone ${zone}: give one for each zone`);
  }
  return { subnets: found, faults };
}

/** Ids of the security groups that a plan names by id or Name tag. */
export function resolveSecurityGroups(wanted: string[], facts: VpcFacts): { ids: string[]; faults: string[] } {
  const faults: string[] = [];
  const ids: string[] = [];
  for (const name of wanted) {
    const group = facts.securityGroups.find((g) =>
      name.startsWith("sg-") ? g.id === name : g.tags.Name === name && g.vpcId === facts.vpcId,
    );
    if (!group) faults.push(`InvalidGroup.NotFound: the security group '${name}' does not exist in this region`);
    else if (group.vpcId !== facts.vpcId) {
      faults.push(`security group '${name}' is in ${group.vpcId}, not in the cluster's ${facts.vpcId}`);
    } else ids.push(group.id);
  }
  return { ids, faults };
}

/** The load balancer as AWS has it. */
interface ExistingLoadBalancer {
  arn: string;
  name: string;
  type: string;
  scheme: string;
  subnets: ZonedSubnet[];
  securityGroups: string[];
}

/** What must be done to an existing load balancer. */
interface LoadBalancerChange {
  /** Why it must be deleted and made anew; the rest is then of no concern. */
  replace?: string;
  setSubnets?: string[];
  setSecurityGroups?: string[];
  /** What AWS would refuse. */
  faults: string[];
}

/** Compares what AWS has with what is wanted. A changed name is not a change: the real controller ignores it, too. */
export function loadBalancerChange(
  existing: ExistingLoadBalancer,
  wanted: { scheme: string; subnets: ZonedSubnet[]; securityGroups: string[] },
): LoadBalancerChange {
  if (existing.type !== "network") {
    return { replace: `its type is ${existing.type}, not network`, faults: [] };
  }
  if (existing.scheme !== wanted.scheme) {
    return { replace: `its scheme is ${existing.scheme}, not ${wanted.scheme}`, faults: [] };
  }
  const change: LoadBalancerChange = { faults: [] };
  const ids = (subnets: ZonedSubnet[]) => subnets.map((s) => s.id).sort();
  if (ids(existing.subnets).join() !== ids(wanted.subnets).join()) {
    for (const before of existing.subnets) {
      const after = wanted.subnets.find((s) => s.zone === before.zone);
      if (after && after.id !== before.id) {
        change.faults.push(
          `InvalidConfigurationRequest: subnet ${before.id} of zone ${before.zone} cannot be exchanged for ${after.id} in one step: first take the zone away, then add it with the new subnet`,
        );
      }
    }
    if (change.faults.length === 0) change.setSubnets = ids(wanted.subnets);
  }
  if ([...existing.securityGroups].sort().join() !== [...wanted.securityGroups].sort().join()) {
    if (existing.securityGroups.length === 0) {
      change.faults.push(
        `InvalidConfigurationRequest: load balancer ${existing.name} was created without security groups and can never have any: delete the Service and create it again`,
      );
    } else if (wanted.securityGroups.length === 0) {
      change.faults.push(
        `InvalidConfigurationRequest: load balancer ${existing.name} was created with security groups and must keep at least one`,
      );
    } else change.setSecurityGroups = [...wanted.securityGroups].sort();
  }
  return change;
}

/** The EC2 instance id in a node's provider id (`aws:///us-east-1a/i-0123`); undefined when it has none. */
export function instanceId(node: V1Node): string | undefined {
  return /^aws:\/\/\/[^/]*\/(i-[0-9a-f]+)$/.exec(node.spec?.providerID ?? "")?.[1];
}

/** Says whether a node is Ready. */
function isReady(node: V1Node): boolean {
  return node.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
}

/** The nodes that become instance targets: ready, not excluded, and with all the labels. */
export function targetNodes(nodes: V1Node[], labels: Record<string, string>): V1Node[] {
  return nodes.filter(
    (node) =>
      isReady(node) &&
      instanceId(node) !== undefined &&
      node.metadata?.labels?.["node.kubernetes.io/exclude-from-external-load-balancers"] === undefined &&
      !node.spec?.taints?.some((taint) => taint.key === "ToBeDeletedByClusterAutoscaler") &&
      Object.entries(labels).every(([key, value]) => node.metadata?.labels?.[key] === value),
  );
}
