/** When a region may be destroyed: what the cluster needs of it, and what cannot be found out. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type Asking, type GuardedRegion, reasonsToKeep, refusal, unreplicated } from "../../guard";
import { neededOf, type RemovalFacts, removalQueries } from "../../restate/removal";

const nodeIds = { region1: ["N1", "N2", "N3"], region2: ["N4", "N5", "N6"], witness: ["N7"] };

/** Six members, logs and partitions in both regions. */
function healthy(): RemovalFacts {
  const all = [...nodeIds.region1, ...nodeIds.region2];
  return {
    nodes: all.map((plain_node_id, i) => ({
      plain_node_id,
      state: "alive",
      location: i < 3 ? "region1" : "region2",
      metadata_server_state: "member",
    })),
    logs: [0, 1].map((log_id) => ({ log_id, nodeset: "[N1, N2, N4, N5]" })),
    segments: [0, 1].map((log_id) => ({ log_id, nodeset: "[N1, N2, N4, N5]" })),
    partitions: [0, 1].flatMap((partition_id) =>
      ["N1", "N4"].map((plain_node_id) => ({
        partition_id,
        plain_node_id,
        replay_status: "active",
      })),
    ),
  };
}

/** The same after region1 was drained, and the logs trimmed. */
function drained(): RemovalFacts {
  const facts = healthy();
  for (const node of facts.nodes) if (node.location === "region1") node.metadata_server_state = "standby";
  return {
    ...facts,
    logs: facts.logs.map((log) => ({ ...log, nodeset: "[N4, N5, N6]" })),
    segments: facts.segments.map((segment) => ({ ...segment, nodeset: "[N4, N5, N6]" })),
    partitions: facts.partitions.filter((row) => row.plain_node_id === "N4"),
  };
}

describe("what a cluster needs of a region", () => {
  const cases: [name: string, facts: () => RemovalFacts, needs: string[]][] = [
    [
      "both regions serve",
      healthy,
      [
        "3 of the 6 metadata members are in region1: 3 would be left alive, and a majority is 4",
        "logs 0, 1: new records are written to nodes of region1",
      ],
    ],
    ["it is drained", drained, []],
    [
      "it is drained, and a log has older segments there",
      () => ({ ...drained(), segments: [...drained().segments, { log_id: 1, nodeset: "[N3, N4]" }, { log_id: 1 }] }),
      [
        "log 1: older records are on nodes of region1, and cannot be trimmed without them; in a pod, until none is left: restatectl snapshots create --trim-log --yes",
      ],
    ],
    ["it has no node", () => ({ ...healthy(), nodes: healthy().nodes.filter((n) => n.location === "region2") }), []],
    [
      "it is drained but for one log",
      () => ({ ...drained(), logs: [{ log_id: 7, nodeset: "[N3, N4]" }] }),
      ["log 7: new records are written to nodes of region1"],
    ],
    [
      "it is drained but for one member: a majority stays",
      () => {
        const facts = drained();
        facts.nodes[0]!.metadata_server_state = "member";
        return facts;
      },
      [],
    ],
    [
      "the same, with a member elsewhere dead",
      () => {
        const facts = drained();
        facts.nodes[0]!.metadata_server_state = "member";
        facts.nodes[5]!.state = "dead";
        return facts;
      },
      ["1 of the 4 metadata members are in region1: 2 would be left alive, and a majority is 3"],
    ],
    [
      "a partition has no processor elsewhere",
      () => {
        const facts = drained();
        facts.partitions[1] = { ...facts.partitions[1]!, plain_node_id: "N2" };
        return facts;
      },
      ["partition 1: no caught-up processor on a live node outside region1"],
    ],
    [
      "the processors elsewhere are catching up, or their node is dead",
      () => {
        const facts = drained();
        facts.partitions[0]!.replay_status = "catching_up";
        facts.partitions[1]!.plain_node_id = "N6";
        facts.nodes[5]!.state = "dead";
        return facts;
      },
      ["partitions 0, 1: no caught-up processor on a live node outside region1"],
    ],
    [
      "a sealed log has no nodeset",
      () => ({ ...drained(), logs: [{ log_id: 0, nodeset: null }] }),
      ["log 0: sealed, and where the next records go is not decided yet"],
    ],
    [
      "the same, as restatectl prints it: without what is null",
      () => ({ ...drained(), logs: [{ log_id: 0 }] }),
      ["log 0: sealed, and where the next records go is not decided yet"],
    ],
    [
      "a witness keeps the majority, and the logs keep it needed",
      () => {
        const facts = healthy();
        facts.nodes.push({
          plain_node_id: "N7",
          state: "alive",
          location: "witness",
          metadata_server_state: "member",
        });
        return facts;
      },
      ["logs 0, 1: new records are written to nodes of region1"],
    ],
  ];
  for (const [name, facts, needs] of cases) {
    test(name, () => assert.deepEqual(neededOf("region1", facts()), needs));
  }

  test("whatever the cluster: nothing is needed only if a live majority, every log and every partition are elsewhere", () => {
    const ids = Object.values(nodeIds).flat();
    const anyFacts = fc.record({
      nodes: fc.tuple(
        ...ids.map((plain_node_id) =>
          fc.record({
            plain_node_id: fc.constant(plain_node_id),
            state: fc.constantFrom("alive", "dead", "failing-over"),
            location: fc.constantFrom("region1", "region2"),
            metadata_server_state: fc.constantFrom("member", "standby", "provisioning"),
          }),
        ),
      ),
      logs: fc.array(
        fc.record({ log_id: fc.nat(3), nodeset: fc.subarray(ids, { minLength: 1 }).map((n) => `[${n.join(", ")}]`) }),
      ),
      segments: fc.array(
        fc.record({ log_id: fc.nat(3), nodeset: fc.subarray(ids, { minLength: 1 }).map((n) => `[${n.join(", ")}]`) }),
      ),
      partitions: fc.array(
        fc.record({
          partition_id: fc.nat(3),
          plain_node_id: fc.constantFrom(...ids),
          replay_status: fc.constantFrom("active", "catching_up", null),
        }),
      ),
    });
    fc.assert(
      fc.property(anyFacts, (facts) => {
        if (neededOf("region1", facts).length > 0) return;
        const own = facts.nodes.filter((node) => node.location === "region1");
        if (own.length === 0) return;
        const elsewhere = facts.nodes.filter((node) => node.location !== "region1");
        const members = facts.nodes.filter((node) => node.metadata_server_state === "member");
        if (own.some((node) => node.metadata_server_state === "member")) {
          const left = elsewhere.filter((n) => n.metadata_server_state === "member" && n.state === "alive");
          assert.ok(left.length * 2 > members.length);
        }
        for (const { nodeset } of [...facts.logs, ...facts.segments]) {
          for (const node of own) assert.ok(!nodeset.match(/N\d+/g)?.includes(node.plain_node_id));
        }
        const live = elsewhere.filter((node) => node.state === "alive").map((node) => node.plain_node_id);
        for (const { partition_id } of facts.partitions) {
          assert.ok(
            facts.partitions.some(
              (row) =>
                row.partition_id === partition_id && live.includes(row.plain_node_id) && row.replay_status === "active",
            ),
          );
        }
      }),
    );
  });
});

const replication = {
  waiting: 0,
  oldestWaitingSeconds: null,
  failed: 0,
  neverCopied: 0,
  gone: 0,
  notLookedAt: 0,
};

describe("snapshots that the peer does not have", () => {
  test("all are there", () => assert.deepEqual(unreplicated({ replication, problems: [] }, "own"), []));
  test("some are not", () =>
    assert.deepEqual(
      unreplicated({ replication: { ...replication, waiting: 2, failed: 1, notLookedAt: 3 }, problems: [] }, "own"),
      [
        "3 objects of own are not in the peer's bucket (2 still being copied, 1 failed, 0 never copied)",
        "3 objects of own were not looked at; try again when replication has caught up",
      ],
    ));
  test("nobody knows", () =>
    assert.deepEqual(
      unreplicated(
        { replication: null, problems: [{ step: "list", bucket: "own", code: "AccessDenied", message: "no" }] },
        "own",
      ),
      ["whether the peer has the snapshots of own cannot be told (list: AccessDenied no)"],
    ));
});

describe("the guard of a region", () => {
  const guarded: GuardedRegion = {
    region: "region1",
    cluster: "restate",
    stack: "region1",
    buckets: { own: { name: "own", awsRegion: "us-east-1" }, peer: { name: "peers", awsRegion: "us-west-2" } },
  };
  const alone: GuardedRegion = { ...guarded, buckets: { own: guarded.buckets.own } };
  const clean = {
    bucket: "own",
    peerBucket: "peers",
    objects: 0,
    complete: true,
    partitions: [],
    replication,
    problems: [],
  };

  /** A cluster that answers with facts, and a list of all that it was asked. */
  function cluster(facts: RemovalFacts, more: Partial<{ health: object; snapshots: object; dead: string[] }> = {}) {
    const asked: string[] = [];
    const asking: Asking = {
      look: async () => ({ pods: ["restate-0", "restate-1"], all: 2, claims: 2 }),
      run: async (pod, command, input) => {
        asked.push(`${pod} ${command[0]}`);
        if (more.dead?.includes(pod)) throw new Error("connection refused\nand more");
        if (command[0] === "curl") return JSON.stringify(more.health ?? { node_id: "N1:1" });
        if (command[0] === "bash") {
          assert.deepEqual(command, ["bash", "-s", "--", "own", "us-east-1", "peers", "us-west-2"]);
          assert.match(input ?? "", /take_role\(\)[\s\S]+^#!\/usr\/bin\/env bash/m);
          return JSON.stringify(more.snapshots ?? clean);
        }
        const key = Object.entries(removalQueries).find(([, query]) => query === command.at(-1))?.[0];
        assert.ok(key, `an unknown query: ${command.at(-1)}`);
        return `2 rows\n${JSON.stringify(facts[key as keyof RemovalFacts])}`;
      },
    };
    return { asking, asked };
  }

  test("a drained region whose snapshots are with the peer can go", async () => {
    assert.deepEqual(await reasonsToKeep(cluster(drained()).asking, guarded), []);
  });
  test("one whose snapshots are not cannot", async () => {
    const snapshots = { ...clean, replication: { ...clean.replication, failed: 1 } };
    assert.equal((await reasonsToKeep(cluster(drained(), { snapshots }).asking, guarded)).length, 1);
  });
  test("one that the cluster needs cannot", async () => {
    assert.equal((await reasonsToKeep(cluster(healthy()).asking, guarded)).length, 2);
  });
  test("without a peer nobody has its snapshots, and the cluster decides alone", async () => {
    const { asking, asked } = cluster(drained());
    assert.deepEqual(await reasonsToKeep(asking, alone), []);
    assert.ok(!asked.some((one) => one.endsWith("bash")));
  });
  test("one that was never provisioned can go, and is asked nothing more", async () => {
    const { asking, asked } = cluster(healthy(), { health: { node_id: null } });
    assert.deepEqual(await reasonsToKeep(asking, guarded), []);
    assert.deepEqual(asked.sort(), ["restate-0 curl", "restate-1 curl"]);
  });
  test("one with neither pods nor volumes can go", async () => {
    const asking: Asking = {
      look: async () => ({ pods: [], all: 0, claims: 0 }),
      run: async () => assert.fail("asked"),
    };
    assert.deepEqual(await reasonsToKeep(asking, guarded), []);
  });
  test("one with volumes but no pod cannot be told", async () => {
    const asking: Asking = {
      look: async () => ({ pods: [], all: 0, claims: 3 }),
      run: async () => assert.fail("asked"),
    };
    assert.deepEqual(await reasonsToKeep(asking, guarded), [
      "whether it is needed cannot be told, since no pod answers: none runs",
    ]);
  });
  test("another pod is asked where one does not answer", async () => {
    const { asking, asked } = cluster(drained(), { dead: ["restate-0"] });
    assert.deepEqual(await reasonsToKeep(asking, guarded), []);
    assert.ok(asked.includes("restate-1 restatectl"));
  });
  test("nothing is known while no pod answers, or while the API server does not", async () => {
    assert.deepEqual(await reasonsToKeep(cluster(drained(), { dead: ["restate-0", "restate-1"] }).asking, guarded), [
      "whether it is needed cannot be told, since no pod answers: restate-0: connection refused; restate-1: connection refused",
    ]);
    const asking: Asking = { look: () => Promise.reject(new Error("timed out")), run: async () => "" };
    assert.deepEqual(await reasonsToKeep(asking, guarded), [
      "whether it is needed cannot be told, since its Kubernetes cluster does not answer: timed out",
    ]);
  });
  test("a node that does not answer is not taken for one that was never provisioned", async () => {
    const { asking } = cluster(healthy(), { health: { node_id: null }, dead: ["restate-1"] });
    assert.match((await reasonsToKeep(asking, guarded)).join(), /cannot be told/);
  });
  test("a refusal names every reason and the ways on", () => {
    assert.equal(
      refusal(guarded, "urn:pulumi:region1::restate::pulumi:index:Stash::destroy-guard", ["a", "b"]).message,
      `region1 is not destroyed; nothing was changed. Without it the cluster restate would lose what it needs:
  - a
  - b
If the cluster is to be given up with all its data, take the guard away, then destroy:
  pulumi state delete --stack region1 'urn:pulumi:region1::restate::pulumi:index:Stash::destroy-guard'
  pulumi destroy --stack region1`,
    );
  });
});
