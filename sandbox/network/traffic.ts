/**
 * Process `network/traffic`: carries all traffic of the sandbox's load balancers and cluster addresses, answers DNS, and
 * takes orders about faults on a control socket. Everything it needs to know it reads from the AWS API and the API
 * servers; only the faults and the load balancers' addresses are in files, so it can be killed and started again.
 */
import { join } from "node:path";
import { z } from "zod";
import { readJson, writeAtomically } from "../world/files";
import { runDir, stateDir } from "../world/paths";
import { awsEndpoint, dnsServerIp, regions, type WorldRegion, witnessRegion } from "../world/regions";
import { AddressBook } from "./addresses";
import { awsClients } from "./aws";
import { regionConfig, type TrafficLists, trafficLists } from "./cluster";
import { type NetworkStatus, networkSocket } from "./control";
import { serveSocket } from "./control-server";
import { RegionDataPlane } from "./data-plane";
import {
  clusterNames,
  type HostRecord,
  hostRequests,
  type Lookup,
  type NameEntry,
  updateRecords,
  visibleAt,
} from "./dns-names";
import { serveDns } from "./dns-server";
import {
  type Cut,
  cutFault,
  delayBetween,
  dropRules,
  type FaultState,
  isReset,
  sameTarget,
  targetText,
} from "./faults";
import { Forwarder } from "./forwarder";
import { setDropRules } from "./ip";
import { log } from "./log";
import { regionOfIp } from "./routes";

const world: readonly WorldRegion[] = [...regions, witnessRegion];
const faultsFile = join(runDir, "network-faults.json");

const cutSchema: z.ZodType<Cut> = z
  .looseObject({ mode: z.enum(["drop", "reset"]) })
  .transform((cut) => cut as unknown as Cut)
  .superRefine((cut, context) => {
    const fault = cutFault(cut, world);
    if (fault) context.addIssue({ code: "custom", message: fault });
  });

const regionName = z.enum(world.map((r) => r.name) as [string, ...string[]]);
const latencySchema = z.object({
  between: z.tuple([regionName, regionName]).refine(([a, b]) => a !== b, "between needs two different regions"),
  ms: z.number().min(0).max(60_000),
});
const delaySchema = z.number().min(0).max(600_000);

/** Values before anybody has set anything; the latency can be given for all pairs in the environment. */
function defaultFaults(): FaultState {
  const ms = Number(process.env.RESTATE_SANDBOX_LATENCY_MS ?? 0);
  const pairs = world.flatMap((a, i) => world.slice(i + 1).map((b): [string, string] => [a.name, b.name]));
  return {
    cuts: [],
    latencies: ms > 0 ? pairs.map((between) => ({ between, ms })) : [],
    dnsDelayMs: Number(process.env.RESTATE_SANDBOX_DNS_DELAY_MS ?? 1000),
  };
}

function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new Error(result.error.issues.map((i) => [i.path.join("."), i.message].filter(Boolean).join(": ")).join("; "));
}

async function main(): Promise<void> {
  const stored = z
    .object({ cuts: z.array(cutSchema), latencies: z.array(latencySchema), dnsDelayMs: delaySchema })
    .safeParse(readJson(faultsFile));
  let faults: FaultState = stored.success ? stored.data : defaultFaults();

  const forwarder = new Forwarder({
    isReset: (flow) => isReset(faults.cuts, flow),
    delayMs: (flow) => delayBetween(faults.latencies, flow.sourceRegion, flow.targetRegion),
  });

  // Orders are obeyed one after the other: each ends with the kernel's rules as the state says.
  let order: Promise<unknown> = Promise.resolve();
  const setFaults = (change: (before: FaultState) => FaultState): Promise<FaultState> => {
    const result = order.then(async () => {
      const after = change(faults);
      await setDropRules(dropRules(after.cuts, world, awsEndpoint.ip));
      faults = after;
      forwarder.applyResets();
      writeAtomically(faultsFile, `${JSON.stringify(faults, null, 2)}\n`);
      const cuts = faults.cuts.map((cut) => `${targetText(cut)} (${cut.mode})`).join(", ");
      const latencies = faults.latencies.map((l) => `${l.between.join("-")} ${l.ms} ms`).join(", ");
      log(`faults: cut ${cuts || "nothing"}; latency ${latencies || "none"}; names after ${faults.dnsDelayMs} ms`);
      return faults;
    });
    order = result.catch(() => {});
    return result;
  };
  // Makes the kernel's rules those of the file, should a predecessor have been killed in between.
  await setFaults((before) => before).catch((error) => {
    if (faults.cuts.length > 0) throw error;
    log(`nothing can be cut on this kernel: ${error.message}`);
  });

  const addresses = new AddressBook(join(stateDir, "network", "addresses.json"));
  const planes = new Map<string, { plane: RegionDataPlane; lists: TrafficLists }>();
  let records: ReadonlyMap<string, HostRecord> = new Map();
  const names = new Map<string, Map<string, NameEntry>>();
  const known = new Set<string>();

  const updateNames = (region: WorldRegion, lists: TrafficLists): void => {
    names.set(
      region.name,
      clusterNames({ services: lists.services.all(), slices: lists.slices.all(), nodes: lists.nodes.all() }),
    );
    const requests = [...planes].flatMap(([name, { lists: l }]) => hostRequests(name, l.services.all()));
    // What is there at the start of this process was there before it.
    const delay = known.has(region.name) ? faults.dnsDelayMs : 0;
    known.add(region.name);
    records = updateRecords(records, requests, Date.now(), delay);
  };

  for (const region of world) {
    void (async () => {
      const config = await regionConfig(region.name);
      const lists = trafficLists(config);
      await Promise.all([lists.services.start(), lists.slices.start(), lists.nodes.start()]);
      const plane = new RegionDataPlane({ region, world, aws: awsClients(region), lists, forwarder, addresses });
      planes.set(region.name, { plane, lists });
      const update = () => updateNames(region, lists);
      for (const list of [lists.services, lists.slices, lists.nodes]) list.onChange(update);
      update();
      plane.start();
    })().catch((error) => {
      log(`${region.name}: ${error instanceof Error ? error.stack : error}`);
      process.exit(1);
    });
  }

  const hostAddresses = (host: string): NameEntry | undefined => {
    const record = visibleAt(records.get(host), Date.now());
    if (!record) return undefined;
    const addressesNow = ownName(record.target) ?? [];
    return { addresses: addressesNow, ttl: record.ttl ?? 60 };
  };
  const ownName = (dnsName: string): string[] | undefined => {
    for (const { plane } of planes.values()) {
      const found = plane.addressesOfName(dnsName);
      if (found) return found;
    }
    return undefined;
  };
  const lookupFor = (sourceIp: string): Lookup => {
    const region = regionOfIp(sourceIp, world);
    return (name) => {
      const inCluster = region && names.get(region.name)?.get(name);
      if (inCluster) return inCluster;
      const own = ownName(name);
      return own ? { addresses: own, ttl: 60 } : hostAddresses(name);
    };
  };
  await serveDns(dnsServerIp, lookupFor);

  await serveSocket(networkSocket, {
    "GET /ready": () => ({ ready: regions.every((r) => planes.get(r.name)?.plane.ready) }),
    "GET /faults": () => faults,
    "GET /status": (): NetworkStatus => ({
      regions: world
        .filter((r) => planes.has(r.name) || regions.includes(r))
        .map((r) => ({
          name: r.name,
          ready: planes.get(r.name)?.plane.ready ?? false,
          awsProblem: planes.get(r.name)?.plane.awsProblem,
        })),
      loadBalancers: [...planes.values()].flatMap(({ plane }) => plane.status()),
      clusterServices: [...planes.values()].reduce((sum, { plane }) => sum + plane.clusterServices(), 0),
      names: [...records].map(([host, record]) => ({
        host,
        owner: record.owner,
        addresses: hostAddresses(host)?.addresses ?? [],
        ...(record.pending && record.pending.due > Date.now() ? { changeInMs: record.pending.due - Date.now() } : {}),
        contenders: record.contenders,
      })),
      faults,
    }),
    "PUT /latency": (body) => {
      const latency = parsed(latencySchema, body);
      return setFaults((before) => ({
        ...before,
        latencies: [
          ...before.latencies.filter((l) => !latency.between.every((name) => l.between.includes(name))),
          ...(latency.ms > 0 ? [latency] : []),
        ],
      }));
    },
    "PUT /cut": (body) => {
      const cut = parsed(cutSchema, body);
      return setFaults((before) => ({
        ...before,
        cuts: [...before.cuts.filter((c) => !sameTarget(c, cut)), cut],
      }));
    },
    "PUT /heal": (body) => {
      const target = body as Cut;
      const all = Object.keys(target).length === 0;
      return setFaults((before) => {
        const cuts = all ? [] : before.cuts.filter((c) => !sameTarget(c, target));
        if (!all && cuts.length === before.cuts.length) {
          const now = before.cuts.map(targetText).join(", ");
          throw new Error(`${targetText(target)} is not cut: cut is ${now || "nothing"}`);
        }
        return { ...before, cuts };
      });
    },
    "PUT /dns-delay": (body) => {
      const dnsDelayMs = parsed(delaySchema, (body as { ms?: unknown })?.ms);
      return setFaults((before) => ({ ...before, dnsDelayMs }));
    },
    "PUT /reset": () => setFaults(() => ({ ...defaultFaults(), latencies: [] })),
    "PUT /refresh": async (body) => {
      await planes.get((body as { region: string }).region)?.plane.refreshed();
      return {};
    },
  });
  log("ready for orders");
}

main().catch((error) => {
  log(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exit(1);
});
