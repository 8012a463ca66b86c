/**
 * Which names exist and what they stand for: host names from external-dns annotations, load balancers' own names, nodes,
 * and each region's cluster names. Pure.
 */
import type { V1EndpointSlice, V1Node, V1Service } from "@kubernetes/client-node";
import type { Answer, Packet, Question } from "dns-packet";

/** Both prefixes of external-dns: the one before its version 0.22, and the one since. */
const externalDnsPrefixes = ["external-dns.alpha.kubernetes.io/", "external-dns.kubernetes.io/"];

/** A host name that an annotation asks for. */
interface HostRequest {
  host: string;
  /** The load balancer's own name, from the Service's status. */
  target: string;
  ttl?: number;
  /** `region namespace/name` of the Service. */
  owner: string;
}

/** The host names that the Services of a region ask for. */
export function hostRequests(region: string, services: V1Service[]): HostRequest[] {
  const requests: HostRequest[] = [];
  for (const service of services) {
    const target = service.status?.loadBalancer?.ingress?.[0]?.hostname;
    if (service.spec?.type !== "LoadBalancer" || !target) continue;
    const annotations = service.metadata?.annotations ?? {};
    const hosts = new Set(
      externalDnsPrefixes.flatMap((prefix) =>
        (annotations[`${prefix}hostname`] ?? "")
          .split(",")
          .map((host) => host.trim().toLowerCase().replace(/\.$/, ""))
          .filter((host) => host !== ""),
      ),
    );
    const ttlText = externalDnsPrefixes.map((prefix) => annotations[`${prefix}ttl`]).find((text) => text !== undefined);
    const seconds = /^(\d+)s?$/.exec(ttlText ?? "")?.[1];
    for (const host of hosts) {
      requests.push({
        host,
        target: target.toLowerCase(),
        ttl: seconds === undefined ? undefined : Number(seconds),
        owner: `${region} ${service.metadata!.namespace}/${service.metadata!.name}`,
      });
    }
  }
  return requests;
}

/** A host name's record, and the change that is under way to those who ask. */
export interface HostRecord {
  visible?: { target: string; ttl?: number };
  pending?: { value?: { target: string; ttl?: number }; due: number };
  owner: string;
  /** Other Services that ask for the same name for another target: they do not get it. */
  contenders: string[];
}

/**
 * The records after a look at the Services at time `now`: each change becomes visible `delayMs` later. When two Services
 * ask for one name, the one that has it keeps it, else the first by name gets it.
 */
export function updateRecords(
  before: ReadonlyMap<string, HostRecord>,
  requests: HostRequest[],
  now: number,
  delayMs: number,
): Map<string, HostRecord> {
  const byHost = new Map<string, HostRequest[]>();
  for (const request of requests) byHost.set(request.host, [...(byHost.get(request.host) ?? []), request]);
  const after = new Map<string, HostRecord>();
  for (const host of new Set([...before.keys(), ...byHost.keys()])) {
    const old = settled(before.get(host), now);
    const candidates = (byHost.get(host) ?? []).sort((a, b) => a.owner.localeCompare(b.owner));
    const winner = candidates.find((c) => c.owner === old?.owner) ?? candidates[0];
    const value = winner && { target: winner.target, ttl: winner.ttl };
    const record: HostRecord = {
      ...old,
      owner: winner?.owner ?? old?.owner ?? "",
      contenders: candidates.filter((c) => c.target !== winner?.target).map((c) => c.owner),
    };
    const heading = old?.pending ? old.pending.value : old?.visible;
    if (heading?.target !== value?.target || heading?.ttl !== value?.ttl)
      record.pending = { value, due: now + delayMs };
    const result = settled(record, now);
    if (result?.visible || result?.pending) after.set(host, result);
  }
  return after;
}

function settled(record: HostRecord | undefined, now: number): HostRecord | undefined {
  if (!record?.pending || record.pending.due > now) return record;
  const { pending, visible: _, ...rest } = record;
  return pending.value ? { ...rest, visible: pending.value } : rest;
}

/** What a record says at a time. */
export function visibleAt(record: HostRecord | undefined, now: number): { target: string; ttl?: number } | undefined {
  return settled(record, now)?.visible;
}

/** Addresses of a name, with the seconds for which they may be kept. An empty list: the name exists, with no address. */
export interface NameEntry {
  addresses: string[];
  ttl: number;
}

const clusterDomain = "cluster.local";

/** The names of a cluster: Services, the pods behind headless ones, and the nodes' own names. */
export function clusterNames(view: {
  services: V1Service[];
  slices: V1EndpointSlice[];
  nodes: V1Node[];
}): Map<string, NameEntry> {
  const names = new Map<string, NameEntry>();
  const ttl = 5;
  const add = (name: string, ...addresses: string[]): void => {
    const entry = names.get(name) ?? { addresses: [], ttl };
    for (const address of addresses) if (!entry.addresses.includes(address)) entry.addresses.push(address);
    names.set(name, entry);
  };
  add(clusterDomain);
  add(`svc.${clusterDomain}`);
  for (const service of view.services) {
    const { name, namespace } = service.metadata!;
    const domain = `${name}.${namespace}.svc.${clusterDomain}`;
    add(`${namespace}.svc.${clusterDomain}`);
    if (service.spec?.type === "ExternalName") continue;
    add(domain);
    const clusterIp = service.spec?.clusterIP;
    if (clusterIp && clusterIp !== "None") add(domain, clusterIp);
    for (const slice of view.slices) {
      if (slice.metadata?.namespace !== namespace || slice.addressType !== "IPv4") continue;
      if (slice.metadata?.labels?.["kubernetes.io/service-name"] !== name) continue;
      for (const endpoint of slice.endpoints ?? []) {
        if (endpoint.conditions?.ready === false) continue;
        if (clusterIp === "None") add(domain, ...endpoint.addresses);
        if (endpoint.hostname) add(`${endpoint.hostname}.${domain}`, ...endpoint.addresses);
      }
    }
  }
  for (const node of view.nodes) {
    const address = node.status?.addresses?.find((a) => a.type === "InternalIP")?.address;
    if (address) add(node.metadata!.name!.toLowerCase(), address);
  }
  return names;
}

/** Finds a name for whoever asks; undefined when the name does not exist. */
export type Lookup = (name: string) => NameEntry | undefined;

/**
 * The answer to a query. A name that exists and has no address of the asked type gives an empty answer without error:
 * musl's resolver, which asks for A and AAAA at once, takes an NXDOMAIN for either as the end of both.
 */
export function answerTo(query: Packet, lookup: Lookup, shuffle: (ips: string[]) => string[] = rotate): Packet {
  const question: Question | undefined = query.questions?.[0];
  // 0x0080 recursion available, 0x0400 authoritative, 0x0100 recursion desired (as asked).
  const flags = 0x0480 | ((query.flags ?? 0) & 0x0100);
  const respond = (rcode: number, answers: Answer[] = []): Packet => ({
    type: "response",
    id: query.id,
    flags: flags | rcode,
    questions: query.questions,
    answers,
  });
  if (!question || (query.questions?.length ?? 0) !== 1) return respond(1);
  if (((query.flags ?? 0) & 0x7800) !== 0) return respond(4);
  const entry = lookup(question.name.toLowerCase().replace(/\.$/, ""));
  if (!entry) return respond(3);
  if (!["A", "ANY"].includes(question.type) || !["IN", "ANY"].includes(question.class ?? "IN")) {
    return respond(0);
  }
  return respond(
    0,
    shuffle(entry.addresses).map((data) => ({ type: "A", name: question.name, ttl: entry.ttl, data })),
  );
}

function rotate(ips: string[]): string[] {
  const at = Math.floor(Math.random() * ips.length);
  return [...ips.slice(at), ...ips.slice(0, at)];
}
