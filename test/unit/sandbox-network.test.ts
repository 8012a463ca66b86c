/** The network's decisions: faults, routes, names, webhooks, volumes, health, and the delay of bytes. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { describe, test } from "node:test";
import type { V1EndpointSlice, V1Node, V1PersistentVolumeClaim, V1Pod, V1Service } from "@kubernetes/client-node";
import { decode, encode } from "dns-packet";
import fc from "fast-check";
import { freeIp, nextIp } from "../../sandbox/network/addresses";
import { delayLine } from "../../sandbox/network/delay-line";
import {
  answerTo,
  clusterNames,
  type HostRecord,
  hostRequests,
  updateRecords,
  visibleAt,
} from "../../sandbox/network/dns-names";
import { type Cut, cutFault, delayBetween, dropRules, isReset, sameTarget } from "../../sandbox/network/faults";
import { afterCheck, codeMatches, type HealthCount } from "../../sandbox/network/health";
import {
  type LoadBalancerView,
  pickEndpoint,
  regionOfIp,
  routesOf,
  type TargetGroupView,
  usableRoutes,
  zoneOfIp,
} from "../../sandbox/network/routes";
import { decideClaim, gibibytes, isToBeDeleted, volumeFor } from "../../sandbox/network/volume-model";
import { podPatch, servicePatch } from "../../sandbox/network/webhook-mutation";
import { regions, witnessRegion } from "../../sandbox/world/regions";

const world = [...regions, witnessRegion];
const r1 = regions[0]!;

describe("cuts", () => {
  test("a region: both ways, from and to every other region", () => {
    assert.deepEqual(dropRules([{ region: "region1", mode: "drop" }], world, "10.0.0.10"), [
      { from: "10.1.0.0/16", to: "10.2.0.0/16" },
      { from: "10.2.0.0/16", to: "10.1.0.0/16" },
      { from: "10.1.0.0/16", to: "10.3.0.0/16" },
      { from: "10.3.0.0/16", to: "10.1.0.0/16" },
    ]);
  });
  test("one direction, and AWS", () => {
    assert.deepEqual(dropRules([{ from: "region2", to: "region1", mode: "drop" }], world, "10.0.0.10"), [
      { from: "10.2.0.0/16", to: "10.1.0.0/16" },
    ]);
    assert.deepEqual(dropRules([{ aws: "region2", mode: "drop" }], world, "10.0.0.10"), [
      { from: "10.2.0.0/16", to: "10.0.0.10/32" },
      { from: "10.0.0.10/32", to: "10.2.0.0/16" },
    ]);
  });
  test("a node: its pods and the load balancers of every zone, nothing else", () => {
    const rules = dropRules([{ node: r1.zones[1]!.nodeName, mode: "drop" }], world, "10.0.0.10");
    assert.equal(rules.length, 14);
    assert.ok(rules.every((r) => [r.from, r.to].includes("10.1.33.0/24")));
    assert.deepEqual(rules[0], { from: "10.1.33.0/24", to: "10.1.18.0/24" });
  });
  test("each rule once, and none for resets", () => {
    const both: Cut[] = [
      { region: "region1", mode: "drop" },
      { region: "region2", mode: "drop" },
    ];
    assert.equal(dropRules(both, world, "10.0.0.10").length, 6);
    assert.deepEqual(dropRules([{ region: "region1", mode: "reset" }], world, "10.0.0.10"), []);
  });
  test("a node's /24 holds all its pods and no load balancer", () => {
    for (const zone of world.flatMap((r) => r.zones)) {
      const third = (ip: string) => ip.split(".").slice(0, 3).join(".");
      assert.equal(third(zone.podIps[0]), third(zone.podIps[1]));
      assert.equal(third(zone.loadBalancerIps[0]), third(zone.loadBalancerIps[1]));
      assert.notEqual(third(zone.podIps[0]), third(zone.loadBalancerIps[0]));
    }
  });
  const flow = { sourceRegion: "region1", sourceNode: "n1", targetRegion: "region2", targetNode: "n2" };
  const resets: [string, Cut, Partial<typeof flow>, boolean][] = [
    ["the source's region", { region: "region1", mode: "reset" }, {}, true],
    ["the target's region", { region: "region2", mode: "reset" }, {}, true],
    ["another region", { region: "witness", mode: "reset" }, {}, false],
    ["within the region", { region: "region1", mode: "reset" }, { targetRegion: "region1" }, false],
    ["the way there", { from: "region1", to: "region2", mode: "reset" }, {}, true],
    ["the way back", { from: "region2", to: "region1", mode: "reset" }, {}, true],
    ["another way", { from: "region2", to: "witness", mode: "reset" }, {}, false],
    ["the source's node", { node: "n1", mode: "reset" }, {}, true],
    ["the target's node, within a region", { node: "n2", mode: "reset" }, { targetRegion: "region1" }, true],
    ["another node", { node: "n3", mode: "reset" }, {}, false],
    ["a cut that drops", { region: "region1", mode: "drop" }, {}, false],
    ["a source outside all regions", { region: "region1", mode: "reset" }, { sourceRegion: undefined }, false],
  ];
  for (const [title, cut, change, expected] of resets) {
    test(`reset: ${title}`, () => assert.equal(isReset([cut], { ...flow, ...change }), expected));
  }
  const faults: [unknown, RegExp | undefined][] = [
    [{ region: "region1", mode: "drop" }, undefined],
    [{ region: "region9", mode: "drop" }, /no region region9: there are region1, region2, witness/],
    [{ node: "x", mode: "drop" }, /no node x: there are ip-10-1-16-10/],
    [{ from: "region1", to: "region1", mode: "drop" }, /the same region/],
    [{ from: "region1", to: "b", mode: "drop" }, /no region b/],
    [{ aws: "region1", mode: "reset" }, /only be cut off with mode drop/],
    [{ region: "region1", mode: "cut" }, /mode 'cut': write drop or reset/],
    [{ mode: "drop" }, /needs region, from and to, node, or aws/],
  ];
  for (const [cut, message] of faults) {
    test(`check of ${JSON.stringify(cut)}`, () => {
      const fault = cutFault(cut as Cut, world);
      if (message) assert.match(fault!, message);
      else assert.equal(fault, undefined);
    });
  }
  test("targets compare without the mode", () => {
    assert.ok(sameTarget({ region: "a" }, { region: "a", mode: "reset" } as Cut));
    assert.ok(!sameTarget({ from: "a", to: "b" }, { from: "b", to: "a" }));
  });
});

test("latency: between two regions whichever comes first, none within one", () => {
  const latencies = [{ between: ["region1", "region2"] as [string, string], ms: 30 }];
  assert.equal(delayBetween(latencies, "region1", "region2"), 30);
  assert.equal(delayBetween(latencies, "region2", "region1"), 30);
  assert.equal(delayBetween(latencies, "region1", "region1"), 0);
  assert.equal(delayBetween(latencies, "region1", "witness"), 0);
  assert.equal(delayBetween(latencies, undefined, "region1"), 0);
});

describe("routes", () => {
  const node = (i: number): V1Node => ({
    metadata: { name: r1.zones[i]!.nodeName, labels: { "topology.kubernetes.io/zone": r1.zones[i]!.name } },
    spec: { providerID: `aws:///${r1.zones[i]!.name}/i-${i}` },
    status: { addresses: [{ type: "InternalIP", address: r1.zones[i]!.nodeIp }] },
  });
  const service: V1Service = {
    metadata: { name: "restate-0", namespace: "restate" },
    spec: { type: "LoadBalancer", clusterIP: "172.20.1.9", ports: [{ name: "node", port: 5122, nodePort: 30001 }] },
  };
  const slice = (name: string, ip: string, more: Record<string, unknown> = {}, hostname?: string): V1EndpointSlice => ({
    metadata: { name: `${name}-x`, namespace: "restate", labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: [{ name: "node", port: 5122 }],
    endpoints: [{ addresses: [ip], nodeName: r1.zones[1]!.nodeName, hostname, conditions: { ready: true, ...more } }],
  });
  const group: TargetGroupView = {
    arn: "tg",
    name: "tg",
    targetType: "instance",
    health: {
      protocol: "TCP",
      port: "traffic-port",
      path: "/",
      successCodes: "200",
      intervalSeconds: 5,
      timeoutSeconds: 5,
      healthyThreshold: 2,
      unhealthyThreshold: 2,
    },
    targets: [{ id: "i-0", port: 30001 }],
  };
  const cluster = { services: [service], slices: [slice("restate-0", "10.1.33.1")], nodes: [node(0), node(1)] };
  const lb = (zones: string[], crossZone = false): LoadBalancerView => ({
    arn: "lb",
    name: "lb",
    dnsName: "lb.example",
    scheme: "internal",
    zones: zones.map((zone) => ({ zone, subnetId: `subnet-${zone}` })),
    crossZone,
    listeners: [],
  });

  test("an instance's node port leads to the Service's pod, on whatever node it runs", () => {
    assert.deepEqual(routesOf(group, r1, cluster), [
      {
        id: "i-0",
        port: 30001,
        zone: "us-east-1a",
        endpoints: [{ ip: "10.1.33.1", port: 5122, node: r1.zones[1]!.nodeName }],
      },
    ]);
  });
  test("with externalTrafficPolicy Local only to pods of that node", () => {
    const local = { ...service, spec: { ...service.spec, externalTrafficPolicy: "Local" } };
    const [route] = routesOf(group, r1, { ...cluster, services: [local] });
    assert.deepEqual(route!.endpoints, []);
    assert.match(route!.problem!, /restate\/restate-0 has no ready pod/);
  });
  test("problems are named", () => {
    const problem = (targets: TargetGroupView["targets"], view = cluster) =>
      routesOf({ ...group, targets }, r1, view)[0]!.problem;
    assert.match(problem([{ id: "i-9", port: 1 }])!, /no node has the instance i-9/);
    assert.match(problem([{ id: "i-0", port: 1 }])!, /no Service has the node port 1/);
    const notReady = { ...cluster, slices: [slice("restate-0", "10.1.33.1", { ready: false })] };
    assert.match(problem(group.targets, notReady)!, /has no ready pod/);
  });
  test("ip targets: the zone is that of the address", () => {
    const ip = { ...group, targetType: "ip", targets: [{ id: "10.1.33.7", port: 5122 }] };
    assert.deepEqual(routesOf(ip, r1, cluster), [
      {
        id: "10.1.33.7",
        port: 5122,
        zone: "us-east-1b",
        endpoints: [{ ip: "10.1.33.7", port: 5122, node: r1.zones[1]!.nodeName }],
      },
    ]);
  });
  test("only targets of the address's zone, and never of a zone that is not enabled", () => {
    const routes = [
      { id: "a", port: 1, zone: "a", endpoints: [] },
      { id: "b", port: 1, zone: "b", endpoints: [] },
    ];
    const ids = (view: LoadBalancerView, zone: string) => usableRoutes(routes, view, zone).map((r) => r.id);
    assert.deepEqual(ids(lb(["a"]), "a"), ["a"]);
    assert.deepEqual(ids(lb(["a", "b"]), "b"), ["b"]);
    assert.deepEqual(ids(lb(["a", "b"], true), "b"), ["a", "b"]);
    assert.deepEqual(ids(lb(["a", "c"], true), "c"), ["a"]);
  });
  test("healthy targets first; when none is, all", () => {
    const routes = ["x", "y"].map((ip) => ({ id: ip, port: 1, endpoints: [{ ip, port: 1 }] }));
    assert.equal(
      pickEndpoint(
        routes,
        (r) => r.id === "y",
        () => 0,
      )?.ip,
      "y",
    );
    assert.equal(
      pickEndpoint(
        routes,
        () => false,
        () => 0.9,
      )?.ip,
      "y",
    );
    assert.equal(
      pickEndpoint([], () => true),
      undefined,
    );
  });
  test("addresses and where they belong", () => {
    assert.equal(regionOfIp("10.2.33.1", world)?.name, "region2");
    assert.equal(regionOfIp("10.0.0.10", world), undefined);
    assert.equal(zoneOfIp("10.1.49.3", world)?.name, "us-east-1c");
    assert.equal(nextIp("10.1.0.255"), "10.1.1.0");
    assert.equal(freeIp(["10.0.0.1", "10.0.0.2"], new Set(["10.0.0.1"])), "10.0.0.2");
    assert.equal(freeIp(["10.0.0.1", "10.0.0.1"], new Set(["10.0.0.1"])), undefined);
  });

  test("cluster names", () => {
    const headless: V1Service = {
      metadata: { name: "restate-cluster", namespace: "restate" },
      spec: { clusterIP: "None" },
    };
    const names = clusterNames({
      services: [service, headless],
      slices: [
        slice("restate-cluster", "10.1.17.1", {}, "restate-0"),
        { ...slice("restate-cluster", "10.1.33.1", {}, "restate-1") },
        slice("restate-cluster", "10.1.49.1", { ready: false }, "restate-2"),
      ],
      nodes: [node(0)],
    });
    const addresses = (name: string) => names.get(name)?.addresses;
    assert.deepEqual(addresses("restate-cluster.restate.svc.cluster.local"), ["10.1.17.1", "10.1.33.1"]);
    assert.deepEqual(addresses("restate-1.restate-cluster.restate.svc.cluster.local"), ["10.1.33.1"]);
    assert.equal(addresses("restate-2.restate-cluster.restate.svc.cluster.local"), undefined);
    assert.deepEqual(addresses("restate-0.restate.svc.cluster.local"), ["172.20.1.9"]);
    assert.deepEqual(addresses("restate.svc.cluster.local"), []);
    assert.deepEqual(addresses(r1.zones[0]!.nodeName), ["10.1.16.10"]);
  });
});

describe("host names", () => {
  const service = (name: string, annotations: Record<string, string>, hostname?: string): V1Service => ({
    metadata: { name, namespace: "ns", annotations },
    spec: { type: "LoadBalancer" },
    status: hostname ? { loadBalancer: { ingress: [{ hostname }] } } : {},
  });
  test("both prefixes, lists, TTLs; none before the load balancer has a name", () => {
    const requests = hostRequests("region1", [
      service(
        "a",
        {
          "external-dns.alpha.kubernetes.io/hostname": "A.example., b.example",
          "external-dns.kubernetes.io/hostname": "a.example",
          "external-dns.kubernetes.io/ttl": "30s",
        },
        "LB.aws",
      ),
      service("b", { "external-dns.kubernetes.io/hostname": "c.example" }),
    ]);
    assert.deepEqual(requests, [
      { host: "a.example", target: "lb.aws", ttl: 30, owner: "region1 ns/a" },
      { host: "b.example", target: "lb.aws", ttl: 30, owner: "region1 ns/a" },
    ]);
  });
  const request = (target: string, owner = "region1 ns/a") => [{ host: "h", target, owner }];
  test("a change is seen after the delay, and the old value until then", () => {
    let records: Map<string, HostRecord> = updateRecords(new Map(), request("one"), 0, 100);
    assert.equal(visibleAt(records.get("h"), 99), undefined);
    assert.equal(visibleAt(records.get("h"), 100)?.target, "one");
    records = updateRecords(records, request("one"), 50, 100);
    assert.equal(visibleAt(records.get("h"), 100)?.target, "one", "a further look does not start the delay again");
    records = updateRecords(records, request("two"), 200, 100);
    assert.equal(visibleAt(records.get("h"), 299)?.target, "one");
    assert.equal(visibleAt(records.get("h"), 300)?.target, "two");
    records = updateRecords(records, [], 400, 100);
    assert.equal(visibleAt(records.get("h"), 450)?.target, "two");
    assert.equal(visibleAt(records.get("h"), 500), undefined);
    assert.equal(updateRecords(records, [], 501, 100).size, 0);
  });
  test("of two Services that ask for one name, the one that has it keeps it", () => {
    const b = request("two", "region1 ns/b");
    const records = updateRecords(updateRecords(new Map(), b, 0, 0), [...request("one"), ...b], 1, 0);
    assert.equal(visibleAt(records.get("h"), 1)?.target, "two");
    assert.deepEqual(records.get("h")?.contenders, ["region1 ns/a"]);
  });
});

describe("DNS answers", () => {
  const entries = new Map([
    ["a.example", { addresses: ["10.1.18.1"], ttl: 60 }],
    ["empty.example", { addresses: [], ttl: 60 }],
  ]);
  const ask = (name: string, type: "A" | "AAAA" | "SRV", flags = 0x0100) => {
    const query = encode({ type: "query", id: 7, flags, questions: [{ name, type }] });
    return decode(
      encode(
        answerTo(
          decode(query),
          (n) => entries.get(n),
          (ips) => ips,
        ),
      ),
    );
  };
  const rcode = (packet: unknown) => (packet as { rcode: string }).rcode;
  const cases: [string, "A" | "AAAA" | "SRV", string, string[]][] = [
    ["a.example", "A", "NOERROR", ["10.1.18.1"]],
    ["A.Example", "A", "NOERROR", ["10.1.18.1"]],
    ["a.example", "AAAA", "NOERROR", []],
    ["a.example", "SRV", "NOERROR", []],
    ["empty.example", "A", "NOERROR", []],
    ["b.example", "A", "NXDOMAIN", []],
    ["b.example", "AAAA", "NXDOMAIN", []],
  ];
  for (const [name, type, code, addresses] of cases) {
    test(`${type} ${name}: ${code}`, () => {
      const answer = ask(name, type);
      assert.equal(rcode(answer), code);
      assert.equal(answer.id, 7);
      assert.deepEqual(
        (answer.answers ?? []).map((a) => (a as { data: string }).data),
        addresses,
      );
      assert.equal(answer.questions?.[0]?.name, name, "the question comes back as it was asked");
    });
  }
  test("other operations are not implemented", () => assert.equal(rcode(ask("a.example", "A", 0x2000)), "NOTIMP"));
});

describe("the pod-identity webhook", () => {
  const role = "arn:aws:iam::1:role/r";
  const account = (annotations: Record<string, string>) => ({ metadata: { annotations } });
  const pod = (more: Partial<V1Pod["spec"]> = {}, annotations: Record<string, string> = {}): V1Pod => ({
    metadata: { annotations },
    spec: { containers: [{ name: "c", env: [{ name: "X", value: "1" }] }], ...more },
  });
  /** Applies the steps that the webhook makes: whole values under /spec. */
  const patched = (subject: V1Pod, annotations: Record<string, string>) => {
    const result = structuredClone(subject) as unknown as { spec: Record<string, unknown> };
    for (const step of podPatch(subject, account(annotations), "us-east-1")) {
      result.spec[step.path.split("/")[2]!] = step.value;
    }
    return result as unknown as V1Pod;
  };
  const env = (p: V1Pod, i = 0) => Object.fromEntries((p.spec!.containers[i]!.env ?? []).map((e) => [e.name, e.value]));

  test("no role, no account: nothing", () => {
    assert.deepEqual(podPatch(pod(), account({}), "us-east-1"), []);
    assert.deepEqual(podPatch(pod(), undefined, "us-east-1"), []);
  });
  test("variables, mount and projected token, in init containers as well", () => {
    const result = patched(pod({ initContainers: [{ name: "i" }] }), { "eks.amazonaws.com/role-arn": role });
    assert.deepEqual(env(result), {
      X: "1",
      AWS_STS_REGIONAL_ENDPOINTS: "regional",
      AWS_DEFAULT_REGION: "us-east-1",
      AWS_REGION: "us-east-1",
      AWS_ROLE_ARN: role,
      AWS_WEB_IDENTITY_TOKEN_FILE: "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
    });
    const mount = {
      name: "aws-iam-token",
      mountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount",
      readOnly: true,
    };
    assert.deepEqual(result.spec!.containers[0]!.volumeMounts, [mount]);
    assert.deepEqual(result.spec!.initContainers![0]!.volumeMounts, [mount]);
    assert.deepEqual(result.spec!.volumes, [
      {
        name: "aws-iam-token",
        projected: {
          sources: [
            { serviceAccountToken: { audience: "sts.amazonaws.com", expirationSeconds: 86400, path: "token" } },
          ],
        },
      },
    ]);
  });
  test("what the pod sets itself stays", () => {
    const subject = pod({
      containers: [{ name: "c", env: [{ name: "AWS_REGION", value: "eu-west-1" }] }, { name: "skip" }],
    });
    subject.metadata!.annotations = { "eks.amazonaws.com/skip-containers": "skip" };
    const result = patched(subject, {
      "eks.amazonaws.com/role-arn": role,
      "eks.amazonaws.com/sts-regional-endpoints": "false",
    });
    assert.deepEqual(Object.keys(env(result)), ["AWS_REGION", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
    assert.deepEqual(result.spec!.containers[1], { name: "skip" });
  });
  test("audience and expiration from annotations; the pod's wins; never under 600 s", () => {
    const source = (accountMore: Record<string, string>, podMore: Record<string, string> = {}) =>
      patched(pod({ volumes: [{ name: "v" }] }, podMore), { "eks.amazonaws.com/role-arn": role, ...accountMore }).spec!
        .volumes![0]!.projected!.sources![0]!.serviceAccountToken!;
    assert.equal(source({ "eks.amazonaws.com/audience": "other" }).audience, "other");
    assert.equal(source({ "eks.amazonaws.com/token-expiration": "3600" }).expirationSeconds, 3600);
    const both = source(
      { "eks.amazonaws.com/token-expiration": "3600" },
      { "eks.amazonaws.com/token-expiration": "60" },
    );
    assert.equal(both.expirationSeconds, 600);
  });
  test("applied twice, nothing is added twice", () => {
    const annotations = { "eks.amazonaws.com/role-arn": role };
    const once = patched(pod(), annotations);
    assert.deepEqual(patched(once, annotations), once);
  });
  test("Services of type LoadBalancer get the class, once", () => {
    const spec = { type: "LoadBalancer" };
    assert.deepEqual(servicePatch({ spec }), [
      { op: "add", path: "/spec/loadBalancerClass", value: "service.k8s.aws/nlb" },
    ]);
    assert.deepEqual(servicePatch({ spec: { ...spec, loadBalancerClass: "x" } }), []);
    assert.deepEqual(servicePatch({ spec: { type: "ClusterIP" } }), []);
  });
});

describe("volumes", () => {
  const storageClass = {
    metadata: { name: "gp3" },
    provisioner: "ebs.csi.aws.com",
    volumeBindingMode: "WaitForFirstConsumer",
    reclaimPolicy: "Delete",
  };
  const node: V1Node = { metadata: { name: "n", labels: { "topology.kubernetes.io/zone": "us-east-1b" } } };
  const claim = (spec: Partial<V1PersistentVolumeClaim["spec"]> = {}, selected?: string): V1PersistentVolumeClaim => ({
    metadata: {
      name: "storage-restate-0",
      namespace: "restate",
      uid: "u1",
      annotations: selected ? { "volume.kubernetes.io/selected-node": selected } : {},
    },
    spec: {
      accessModes: ["ReadWriteOnce"],
      storageClassName: "gp3",
      resources: { requests: { storage: "10Gi" } },
      ...spec,
    },
  });
  const decide = (c: V1PersistentVolumeClaim, sc = storageClass as object) =>
    decideClaim(c, sc as typeof storageClass, [node], ["us-east-1a"]);

  test("waits for the scheduler, then goes where the node is", () => {
    assert.deepEqual(decide(claim()), { kind: "wait" });
    assert.deepEqual(decide(claim({}, "n")), {
      kind: "provision",
      zone: "us-east-1b",
      sizeGib: 10,
      volumeType: "gp3",
      encrypted: false,
    });
  });
  test("a class that binds at once, with parameters", () => {
    const sc = {
      ...storageClass,
      volumeBindingMode: "Immediate",
      parameters: { type: "io2", encrypted: "true", iops: "4000" },
    };
    assert.deepEqual(decide(claim(), sc), {
      kind: "provision",
      zone: "us-east-1a",
      sizeGib: 10,
      volumeType: "io2",
      encrypted: true,
      iops: 4000,
    });
  });
  test("not its own, or done", () => {
    assert.equal(decide(claim({}, "n"), { ...storageClass, provisioner: "other" }).kind, "none");
    assert.equal(decide(claim({ volumeName: "pv" }, "n")).kind, "none");
    assert.equal(decideClaim(claim({}, "n"), undefined, [node], []).kind, "none");
  });
  const faults: [string, V1PersistentVolumeClaim, object, RegExp][] = [
    [
      "access mode",
      claim({ accessModes: ["ReadWriteMany"] }, "n"),
      storageClass,
      /ReadWriteMany is not offered .*use ReadWriteOnce/,
    ],
    ["block", claim({ volumeMode: "Block" }, "n"), storageClass, /file systems only/],
    [
      "snapshot",
      claim({ dataSource: { kind: "VolumeSnapshot", name: "s" } }, "n"),
      storageClass,
      /neither snapshots nor clones/,
    ],
    ["size", claim({ resources: { requests: { storage: "ten" } } }, "n"), storageClass, /'ten' is not a quantity/],
    ["type", claim({}, "n"), { ...storageClass, parameters: { type: "ssd" } }, /'ssd' is not a type of EBS volume/],
    ["node", claim({}, "m"), storageClass, /selected node m does not exist/],
  ];
  for (const [title, c, sc, message] of faults) {
    test(`fault: ${title}`, () => {
      const decision = decide(c, sc);
      assert.equal(decision.kind, "fault");
      assert.match((decision as { message: string }).message, message);
    });
  }
  test("the volume is tied to its zone and its claim", () => {
    const volume = volumeFor(claim(), storageClass, { zone: "z", sizeGib: 10, volumeId: "vol-1", path: "/p" });
    assert.equal(volume.metadata!.name, "pvc-u1");
    assert.deepEqual(volume.spec!.nodeAffinity!.required!.nodeSelectorTerms[0]!.matchExpressions, [
      { key: "topology.kubernetes.io/zone", operator: "In", values: ["z"] },
      { key: "topology.ebs.csi.aws.com/zone", operator: "In", values: ["z"] },
    ]);
    assert.equal(volume.spec!.claimRef!.uid, "u1");
    assert.ok(!isToBeDeleted(volume));
    assert.ok(isToBeDeleted({ ...volume, status: { phase: "Released" } }));
    const retained = { ...volume, spec: { ...volume.spec, persistentVolumeReclaimPolicy: "Retain" } };
    assert.ok(!isToBeDeleted({ ...retained, status: { phase: "Released" } }));
  });
  test("sizes", () => {
    const sizes: [string, number | undefined][] = [
      ["1Gi", 1],
      ["10Gi", 10],
      ["1G", 1],
      ["2G", 2],
      ["1500Mi", 2],
      ["1Ti", 1024],
      ["0.5Gi", 1],
      ["1e9", 1],
      ["", undefined],
      ["1GiB", undefined],
    ];
    for (const [text, gib] of sizes) assert.equal(gibibytes(text), gib, text);
  });
});

describe("health", () => {
  const thresholds = { healthyThreshold: 2, unhealthyThreshold: 3 };
  const after = (checks: string) =>
    [...checks].reduce<HealthCount>((count, check) => afterCheck(count, check === "+", thresholds), {
      health: "initial",
      successes: 0,
      failures: 0,
    }).health;
  const cases: [string, string][] = [
    ["", "initial"],
    ["+", "initial"],
    ["++", "healthy"],
    ["++--", "healthy"],
    ["++--+--", "healthy"],
    ["++---", "unhealthy"],
    ["---+", "unhealthy"],
    ["---++", "healthy"],
    ["+-+-", "initial"],
  ];
  for (const [checks, health] of cases)
    test(`${checks || "nothing"}: ${health}`, () => assert.equal(after(checks), health));
  test("status codes", () => {
    assert.ok(codeMatches(204, "200-399"));
    assert.ok(codeMatches(202, "200,202"));
    assert.ok(!codeMatches(404, "200-399,500"));
  });
});

describe("the delay line", () => {
  /** A connection through two delay lines to an echo. */
  async function through(delayMs: () => number): Promise<{ socket: Socket; end(): void }> {
    const echo = createServer({ allowHalfOpen: true }, (s) => s.pipe(s));
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    const middle = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      const upstream = connect({
        host: "127.0.0.1",
        port: (echo.address() as { port: number }).port,
        allowHalfOpen: true,
      });
      upstream.on("connect", () => {
        delayLine(client, upstream, delayMs, () => {});
        delayLine(upstream, client, delayMs, () => {});
      });
    });
    await new Promise<void>((resolve) => middle.listen(0, "127.0.0.1", resolve));
    const socket = connect((middle.address() as { port: number }).port, "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    return {
      socket,
      end() {
        socket.destroy();
        echo.close();
        middle.close();
      },
    };
  }
  const collect = (socket: Socket) =>
    new Promise<Buffer>((resolve) => {
      const parts: Buffer[] = [];
      socket.on("data", (part: Buffer) => parts.push(part));
      socket.on("end", () => resolve(Buffer.concat(parts)));
    });

  test("property: whatever the pieces and the changing delays, all bytes arrive in order, and then the end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { minLength: 1, maxLength: 20 }),
        fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 1, maxLength: 10 }),
        async (pieces, delays) => {
          let i = 0;
          const { socket, end } = await through(() => delays[i++ % delays.length]!);
          const received = collect(socket);
          for (const piece of pieces) socket.write(piece);
          socket.end();
          assert.deepEqual(await received, Buffer.concat(pieces));
          end();
        },
      ),
      { numRuns: 25 },
    );
  });
  test("a delay does not limit the throughput", async () => {
    const { socket, end } = await through(() => 50);
    const received = collect(socket);
    const start = performance.now();
    const sent = Buffer.alloc(20 * 1024 * 1024, 1);
    socket.end(sent);
    assert.equal((await received).length, sent.length);
    const ms = performance.now() - start;
    assert.ok(ms >= 100, `${ms} ms`);
    // One piece of 64 KiB a delay would take 16 s.
    assert.ok(ms < 5000, `${ms} ms`);
    end();
  });
});
