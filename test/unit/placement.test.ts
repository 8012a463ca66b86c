/** Where pods run and which subnets they get: the pure rules, and the waiting for a cluster that a test plays. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";
import fc from "fast-check";
import { awaitPlacements, findPlacements, glancePlacements, NotScheduledError } from "../../kubernetes/placement";
import { chooseSubnets, subnetsByZone } from "../../kubernetes/subnets";
import { claim, FakeApiServer, type FakeCluster, node, pod, runningCluster, volume } from "../support/fake-api-server";

const general = "topology.kubernetes.io/zone";
const ebs = "topology.ebs.csi.aws.com/zone";
const found = (zone: string, source: "volume" | "node", unscheduled: string[] = []) => ({
  placements: [{ pod: "restate-0", zone, source }],
  missing: [],
  unscheduled,
});
const missing = (message: string) => ({ placements: [], missing: [message], unscheduled: [] });

describe("one pod's zone", () => {
  const withCondition = pod(0);
  withCondition.status = {
    conditions: [
      { type: "Initialized", status: "False", message: "not this one" },
      { type: "PodScheduled", status: "False", message: "0/3 nodes are available: 3 Insufficient memory." },
    ],
  };
  const cases: [string, Partial<FakeCluster>, ReturnType<typeof findPlacements>][] = [
    [
      "its volume's, against its node's",
      {
        pods: [pod(0, "n")],
        claims: [claim(0, "v")],
        volumes: [volume("v", [general, ["us-east-1a"]])],
        nodes: [node("n", "us-east-1b")],
      },
      found("us-east-1a", "volume"),
    ],
    [
      "its volume's by the older EBS key",
      {
        pods: [pod(0, "n")],
        claims: [claim(0, "v")],
        volumes: [volume("v", [ebs, ["us-east-1c"]])],
        nodes: [node("n")],
      },
      found("us-east-1c", "volume"),
    ],
    [
      "the general key's where a volume has both",
      {
        pods: [pod(0, "n")],
        claims: [claim(0, "v")],
        volumes: [volume("v", [ebs, ["us-east-1c"]], [general, ["us-east-1a"]])],
        nodes: [node("n")],
      },
      found("us-east-1a", "volume"),
    ],
    [
      "its volume's before it is scheduled",
      { pods: [pod(0)], claims: [claim(0, "v")], volumes: [volume("v", [general, ["us-east-1a"]])] },
      found("us-east-1a", "volume", ["pod restate-0 is not scheduled"]),
    ],
    [
      "its volume's while it is being replaced",
      {
        pods: [pod(0, "n", { deleted: true })],
        claims: [claim(0, "v")],
        volumes: [volume("v", [general, ["us-east-1a"]])],
        nodes: [node("n", "us-east-1b")],
      },
      found("us-east-1a", "volume"),
    ],
    [
      "its node's where the volume may be in several",
      {
        pods: [pod(0, "n")],
        claims: [claim(0, "v")],
        volumes: [volume("v", [general, ["us-east-1a", "us-east-1b"]])],
        nodes: [node("n", "us-east-1b")],
      },
      found("us-east-1b", "node"),
    ],
    [
      "its node's where the volume only names where it is not",
      {
        pods: [pod(0, "n")],
        claims: [claim(0, "v")],
        volumes: [volume("v", [general, ["us-east-1a"], "NotIn"])],
        nodes: [node("n", "us-east-1b")],
      },
      found("us-east-1b", "node"),
    ],
    [
      "its node's where the claim is not bound",
      { pods: [pod(0, "n")], claims: [claim(0)], nodes: [node("n", "us-east-1b")] },
      found("us-east-1b", "node"),
    ],
    [
      "its node's where it has no claim",
      { pods: [pod(0, "n", { claim: false })], nodes: [node("n", "us-east-1b")] },
      found("us-east-1b", "node"),
    ],
    ["a pod that is not there", {}, missing("pod restate-0 does not exist")],
    ["a pod that is not scheduled", { pods: [pod(0)], claims: [claim(0)] }, missing("pod restate-0 is not scheduled")],
    [
      "a pod that cannot be scheduled, with the scheduler's reason",
      { pods: [withCondition], claims: [claim(0)] },
      missing("pod restate-0 is not scheduled: 0/3 nodes are available: 3 Insufficient memory."),
    ],
    [
      "a pod that is being replaced",
      { pods: [pod(0, "n", { deleted: true, claim: false })], nodes: [node("n", "us-east-1a")] },
      missing("pod restate-0 is being replaced"),
    ],
    [
      "a node without the label",
      { pods: [pod(0, "n", { claim: false })], nodes: [node("n")] },
      missing("pod restate-0 runs on node n, which has no label topology.kubernetes.io/zone"),
    ],
    [
      "a node that is gone",
      { pods: [pod(0, "n", { claim: false })] },
      missing("pod restate-0 runs on node n, which has no label topology.kubernetes.io/zone"),
    ],
  ];
  for (const [name, seen, expected] of cases) {
    test(name, () => {
      const none: FakeCluster = { pods: [], claims: [], volumes: [], nodes: [] };
      assert.deepEqual(findPlacements(["restate-0"], { ...none, ...seen }), expected);
    });
  }

  test("every expected pod is either placed or missing, in the order in which it was asked for", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 9 }), (expected, present) => {
        const names = Array.from({ length: expected }, (_, i) => `restate-${i}`);
        const result = findPlacements(names, runningCluster("us-east-1", present));
        assert.equal(result.placements.length + result.missing.length, expected);
        assert.deepEqual(
          result.placements.map((one) => one.pod),
          names.slice(0, present),
        );
      }),
    );
  });
});

describe("subnets", () => {
  const byZone = { "us-east-1a": "subnet-0a", "us-east-1b": "subnet-0b" };
  const source = "restate:subnets.byZone";

  test("each pod gets its zone's, twice if two are in one", () => {
    const zones = ["us-east-1b", "us-east-1a", "us-east-1b"];
    const placements = zones.map((zone, i) => ({ pod: `restate-${i}`, zone, source: "volume" as const }));
    assert.deepEqual(chooseSubnets(placements, { byZone, source }), ["subnet-0b", "subnet-0a", "subnet-0b"]);
  });

  test("zones without one, all at once", () => {
    const placements = [
      { pod: "restate-0", zone: "us-east-1c", source: "volume" as const },
      { pod: "restate-1", zone: "us-east-1a", source: "volume" as const },
      { pod: "restate-2", zone: "us-east-1d", source: "node" as const },
    ];
    const rest =
      "Add the missing zone there, or keep pods out of it with restate:scheduling.nodeSelector; then run pulumi up again.";
    const pods =
      "pod restate-0 runs in zone us-east-1c (by its volume), for which there is no subnet\n" +
      "pod restate-2 runs in zone us-east-1d (by its node), for which there is no subnet\n";
    assert.throws(() => chooseSubnets(placements, { byZone, source }), {
      message: `${pods}restate:subnets.byZone has subnets in us-east-1a, us-east-1b. ${rest}`,
    });
    assert.throws(() => chooseSubnets([placements[0]!], { byZone: {}, source }), {
      message: `${pods.split("\n")[0]}\nrestate:subnets.byZone has subnets in no zone. ${rest}`,
    });
  });

  test("discovery: one a zone", () => {
    const all = [
      { id: "subnet-0b", zone: "us-east-1b" },
      { id: "subnet-0a", zone: "us-east-1a" },
    ];
    assert.deepEqual(subnetsByZone(all, "VPC vpc-0"), byZone);
  });

  test("discovery: none", () => {
    assert.throws(() => subnetsByZone([], "VPC vpc-0"), {
      message:
        "no subnet matches VPC vpc-0. Correct restate:subnets.discover, or give restate:subnets.byZone; nothing was changed.",
    });
  });

  test("discovery: several a zone, each named", () => {
    const all = ["a", "b", "b", "c", "c", "c"].map((zone, i) => ({ id: `subnet-0${5 - i}`, zone: `us-east-1${zone}` }));
    assert.throws(() => subnetsByZone(all, "VPC vpc-0"), {
      message:
        "several subnets match VPC vpc-0:\n  us-east-1b: subnet-03, subnet-04\n  us-east-1c: subnet-00, subnet-01, subnet-02\n" +
        "Narrow restate:subnets.discover.tags until one a zone is left, or give restate:subnets.byZone; nothing was changed.",
    });
  });

  test("discovery gives the same whatever the order", () => {
    const all = ["a", "b", "c"].map((zone) => ({ id: `subnet-0${zone}`, zone: `us-east-1${zone}` }));
    fc.assert(
      fc.property(fc.shuffledSubarray(all, { minLength: 3 }), (some) =>
        assert.deepEqual(subnetsByZone(some, "VPC vpc-0"), {
          "us-east-1a": "subnet-0a",
          "us-east-1b": "subnet-0b",
          "us-east-1c": "subnet-0c",
        }),
      ),
    );
  });
});

describe("asking a cluster", () => {
  let server: FakeApiServer;
  const names = ["restate-0", "restate-1", "restate-2"];
  const access = () => ({ kubeconfig: server.kubeconfig, context: "here" });
  const zones = ["us-east-1a", "us-east-1b", "us-east-1c"];
  beforeEach(async () => {
    server = new FakeApiServer();
    await server.start();
  });
  afterEach(() => server.stop());

  test("waits until every pod is scheduled, says what it waits for once, and asks for one namespace", async () => {
    const all = runningCluster("us-east-1", 3);
    server.cluster = { ...all, pods: all.pods.slice(0, 1) };
    const said: string[] = [];
    const placements = await awaitPlacements(access(), "ns", names, 30, (message) => {
      said.push(message);
      server.cluster = all;
    });
    assert.deepEqual(
      placements.map((one) => one.zone),
      zones,
    );
    assert.deepEqual(said, [
      "waiting for pods to be scheduled: pod restate-1 does not exist; pod restate-2 does not exist",
    ]);
    assert.ok(server.requests.every((one) => !one.includes("/namespaces/") || one.includes("/namespaces/ns/")));
  });

  test("gives up at the deadline, with each pod and its reason", async () => {
    server.cluster = { ...runningCluster("us-east-1", 2) };
    await assert.rejects(
      awaitPlacements(access(), "ns", names, 0, () => {}),
      (error) => {
        assert.ok(error instanceof NotScheduledError);
        assert.equal(
          error.message,
          "after 0 s these pods of namespace ns have no zone yet:\n  pod restate-2 does not exist\n" +
            "See why with kubectl -n ns describe pods -l app=restate; restate:scheduling (timeout, tolerations, " +
            "nodeSelector), restate:resources and restate:storage.storageClass decide where they fit. Then run pulumi up again.",
        );
        return true;
      },
    );
  });

  test("a pod that only its volume holds to a zone is waited for, then placed there with a word", async () => {
    server.cluster = {
      pods: [pod(0)],
      claims: [claim(0, "v")],
      volumes: [volume("v", [general, ["us-east-1a"]])],
      nodes: [],
    };
    const said: string[] = [];
    const placements = await awaitPlacements(access(), "ns", ["restate-0"], 1, (message) => said.push(message));
    assert.deepEqual(placements, [{ pod: "restate-0", zone: "us-east-1a", source: "volume" }]);
    assert.deepEqual(said, [
      "waiting for pods to be scheduled: pod restate-0 is not scheduled",
      "pod restate-0 is not scheduled; its load balancer goes to the zone of its volume",
    ]);
  });

  test("a cluster that is down and comes back is waited for", async () => {
    server.cluster = runningCluster("us-east-1", 3);
    await server.stop();
    const said: string[] = [];
    const placements = await awaitPlacements(access(), "ns", names, 30, (message) => {
      if (said.push(message) === 1) void server.start();
    });
    assert.equal(placements.length, 3);
    assert.match(said[0] as string, /^waiting for pods to be scheduled: the cluster does not answer: .*ECONNREFUSED/);
  });

  test("a cluster that stays down is named at the deadline", async () => {
    await server.stop();
    await assert.rejects(
      awaitPlacements(access(), "ns", names, 0, () => {}),
      /have no zone yet:\n {2}the cluster does not answer: .*ECONNREFUSED/,
    );
  });

  test("a cluster that takes requests and never answers does not outlast the deadline", async () => {
    server.silent = true;
    await assert.rejects(
      awaitPlacements(access(), "ns", names, 1, () => {}),
      /have no zone yet:\n {2}the cluster does not answer: no answer within 1000 ms/,
    );
  });

  test("a preview sees placements, or says that it does not know", async () => {
    server.cluster = runningCluster("us-east-1", 3);
    assert.deepEqual(
      (await glancePlacements(access(), "ns", names))?.map((one) => one.zone),
      zones,
    );
    server.cluster = runningCluster("us-east-1", 2);
    assert.equal(await glancePlacements(access(), "ns", names), undefined);
    assert.equal(await glancePlacements({ kubeconfig: "nonsense" }, "ns", names), undefined);
    await server.stop();
    assert.equal(await glancePlacements(access(), "ns", names), undefined);
  });

  test("a preview does not wait for a cluster that takes its time", async () => {
    server.silent = true;
    const start = Date.now();
    assert.equal(await glancePlacements(access(), "ns", names, { patienceMs: 200 }), undefined);
    assert.ok(Date.now() - start < 2000);
  });

  test("the time that the client's library takes to load is not the cluster's", async () => {
    server.cluster = runningCluster("us-east-1", 3);
    const [patience, loading] = [4000, 4200];
    const hook = `export const resolve = async (name, context, next) => {
      if (name.startsWith("@kubernetes/client-node")) await new Promise((done) => setTimeout(done, ${loading}));
      return next(name, context);
    };`;
    const register = `import { register } from "node:module";
      register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hook)}`)});`;
    const program = `
      const { glancePlacements } = require("./kubernetes/placement.ts");
      glancePlacements(${JSON.stringify(access())}, "ns", ${JSON.stringify(names)}, ${patience})
        .then((seen) => process.stdout.write(JSON.stringify(seen ?? null), () => process.exit()));`;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        "--import",
        `data:text/javascript,${encodeURIComponent(register)}`,
        "--require",
        "./tools/typescript.cjs",
        "-e",
        program,
      ],
      { cwd: resolve(__dirname, "../..") },
    );
    assert.deepEqual(
      (JSON.parse(stdout) as { zone: string }[] | null)?.map((one) => one.zone),
      zones,
    );
  });

  test("the kubeconfig's current context counts unless one is given", async () => {
    server.cluster = runningCluster("us-east-1", 3);
    assert.equal(await glancePlacements({ kubeconfig: server.kubeconfig }, "ns", names), undefined);
    assert.equal(server.requests.length, 0);
  });
});
