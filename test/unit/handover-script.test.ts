/**
 * operations/handover with the real bash and jq, against a cluster that is played (test/support/played-cluster.ts): round
 * trips, runs that are killed at every change, what is refused before the first change, and deadlines. Every kill and every
 * lost command on its own, and random ones, are in test/faults/handover-played.test.ts.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { clusterNodes } from "../../topology";
import { differences, type HandoverRun, HandoverStage, watchHandover } from "../support/handover-script";
import type { PlayedCluster } from "../support/played-cluster";

/** Runs a test on a stage of its own. */
async function onStage(replicas: number, partitions: number, act: (stage: HandoverStage) => Promise<void>) {
  const stage = await HandoverStage.open(replicas, partitions);
  try {
    await act(stage);
  } finally {
    stage.close();
  }
}

/** Everything that a run may have changed. */
const snapshotOf = ({ nodes, config, documents, objects }: PlayedCluster) =>
  JSON.stringify([nodes, config, [...documents], [...objects]]);

/** Asserts that a run ended well. */
function assertDone(run: HandoverRun): void {
  assert.equal(run.code, 0, run.out);
}

/** Drains and restores as told; `canPin` says what restatectl can do at each of them. */
async function roundTrip(replicas: number, partitions: number, legs: [Parameters<typeof differences>[1], boolean][]) {
  await onStage(replicas, partitions, async (stage) => {
    let serving = "both";
    for (const [target, canPin] of legs) {
      stage.cluster.canPin = canPin;
      const moves = target === "both" ? serving : target;
      const region = moves === "region2" ? "region1" : "region2";
      const faults = watchHandover(stage.cluster, region, target === "both" ? "restore" : "drain");
      const run = await stage.run(target);
      assertDone(run);
      assert.deepEqual([...faults], []);
      assert.deepEqual(differences(stage, target), [], run.out);
      // Where one region serves leaders are kept where they are.
      if (target !== "both" && canPin) {
        for (const { leader, pinned } of stage.cluster.partitions) assert.equal(pinned, leader);
      }
      serving = target;
    }
    // Where it is already nothing is changed: neither the cluster, nor a document, nor what the bucket holds.
    const before = snapshotOf(stage.cluster);
    const again = await stage.run(serving);
    assertDone(again);
    assert.deepEqual([again.commands, again.writes], [[], 0]);
    assert.equal(snapshotOf(stage.cluster), before);
    assert.match(again.out, /nothing to change/);
  });
}

/**
 * Drains or restores with runs of which each makes one change and is killed, right after it or when it gives the next: so
 * each begins where a run that was killed at the change before left the cluster. By the last of them the handover is done.
 */
async function killedAtEach(stage: HandoverStage, target: "both" | "region2"): Promise<void> {
  const { cluster } = stage;
  const faults = watchHandover(cluster, "region1", target === "both" ? "restore" : "drain");
  const killed: string[] = [];
  // The last two are given by every run that comes so far, whether they were given before or not.
  const given = new Set<string>();
  for (let i = 0; ; i++) {
    assert.ok(i < 40, `${i} runs have not come to an end:\n${cluster.commands.join("\n")}`);
    let changes = 0;
    cluster.fate = (command, document) => {
      // The first document is the lock, others but the last are signs of life.
      if (document?.lock || given.has(command)) return "done";
      changes++;
      const fate = changes > 1 ? "killed before" : i % 2 === 0 ? "killed after" : "done";
      if (fate !== "done") killed.push(`${fate} ${command}`);
      if (fate !== "killed before") given.add(command);
      return fate;
    };
    const run = await stage.run(target, { LEASE: "1", SETTLE: "2" });
    assert.deepEqual([...faults], [], run.out);
    if (run.code === 0) break;
    assert.equal(run.code, null, run.out);
  }
  cluster.fate = () => "done";
  assert.deepEqual(differences(stage, target), []);
  // Those that are given several at a time share a run.
  assert.ok(killed.length >= 10 && given.size >= 10 && given.has("metadata put"), [...given].join("\n"));
}

describe("there and back", { concurrency: 2 }, () => {
  const there = { withPin: true, without: false };
  test("3 nodes a region, killed at every change in turn", () =>
    onStage(3, 2, async (stage) => {
      await killedAtEach(stage, "region2");
      await killedAtEach(stage, "both");
    }));
  // With one node a region the cluster may then keep a partition's one processor in the region that is drained.
  for (const target of ["region2", "both"] as const) {
    test(`1 node a region, killed when the configuration is for one region, then to ${target}`, () =>
      onStage(1, 2, async (stage) => {
        const { cluster } = stage;
        cluster.fate = (command) => (command.startsWith("config set ") ? "killed after" : "done");
        assert.equal((await stage.run("region2")).code, null);
        cluster.fate = () => "done";
        // Nobody starts the next run for a while.
        for (let i = 0; i < 4; i++) cluster.live();
        const kept = cluster.partitions.filter(({ replicas }) => replicas.join() === cluster.in("region1")[0]!.id);
        assert.ok(kept.length > 0, JSON.stringify(cluster.partitions));
        const faults = watchHandover(cluster, "region1", target === "both" ? "restore" : "drain");
        const run = await stage.run(target, { LEASE: "1", SETTLE: "2" });
        assertDone(run);
        assert.deepEqual([[...faults], differences(stage, target)], [[], []], run.out);
      }));
  }
  test("1 node a region", () =>
    roundTrip(1, 2, [
      ["region2", there.withPin],
      ["both", there.without],
    ]));
  test("2 nodes a region", () =>
    roundTrip(2, 2, [
      ["region1", there.without],
      ["both", there.withPin],
    ]));
  test("3 nodes a region", () =>
    roundTrip(3, 2, [
      ["region2", there.withPin],
      ["both", there.withPin],
    ]));
  test("9 nodes a region", () => roundTrip(9, 4, [["region2", there.withPin]]));
});

/** What a run said after `FAILED: `, line by line. */
const complaint = ({ out }: HandoverRun): string[] =>
  (out.split("FAILED: ")[1] ?? out)
    .trimEnd()
    .split("\n")
    .map((line) => line.trim());

/** Asserts that a run was refused with these lines, and that nothing has changed; it leads to region2 if not told otherwise. */
async function assertRefused(
  stage: HandoverStage,
  lines: string[],
  { target = "region2", ...environment }: Record<string, string | undefined> = {},
): Promise<void> {
  const before = snapshotOf(stage.cluster);
  const run = await stage.run(target, { SETTLE: "0", ...environment });
  assert.equal(run.code, 1, run.out);
  assert.deepEqual(complaint(run), lines);
  assert.deepEqual([run.commands, run.writes], [[], 0]);
  assert.equal(snapshotOf(stage.cluster), before);
}

/** A record as a handover leaves it, or has it while it runs. */
const record = (fields: Record<string, unknown>) => ({
  number: 0,
  serving: "both",
  receipt: null,
  unfinished: null,
  lock: null,
  ...fields,
});
const recordKey = "restate-two-regions/handover";
const runningLock = {
  holder: "pod-of-somebody",
  number: 1,
  to: "region2",
  step: "every log is written in region2 alone",
};

describe("refused before the first change, with everything that is missing", { concurrency: 2 }, () => {
  const refusal = (...lines: string[]) => [
    "the cluster cannot be handed over to region2; nothing was changed:",
    ...lines,
    "Next: npm run status, then pulumi up --stack one",
  ];

  test("a node of the region that is to carry the cluster is dead", () =>
    onStage(3, 2, async (stage) => {
      stage.cluster.kill("restate-1.region2");
      await assertRefused(stage, refusal("restate-1.region2 is dead, its storage read-write, its worker active"));
    }));

  test("too few nodes carry the cluster, and one that is to be drained is dead", () =>
    onStage(3, 2, async (stage) => {
      for (const name of ["restate-1.region2", "restate-2.region2"]) stage.cluster.kill(name);
      stage.cluster.node("restate-0.region2").storage = "read-only";
      await assertRefused(
        stage,
        refusal(
          "restate-0.region2 is alive, its storage read-only, its worker active",
          "restate-1.region2 is dead, its storage read-write, its worker active",
          "restate-2.region2 is dead, its storage read-write, its worker active",
          "region2 has 0 nodes that take records, and 2 are needed for {node: 2}",
          "region2 has 1 nodes for the metadata store, and its majority would be 2 of 3",
        ),
      );
    }));

  test("a node of the region that is to be drained is dead: that is no planned handover", () =>
    onStage(2, 1, async (stage) => {
      stage.cluster.kill("restate-1.region1");
      await assertRefused(
        stage,
        refusal("restate-1.region1 is dead: a region that is lost is not handed over by plan"),
      );
    }));

  test("a processor that seems to be at work applies nothing, and snapshots are old", () =>
    onStage(1, 2, async (stage) => {
      stage.cluster.live();
      stage.cluster.frozen.add(stage.cluster.in("region2")[0]!.id);
      stage.cluster.partitions[1]!.archived = 10;
      (stage.cluster.partitions[0] as { archived: number | null }).archived = null;
      const before = snapshotOf(stage.cluster);
      const run = await stage.run("region2", { SETTLE: "0", MAX_UNSAVED: "50" });
      assert.equal(run.code, 1, run.out);
      const [first, ...missing] = complaint(run);
      assert.match(first!, /^the cluster cannot be handed over to region2; nothing was changed:$/);
      const numberless = missing.map((line) =>
        line.replace(/\d+ records since/, "N records since").replace(/applied.*/, "applied"),
      );
      assert.deepEqual(numberless, [
        "partition 0 on restate-0.region2 has applied",
        "partition 1 on restate-0.region2 has applied",
        "partition 0: N records since its last snapshot (none is known of), and 50 are allowed",
        "partition 1: N records since its last snapshot, and 50 are allowed",
        "Next: npm run status, then pulumi up --stack one",
      ]);
      assert.deepEqual([run.commands, run.writes], [[], 0]);
      assert.equal(snapshotOf(stage.cluster), before);
    }));

  test("a node that has just started does not know of its snapshots: a run waits for that, a preview tells it", () =>
    onStage(1, 2, async (stage) => {
      const one = stage.cluster.partitions[0] as { archived: number | null };
      const { archived } = one;
      one.archived = null;
      const asked = { SETTLE: "1", MAX_UNSAVED: "50" };
      const check = await stage.run("region2", asked, "check");
      assert.match(
        JSON.parse(check.out).obstacles.join(),
        /^partition 0: \d+ records .*\(none is known of\), and 50 are allowed$/,
      );
      const { ended } = stage.start("region2", asked);
      // Longer than everything else is waited for, and shorter than this is.
      setTimeout(() => {
        one.archived = archived;
      }, 4000);
      const run = await ended;
      assert.equal(run.code, 0, run.out);
      assert.match(run.out, /^done: the cluster is served by region2/m);
    }));

  test("nodes are missing, unknown, elsewhere, or twice there", () =>
    onStage(2, 1, async (stage) => {
      const [one, two] = stage.cluster.in("region1");
      one!.name = "restate-7.region1";
      two!.location = "region3";
      stage.cluster.in("region2")[0]!.name = "restate-1.region2";
      await assertRefused(
        stage,
        refusal(
          "restate-0.region1 has not joined the cluster",
          "restate-1.region1 is in region3, not in region1",
          "restate-0.region2 has not joined the cluster",
          "restate-1.region2 is there 2 times",
          "restate-1.region1 is in region3, a region that nobody expects",
          "restate-7.region1 is not known to the stack",
        ),
      );
    }));

  test("the stack knows more nodes than the cluster", () =>
    onStage(1, 1, async (stage) => {
      const nodes = clusterNodes({ replicas: 2, domain: "r.example" });
      await assertRefused(
        stage,
        refusal("restate-1.region1 has not joined the cluster", "restate-1.region2 has not joined the cluster"),
        { NODES: JSON.stringify(nodes) },
      );
    }));

  test("nodes that are to come back do not answer, or are others", () =>
    onStage(2, 1, async (stage) => {
      assertDone(await stage.run("region2"));
      const [one, two] = stage.cluster.in("region1");
      one!.says = "http://elsewhere.example:5122";
      Object.assign(two!, { state: "dead", answers: false });
      await assertRefused(
        stage,
        [
          "the cluster cannot be handed over to both; nothing was changed:",
          "restate-0.region1: http://restate-0.region1.r.example:5122 leads to the node of http://elsewhere.example:5122",
          "restate-1.region1 does not answer on http://restate-1.region1.r.example:5122",
          "restate-1.region1 is dead",
          "Next: npm run status, then pulumi up --stack one",
        ],
        { target: "both" },
      );
    }));

  test("a region that does not exist, a cluster that does not answer or was never provisioned, settings that are missing", () =>
    onStage(1, 1, async (stage) => {
      const { cluster } = stage;
      await assertRefused(
        stage,
        [
          "there is no region region3: there are region1 region2",
          "Set restate:serving to both, region1 or region2 in Pulumi.yaml.",
        ],
        { target: "region3" },
      );
      const [, two] = clusterNodes({ replicas: 1, domain: "r.example" });
      await assertRefused(
        stage,
        ["the nodes are in 1 regions (region2), and a handover needs two", "Next: pulumi up --stack one"],
        { NODES: JSON.stringify([two]) },
      );
      for (const name of ["NODES", "TARGET", "LOG_ONE", "TIMEOUT", "BUCKET", "NEXT"]) {
        const run = await stage.run("region2", { [name]: undefined });
        assert.notEqual(run.code, 0);
        assert.match(run.out, new RegExp(`${name}: parameter null or not set`));
        assert.deepEqual([run.commands, run.writes], [[], 0]);
      }
      cluster.query = () => [];
      const empty = await stage.run("region2", { SETTLE: "0" });
      assert.deepEqual(complaint(empty).slice(0, 1), ["the cluster has no partitions: it is not provisioned"]);
      for (const { name } of cluster.nodes) cluster.kill(name);
      const silent = await stage.run("region2");
      assert.deepEqual(complaint(silent), [
        "the cluster does not answer: none of http://restate-0.region2.r.example:5122 http://restate-0.region1.r.example:5122",
        "Nothing was changed. Look at the pods (kubectl get pods) and their load balancers (kubectl get services). Next: pulumi up --stack one",
      ]);
      for (const run of [empty, silent]) assert.deepEqual([run.code, run.commands, run.writes], [1, [], 0]);
    }));

  test("another handover came after the last that the stack knew", () =>
    onStage(1, 1, async (stage) => {
      stage.cluster.documents.set(recordKey, { version: 7, fields: record({ number: 4, serving: "region1" }) });
      await assertRefused(
        stage,
        [
          "handover 4 to region1 came after handover 2, the last that this stack knew",
          "Nothing was changed. The stacks have to take note of it: set restate:serving to region1 in Pulumi.yaml, and npm run up.",
          "If region2 is still wanted, ask for it then. Next: npm run history",
        ],
        { AFTER: "2", BEFORE: "both" },
      );
    }));

  test("handovers there and back by hand, which the stack does not know, change nothing about what it asks", () =>
    onStage(1, 1, async (stage) => {
      stage.cluster.documents.set(recordKey, { version: 7, fields: record({ number: 4, serving: "both" }) });
      const run = await stage.run("region2", { AFTER: "2", BEFORE: "both" });
      assert.equal(run.code, 0, run.out);
      assert.match(run.out, /handover 5: both -> region2/);
    }));

  test("another handover runs and shows signs of life, or ends while its lock is looked at", () =>
    onStage(1, 1, async (stage) => {
      const { cluster } = stage;
      const others = { version: 1, fields: record({ unfinished: "region2", lock: runningLock }) };
      cluster.documents.set(recordKey, others);
      cluster.instead = (words) => {
        if (words[0] === "metadata" && words[1] === "get") others.version++;
        return undefined;
      };
      const alive = await stage.run("region2", { SETTLE: "0" });
      assert.deepEqual(complaint(alive), [
        "another handover runs: pod-of-somebody, to region2, at every log is written in region2 alone",
        "Nothing was changed. Wait until it has ended. Next: kubectl get jobs -A -l app.kubernetes.io/component=handover",
      ]);
      let reads = 0;
      cluster.instead = (words) => {
        // The first is what it decides on, the second the lock that it meets.
        if (words[0] === "metadata" && words[1] === "get" && ++reads > 2) {
          Object.assign(others, { version: 20, fields: record({ number: 1, serving: "region2" }) });
        }
        return undefined;
      };
      const ended = await stage.run("region2", { SETTLE: "0" });
      assert.deepEqual(complaint(ended), [
        "another handover has ended meanwhile: 1, to region2",
        "Nothing was changed. Next: pulumi up --stack one",
      ]);
      for (const run of [alive, ended]) assert.deepEqual([run.code, run.commands, run.writes], [1, [], 0]);
    }));
});

describe("runs that end early, or meet others", { concurrency: 2 }, () => {
  test("what is missing at the deadline is said in full, with what to type, and the lock is given back", () =>
    onStage(2, 3, async (stage) => {
      const { cluster } = stage;
      cluster.fate = (command) => (command.startsWith("partitions leadership pin") ? "lost" : "done");
      const run = await stage.run("region2", { TIMEOUT: "3" });
      assert.equal(run.code, 1);
      assert.deepEqual(complaint(run).slice(0, 5), [
        "after 3 s, and while waiting that every partition is led from region2, this is still missing:",
        "partition 0 is led by restate-0.region1, which is alive",
        "partition 1 is led by restate-1.region1, which is alive",
        "partition 2 is led by restate-1.region1, which is alive",
        "Nothing that was done is lost: mend that and start again, it goes on where it stopped. Next: pulumi up --stack one",
      ]);
      const { lock, unfinished } = cluster.documents.get(recordKey)!.fields;
      assert.deepEqual([lock, unfinished], [null, "region2"]);
    }));

  for (const at of [
    "metadata-server remove-node N3",
    "metadata-server remove-node N5",
    "nodes set-storage-state",
    "config set",
    "logs reconfigure --log-id 0 --provider replicated --replication {node:2}",
    "logs reconfigure --log-id 1 --provider replicated --replication {node:2}",
  ]) {
    test(`a region that is lost once most of the metadata store has left it is drained without it: at ${at}`, () =>
      onStage(3, 2, async (stage) => {
        const { cluster } = stage;
        cluster.fate = (command) => {
          if (!command.startsWith(at)) return "done";
          for (const { name } of cluster.in("region1")) cluster.kill(name);
          return "done";
        };
        assertDone(await stage.run("region2"));
        assert.deepEqual(differences(stage, "region2"), []);
      }));
  }

  for (const older of ["region1", "region2"])
    test(`nodes of a version that cannot be asked for leaders, in ${older}, are not asked, whatever restatectl can do`, () =>
      onStage(2, 2, async (stage) => {
        for (const node of stage.cluster.in(older)) node.version = "1.6.2";
        const run = await stage.run("region2");
        assertDone(run);
        assert.match(run.out, /nodes run 1\.6\.2 and 1\.7\.12: leaders cannot be asked to move/);
        assert.deepEqual(
          run.commands.filter((command) => command.startsWith("partitions")),
          [],
        );
        assert.deepEqual(differences(stage, "region2"), []);
      }));

  test("without pins the cluster may take a log's sequencer back at once: it was moved, and the handover goes on", () =>
    onStage(2, 2, async (stage) => {
      for (const node of stage.cluster.in("region1")) node.version = "1.6.2";
      stage.cluster.sequencersFollowAfter = 1;
      assertDone(await stage.run("region2"));
      assert.deepEqual(differences(stage, "region2"), []);
    }));

  test("one that is told to end gives the lock back, and the next goes on at once", () =>
    onStage(2, 1, async (stage) => {
      const { cluster } = stage;
      const faults = watchHandover(cluster, "region1", "drain");
      const run = stage.start("region2");
      cluster.fate = (command) => {
        if (command.startsWith("config set")) run.signal("SIGTERM");
        return "done";
      };
      const told = await run.ended;
      assert.equal(told.code, 143, told.out);
      assert.equal(cluster.documents.get(recordKey)!.fields.lock, null);
      cluster.fate = () => "done";
      const next = await stage.run("region2");
      assertDone(next);
      assert.doesNotMatch(next.out, /holds the lock/);
      assert.deepEqual([...faults], []);
      assert.deepEqual(differences(stage, "region2"), []);
    }));

  test("a drain that was given up is undone, also where it left all leaders in one region", () =>
    onStage(1, 2, async (stage) => {
      const { cluster } = stage;
      const [drained, other] = ["region1", "region2"].map((region) => cluster.in(region)[0]!);
      drained!.metadata = "standby";
      for (const partition of cluster.partitions) partition.leader = other!.id;
      for (const log of cluster.logs) log.sequencer = other!.id;
      const faults = watchHandover(stage.cluster, "region1", "restore");
      assertDone(await stage.run("both"));
      assert.deepEqual([...faults], []);
      assert.deepEqual(differences(stage, "both"), []);
    }));

  test("of two that begin at the same moment one does it, and the other changes nothing", () =>
    onStage(1, 1, async (stage) => {
      const runs = await Promise.all([stage.run("region2"), stage.run("region2")]);
      assert.deepEqual(differences(stage, "region2"), []);
      const changing = [
        "metadata-server remove-node N1",
        "config set --log-replication {node:1} --partition-replication {node:1}",
      ];
      for (const one of changing)
        assert.equal(stage.cluster.commands.filter((command) => command === one).length, 1, one);
      const [done, refused] = runs[0].code === 0 ? runs : [runs[1], runs[0]];
      assertDone(done!);
      assert.equal(refused!.code, 1, refused!.out);
      assert.match(
        complaint(refused!)[0]!,
        /^another handover (runs|has begun at the same moment|has ended meanwhile)/,
      );
    }));

  test("a bucket that refuses the receipt undoes nothing; the next run brings it there", () =>
    onStage(1, 1, async (stage) => {
      const { cluster } = stage;
      cluster.instead = (words) =>
        words.includes("PUT") ? { code: 0, out: "<Error><Code>SlowDown</Code></Error>\n503" } : undefined;
      const run = await stage.run("region2");
      assertDone(run);
      assert.match(
        run.out,
        /the receipt is in the cluster's record and not yet in s3:\/\/receipts; the next run puts it there/,
      );
      assert.equal(cluster.objects.size, 0);
      cluster.instead = () => undefined;
      const again = await stage.run("region2");
      assertDone(again);
      assert.deepEqual([again.commands, again.writes], [[], 0]);
      assert.deepEqual(differences(stage, "region2"), []);
    }));
});
