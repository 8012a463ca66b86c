/**
 * The network's faults: which packets the kernel is to drop, which connections the forwarder is to reset, and how long
 * bytes are under way. Pure.
 *
 * A cut is made with policy routing rules of the kind `blackhole`, so packets vanish as on a broken line: connections
 * that are open hang, and new ones are never answered. Pods of two regions meet only at addresses of the sandbox's own
 * namespace, which is where the rules apply.
 */
import type { WorldRegion } from "../world/regions";

/** What to cut. */
export type CutTarget =
  /** All traffic between a region and the others. */
  | { region: string }
  /** All packets from one region to another; the other direction stays. */
  | { from: string; to: string }
  /** All traffic between a node's pods and load balancers, of any region. */
  | { node: string }
  /** All traffic between a region's pods and the AWS APIs. */
  | { aws: string };

/** `drop`: packets vanish. `reset`: connections are reset, and new ones as well. */
export type CutMode = "drop" | "reset";

/** A cut that is in effect. */
export type Cut = CutTarget & { mode: CutMode };

/** One-way delay between two regions. */
interface Latency {
  between: [string, string];
  /** Milliseconds that each byte is under way, in each direction. */
  ms: number;
}

/** All faults. */
export interface FaultState {
  cuts: Cut[];
  latencies: Latency[];
  /** Milliseconds until a changed host name is seen by those who ask. */
  dnsDelayMs: number;
}

/** Says whether two cuts cut the same thing. */
export function sameTarget(a: CutTarget, b: CutTarget): boolean {
  return targetText(a) === targetText(b);
}

/** A cut's target in words. */
export function targetText(target: CutTarget): string {
  if ("region" in target) return `region ${target.region}`;
  if ("node" in target) return `node ${target.node}`;
  if ("aws" in target) return `AWS from ${target.aws}`;
  return `from ${target.from} to ${target.to}`;
}

/** Why a cut cannot be made; undefined when it can. */
export function cutFault(cut: Cut, regions: readonly WorldRegion[]): string | undefined {
  const names = regions.map((r) => r.name);
  const nodes = regions.flatMap((r) => r.zones.map((z) => z.nodeName));
  const unknown = (what: string, name: string, known: string[]) =>
    known.includes(name) ? undefined : `no ${what} ${name}: there are ${known.join(", ")}`;
  if (cut.mode !== "drop" && cut.mode !== "reset") return `mode '${String(cut.mode)}': write drop or reset`;
  if ("region" in cut) return unknown("region", cut.region, names);
  if ("node" in cut) return unknown("node", cut.node, nodes);
  if ("aws" in cut) {
    return (
      unknown("region", cut.aws, names) ?? (cut.mode === "reset" ? "AWS can only be cut off with mode drop" : undefined)
    );
  }
  if ("from" in cut && "to" in cut) {
    if (cut.from === cut.to) return "from and to are the same region";
    return unknown("region", cut.from, names) ?? unknown("region", cut.to, names);
  }
  return "a cut needs region, from and to, node, or aws";
}

/** A pair of address ranges between which packets are dropped, in this direction. */
export interface DropRule {
  from: string;
  to: string;
}

function slash24(ip: string): string {
  return `${ip.split(".").slice(0, 3).join(".")}.0/24`;
}

/** The rules that a set of cuts needs, each once, in a stable order. */
export function dropRules(cuts: Cut[], regions: readonly WorldRegion[], awsIp: string): DropRule[] {
  const rules = new Map<string, DropRule>();
  const add = (from: string, to: string) => rules.set(`${from} ${to}`, { from, to });
  const cidr = (name: string) => regions.find((r) => r.name === name)!.vpcCidr;
  for (const cut of cuts) {
    if (cut.mode !== "drop") continue;
    if ("region" in cut) {
      for (const other of regions) {
        if (other.name === cut.region) continue;
        add(cidr(cut.region), other.vpcCidr);
        add(other.vpcCidr, cidr(cut.region));
      }
    } else if ("node" in cut) {
      const zone = regions.flatMap((r) => r.zones).find((z) => z.nodeName === cut.node)!;
      // Pods and load balancers have a /24 each in their zone's subnet, so that one rule covers all of either.
      const pods = slash24(zone.podIps[0]);
      for (const each of regions.flatMap((r) => r.zones)) {
        add(pods, slash24(each.loadBalancerIps[0]));
        add(slash24(each.loadBalancerIps[0]), pods);
      }
    } else if ("aws" in cut) {
      add(cidr(cut.aws), `${awsIp}/32`);
      add(`${awsIp}/32`, cidr(cut.aws));
    } else {
      add(cidr(cut.from), cidr(cut.to));
    }
  }
  return [...rules.values()];
}

/** The two ends of a connection through a load balancer. */
export interface Flow {
  sourceRegion?: string;
  sourceNode?: string;
  /** Region of the load balancer, and of its targets. */
  targetRegion: string;
  targetNode?: string;
}

/** Says whether a cut of mode `reset` breaks a connection. */
export function isReset(cuts: Cut[], flow: Flow): boolean {
  return cuts.some((cut) => {
    if (cut.mode !== "reset") return false;
    if ("node" in cut) return cut.node === flow.sourceNode || cut.node === flow.targetNode;
    const { sourceRegion: source, targetRegion: target } = flow;
    if (source === undefined || source === target) return false;
    if ("region" in cut) return cut.region === source || cut.region === target;
    // A connection needs both directions.
    return "from" in cut && [source, target].includes(cut.from) && [source, target].includes(cut.to);
  });
}

/** One-way delay of bytes between two regions, in milliseconds; 0 within a region. */
export function delayBetween(latencies: Latency[], a: string | undefined, b: string): number {
  if (a === undefined || a === b) return 0;
  return latencies.find((l) => l.between.includes(a) && l.between.includes(b))?.ms ?? 0;
}
