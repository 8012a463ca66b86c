/**
 * The tests of network.test.ts, run inside namespaces of their own: real API servers, the sandbox's AWS, the network's two
 * processes, and pods that are network namespaces with an agent in them.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DescribeVolumesCommand } from "@aws-sdk/client-ec2";
import {
  DescribeLoadBalancersCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import {
  CoreV1Api,
  KubeConfig,
  PatchStrategy,
  StorageV1Api,
  setHeaderOptions,
  type V1Pod,
  type V1Service,
} from "@kubernetes/client-node";
import { awsParts } from "../../sandbox/aws/parts";
import { seedAws, seededWorld } from "../../sandbox/aws/seed";
import { clusterParts } from "../../sandbox/cluster/parts";
import { awsClients } from "../../sandbox/network/aws";
import { networkControl } from "../../sandbox/network/control";
import { networkParts } from "../../sandbox/network/parts";
import { setUpNetwork } from "../../sandbox/world/namespace";
import type { Part } from "../../sandbox/world/part";
import { runDir, stateDir } from "../../sandbox/world/paths";
import { dnsServerIp, regions, type WorldRegion, witnessRegion, type Zone } from "../../sandbox/world/regions";
import { eventually, PodNet, type Running, startAll } from "./network-world";

/** The cluster without nodes: the tests play the kubelet and, where they need it, the scheduler. */
function controlPlaneParts(region: WorldRegion): Part[] {
  const images = join(runDir, "no-images.json");
  return clusterParts(region, { nodes: [], images }).filter((part) => !part.name.endsWith("kube-scheduler"));
}

const [r1, r2] = regions as [WorldRegion, WorldRegion];
const processes: Running[] = [];
let traffic: Running;
let controllers: Running;
const prefix = "service.beta.kubernetes.io/aws-load-balancer-";

const api = (region = r1): CoreV1Api => {
  const config = new KubeConfig();
  config.loadFromFile(join(runDir, `${region.name}.kubeconfig`));
  return config.makeApiClient(CoreV1Api);
};
const seed = () => seededWorld();
const merge = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

const eventsOf = async (name: string, region = r1) =>
  (await api(region).listNamespacedEvent({ namespace: "restate" })).items
    .filter((event) => event.involvedObject.name === name)
    .map((event) => ({ reason: event.reason, type: event.type, message: event.message ?? "", count: event.count }));
const eventWith = (name: string, reason: string, text: RegExp, region = r1) =>
  eventually(`Event ${reason} ${text} on ${name}`, async () =>
    (await eventsOf(name, region)).find((event) => event.reason === reason && text.test(event.message)),
  );
const hostnameOf = (name: string, region = r1) =>
  eventually(`Service ${name} has a host name`, async () => {
    const service = await api(region).readNamespacedService({ name, namespace: "restate" });
    return service.status?.loadBalancer?.ingress?.[0]?.hostname;
  });
const balancers = async (region = r1) =>
  (await awsClients(region).elb.send(new DescribeLoadBalancersCommand({}))).LoadBalancers ?? [];

/** The Service that the stack makes for a pod. */
const nodeService = (index: number, region = r1, more: Partial<Record<string, string>> = {}): V1Service => {
  const zone = region.zones[index]!;
  const annotations: Record<string, string | undefined> = {
    "external-dns.alpha.kubernetes.io/hostname": `restate-${index}.${region.name}.example.internal`,
    "external-dns.kubernetes.io/hostname": `restate-${index}.${region.name}.example.internal`,
    [`${prefix}name`]: `restate-${region.name}-${index}`,
    [`${prefix}subnets`]: seed().regions[region.name]!.subnets[zone.name]!,
    [`${prefix}security-groups`]: seed().regions[region.name]!.securityGroupId,
    [`${prefix}manage-backend-security-group-rules`]: "false",
    [`${prefix}target-node-labels`]: `topology.kubernetes.io/zone=${zone.name}`,
    [`${prefix}type`]: "external",
    [`${prefix}nlb-target-type`]: "instance",
    [`${prefix}target-group-attributes`]: "preserve_client_ip.enabled=false",
    [`${prefix}healthcheck-protocol`]: "TCP",
    [`${prefix}healthcheck-port`]: "traffic-port",
    [`${prefix}healthcheck-interval`]: "5",
    [`${prefix}healthcheck-timeout`]: "5",
    [`${prefix}healthcheck-healthy-threshold`]: "2",
    [`${prefix}healthcheck-unhealthy-threshold`]: "2",
    ...more,
  };
  return {
    metadata: {
      name: `restate-${index}`,
      annotations: Object.fromEntries(
        Object.entries(annotations).flatMap(([k, v]) => (v === undefined ? [] : [[k, v]])),
      ) as Record<string, string>,
    },
    spec: {
      type: "LoadBalancer",
      loadBalancerClass: "service.k8s.aws/nlb",
      publishNotReadyAddresses: true,
      selector: { app: "restate", "apps.kubernetes.io/pod-index": String(index) },
      ports: [{ name: "node", port: 5122, targetPort: 5122 }],
    },
  };
};

const makePod = async (name: string, region: WorldRegion, zoneIndex: number, ip: string, labels = {}) => {
  const zone = region.zones[zoneIndex]!;
  const pod: V1Pod = {
    metadata: { name, labels: { app: "restate", ...labels } },
    spec: {
      nodeName: zone.nodeName,
      hostname: name,
      subdomain: "restate-cluster",
      containers: [{ name: "restate", image: "restate", ports: [{ containerPort: 5122 }] }],
    },
  };
  await api(region).createNamespacedPod({ namespace: "restate", body: pod });
  await api(region).patchNamespacedPodStatus(
    {
      name,
      namespace: "restate",
      // Not ready: published all the same.
      body: {
        status: { phase: "Running", podIP: ip, podIPs: [{ ip }], conditions: [{ type: "Ready", status: "False" }] },
      },
    },
    merge,
  );
};

async function heartbeat(region: WorldRegion, zone: Zone): Promise<void> {
  await api(region).patchNodeStatus(
    {
      name: zone.nodeName,
      body: {
        status: {
          conditions: [{ type: "Ready", status: "True", lastHeartbeatTime: new Date() }],
          addresses: [{ type: "InternalIP", address: zone.nodeIp }],
        },
      },
    },
    merge,
  );
}

before(
  async () => {
    setUpNetwork([...regions, witnessRegion]);
    mkdirSync(runDir, { recursive: true });
    processes.push(...(await startAll([...regions.flatMap(controlPlaneParts), ...awsParts()])));
    await seedAws({ regions });
    [traffic, controllers] = (await startAll(networkParts())) as [Running, Running];
    processes.push(traffic, controllers);
    for (const region of regions) {
      await api(region).createNamespace({ body: { metadata: { name: "restate" } } });
      for (const zone of region.zones) {
        await api(region).createNode({
          body: {
            metadata: {
              name: zone.nodeName,
              labels: { "topology.kubernetes.io/zone": zone.name, "topology.ebs.csi.aws.com/zone": zone.name },
            },
            spec: { providerID: `aws:///${zone.name}/${seed().regions[region.name]!.instances[zone.name]}` },
          },
        });
        await heartbeat(region, zone);
        // A node that is silent for 20 s is taken for dead.
        setInterval(() => heartbeat(region, zone).catch(() => {}), 5000).unref();
      }
      await api(region).createNamespacedService({
        namespace: "restate",
        body: {
          metadata: { name: "restate-cluster" },
          spec: {
            clusterIP: "None",
            publishNotReadyAddresses: true,
            selector: { app: "restate" },
            ports: [{ name: "node", port: 5122 }],
          },
        },
      });
    }
  },
  { timeout: 240_000 },
);

after(async () => {
  // Everything ends with this process, the first of its pid namespace.
  for (const running of processes.reverse()) await running.kill();
  setTimeout(() => process.exit(), 500).unref();
});

describe("faults in annotations", () => {
  const cases: [string, Partial<Record<string, string>>, string, RegExp][] = [
    [
      "a name over 32 characters",
      { [`${prefix}name`]: "a".repeat(33) },
      "FailedBuildModel",
      /33 characters; at most 32/,
    ],
    [
      "a subnet that does not exist",
      { [`${prefix}subnets`]: "subnet-00000000" },
      "FailedBuildModel",
      /InvalidSubnetID.NotFound: .*subnet-00000000/,
    ],
    [
      "a security group that does not exist",
      { [`${prefix}security-groups`]: "sg-0" },
      "FailedBuildModel",
      /InvalidGroup.NotFound: .*sg-0/,
    ],
  ];
  for (const [title, annotations, reason, text] of cases) {
    test(title, async () => {
      const body = nodeService(0, r1, annotations);
      body.metadata!.name = "faulty";
      await api().createNamespacedService({ namespace: "restate", body });
      const event = await eventWith("faulty", reason, text);
      assert.equal(event.type, "Warning");
      assert.match(event.message, /^Failed build model due to /);
      await api().deleteNamespacedService({ name: "faulty", namespace: "restate" });
      await eventually("the Service is gone", async () => {
        const { items } = await api().listNamespacedService({ namespace: "restate" });
        return !items.some((s) => s.metadata?.name === "faulty");
      });
      for (const old of (await api().listNamespacedEvent({ namespace: "restate" })).items) {
        await api().deleteNamespacedEvent({ name: old.metadata.name!, namespace: "restate" });
      }
    });
  }
});

describe("a load balancer", () => {
  let pod0: PodNet;
  let other0: PodNet;
  before(async () => {
    pod0 = await PodNet.make(r1, r1.zones[0]!, 1);
    other0 = await PodNet.make(r2, r2.zones[0]!, 1);
    await pod0.do("serve", { port: 5122, name: "restate-0.region1" });
    await other0.do("serve", { port: 5122, name: "restate-0.region2" });
    await makePod("restate-0", r1, 0, pod0.ip, { "apps.kubernetes.io/pod-index": "0" });
    await makePod("restate-0", r2, 0, other0.ip, { "apps.kubernetes.io/pod-index": "0" });
  });

  afterEach(() => networkControl.reset());

  test("is made in AWS, named in the Service, and forwards to the pod", async () => {
    await api(r1).createNamespacedService({ namespace: "restate", body: nodeService(0, r1) });
    await api(r2).createNamespacedService({ namespace: "restate", body: nodeService(0, r2) });
    const hostname = await hostnameOf("restate-0");
    await hostnameOf("restate-0", r2);
    const lb = (await balancers()).find((b) => b.DNSName === hostname)!;
    assert.equal(lb.LoadBalancerName, "restate-region1-0");
    assert.equal(lb.Scheme, "internal");
    assert.equal(lb.Type, "network");
    assert.deepEqual(lb.SecurityGroups, [seed().regions.region1!.securityGroupId]);
    assert.deepEqual(
      lb.AvailabilityZones?.map((z) => z.ZoneName),
      ["us-east-1a"],
    );
    const { elb } = awsClients(r1);
    const groups = (await elb.send(new DescribeTargetGroupsCommand({}))).TargetGroups!;
    assert.equal(groups.length, 1);
    const health = await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: groups[0]!.TargetGroupArn }));
    assert.deepEqual(
      health.TargetHealthDescriptions!.map((d) => d.Target!.Id),
      [seed().regions.region1!.instances["us-east-1a"]],
    );
    await eventWith("restate-0", "SuccessfullyReconciled", /./);
    const name = await eventually("the host name resolves", async () => {
      const { addresses } = await other0.do<{ addresses: string[] }>("resolve", {
        server: dnsServerIp,
        name: "restate-0.region1.example.internal",
      });
      return addresses[0];
    });
    const [first] = r1.zones[0]!.loadBalancerIps;
    assert.equal(name, first);
    // As in AWS, the name is there a little before the load balancer takes connections.
    const { greeting } = await eventually("the load balancer forwards", () =>
      other0.do<{ greeting: string }>("open", { name: "a", host: name, port: 5122 }),
    );
    assert.equal(greeting, "restate-0.region1");
  });

  test("delays bytes between regions, and not within one", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    await networkControl.setLatency({ between: ["region1", "region2"], ms: 40 });
    /** The quickest of several tries: a busy machine adds to some of them. */
    const quickest = async (ask: () => Promise<{ ms: number }>) => {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 6; i++) best = Math.min(best, (await ask()).ms);
      return best;
    };
    const echo = (pod: PodNet, name: string) => async () => {
      const answer = await pod.do<{ ms: number; same: boolean }>("echo", { name, bytes: 20_000 });
      assert.ok(answer.same);
      return answer;
    };
    const far = await quickest(echo(other0, "a"));
    assert.ok(far >= 80 && far < 120, `${far} ms`);
    const opening = await quickest(() => other0.do<{ ms: number }>("open", { name: "a2", host, port: 5122 }));
    assert.ok(opening >= 120 && opening < 160, `${opening} ms: a round trip, and the greeting's way`);
    await pod0.do("open", { name: "self", host, port: 5122 });
    const near = await quickest(echo(pod0, "self"));
    assert.ok(near < 30, `${near} ms`);
    await networkControl.setLatency({ between: ["region2", "region1"], ms: 0 });
    const healed = await quickest(echo(other0, "a"));
    assert.ok(healed < 30, `${healed} ms`);
  });

  test("a cut region: open connections hang and go on when healed, new ones are never answered", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    await other0.do("open", { name: "b", host, port: 5122 });
    await pod0.do("open", { name: "b", host, port: 5122 });
    await networkControl.cut({ region: "region2" });
    await assert.rejects(other0.do("echo", { name: "b", timeoutMs: 700 }), /timeout/);
    await assert.rejects(other0.do("open", { name: "c", host, port: 5122, timeoutMs: 700 }), /timeout/);
    // Within the regions all goes on.
    await pod0.do("echo", { name: "b" });
    await other0.do("open", { name: "own", host: r2.zones[0]!.loadBalancerIps[0], port: 5122 });
    await networkControl.heal({ region: "region2" });
    await other0.do("open", { name: "d", host, port: 5122, timeoutMs: 5000 });
    await other0.do("echo", { name: "d" });
    // The bytes that were lost are sent again by the kernel.
    await eventually("the old connection goes on", () =>
      other0.do("echo", { name: "b", timeoutMs: 3000 }).then(() => true),
    );
  });

  test("a cut of one direction", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    await other0.do("open", { name: "e", host, port: 5122 });
    await networkControl.cut({ from: "region1", to: "region2" });
    await assert.rejects(other0.do("echo", { name: "e", timeoutMs: 700 }), /timeout/);
    const before = (await networkControl.status()).loadBalancers.find((b) => b.name === "restate-region1-0")!;
    assert.ok(before.traffic.open >= 1);
    await networkControl.heal();
  });

  test("a cut of mode reset breaks connections at once", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    await other0.do("open", { name: "f", host, port: 5122 });
    await pod0.do("open", { name: "f", host, port: 5122 });
    await networkControl.cut({ region: "region1", mode: "reset" });
    const { how } = await other0.do<{ how: string }>("ended", { name: "f" });
    assert.equal(how, "ECONNRESET");
    await assert.rejects(other0.do("open", { name: "g", host, port: 5122 }), /ECONNRESET|closed/);
    await pod0.do("echo", { name: "f" });
    await networkControl.heal({ region: "region1" });
    await other0.do("open", { name: "g", host, port: 5122 });
  });

  test("a cut node", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    await other0.do("open", { name: "g", host, port: 5122 });
    await networkControl.cut({ node: r1.zones[0]!.nodeName });
    await assert.rejects(other0.do("echo", { name: "g", timeoutMs: 700 }), /timeout/);
    await assert.rejects(pod0.do("open", { name: "h", host, port: 5122, timeoutMs: 700 }), /timeout/);
    await networkControl.heal();
    await assert.rejects(networkControl.cut({ node: "nobody" }), /no node nobody: there are ip-10-1-16-10/);
    await assert.rejects(networkControl.heal({ region: "region1" }), /region region1 is not cut: cut is nothing/);
  });

  test("health follows the pod", async () => {
    const target = async () =>
      (await networkControl.status()).loadBalancers.find((b) => b.name === "restate-region1-0")!.ports[0]!.targets[0]!;
    const healthy = await eventually("the target is healthy", async () => {
      const now = await target();
      return now.health === "healthy" && now;
    });
    assert.deepEqual(healthy.pods, [`${pod0.ip}:5122`]);
  });

  test("a name of another's load balancer is refused", async () => {
    const body = nodeService(1, r1, { [`${prefix}name`]: "restate-region1-0" });
    await api().createNamespacedService({ namespace: "restate", body });
    await eventWith(
      "restate-1",
      "FailedDeployModel",
      /DuplicateLoadBalancerName: .*'restate-region1-0' exists in us-east-1 and belongs to Service restate\/restate-0/,
    );
    await api().patchNamespacedService(
      {
        name: "restate-1",
        namespace: "restate",
        body: { metadata: { annotations: { [`${prefix}name`]: "restate-region1-1" } } },
      },
      merge,
    );
    await hostnameOf("restate-1");
  });

  test("moves to another zone in place; a later name is without effect; an unknown annotation is warned of", async () => {
    const before = (await balancers()).find((b) => b.LoadBalancerName === "restate-region1-1")!;
    const zone = r1.zones[2]!;
    await api().patchNamespacedService(
      {
        name: "restate-1",
        namespace: "restate",
        body: {
          metadata: {
            annotations: {
              [`${prefix}subnets`]: seed().regions.region1!.subnets[zone.name],
              [`${prefix}target-node-labels`]: `topology.kubernetes.io/zone=${zone.name}`,
              [`${prefix}name`]: "another-name",
              [`${prefix}sucurity-groups`]: "sg-1",
            },
          },
        },
      },
      merge,
    );
    const after = await eventually("the subnet is changed", async () => {
      const lb = (await balancers()).find((b) => b.LoadBalancerArn === before.LoadBalancerArn);
      return lb?.AvailabilityZones?.[0]?.ZoneName === zone.name && lb;
    });
    assert.equal(after.LoadBalancerName, "restate-region1-1");
    assert.equal(after.DNSName, before.DNSName);
    await eventWith("restate-1", "AnnotationWithoutEffect", /sucurity-groups is not one/);
    const status = await eventually("the address is in the other zone", async () => {
      const lb = (await networkControl.status()).loadBalancers.find((b) => b.name === "restate-region1-1")!;
      return lb.addresses[0]?.zone === zone.name && lb;
    });
    assert.equal(status.addresses.length, 1);
  });

  test("another scheme replaces it; a Service that is no longer of type LoadBalancer loses it", async () => {
    const before = (await balancers()).find((b) => b.LoadBalancerName === "restate-region1-1")!;
    const patch = (body: object) =>
      api().patchNamespacedService({ name: "restate-1", namespace: "restate", body }, merge);
    await patch({
      metadata: {
        annotations: { [`${prefix}scheme`]: "internet-facing", [`${prefix}name`]: "restate-region1-1" },
      },
    });
    const after = await eventually("it is replaced", async () => {
      const lb = (await balancers()).find((b) => b.LoadBalancerName === "restate-region1-1");
      return lb?.Scheme === "internet-facing" && lb;
    });
    assert.notEqual(after.LoadBalancerArn, before.LoadBalancerArn);
    await eventually("the Service names the new one", async () => (await hostnameOf("restate-1")) === after.DNSName);
    await patch({ spec: { type: "ClusterIP", loadBalancerClass: null } });
    await eventually("it is gone", async () => !(await balancers()).some((b) => b.DNSName === after.DNSName));
    const service = await eventually("the finalizer is gone", async () => {
      const now = await api().readNamespacedService({ name: "restate-1", namespace: "restate" });
      return !now.metadata?.finalizers?.length && now;
    });
    assert.equal(service.status?.loadBalancer?.ingress, undefined);
    await patch({ spec: { type: "LoadBalancer", loadBalancerClass: "service.k8s.aws/nlb" } });
    await hostnameOf("restate-1");
  });

  test("killed and started again, the controller adopts what there is and the traffic goes on", async () => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    const arns = (await balancers()).map((b) => b.LoadBalancerArn).sort();
    await controllers.kill();
    await other0.do("open", { name: "k", host, port: 5122 });
    await other0.do("echo", { name: "k" });
    await api().createNamespacedService({ namespace: "restate", body: nodeService(2, r1) });
    controllers.start();
    await controllers.ready();
    await hostnameOf("restate-2");
    const now = (await balancers()).map((b) => b.LoadBalancerArn).sort();
    assert.equal(now.length, arns.length + 1);
    assert.ok(arns.every((arn) => now.includes(arn)));
    await networkControl.cut({ region: "region2" });
    await traffic.kill();
    traffic.start();
    await traffic.ready();
    assert.deepEqual((await networkControl.faults()).cuts, [{ region: "region2", mode: "drop" }]);
    await assert.rejects(other0.do("open", { name: "l", host, port: 5122, timeoutMs: 700 }), /timeout/);
    await networkControl.heal();
    await other0.do("open", { name: "l", host, port: 5122 });
    await other0.do("echo", { name: "l" });
    const status = await networkControl.status();
    assert.equal(status.loadBalancers.filter((b) => b.region === "region1").length, 3);
    // The name is known at once: it was known before.
    await other0.do("resolve", { server: dnsServerIp, name: "restate-0.region1.example.internal" });
  });

  test("goes with its Service, and with it all that belonged to it", async () => {
    await networkControl.setDnsDelay(0);
    for (const name of ["restate-1", "restate-2"]) {
      await api().deleteNamespacedService({ name, namespace: "restate" });
    }
    await eventually("only one load balancer is left", async () => (await balancers()).length === 1);
    const { elb } = awsClients(r1);
    const groups = (await elb.send(new DescribeTargetGroupsCommand({}))).TargetGroups!;
    assert.equal(groups.length, 1);
    await eventually("the Services are gone", async () => {
      const { items } = await api().listNamespacedService({ namespace: "restate" });
      return !items.some((s) => ["restate-1", "restate-2"].includes(s.metadata!.name!));
    });
    await assert.rejects(
      pod0.do("resolve", { server: dnsServerIp, name: "restate-1.region1.example.internal" }),
      /ENOTFOUND/,
    );
  });

  test("targets by address, in place of node ports", async () => {
    const body = nodeService(0, r1, { [`${prefix}name`]: "by-address", [`${prefix}nlb-target-type`]: "ip" });
    body.metadata!.name = "by-address";
    await api().createNamespacedService({ namespace: "restate", body });
    await hostnameOf("by-address");
    const lb = await eventually("it has its target", async () => {
      const now = (await networkControl.status()).loadBalancers.find((b) => b.name === "by-address");
      return now?.ports[0]?.targets.length === 1 && now;
    });
    assert.equal(lb.ports[0]!.targets[0]!.id, pod0.ip);
    assert.equal(lb.ports[0]!.targets[0]!.port, 5122);
    const { greeting } = await eventually("it answers", () =>
      pod0.do<{ greeting: string }>("open", { name: "ip", host: lb.addresses[0]!.ip, port: 5122 }),
    );
    assert.equal(greeting, "restate-0.region1");
    await eventWith("by-address", "AnnotationWithoutEffect", /target-node-labels has no effect on targets of type ip/);
    await api().deleteNamespacedService({ name: "by-address", namespace: "restate" });
    await eventually("it is gone", async () => !(await balancers()).some((b) => b.LoadBalancerName === "by-address"));
  });

  test("cluster names and cluster addresses", async () => {
    const resolve = async (pod: PodNet, name: string, type?: string) =>
      (await pod.do<{ addresses: string[] }>("resolve", { server: dnsServerIp, name, type })).addresses;
    assert.deepEqual(await resolve(pod0, "restate-cluster.restate.svc.cluster.local"), [pod0.ip]);
    assert.deepEqual(await resolve(pod0, "restate-0.restate-cluster.restate.svc.cluster.local"), [pod0.ip]);
    assert.deepEqual(await resolve(other0, "restate-cluster.restate.svc.cluster.local"), [other0.ip]);
    await assert.rejects(resolve(pod0, "restate-0.region1.example.internal", "AAAA"), /ENODATA/);
    await assert.rejects(resolve(pod0, "nowhere.example"), /ENOTFOUND/);
    assert.deepEqual(await resolve(pod0, "ip-10-1-16-10.us-east-1.compute.internal"), ["10.1.16.10"]);
    await api().createNamespacedService({
      namespace: "restate",
      body: {
        metadata: { name: "ingress" },
        spec: {
          publishNotReadyAddresses: true,
          selector: { app: "restate" },
          ports: [{ port: 80, targetPort: 5122 }],
        },
      },
    });
    const [ip] = await eventually("the Service's name resolves", () =>
      resolve(pod0, "ingress.restate.svc.cluster.local"),
    );
    const { greeting } = await eventually("the Service answers", () =>
      pod0.do<{ greeting: string }>("open", { name: "svc", host: ip, port: 80 }),
    );
    assert.equal(greeting, "restate-0.region1");
    // The other region has no such address.
    await assert.rejects(other0.do("open", { name: "svc", host: ip, port: 80 }), /ECONNRESET|closed/);
  });

  test("figures: added latency, throughput, many connections", async (context) => {
    const [host] = r1.zones[0]!.loadBalancerIps;
    const measure = async (to: string) => {
      const around = await pod0.do<{ medianMs: number }>("roundTrips", { host: to, port: 5122, count: 2000 });
      await pod0.do("open", { name: "bulk", host: to, port: 5122 });
      const mib = 64;
      const bulk = await pod0.do<{ ms: number; same: boolean }>("echo", { name: "bulk", bytes: mib * 2 ** 20 });
      assert.ok(bulk.same);
      await pod0.do("close", { name: "bulk" });
      return `round trip ${around.medianMs.toFixed(3)} ms, echo of ${mib} MiB at ${((mib * 1000) / bulk.ms).toFixed(0)} MiB/s`;
    };
    context.diagnostic(`to the pod itself: ${await measure(pod0.ip)}`);
    context.diagnostic(`through its load balancer: ${await measure(host)}`);
    const crowd = await other0.do<{ ms: number }>("crowd", { host, port: 5122, count: 500 });
    context.diagnostic(`500 connections at once: ${crowd.ms.toFixed(0)} ms`);
    await eventually("all connections are accounted for", async () => {
      const lb = (await networkControl.status()).loadBalancers.find((b) => b.name === "restate-region1-0")!;
      return lb.traffic.open < 20 && lb.traffic.bytesIn > 64 * 2 ** 20;
    });
  });

  test("ends its pods", () => {
    pod0.end();
    other0.end();
  });
});

describe("volumes", () => {
  test("a claim gets a volume in the zone of the chosen node, and loses it with its data", async () => {
    const config = new KubeConfig();
    config.loadFromFile(join(runDir, `${r1.name}.kubeconfig`));
    await config.makeApiClient(StorageV1Api).createStorageClass({
      body: {
        metadata: { name: "gp3-test" },
        provisioner: "ebs.csi.aws.com",
        volumeBindingMode: "WaitForFirstConsumer",
        reclaimPolicy: "Delete",
        parameters: { type: "gp3" },
      },
    });
    const zone = r1.zones[1]!;
    await api().createNamespacedPersistentVolumeClaim({
      namespace: "restate",
      body: {
        metadata: { name: "storage" },
        spec: {
          storageClassName: "gp3-test",
          accessModes: ["ReadWriteOnce"],
          resources: { requests: { storage: "2Gi" } },
        },
      },
    });
    await sleep(300);
    // As the scheduler does.
    await api().patchNamespacedPersistentVolumeClaim(
      {
        name: "storage",
        namespace: "restate",
        body: { metadata: { annotations: { "volume.kubernetes.io/selected-node": zone.nodeName } } },
      },
      merge,
    );
    const claim = await eventually("the claim is bound", async () => {
      const now = await api().readNamespacedPersistentVolumeClaim({ name: "storage", namespace: "restate" });
      return now.status?.phase === "Bound" && now;
    });
    const volume = await api().readPersistentVolume({ name: claim.spec!.volumeName! });
    assert.equal(
      JSON.stringify(volume.spec!.nodeAffinity!.required!.nodeSelectorTerms[0]!.matchExpressions!.map((e) => e.values)),
      JSON.stringify([[zone.name], [zone.name]]),
    );
    const { ec2 } = awsClients(r1);
    const volumes = async () =>
      ((await ec2.send(new DescribeVolumesCommand({}))).Volumes ?? []).filter((v) =>
        v.Tags?.some((t) => t.Key === "CSIVolumeName" && t.Value === volume.metadata!.name),
      );
    assert.equal((await volumes())[0]!.AvailabilityZone, zone.name);
    assert.equal((await volumes())[0]!.Size, 2);
    assert.ok(volume.spec!.hostPath!.path.startsWith(join(stateDir, "volumes", "region1", "vol-")));
    await eventWith("storage", "ProvisioningSucceeded", /pvc-.* using ebs.csi.aws.com/);
    await api().deleteNamespacedPersistentVolumeClaim({ name: "storage", namespace: "restate" });
    await eventually("the volume is gone", async () => (await api().listPersistentVolume()).items.length === 0);
    assert.equal((await volumes()).length, 0);
    assert.deepEqual(readdirSync(join(stateDir, "volumes", "region1")), []);
  });
});

describe("the pod-identity webhook", () => {
  test("gives the role's token to pods of an annotated service account, and to no others", async () => {
    const role = "arn:aws:iam::123456789012:role/restate";
    await api(r2).createNamespacedServiceAccount({
      namespace: "restate",
      body: { metadata: { name: "restate", annotations: { "eks.amazonaws.com/role-arn": role } } },
    });
    const create = (name: string, serviceAccountName: string) =>
      api(r2).createNamespacedPod({
        namespace: "restate",
        dryRun: "All",
        body: { metadata: { name }, spec: { serviceAccountName, containers: [{ name: "c", image: "c" }] } },
      });
    const pod = await create("with", "restate");
    const env = Object.fromEntries(pod.spec!.containers[0]!.env!.map((e) => [e.name, e.value]));
    assert.deepEqual(env, {
      AWS_STS_REGIONAL_ENDPOINTS: "regional",
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_REGION: "us-west-2",
      AWS_ROLE_ARN: role,
      AWS_WEB_IDENTITY_TOKEN_FILE: "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    });
    const token = pod.spec!.volumes!.find((v) => v.name === "aws-iam-token")!.projected!.sources![0]!;
    assert.equal(token.serviceAccountToken!.audience, "sts.amazonaws.com");
    assert.equal(token.serviceAccountToken!.expirationSeconds, 86400);
    const plain = await create("without", "default");
    assert.equal(plain.spec!.containers[0]!.env, undefined);
  });

  test("gives a Service of type LoadBalancer the controller's class", async () => {
    const service = await api(r2).createNamespacedService({
      namespace: "restate",
      dryRun: "All",
      body: { metadata: { name: "x" }, spec: { type: "LoadBalancer", ports: [{ port: 1 }] } },
    });
    assert.equal(service.spec!.loadBalancerClass, "service.k8s.aws/nlb");
  });
});
