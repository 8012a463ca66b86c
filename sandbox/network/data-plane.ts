/**
 * What carries the traffic of one region: reads the load balancers from the AWS API and the rest from the API server,
 * gives each load balancer an address in its zone, listens there, checks the targets and forwards. Also forwards the
 * cluster addresses of Services, as kube-proxy would.
 *
 * Not done, unlike a real load balancer: client addresses are never preserved, security groups are not enforced, health
 * is not reported to the AWS API, and a refused connection is accepted first and then reset.
 */

import type { Server } from "node:net";
import {
  DescribeLoadBalancerAttributesCommand,
  DescribeTargetHealthCommand,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import type { WorldRegion } from "../world/regions";
import type { AddressBook } from "./addresses";
import { type AwsClients, allListeners, allLoadBalancers, allTargetGroups, awsMessage, tagsOf } from "./aws";
import type { TrafficLists } from "./cluster";
import type { LoadBalancerStatus } from "./control";
import type { Flow } from "./faults";
import { type Destination, type Forwarder, newCounters, type TrafficCounters } from "./forwarder";
import { HealthChecker } from "./health";
import { addAddress, addressesOf, removeAddress } from "./ip";
import { log } from "./log";
import {
  type ClusterView,
  endpointAddresses,
  inCidr,
  ipNumber,
  type LoadBalancerView,
  pickEndpoint,
  type Route,
  regionOfIp,
  routesOf,
  type TargetGroupView,
  usableRoutes,
} from "./routes";

/** Looks at AWS this often even when nobody says that it has changed. */
const awsIntervalMs = 15_000;

interface OpenListener {
  server: Server;
  ip: string;
  device: string;
}

/** What a region's data plane needs of its surroundings. */
interface DataPlaneOptions {
  region: WorldRegion;
  /** All regions, to tell where a connection comes from. */
  world: readonly WorldRegion[];
  aws: AwsClients;
  lists: TrafficLists;
  forwarder: Forwarder;
  addresses: AddressBook;
}

/** The data plane of one region. */
export class RegionDataPlane {
  /** True once AWS and the API server have been read and everything listens. */
  ready = false;
  awsProblem: string | undefined;
  private loadBalancers: LoadBalancerView[] = [];
  private groups = new Map<string, TargetGroupView>();
  private readonly listeners = new Map<string, OpenListener>();
  private readonly counters = new Map<string, TrafficCounters>();
  private readonly problems = new Map<string, string>();
  private readonly health: HealthChecker;
  private awsKnown = false;
  private working: Promise<void> | undefined;
  private again: "aws" | "cluster" | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly options: DataPlaneOptions) {
    this.health = new HealthChecker((key, health) => log(`${options.region.name} target ${key}: ${health}`));
  }

  /** Starts; the lists must have been started. */
  start(): void {
    this.options.lists.services.onChange(() => this.refresh("cluster"));
    this.refresh("aws");
  }

  /** Looks again: at AWS, or only at what the API server says. */
  refresh(what: "aws" | "cluster"): void {
    if (this.working) {
      if (this.again !== "aws") this.again = what;
      return;
    }
    this.working = this.work(what).finally(() => {
      this.working = undefined;
      const { again } = this;
      this.again = undefined;
      if (again) this.refresh(again);
    });
  }

  /** Resolves once a look at AWS that began after this call is over. */
  async refreshed(): Promise<void> {
    if (this.working) {
      this.again = "aws";
      await this.working;
    } else this.refresh("aws");
    await this.working;
  }

  private async work(what: "aws" | "cluster"): Promise<void> {
    if (what === "aws") {
      clearTimeout(this.timer);
      try {
        await this.readAws();
        this.awsKnown = true;
        this.awsProblem = undefined;
      } catch (error) {
        this.awsProblem = awsMessage(error);
        log(`${this.options.region.name}: AWS cannot be read: ${this.awsProblem}`);
      }
      this.timer = setTimeout(() => this.refresh("aws"), this.awsKnown && !this.awsProblem ? awsIntervalMs : 1000);
    }
    try {
      await this.apply();
      this.ready ||= this.awsKnown;
    } catch (error) {
      log(`${this.options.region.name}: ${awsMessage(error)}`);
    }
  }

  private async readAws(): Promise<void> {
    const { elb } = this.options.aws;
    const network = (await allLoadBalancers(elb)).filter((lb) => lb.Type === "network");
    const tags = await tagsOf(
      elb,
      network.map((lb) => lb.LoadBalancerArn!),
    );
    const loadBalancers = await Promise.all(
      network.map(async (lb): Promise<LoadBalancerView> => {
        const arn = lb.LoadBalancerArn!;
        const [listeners, attributes] = await Promise.all([
          allListeners(elb, arn),
          elb.send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn: arn })),
        ]);
        return {
          arn,
          name: lb.LoadBalancerName!,
          dnsName: lb.DNSName!.toLowerCase(),
          scheme: lb.Scheme ?? "internal",
          zones: (lb.AvailabilityZones ?? []).map((z) => ({ zone: z.ZoneName!, subnetId: z.SubnetId! })),
          crossZone:
            attributes.Attributes?.find((a) => a.Key === "load_balancing.cross_zone.enabled")?.Value === "true",
          service: tags.get(arn)?.["service.k8s.aws/stack"],
          listeners: listeners.flatMap((l) => {
            const targetGroupArn = l.DefaultActions?.[0]?.TargetGroupArn;
            return targetGroupArn ? [{ port: l.Port!, targetGroupArn }] : [];
          }),
        };
      }),
    );
    const used = new Set(loadBalancers.flatMap((lb) => lb.listeners.map((l) => l.targetGroupArn)));
    const groups = (await allTargetGroups(elb)).filter((g) => used.has(g.TargetGroupArn!));
    const views = await Promise.all(
      groups.map(async (g): Promise<TargetGroupView> => {
        const health = await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: g.TargetGroupArn }));
        return {
          arn: g.TargetGroupArn!,
          name: g.TargetGroupName!,
          targetType: g.TargetType ?? "instance",
          health: {
            protocol: g.HealthCheckProtocol ?? "TCP",
            port: g.HealthCheckPort ?? "traffic-port",
            path: g.HealthCheckPath ?? "/",
            successCodes: g.Matcher?.HttpCode ?? "200-399",
            intervalSeconds: g.HealthCheckIntervalSeconds ?? 30,
            timeoutSeconds: g.HealthCheckTimeoutSeconds ?? 10,
            healthyThreshold: g.HealthyThresholdCount ?? 5,
            unhealthyThreshold: g.UnhealthyThresholdCount ?? 2,
          },
          targets: (health.TargetHealthDescriptions ?? [])
            .filter((d) => !["draining", "unused"].includes(d.TargetHealth?.State ?? ""))
            .map((d) => ({ id: d.Target!.Id!, port: d.Target!.Port! })),
        };
      }),
    );
    this.loadBalancers = loadBalancers;
    this.groups = new Map(views.map((view) => [view.arn, view]));
  }

  private cluster(): ClusterView {
    const { services, slices, nodes } = this.options.lists;
    return { services: services.all(), slices: slices.all(), nodes: nodes.all() };
  }

  /** The address of a load balancer in one of its zones; undefined when the world has no such zone. */
  private addressOf(loadBalancer: LoadBalancerView, zone: string, subnetId: string): string | undefined {
    const place = this.options.region.zones.find((z) => z.name === zone);
    return place && this.options.addresses.take(`${loadBalancer.arn} ${subnetId}`, place.loadBalancerIps);
  }

  private async apply(): Promise<void> {
    const { region } = this.options;
    const wanted = new Map<string, { ip: string; device: string; open(): Promise<Server> }>();
    const owners = new Set<string>();
    this.problems.clear();
    for (const lb of this.loadBalancers) {
      const counters = this.counters.get(lb.arn) ?? newCounters();
      this.counters.set(lb.arn, counters);
      for (const { zone, subnetId } of lb.zones) {
        const ip = this.addressOf(lb, zone, subnetId);
        if (!ip) {
          this.problems.set(lb.arn, `${region.name} has no zone ${zone}`);
          continue;
        }
        owners.add(`${lb.arn} ${subnetId}`);
        for (const { port } of lb.listeners) {
          wanted.set(`${lb.arn} ${ip} ${port}`, {
            ip,
            device: region.bridge,
            open: () =>
              this.options.forwarder.listen(
                ip,
                port,
                (source) => this.throughLb(lb.arn, zone, port, ip, source),
                counters,
              ),
          });
        }
      }
    }
    for (const service of this.options.lists.services.all()) {
      const ip = service.spec?.clusterIP;
      if (!ip || ip === "None" || !inCidr(ip, region.serviceCidr)) continue;
      const { name, namespace } = service.metadata!;
      for (const port of service.spec?.ports ?? []) {
        if ((port.protocol ?? "TCP") !== "TCP") continue;
        wanted.set(`service ${namespace}/${name} ${ip} ${port.port}`, {
          ip,
          device: "lo",
          open: () =>
            this.options.forwarder.listen(
              ip,
              port.port,
              (source) => this.throughService(name!, namespace!, port.name ?? "", source),
              newCounters(),
            ),
        });
      }
    }

    for (const [key, listener] of this.listeners) {
      if (wanted.has(key)) continue;
      this.options.forwarder.close(listener.server);
      this.listeners.delete(key);
      if (![...wanted.values()].some((w) => w.ip === listener.ip)) await removeAddress(listener.ip, listener.device);
    }
    for (const [key, { ip, device, open }] of wanted) {
      if (this.listeners.has(key)) continue;
      try {
        await addAddress(ip, device);
        this.listeners.set(key, { server: await open(), ip, device });
      } catch (error) {
        const arn = key.split(" ")[0]!;
        this.problems.set(arn, `${ip} does not listen: ${(error as Error).message}`);
        log(`${region.name} ${key}: ${(error as Error).message}`);
      }
    }
    if (this.awsKnown) {
      // Left over from a predecessor that was killed.
      if (!this.ready) await this.removeStrayAddresses(new Set([...wanted.values()].map((w) => w.ip)));
      this.options.addresses.keepOnly(`arn:aws:elasticloadbalancing:${region.awsRegion}:`, owners);
      for (const arn of this.counters.keys()) {
        if (!this.loadBalancers.some((lb) => lb.arn === arn)) this.counters.delete(arn);
      }
    }
    this.watchHealth();
  }

  private async removeStrayAddresses(wanted: ReadonlySet<string>): Promise<void> {
    const { region } = this.options;
    const ranges = region.zones.map((zone) => zone.loadBalancerIps.map(ipNumber) as [number, number]);
    for (const ip of await addressesOf(region.bridge)) {
      const n = ipNumber(ip);
      if (!wanted.has(ip) && ranges.some(([first, last]) => n >= first && n <= last)) {
        await removeAddress(ip, region.bridge);
      }
    }
  }

  private watchHealth(): void {
    const targets = new Map<string, Parameters<HealthChecker["watch"]>[1] extends Map<string, infer V> ? V : never>();
    for (const lb of this.loadBalancers) {
      const first = lb.zones[0];
      const localAddress = first && this.addressOf(lb, first.zone, first.subnetId);
      for (const listener of lb.listeners) {
        const group = this.groups.get(listener.targetGroupArn);
        if (!group) continue;
        for (const target of group.targets) {
          targets.set(targetKey(group, target), {
            group,
            address: () => {
              const only = { ...group, targets: [target] };
              const endpoint = routesOf(only, this.options.region, this.cluster())[0]?.endpoints[0];
              return endpoint && { ip: endpoint.ip, port: endpoint.port, localAddress };
            },
          });
        }
      }
    }
    this.health.watch("", targets);
  }

  private flow(sourceIp: string, targetNode: string | undefined): Flow {
    const { world, region } = this.options;
    return {
      sourceRegion: regionOfIp(sourceIp, world)?.name,
      sourceNode: nodeOfPod(sourceIp, world),
      targetRegion: region.name,
      targetNode,
    };
  }

  private throughLb(
    arn: string,
    zone: string,
    port: number,
    localAddress: string,
    sourceIp: string,
  ): Destination | undefined {
    const lb = this.loadBalancers.find((l) => l.arn === arn);
    const group = this.groups.get(lb?.listeners.find((l) => l.port === port)?.targetGroupArn ?? "");
    if (!lb || !group) return undefined;
    const routes = usableRoutes(routesOf(group, this.options.region, this.cluster()), lb, zone);
    const endpoint = pickEndpoint(routes, (route) => this.health.of(targetKey(group, route)) === "healthy");
    if (!endpoint) return undefined;
    const node = endpoint.node ?? nodeOfPod(endpoint.ip, this.options.world);
    return { endpoint, localAddress, flow: this.flow(sourceIp, node) };
  }

  private throughService(name: string, namespace: string, portName: string, sourceIp: string): Destination | undefined {
    const source = regionOfIp(sourceIp, this.options.world);
    // A cluster address means nothing outside its cluster.
    if (source && source !== this.options.region) return undefined;
    const service = this.options.lists.services.get(name, namespace);
    if (!service) return undefined;
    const endpoints = endpointAddresses(this.options.lists.slices.all(), service, portName);
    const endpoint = endpoints[Math.floor(Math.random() * endpoints.length)];
    return endpoint && { endpoint, flow: this.flow(sourceIp, endpoint.node) };
  }

  /** The addresses of a load balancer's own name; undefined when the region has none of that name. */
  addressesOfName(dnsName: string): string[] | undefined {
    const lb = this.loadBalancers.find((l) => l.dnsName === dnsName);
    return lb?.zones.flatMap(({ zone, subnetId }) => this.addressOf(lb, zone, subnetId) ?? []);
  }

  /** How many cluster addresses are forwarded. */
  clusterServices(): number {
    return new Set([...this.listeners.keys()].filter((k) => k.startsWith("service ")).map((k) => k.split(" ")[1])).size;
  }

  /** The load balancers for the status. */
  status(): LoadBalancerStatus[] {
    const cluster = this.cluster();
    return this.loadBalancers.map((lb) => ({
      region: this.options.region.name,
      name: lb.name,
      dnsName: lb.dnsName,
      service: lb.service,
      addresses: lb.zones.flatMap(({ zone, subnetId }) => {
        const ip = this.addressOf(lb, zone, subnetId);
        return ip ? [{ zone, ip }] : [];
      }),
      ports: lb.listeners.map(({ port, targetGroupArn }) => {
        const group = this.groups.get(targetGroupArn);
        return {
          port,
          targets: (group ? routesOf(group, this.options.region, cluster) : []).map((route: Route) => {
            const enabled = lb.zones.some((z) => z.zone === route.zone);
            const problem = enabled
              ? route.problem
              : `zone ${route.zone ?? "unknown"} is not enabled for the load balancer`;
            return {
              id: route.id,
              port: route.port,
              zone: route.zone,
              health: enabled ? this.health.of(targetKey(group!, route)) : ("unused" as const),
              pods: route.endpoints.map((e) => `${e.ip}:${e.port}`),
              ...(problem ? { problem } : {}),
            };
          }),
        };
      }),
      traffic: this.counters.get(lb.arn) ?? newCounters(),
      problems: this.problems.has(lb.arn) ? [this.problems.get(lb.arn)!] : [],
    }));
  }
}

function targetKey(group: TargetGroupView, target: { id: string; port: number }): string {
  return `${group.name} ${target.id}:${target.port}`;
}

/** The node that gave a pod its address. */
function nodeOfPod(ip: string, world: readonly WorldRegion[]): string | undefined {
  const n = ipNumber(ip);
  return world
    .flatMap((region) => region.zones)
    .find((zone) => n >= ipNumber(zone.podIps[0]) && n <= ipNumber(zone.podIps[1]))?.nodeName;
}
