/** What the stand-in for the AWS Load Balancer Controller makes of Services, and of what AWS has already. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { V1Node, V1Service } from "@kubernetes/client-node";
import fc from "fast-check";
import { generatedName, isServed, nameFault, readPlan } from "../../sandbox/network/annotations";
import {
  instanceId,
  loadBalancerChange,
  resolveSecurityGroups,
  resolveSubnets,
  targetNodes,
  type VpcFacts,
} from "../../sandbox/network/nlb-model";

const prefix = "service.beta.kubernetes.io/aws-load-balancer-";

function service(annotations: Record<string, string> = {}, spec: Partial<V1Service["spec"]> = {}): V1Service {
  return {
    metadata: {
      name: "restate-0",
      namespace: "restate",
      annotations: Object.fromEntries(Object.entries(annotations).map(([k, v]) => [prefix + k, v])),
    },
    spec: {
      type: "LoadBalancer",
      loadBalancerClass: "service.k8s.aws/nlb",
      ports: [{ name: "node", port: 5122, targetPort: 5122, nodePort: 30001 }],
      ...spec,
    },
  };
}

describe("a Service's annotations", () => {
  test("the stack's own are read without a word", () => {
    const reading = readPlan(
      service({
        name: "restate-region1-0",
        subnets: "subnet-1",
        "security-groups": "sg-1,sg-2",
        "manage-backend-security-group-rules": "false",
        type: "external",
        "nlb-target-type": "instance",
        "target-node-labels": "topology.kubernetes.io/zone=us-east-1a",
        "target-group-attributes": "preserve_client_ip.enabled=false",
        "healthcheck-protocol": "TCP",
        "healthcheck-port": "traffic-port",
        "healthcheck-interval": "5",
        "healthcheck-timeout": "5",
        "healthcheck-healthy-threshold": "2",
        "healthcheck-unhealthy-threshold": "2",
        "additional-resource-tags": "team=data",
        attributes: "load_balancing.cross_zone.enabled=true",
      }),
    );
    assert.deepEqual(reading, {
      faults: [],
      warnings: [],
      plan: {
        name: "restate-region1-0",
        scheme: "internal",
        subnets: ["subnet-1"],
        securityGroups: ["sg-1", "sg-2"],
        targetType: "instance",
        targetNodeLabels: { "topology.kubernetes.io/zone": "us-east-1a" },
        healthCheck: {
          protocol: "TCP",
          port: "traffic-port",
          intervalSeconds: 5,
          timeoutSeconds: 5,
          healthyThreshold: 2,
          unhealthyThreshold: 2,
        },
        targetGroupAttributes: { "preserve_client_ip.enabled": "false" },
        loadBalancerAttributes: { "load_balancing.cross_zone.enabled": "true" },
        tags: { team: "data" },
        listeners: [{ port: 5122, nodePort: 30001, targetPort: 5122, name: "node" }],
      },
    });
  });

  test("none at all: the controller's defaults", () => {
    const { plan } = readPlan(service());
    assert.equal(plan?.scheme, "internal");
    assert.equal(plan?.subnets, undefined);
    assert.equal(plan?.securityGroups, "managed");
    assert.match(plan!.name, /^k8s-restate-restate0-[0-9a-f]{10}$/);
    assert.deepEqual(plan?.healthCheck, {
      protocol: "TCP",
      port: "traffic-port",
      intervalSeconds: 10,
      timeoutSeconds: 10,
      healthyThreshold: 3,
      unhealthyThreshold: 3,
    });
  });

  const faults: [string, Record<string, string>, RegExp][] = [
    ["name too long", { name: "x".repeat(33) }, /has 33 characters; at most 32 are allowed/],
    ["name with an underscore", { name: "a_b" }, /only letters, digits and hyphens/],
    ["name that ends with a hyphen", { name: "a-" }, /must not begin or end with a hyphen/],
    ["name that begins with internal-", { name: "internal-a" }, /must not begin with 'internal-'/],
    ["type", { type: "clb" }, /'clb' is not a type; write external/],
    ["target type", { "nlb-target-type": "pod" }, /unsupported target type 'pod'; write instance or ip/],
    ["scheme", { scheme: "public" }, /unknown scheme 'public'; write internal or internet-facing/],
    ["internal", { internal: "yes" }, /'yes' is neither true nor false/],
    ["no subnet", { subnets: " , " }, /names no subnet/],
    ["one subnet twice", { subnets: "subnet-1,subnet-1" }, /names a subnet twice/],
    ["no security group", { "security-groups": "" }, /names no security group; remove it/],
    [
      "groups and none",
      { "security-groups": "sg-1", "disable-nlb-sg": "true" },
      /contradicts .*aws-load-balancer-disable-nlb-sg/,
    ],
    ["rules", { "manage-backend-security-group-rules": "no" }, /'no' is neither true nor false/],
    ["labels without =", { "target-node-labels": "zone" }, /'zone' is not of the form key=value/],
    ["labels that cannot be", { "target-node-labels": "a=b c" }, /'a=b c' cannot be a label of a node/],
    ["unknown attribute", { "target-group-attributes": "a.b=c" }, /attribute key 'a.b' is not recognized; known: /],
    [
      "attribute's value",
      { "target-group-attributes": "preserve_client_ip.enabled=no" },
      /preserve_client_ip.enabled cannot have the value 'no'/,
    ],
    [
      "load balancer's attribute",
      { attributes: "deletion_protection=true" },
      /'deletion_protection' is not recognized/,
    ],
    ["tags", { "additional-resource-tags": "a" }, /'a' is not of the form key=value/],
    ["the controller's tags", { "additional-resource-tags": "service.k8s.aws/stack=x" }, /is the controller's own/],
    ["interval too short", { "healthcheck-interval": "4" }, /'4' must be a whole number from 5 to 300/],
    ["threshold", { "healthcheck-healthy-threshold": "1" }, /'1' must be a whole number from 2 to 10/],
    ["timeout over interval", { "healthcheck-interval": "5", "healthcheck-timeout": "6" }, /6 s is longer than .* 5 s/],
    ["health check by gRPC", { "healthcheck-protocol": "grpc" }, /'GRPC': the sandbox checks by TCP or HTTP/],
    ["health check's port", { "healthcheck-port": "node" }, /must be traffic-port or a port number/],
    ["IPv6", { "ip-address-type": "dualstack" }, /have IPv4 only/],
    ["TLS", { "ssl-cert": "arn" }, /do not offer this/],
    ["proxy protocol", { "proxy-protocol": "*" }, /do not offer this/],
  ];
  for (const [title, annotations, message] of faults) {
    test(`fault: ${title}`, () => {
      const reading = readPlan(service(annotations));
      assert.equal(reading.plan, undefined);
      assert.equal(reading.faults.length, 1, reading.faults.join("; "));
      assert.match(reading.faults[0]!, message);
      assert.match(reading.faults[0]!, /^annotation service\.beta\.kubernetes\.io\/aws-load-balancer-/);
    });
  }

  test("faults outside the annotations", () => {
    const udp = readPlan(service({}, { ports: [{ port: 1, nodePort: 2, protocol: "UDP" }] }));
    assert.match(udp.faults.join(), /port 1: protocol UDP: the sandbox's load balancers forward TCP only/);
    const noNodePort = readPlan(service({}, { ports: [{ port: 1 }] }));
    assert.match(noNodePort.faults.join(), /port 1 has no node port, .*allocateLoadBalancerNodePorts/);
    assert.deepEqual(readPlan(service({ "nlb-target-type": "ip" }, { ports: [{ port: 1 }] })).faults, []);
    assert.match(readPlan(service({}, { ports: [] })).faults.join(), /has no ports/);
  });

  test("all faults at once", () => {
    assert.equal(readPlan(service({ name: "a_", scheme: "b", "nlb-target-type": "c" })).faults.length, 3);
  });

  test("warnings: an unknown annotation, and labels that ip targets ignore", () => {
    const typo = readPlan(service({ "security-group": "sg-1" }));
    assert.deepEqual(typo.faults, []);
    assert.match(typo.warnings.join(), /aws-load-balancer-security-group is not one that .* it has no effect/);
    const ip = readPlan(service({ "nlb-target-type": "ip", "target-node-labels": "a=b" }));
    assert.match(ip.warnings.join(), /has no effect on targets of type ip/);
    assert.deepEqual(readPlan(service({ "access-log-enabled": "true" })).warnings, []);
  });

  test("only Services of the class are served", () => {
    assert.ok(isServed(service()));
    assert.ok(!isServed(service({}, { loadBalancerClass: "other" })));
    assert.ok(!isServed(service({}, { type: "ClusterIP" })));
  });

  test("property: a generated name is always a right one, and differs when anything does", () => {
    const text = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$/);
    fc.assert(
      fc.property(text, text, text, (namespace, name, more) => {
        assert.equal(nameFault(generatedName(namespace, name)), undefined);
        assert.notEqual(generatedName(namespace, name), generatedName(namespace, name, more));
      }),
    );
  });
});

const facts: VpcFacts = {
  vpcId: "vpc-1",
  subnets: [
    { id: "subnet-a", zone: "a", vpcId: "vpc-1", tags: { Name: "first", "kubernetes.io/role/internal-elb": "1" } },
    { id: "subnet-a2", zone: "a", vpcId: "vpc-1", tags: { "kubernetes.io/role/internal-elb": "" } },
    { id: "subnet-b", zone: "b", vpcId: "vpc-1", tags: { "kubernetes.io/role/internal-elb": "1" } },
    { id: "subnet-x", zone: "a", vpcId: "vpc-2", tags: {} },
  ],
  securityGroups: [
    { id: "sg-1", vpcId: "vpc-1", name: "one", tags: { Name: "nodes" } },
    { id: "sg-2", vpcId: "vpc-2", name: "two", tags: {} },
  ],
};

describe("what a plan refers to", () => {
  const subnetCases: [string, string[] | undefined, string[], RegExp | undefined][] = [
    ["by id", ["subnet-a"], ["subnet-a"], undefined],
    ["by name", ["first"], ["subnet-a"], undefined],
    ["several zones", ["subnet-a", "subnet-b"], ["subnet-a", "subnet-b"], undefined],
    ["discovered, one for each zone", undefined, ["subnet-a", "subnet-b"], undefined],
    ["missing", ["subnet-q"], [], /InvalidSubnetID.NotFound: the subnet 'subnet-q' does not exist/],
    ["another VPC's", ["subnet-x"], [], /is in vpc-2, not in the cluster's vpc-1/],
    ["two of one zone", ["subnet-a", "subnet-a2"], ["subnet-a", "subnet-a2"], /all in zone a: give one for each zone/],
  ];
  for (const [title, subnets, ids, fault] of subnetCases) {
    test(`subnets: ${title}`, () => {
      const found = resolveSubnets({ subnets, scheme: "internal" }, facts);
      assert.deepEqual(
        found.subnets.map((s) => s.id),
        ids,
      );
      if (fault) assert.match(found.faults.join(), fault);
      else assert.deepEqual(found.faults, []);
    });
  }
  test("subnets: none tagged for the scheme", () => {
    const found = resolveSubnets({ scheme: "internet-facing" }, facts);
    assert.match(found.faults.join(), /unable to resolve at least one subnet: none in vpc-1 has the tag .*role\/elb/);
  });
  test("security groups", () => {
    assert.deepEqual(resolveSecurityGroups(["sg-1", "nodes"], facts), { ids: ["sg-1", "sg-1"], faults: [] });
    const { faults } = resolveSecurityGroups(["sg-2", "sg-9"], facts);
    assert.match(faults[0]!, /'sg-2' is in vpc-2, not in the cluster's vpc-1/);
    assert.match(faults[1]!, /InvalidGroup.NotFound: the security group 'sg-9' does not exist/);
  });
});

describe("what changes a load balancer", () => {
  const existing = {
    arn: "arn",
    name: "n",
    type: "network",
    scheme: "internal",
    subnets: [{ id: "subnet-a", zone: "a" }],
    securityGroups: ["sg-1"],
  };
  const wanted = { scheme: "internal", subnets: existing.subnets, securityGroups: ["sg-1"] };

  test("nothing", () => assert.deepEqual(loadBalancerChange(existing, wanted), { faults: [] }));
  test("another zone: in place", () =>
    assert.deepEqual(loadBalancerChange(existing, { ...wanted, subnets: [{ id: "subnet-b", zone: "b" }] }), {
      faults: [],
      setSubnets: ["subnet-b"],
    }));
  test("another subnet of the same zone: refused in one step", () => {
    const change = loadBalancerChange(existing, { ...wanted, subnets: [{ id: "subnet-a2", zone: "a" }] });
    assert.equal(change.setSubnets, undefined);
    assert.match(change.faults[0]!, /subnet-a of zone a cannot be exchanged for subnet-a2 in one step/);
  });
  test("scheme or type: replaced", () => {
    assert.match(loadBalancerChange(existing, { ...wanted, scheme: "internet-facing" }).replace!, /scheme is internal/);
    assert.match(loadBalancerChange({ ...existing, type: "application" }, wanted).replace!, /type is application/);
  });
  test("security groups: in place, but never gained nor all lost", () => {
    assert.deepEqual(loadBalancerChange(existing, { ...wanted, securityGroups: ["sg-2"] }).setSecurityGroups, ["sg-2"]);
    const gained = loadBalancerChange({ ...existing, securityGroups: [] }, wanted);
    assert.match(gained.faults[0]!, /was created without security groups and can never have any/);
    const lost = loadBalancerChange(existing, { ...wanted, securityGroups: [] });
    assert.match(lost.faults[0]!, /must keep at least one/);
  });
});

describe("nodes as targets", () => {
  const node = (name: string, more: Partial<V1Node> = {}): V1Node => ({
    metadata: { name, labels: { zone: "a" } },
    spec: { providerID: `aws:///a/i-${name}` },
    status: { conditions: [{ type: "Ready", status: "True" }] },
    ...more,
  });
  test("ready, with the labels, with an instance, and not excluded", () => {
    const nodes = [
      node("0a"),
      node("0b", { metadata: { name: "0b", labels: { zone: "b" } } }),
      node("0c", { status: { conditions: [{ type: "Ready", status: "False" }] } }),
      node("0d", { spec: {} }),
      node("0e", {
        metadata: { name: "0e", labels: { zone: "a", "node.kubernetes.io/exclude-from-external-load-balancers": "" } },
      }),
    ];
    const names = (labels: Record<string, string>) => targetNodes(nodes, labels).map((n) => n.metadata!.name);
    assert.deepEqual(names({ zone: "a" }), ["0a"]);
    assert.deepEqual(names({}), ["0a", "0b"]);
    assert.deepEqual(names({ zone: "c" }), []);
    assert.equal(instanceId(nodes[0]!), "i-0a");
    assert.equal(instanceId(node("x", { spec: { providerID: "kind://x" } })), undefined);
  });
});
