/** The operators' commands: in which order stacks are brought up, what is made of the state of both regions, how they end. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { mostRuns, nextStack, type StackProgress } from "../../commands/order";
import type { StackState } from "../../commands/pending";
import {
  type ClusterView,
  type Finding,
  judge,
  leads,
  type PartitionRow,
  type RegionView,
  render,
  type StatusView,
  table,
} from "../../commands/report";
import { reasonOf, twoStacks, UsageError } from "../../commands/stacks";
import { typescript } from "../../sandbox/world/paths";
import { type RegionName, regionNames } from "../../topology";
import { peerOutputs } from "../support/peer-outputs";
import { regionView } from "../support/region-view";

/** What a stack exports after an `up` that saw this of its peer. */
type Program = (peer: string | undefined) => string | undefined;

/** Brings two stacks up as `npm run up` does. The names of those run, in order; cut off after `limit` runs. */
function simulate(
  programs: readonly [Program, Program],
  before: readonly [string | undefined, string | undefined] = [undefined, undefined],
  limit = 100,
): { runs: string[]; exported: (string | undefined)[]; settled: boolean } {
  let progress: [StackProgress, StackProgress] = [
    { name: "home", exported: before[0], sawPeer: undefined },
    { name: "peer", exported: before[1], sawPeer: undefined },
  ];
  const runs: string[] = [];
  while (runs.length < limit) {
    // Frozen: the decision must not change what it is made from.
    const next = nextStack(Object.freeze([Object.freeze(progress[0]), Object.freeze(progress[1])] as const));
    if (!next) return { runs, exported: progress.map((one) => one.exported), settled: true };
    const i = progress.indexOf(next);
    assert.ok(i >= 0, "one of the two, and not both");
    const saw = progress[1 - i]!.exported;
    const done: StackProgress = { name: next.name, exported: programs[i]!(saw), sawPeer: { exported: saw } };
    progress = i === 0 ? [done, progress[1]] : [progress[0], done];
    runs.push(next.name);
  }
  return { runs, exported: progress.map((one) => one.exported), settled: false };
}

describe("order of the stacks", () => {
  test("from nothing: home, peer, home", () => {
    const result = simulate([() => "H", (peer) => `P of ${peer}`]);
    assert.deepEqual(result, { runs: ["home", "peer", "home"], exported: ["H", "P of H"], settled: true });
  });

  test("from nothing, where home exports something else once it knows its peer: one run more", () => {
    const result = simulate([(peer) => (peer ? "H+" : "H"), () => "P"]);
    assert.deepEqual(result, { runs: ["home", "peer", "home", "peer"], exported: ["H+", "P"], settled: true });
  });

  test("nothing changes: each once, home first", () => {
    assert.deepEqual(simulate([() => "H", () => "P"], ["H", "P"]).runs, ["home", "peer"]);
  });

  test("a change of home alone is seen by the peer in its one run; a change of the peer needs home again", () => {
    assert.deepEqual(simulate([() => "H2", () => "P"], ["H", "P"]).runs, ["home", "peer"]);
    assert.deepEqual(simulate([() => "H", () => "P2"], ["H", "P"]).runs, ["home", "peer", "home"]);
  });

  test("stacks that export nothing are each run once", () => {
    assert.deepEqual(simulate([() => undefined, () => undefined]).runs, ["home", "peer"]);
  });

  test("stacks that never settle are asked for again and again: the caller's limit is needed", () => {
    const counted: Program = (peer) => String(Number(peer ?? 0) + 1);
    const result = simulate([counted, counted], [undefined, undefined], mostRuns);
    assert.equal(result.settled, false);
    assert.deepEqual(result.runs, ["home", "peer", "home", "peer", "home", "peer"]);
  });

  const text = fc.constantFrom("a", "b", "c", "d");
  const exported = fc.option(text, { nil: undefined });
  /** Exports one thing without and one with a peer, which is all that our stacks do. */
  const byPresence = fc.tuple(exported, text).map(
    ([without, withPeer]): Program =>
      (peer) =>
        peer === undefined ? without : withPeer,
  );

  test("property: what depends on whether there is a peer settles within five runs, from any state before", () => {
    fc.assert(
      fc.property(byPresence, byPresence, exported, exported, (home, peer, homeBefore, peerBefore) => {
        const { runs, settled } = simulate([home, peer], [homeBefore, peerBefore]);
        assert.ok(settled);
        assert.ok(runs.length <= 5 && runs.length < mostRuns, runs.join());
      }),
    );
  });

  test("property: what settles at all has both run, in turns, and each built from what its peer exports now", () => {
    const anyProgram = fc.tuple(text, fc.dictionary(text, text)).map(
      ([otherwise, by]): Program =>
        (peer) =>
          peer === undefined ? otherwise : (by[peer] ?? otherwise),
    );
    fc.assert(
      fc.property(anyProgram, anyProgram, exported, exported, (home, peer, homeBefore, peerBefore) => {
        const result = simulate([home, peer], [homeBefore, peerBefore]);
        result.runs.forEach((name, i) => {
          assert.equal(name, i % 2 === 0 ? "home" : "peer");
        });
        if (!result.settled) return;
        assert.ok(result.runs.length >= 2);
        assert.deepEqual(result.exported, [home(result.exported[1]), peer(result.exported[0])]);
        // Settled is settled: a second time needs one run of each.
        const again = simulate([home, peer], [result.exported[0], result.exported[1]]);
        assert.deepEqual(again.runs, ["home", "peer"]);
      }),
    );
  });
});

const partitionCount = 4;

/** A processor that is up to date. */
const processor = (id: number, node: string, mode: string): PartitionRow => ({
  partition_id: id,
  node,
  effective_mode: mode,
  replay_status: "Active",
  applied_log_lsn: 500,
  target_tail_lsn: 501,
  archived_log_lsn: 400,
  sequencer: null,
});

function clusterView(changes: Partial<ClusterView> = {}): ClusterView {
  return {
    askedIn: { stack: "region1", pod: "restate-0" },
    nodes: regionNames.flatMap((region) =>
      regionView(region).nodes.map(({ name }) => ({
        name,
        state: "alive",
        location: region,
        storage_state: "read-write",
        worker_state: "active",
        metadata_server_state: "member",
      })),
    ),
    logs: Array.from({ length: partitionCount }, (_, id) => ({ log_id: id, replication: "{node: 3, region: 2}" })),
    partitions: Array.from({ length: partitionCount }, (_, id) => [
      processor(id, "restate-0.region1", "leader"),
      processor(id, "restate-0.region2", "follower"),
    ]).flat(),
    ...changes,
  };
}

/** Two regions and a cluster without fault, and what is different. */
function statusView(
  changes: {
    region1?: Partial<RegionView>;
    region2?: Partial<RegionView>;
    cluster?: Partial<ClusterView>;
    top?: Partial<StatusView>;
  } = {},
): StatusView {
  return {
    regions: [regionView("region1", changes.region1), regionView("region2", changes.region2)],
    cluster: clusterView(changes.cluster),
    serving: "both",
    home: "region1",
    replicas: 3,
    partitions: partitionCount,
    ...changes.top,
  };
}

const healthy = statusView();
const [pod0, pod1, pod2] = healthy.regions[0]!.pods as [
  RegionView["pods"][0],
  RegionView["pods"][0],
  RegionView["pods"][0],
];
const nodesWith = (state: string, ...names: string[]) =>
  clusterView().nodes.map((node) => (names.includes(node.name) ? { ...node, state } : node));
const partitionsWith = (change: (row: PartitionRow) => PartitionRow) => clusterView().partitions.map(change);

const error = (what: string, next: string): Finding => ({ severity: "error", what, next });
const warning = (what: string, next: string): Finding => ({ severity: "warning", what, next });
const restatectl = "kubectl -n ns-region1 exec restate-0 -- restatectl status";
const askBoth = "kubectl -n ns-region1 get pods -l app=restate; kubectl -n ns-region2 get pods -l app=restate";

/** Views and exactly what is found in them. */
/** All is well but for partition 1's processor on restate-0 of region2; and what is to be done if that gets no further. */
const oneProcessor = (changes: Partial<PartitionRow>) =>
  statusView({
    cluster: {
      partitions: partitionsWith((row) =>
        row.partition_id === 1 && row.node === "restate-0.region2" ? { ...row, ...changes } : row,
      ),
    },
  });
const restartItself = `${restatectl}; if it is as far behind in a minute: kubectl -n ns-region2 delete pod restate-0`;

const judgements: Record<string, [StatusView, Finding[]]> = {
  "all is well": [healthy, []],
  "both spellings of a leader": [
    statusView({
      cluster: {
        partitions: partitionsWith((row) => ({
          ...row,
          effective_mode: row.effective_mode === "leader" ? "Leader" : "Follower",
        })),
      },
    }),
    [],
  ],
  "a processor that does not know its tail does not lag": [
    statusView({
      cluster: { partitions: partitionsWith((row) => ({ ...row, target_tail_lsn: null, applied_log_lsn: null })) },
    }),
    [],
  ],
  "1000 records are not lagging": [
    statusView({ cluster: { partitions: partitionsWith((row) => ({ ...row, target_tail_lsn: 1501 })) } }),
    [],
  ],
  "unreachable region": [
    statusView({ region2: { unreachable: "no answer within 10 s", pods: [], loadBalancers: {} } }),
    [error("region2 cannot be reached: no answer within 10 s", "kubectl -n ns-region2 get pods")],
  ],
  "unreachable region, with kubeconfig and context": [
    statusView({
      region2: { unreachable: "HTTP 401: Unauthorized", kubeconfig: "/home/me/kube configs/two", context: "two" },
    }),
    [
      error(
        "region2 cannot be reached: HTTP 401: Unauthorized",
        "kubectl --kubeconfig '/home/me/kube configs/two' --context two -n ns-region2 get pods",
      ),
    ],
  ],
  "nobody to ask, with a reason": [
    statusView({ top: { cluster: undefined, noCluster: "restate-0 of region1: no answer within 10 s" } }),
    [error("the Restate cluster cannot be asked: restate-0 of region1: no answer within 10 s", askBoth)],
  ],
  "nobody to ask, without a reason": [
    statusView({ top: { cluster: undefined } }),
    [error("the Restate cluster cannot be asked: no Restate pod runs", askBoth)],
  ],
  "pod gone": [
    statusView({ region1: { pods: [pod0, pod2] } }),
    [error("restate-1.region1: its pod does not exist", "kubectl -n ns-region1 describe statefulset restate")],
  ],
  "pod not ready": [
    statusView({ region1: { pods: [pod0, { ...pod1, ready: false, restarts: 7 }, pod2] } }),
    [
      error(
        "restate-1.region1: its pod is Running, not ready (7 restarts)",
        "kubectl -n ns-region1 describe pod restate-1",
      ),
    ],
  ],
  "load balancer differs": [
    statusView({
      region1: { loadBalancers: { ...healthy.regions[0]!.loadBalancers, "restate-2": "other.elb.amazonaws.com" } },
    }),
    [
      error(
        "restate-2.region1: its load balancer is other.elb.amazonaws.com, and the stack made restate-region1-2.elb.us-east-1.amazonaws.com",
        "pulumi up --refresh --stack region1",
      ),
    ],
  ],
  "load balancer gone": [
    statusView({ region2: { loadBalancers: { ...healthy.regions[1]!.loadBalancers, "restate-0": undefined } } }),
    [
      error(
        "restate-0.region2: its load balancer is gone, and the stack made restate-region2-0.elb.us-west-2.amazonaws.com",
        "pulumi up --refresh --stack region2",
      ),
    ],
  ],
  "dead node": [
    statusView({ cluster: { nodes: nodesWith("dead", "restate-2.region2") } }),
    [error("restate-2.region2 is dead", restatectl)],
  ],
  "a node whose volume is lost": [
    statusView({
      cluster: {
        nodes: nodesWith("dead", "restate-2.region2").map((node) =>
          node.state === "dead" ? { ...node, storage_state: "data-loss" } : node,
        ),
      },
    }),
    [
      error(
        "restate-2.region2 has come back without what was on its volume, and the cluster refuses it",
        "kubectl -n ns-region1 exec restate-0 -- restatectl nodes list --extra; then docs/operations.md, A node's volume is lost",
      ),
    ],
  ],
  "the command asks the pod that answered": [
    statusView({
      region2: { context: "two" },
      cluster: {
        nodes: nodesWith("failing-over", "restate-0.region1"),
        askedIn: { stack: "region2", pod: "restate-1" },
      },
    }),
    [
      error(
        "restate-0.region1 is failing-over",
        "kubectl --context two -n ns-region2 exec restate-1 -- restatectl status",
      ),
    ],
  ],
  "too few nodes": [
    statusView({ cluster: { nodes: clusterView().nodes.slice(0, 5) } }),
    [error("the cluster has 5 nodes, not 6", restatectl)],
  ],
  "half of the metadata members dead: majority lost": [
    statusView({
      cluster: { nodes: nodesWith("dead", "restate-0.region1", "restate-1.region1", "restate-2.region1") },
    }),
    [
      error("restate-0.region1 is dead", restatectl),
      error("restate-1.region1 is dead", restatectl),
      error("restate-2.region1 is dead", restatectl),
      error("the metadata store has lost its majority: 3 of 6 members are alive", restatectl),
    ],
  ],
  "two of six metadata members dead: majority kept": [
    statusView({ cluster: { nodes: nodesWith("dead", "restate-0.region1", "restate-1.region1") } }),
    [error("restate-0.region1 is dead", restatectl), error("restate-1.region1 is dead", restatectl)],
  ],
  "no metadata members": [
    statusView({
      cluster: { nodes: clusterView().nodes.map((node) => ({ ...node, metadata_server_state: "provisioning" })) },
    }),
    [error("the metadata store has no members", restatectl)],
  ],
  "missing logs": [
    statusView({ cluster: { logs: clusterView().logs.slice(1) } }),
    [error("3 of 4 logs exist", restatectl)],
  ],
  "partition without leader": [
    statusView({
      cluster: {
        partitions: partitionsWith((row) => (row.partition_id === 2 ? { ...row, effective_mode: "follower" } : row)),
      },
    }),
    [error("partition 2 has no leader", restatectl)],
  ],
  "partition whose leader to be gets no further": [
    statusView({
      cluster: {
        partitions: partitionsWith((row) =>
          row.partition_id === 2
            ? {
                ...row,
                effective_mode: row.node === "restate-0.region2" ? "Candidate" : "Follower",
                target_tail_lsn: 600,
              }
            : row,
        ),
      },
    }),
    [error("partition 2 has no leader: restate-0.region2 is to lead it, and is 99 records behind", restartItself)],
  ],
  "partition without any processor": [
    statusView({ cluster: { partitions: clusterView().partitions.filter((row) => row.partition_id !== 3) } }),
    [error("partition 3 has no leader", restatectl)],
  ],
  lagging: [
    oneProcessor({ target_tail_lsn: 1502 }),
    [warning("partition 1 on restate-0.region2 is 1001 records behind", restartItself)],
  ],
  "lagging in a segment whose sequencer still runs: that is restarted first": [
    oneProcessor({ target_tail_lsn: 1502, sequencer: "restate-1.region1" }),
    [
      warning(
        "partition 1 on restate-0.region2 is 1001 records behind",
        `${restatectl}; if it is as far behind in a minute: kubectl -n ns-region1 delete pod restate-1; ` +
          "when that pod is ready again: kubectl -n ns-region2 delete pod restate-0",
      ),
    ],
  ],
  "lagging in a segment that the node itself sequenced": [
    oneProcessor({ target_tail_lsn: 1502, sequencer: "restate-0.region2" }),
    [warning("partition 1 on restate-0.region2 is 1001 records behind", restartItself)],
  ],
  "a processor that stands is told of long before it lags": [
    oneProcessor({ target_tail_lsn: 650, stands: true }),
    [warning("partition 1 on restate-0.region2 is 149 records behind, and gets no further", restartItself)],
  ],
  "what was last heard of a node that is dead says nothing": [
    statusView({
      cluster: {
        nodes: nodesWith("dead", "restate-2.region2"),
        partitions: [
          ...clusterView().partitions,
          { ...processor(1, "restate-2.region2", "follower"), target_tail_lsn: 9000 },
        ],
      },
    }),
    [error("restate-2.region2 is dead", restatectl)],
  ],
  "a processor that has applied nothing lags behind the whole log": [
    oneProcessor({ applied_log_lsn: null, target_tail_lsn: 5001 }),
    [warning("partition 1 on restate-0.region2 is 5000 records behind", restartItself)],
  ],
  "pending, each with its own next command, also where there are two": [
    statusView({
      region1: {
        pending: [
          "provisioning waits for the nodes of the peer. Next: pulumi up --stack organization/restate/region2",
          "the peer stack x does not exist yet or has no outputs. Next: pulumi up --stack x, then pulumi up here again",
        ],
      },
    }),
    [
      warning(
        "region1: provisioning waits for the nodes of the peer",
        "pulumi up --stack organization/restate/region2",
      ),
      warning(
        "region1: the peer stack x does not exist yet or has no outputs",
        "pulumi up --stack x, then pulumi up here again",
      ),
    ],
  ],
  "pending without a command": [
    statusView({ region2: { stack: "acme/restate/region2", pending: ["stack region2 was never brought up"] } }),
    [warning("region2: stack region2 was never brought up", "pulumi up --stack acme/restate/region2")],
  ],
  "what is pending in a region that cannot be reached is told too, after the errors": [
    statusView({ region1: { pending: ["it waits. Next: do"], unreachable: "gone" } }),
    [error("region1 cannot be reached: gone", "kubectl -n ns-region1 get pods"), warning("region1: it waits", "do")],
  ],
};

describe("judgement", () => {
  for (const [name, [view, expected]] of Object.entries(judgements)) {
    test(name, () => assert.deepEqual(judge(view), expected));
  }

  test("a leader is one in either spelling, and nothing else is", () => {
    const modes: [string | null, boolean][] = [
      ["leader", true],
      ["Leader", true],
      ["follower", false],
      ["Follower", false],
      ["", false],
      [null, false],
    ];
    for (const [mode, expected] of modes) {
      assert.equal(leads({ ...processor(0, "n", ""), effective_mode: mode }), expected, String(mode));
    }
  });

  const anyView = fc
    .record({
      pending: fc.subarray(["one. Next: do", "two"]),
      unreachable: fc.option(fc.constant("gone"), { nil: undefined }),
      pods: fc.subarray([...healthy.regions[0]!.pods]),
      nodes: fc.subarray([...clusterView().nodes]),
      logs: fc.subarray([...clusterView().logs]),
      partitions: fc.subarray([...clusterView().partitions]),
      tail: fc.constantFrom(501, 5000),
      asked: fc.boolean(),
    })
    .map(({ pending, unreachable, pods, nodes, logs, partitions, tail, asked }) =>
      statusView({
        region1: { pending, unreachable, pods },
        cluster: { nodes, logs, partitions: partitions.map((row) => ({ ...row, target_tail_lsn: tail })) },
        ...(asked ? {} : { top: { cluster: undefined } }),
      }),
    );

  test("property: errors before warnings, each with a command; rendered first, in that order; well only without any", () => {
    fc.assert(
      fc.property(anyView, (view) => {
        const findings = judge(view);
        const firstWarning = findings.findIndex((one) => one.severity === "warning");
        const lastError = findings.findLastIndex((one) => one.severity === "error");
        assert.ok(firstWarning < 0 || lastError < firstWarning);
        for (const { what, next } of findings) {
          assert.doesNotMatch(what, /Next: /);
          assert.notEqual(next, "");
        }
        const blocks = render(view).split("\n\n");
        assert.deepEqual(
          blocks.slice(0, Math.max(1, findings.length)),
          findings.length === 0
            ? ["✓ all is well"]
            : findings.map(
                ({ severity, what, next }) => `${severity === "error" ? "✗" : "!"} ${what}\n    next: ${next}`,
              ),
        );
        assert.match(blocks[Math.max(1, findings.length)]!, /^ {2}NODE +POD +STATE/);
      }),
    );
  });
});

describe("screen", () => {
  test("all is well", () => {
    const lines = render(healthy).split("\n");
    assert.equal(lines[0], "✓ all is well");
    assert.match(lines[2]!, /^ {2}NODE +POD +STATE +STORAGE +WORKER +METADATA +LEADS +ZONE +LOAD BALANCER$/);
    assert.match(
      lines[3]!,
      /^ {2}restate-0\.region1 +ready +alive +read-write +active +member +4 +us-east-1a +restate-region1-0$/,
    );
    assert.equal(lines.filter((line) => /^ {2}restate-\d\.region[12] /.test(line)).length, 6);
    assert.ok(lines.some((line) => /^ {2}3 +restate-0\.region1 +500 +400 +0 +\{node: 3, region: 2\}$/.test(line)));
    assert.equal(lines.at(-1), "asked in pod restate-0 of region1");
  });

  test("what is not known is a question mark, and what does not exist is none", () => {
    const text = render(
      statusView({
        region1: { pods: [pod0] },
        region2: { unreachable: "gone", pods: [], loadBalancers: {} },
        top: { cluster: undefined },
      }),
    );
    assert.match(text, /^ {2}restate-0\.region1 +ready +\? +\? +\? +\? +\? /m);
    assert.match(text, /^ {2}restate-1\.region1 +none +\? /m);
    assert.match(text, /^ {2}restate-0\.region2 +\? +\? /m);
    assert.doesNotMatch(text, /PARTITION|asked in/);
  });

  test("a partition without leader, snapshot or log, and one that lags", () => {
    const text = render(
      statusView({
        cluster: {
          logs: [],
          partitions: [
            { ...processor(0, "restate-0.region1", "follower"), target_tail_lsn: 1502 },
            { ...processor(1, "restate-0.region1", "Leader"), archived_log_lsn: null },
          ],
        },
      }),
    );
    assert.match(text, /^ {2}0 +none +\? +none +1001 +\?$/m);
    assert.match(text, /^ {2}1 +restate-0\.region1 +500 +none +0 +\?$/m);
  });

  test("tables", () => {
    assert.equal(table([]), "");
    assert.equal(table([["A"]]), "  A");
    assert.equal(
      table([
        ["A", "LONGER", "C"],
        ["wide cell", "", ""],
        ["x", "y"],
      ]),
      "  A          LONGER  C\n  wide cell\n  x          y",
    );
  });

  test("property: no line of a table ends with a blank, and each column begins at one place", () => {
    const cell = fc.stringMatching(/^[a-z0-9]{1,8}$/);
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell, cell), { minLength: 1 }), (rows) => {
        const widest = Math.max(...rows.map(([first]) => first.length));
        const lines = table(rows).split("\n");
        assert.equal(lines.length, rows.length);
        lines.forEach((line, i) => {
          assert.doesNotMatch(line, /\s$/);
          assert.equal(line.indexOf(rows[i]![1], 2 + rows[i]![0].length), 4 + widest);
        });
      }),
    );
  });
});

describe("what the commands share", () => {
  test("two stacks, home first", () => {
    assert.deepEqual(twoStacks("region1,region2"), ["region1", "region2"]);
    assert.deepEqual(twoStacks(" acme/restate/b , acme/restate/a"), ["acme/restate/b", "acme/restate/a"]);
    for (const wrong of ["", "a", "a,", ",a", "a,a", "a,b,c"]) {
      assert.throws(
        () => twoStacks(wrong),
        (thrown) =>
          thrown instanceof UsageError &&
          thrown.message === "--stacks needs two names, home region first, e.g. --stacks region1,region2",
        wrong,
      );
    }
  });

  test("reasons, in the words that matter", () => {
    const withFields = (message: string, fields: object) => Object.assign(new Error(message), fields);
    assert.equal(reasonOf(new Error("no answer within 10 s")), "no answer within 10 s");
    assert.equal(reasonOf("text"), "text");
    assert.equal(reasonOf(withFields("", { code: "ECONNREFUSED" })), "ECONNREFUSED");
    assert.equal(
      reasonOf(
        withFields("HTTP-Code: 403\nMessage: …", { code: 403, body: '{"kind":"Status","message":"pods is \\"no\\""}' }),
      ),
      'HTTP 403: pods is "no"',
    );
    assert.equal(reasonOf(withFields("HTTP-Code: 502\n…", { code: 502, body: "<html>" })), "HTTP 502");
    assert.equal(reasonOf(withFields("…", { code: 401, body: { message: "Unauthorized" } })), "HTTP 401: Unauthorized");
  });
});

/** What the stand-in for Pulumi finds and does. */
interface Scenario {
  /** Outputs of the stacks that exist. */
  outputs: Record<string, Record<string, unknown>>;
  /** What a stack exports after an `up` without and with its peer; `counted`: something else each time. */
  after?: Record<string, { alone: Record<string, unknown>; together: Record<string, unknown>; counted?: boolean }>;
  /** What an `up` says that it changed; by default, something. */
  changes?: Record<string, number>;
  /** What goes wrong, by command and stack. */
  fails?: Record<string, string>;
  config?: Record<string, Record<string, { value: string; secret: boolean }>>;
  /** What a stack's state says of its last run; by default, that it ended by itself. */
  states?: Record<string, StackState>;
  /** Ids of objects that exist without the state's knowledge. */
  existing?: string[];
  /** A file without which nothing fails. */
  lock?: string;
  /** `up` does not end before it is interrupted. */
  endless?: boolean;
}

/**
 * Stands in for the program `pulumi` under the commands: answers from a scenario, keeps what was "deployed" there, and
 * writes down what it was asked. It runs no program and sends no events.
 */
const fakePulumi = `#!${process.execPath}
const fs = require("node:fs");
const folder = process.env.FAKE_PULUMI;
const args = process.argv.slice(2);
const stack = args[args.indexOf("--stack") + 1];
const file = folder + "/scenario.json";
const scenario = JSON.parse(fs.readFileSync(file, "utf8"));
const fail = (message) => { console.error("error: " + message); process.exit(255); };
const say = (value) => console.log(JSON.stringify(value));
fs.appendFileSync(folder + "/calls", args.join(" ") + "\\n");
if (args[0] === "version") console.log("v3.200.0");
else if (args[0] === "whoami") say({ user: "operator", url: "file:///nowhere" });
else if (!scenario.outputs[stack]) fail("no stack named '" + stack + "' found");
else if (scenario.fails?.[args[0] + " " + stack] && (!scenario.lock || fs.existsSync(scenario.lock)))
  fail(scenario.fails[args[0] + " " + stack]);
else if (args[0] === "config") say(scenario.config?.[stack] ?? {});
else if (args[0] === "preview") console.log("previewed");
else if (args[0] === "stack" && args[1] === "output") say(scenario.outputs[stack]);
else if (args[0] === "stack" && args[1] === "export") say({ version: 3, deployment: scenario.states?.[stack] ?? {} });
else if (args[0] === "stack" && args[1] === "history") say([{ kind: "update", resourceChanges: scenario.changes ?? { create: 2, same: 1 } }]);
else if (args[0] === "import") {
  const { resources, nameTable } = JSON.parse(fs.readFileSync(args[args.indexOf("--file") + 1], "utf8"));
  fs.appendFileSync(folder + "/imports", JSON.stringify({ resources, nameTable }) + "\\n");
  const [{ id }] = resources;
  if (!scenario.existing?.includes(id)) {
    console.log("    error: resource '" + id + "' does not exist");
    process.exit(255);
  }
} else if (args[0] === "refresh") {
  if (args.includes("--clear-pending-creates")) delete scenario.states[stack];
  fs.writeFileSync(file, JSON.stringify(scenario));
} else if (args[0] === "up" && scenario.endless) {
  fs.appendFileSync(folder + "/calls", "began\\n");
  const waiting = setInterval(() => {}, 1000);
  process.on("SIGINT", () => {
    fs.appendFileSync(folder + "/calls", "interrupted\\n");
    clearInterval(waiting);
    setTimeout(() => fail("update canceled"), 100);
  });
} else if (args[0] === "up") {
  if (fs.existsSync(folder + "/busy")) fail("two at once");
  fs.writeFileSync(folder + "/busy", "");
  const peer = Object.keys(scenario.outputs).find((name) => name !== stack);
  const program = scenario.after[stack];
  const outputs = Object.keys(scenario.outputs[peer]).length > 0 ? program.together : program.alone;
  scenario.outputs[stack] = program.counted ? { ...outputs, domain: "d" + process.pid + ".example.com" } : outputs;
  fs.writeFileSync(file, JSON.stringify(scenario));
  setTimeout(() => fs.rmSync(folder + "/busy"), 100);
} else fail("the stand-in does not know " + args.join(" "));
`;

describe("the commands, with a stand-in for Pulumi", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "restate-commands-"));
    writeFileSync(join(folder, "pulumi"), fakePulumi);
    chmodSync(join(folder, "pulumi"), 0o755);
    writeFileSync(join(folder, "Pulumi.yaml"), "name: restate\nruntime: nodejs\n");
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Runs a command; what it printed, its exit code, and what it asked of Pulumi. */
  function run(scenario: Scenario, command: "up" | "status" | "recover", ...args: string[]) {
    return runAndWatch(() => {}, scenario, command, ...args);
  }

  /** The same, and tells after each call of Pulumi what it was asked so far. */
  async function runAndWatch(
    seen: (calls: string, child: ChildProcess) => void,
    scenario: Scenario,
    command: "up" | "status" | "recover",
    ...args: string[]
  ) {
    writeFileSync(join(folder, "scenario.json"), JSON.stringify(scenario));
    writeFileSync(join(folder, "calls"), "");
    writeFileSync(join(folder, "imports"), "");
    const child = spawn(process.execPath, [...typescript, `commands/${command}.ts`, ...args], {
      cwd: resolve(__dirname, "../.."),
      env: {
        ...process.env,
        PATH: `${folder}:${process.env.PATH}`,
        FAKE_PULUMI: folder,
        PULUMI_OPTION_CWD: folder,
        PULUMI_HOME: join(folder, "home"),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const text = { stdout: "", stderr: "" };
    child.stdout.on("data", (data: Buffer) => {
      text.stdout += data;
    });
    child.stderr.on("data", (data: Buffer) => {
      text.stderr += data;
    });
    const watching = setInterval(() => seen(readFileSync(join(folder, "calls"), "utf8"), child), 50);
    const code = await new Promise<number | null>((done) => child.on("close", done));
    clearInterval(watching);
    const calls = readFileSync(join(folder, "calls"), "utf8").trim().split("\n");
    assert.ok(!calls.some((call) => call.startsWith("stack select")), "the operator's selected stack stays");
    return { code, ...text, calls };
  }

  const waiting = "provisioning waits for the nodes of the peer. Next: pulumi up --stack region2";
  const one = { ...peerOutputs("region1"), pending: [] as string[] };
  const two = { ...peerOutputs("region2"), pending: [] as string[] };
  const deployable: Scenario = {
    outputs: { region1: {}, region2: {} },
    after: {
      region1: { alone: { ...one, pending: [waiting] }, together: one },
      region2: { alone: two, together: two },
    },
  };
  const results = (stdout: string) =>
    (JSON.parse(stdout).runs as { stack: string; result: string }[]).map(({ stack, result }) => `${stack} ${result}`);

  test("wrong flags: usage, and exit code 2", async () => {
    for (const [command, args, message] of [
      ["up", ["--everything"], /^Unknown option '--everything'/],
      ["up", ["--stacks", "region1"], /^--stacks needs two names, home region first/],
      ["up", [], /^there is no terminal to ask on: add --yes, or --preview to look only$/m],
      ["status", ["--everything"], /^Unknown option '--everything'/],
      ["status", ["--stacks", "a,a"], /^--stacks needs two names/],
    ] as const) {
      const ended = await run(deployable, command, ...args);
      assert.equal(ended.code, 2, ended.stderr);
      assert.equal(ended.stdout, "");
      assert.match(ended.stderr, message);
      assert.match(ended.stderr, new RegExp(`^npm run ${command} -- \\[options\\]: `, "m"));
    }
  });

  test("no pulumi on PATH: what to type, in the sandbox and elsewhere, and exit code 2", async () => {
    for (const [command, ...args] of [["up", "--yes"], ["status"], ["recover"]] as const) {
      const child = spawnSync(process.execPath, [...typescript, `commands/${command}.ts`, ...args], {
        cwd: resolve(__dirname, "../.."),
        env: { ...process.env, PATH: join(folder, "home") },
        encoding: "utf8",
      });
      assert.deepEqual([child.status, child.stdout.replace(/^ *[\d.]+s .*\n/gm, "")], [2, ""]);
      assert.equal(
        child.stderr,
        "there is no pulumi on PATH. Next, for the sandbox:\n" +
          '  eval "$(npm run -s sandbox -- env region1)"\n' +
          "For regions in AWS, install it: https://www.pulumi.com/docs/install/\n",
      );
    }
  });

  test("a stack that does not exist: one error with the next command, and exit code 2", async () => {
    const message = "there is no stack region2 in this backend. Next: pulumi stack init region2";
    const scenario: Scenario = { outputs: { region1: one }, config: { region1: {} } };
    const status = await run(scenario, "status");
    assert.deepEqual([status.code, status.stdout], [2, ""]);
    assert.match(status.stderr, /there is no stack region2 in this backend\. Next: pulumi stack init region2\n$/);
    const up = await run(scenario, "up", "--yes", "--json");
    assert.equal(up.code, 2);
    assert.equal(up.stderr, `${message}\n`);
    assert.deepEqual(JSON.parse(up.stdout), { previews: [], runs: [], pending: {}, settled: false, error: message });
  });

  test("up from nothing: region1, region2, region1, one at a time; what waited in between is not reported", async () => {
    const ended = await run(deployable, "up", "--yes", "--json");
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual(results(ended.stdout), ["region1 changed", "region2 changed", "region1 changed"]);
    const report = JSON.parse(ended.stdout);
    assert.deepEqual([report.pending, report.settled], [{ region1: [], region2: [] }, true]);
    assert.match(ended.stderr, /^ +\d+\.\ds {2}region1: done in \d+\.\d s$/m);
    assert.equal(ended.calls.filter((call) => call.startsWith("up ")).length, 3);
  });

  test("up where nothing is left to do: each once", async () => {
    const scenario = { ...deployable, outputs: { region1: one, region2: two }, changes: { same: 9 } };
    const ended = await run(scenario, "up", "--yes");
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(
      ended.stdout,
      /\n\n {2}region1 +unchanged .* 9 same\n {2}region2 +unchanged .* 9 same\n\n +\d+\.\ds {2}both regions are up\. Next: npm run status\n$/,
    );
    assert.equal(ended.calls.filter((call) => call.startsWith("up ")).length, 2);
  });

  test("up of stacks that disagree: exit code 1, every setting with the remedy, and nothing begun", async () => {
    const value = (text: string) => ({ value: text, secret: false });
    const own = { "restate:serving": value("region2"), "restate:restateVersion": value("1.7.10") };
    const scenario = { ...deployable, config: { region1: { ...own, "restate:home": value("region2") }, region2: {} } };
    for (const flag of ["--yes", "--preview"]) {
      const ended = await run(scenario, "up", flag, "--json");
      assert.equal(ended.code, 1, ended.stderr);
      assert.deepEqual(JSON.parse(ended.stdout).error.split("\n"), [
        "the stacks disagree on settings of the cluster that they share; nothing was changed:",
        "  restate:home is region2 in region1, not set in region2",
        "  restate:serving is region2 in region1, not set in region2",
        "Set them once, in Pulumi.yaml, and not in a stack's own file. Next:",
        ...["home", "serving"].flatMap((key) =>
          ["region1", "region2"].map((stack) => `  pulumi config rm restate:${key} --stack ${stack}`),
        ),
      ]);
      assert.ok(!ended.calls.some((call) => /^(up|preview|refresh|import) /.test(call)), ended.calls.join("\n"));
    }
  });

  test("up where a stack fails: exit code 1, the failure, and nothing that is out of date", async () => {
    const scenario = { ...deployable, fails: { "up region2": "quota exceeded" } };
    const json = await run(scenario, "up", "--yes", "--json");
    assert.equal(json.code, 1, json.stderr);
    assert.deepEqual(results(json.stdout), ["region1 changed", "region2 failed"]);
    const report = JSON.parse(json.stdout);
    assert.deepEqual(report.runs[1].errors, ["quota exceeded"]);
    assert.deepEqual([report.pending, report.settled], [{}, false]);
    const text = await run(scenario, "up", "--yes");
    assert.equal(text.code, 1);
    assert.match(text.stdout, /\n {2}region2 +failed .*\n\nregion2 failed:\n {2}quota exceeded\n\nMend that/);
    assert.doesNotMatch(text.stdout, /pending|waits|are up/);
  });

  test("up where another update is in progress says how to end it", async () => {
    const scenario = { ...deployable, fails: { "up region1": "the stack is currently locked by 1 lock(s)" } };
    const ended = await run(scenario, "up", "--yes", "--json");
    assert.equal(ended.code, 1);
    assert.deepEqual(JSON.parse(ended.stdout).runs[0].errors, [
      "Another update of region1 is in progress. Wait for it, or, if nothing runs any more: pulumi cancel --stack region1",
    ]);
  });

  /** The state after a run that was killed while it made what is named. */
  const interruptedState = (...types: [type: string, inputs: Record<string, unknown>][]): StackState => {
    const urn = (type: string, name: string) => `urn:pulumi:region1::restate::${type}::${name}`;
    return {
      resources: [{ urn: urn("pulumi:pulumi:Stack", "restate-region1"), type: "pulumi:pulumi:Stack" }],
      pending_operations: types.map(([type, inputs]) => ({
        type: "creating",
        resource: {
          urn: urn(`restate:index:Parent$${type}`, "thing"),
          type,
          inputs,
          parent: urn("restate:index:Parent", "parent"),
          provider: `${urn("pulumi:providers:aws", "default_7")}::0123`,
        },
      })),
    };
  };
  const killed = interruptedState(
    ["aws:s3/bucket:Bucket", { bucket: "made" }],
    ["aws:iam/role:Role", { name: "not-made" }],
    ["random:index/randomId:RandomId", {}],
  );

  test("up after a run that was killed: what exists is taken into the state, before anything is made", async () => {
    const scenario = { ...deployable, states: { region1: killed }, existing: ["made"] };
    const ended = await run(scenario, "up", "--yes", "--json");
    assert.equal(ended.code, 0, ended.stderr);
    assert.deepEqual(results(ended.stdout), ["region1 changed", "region2 changed", "region1 changed"]);
    for (const said of [
      /region1: the last run was interrupted; finding out what became of it$/m,
      /region1: thing \(s3\/bucket:Bucket\): exists as made; taken into the state$/m,
      /region1: thing \(iam\/role:Role\): was not created; will be$/m,
      /region1: thing \(random:index\/randomId:RandomId\): is created again, whether it exists or not$/m,
    ]) {
      assert.match(ended.stderr, said);
    }
    assert.doesNotMatch(ended.stderr, /region2: the last run/);
    const does = ended.calls.filter((call) => /^(import|refresh|up) /.test(call)).map((call) => call.split(" ")[0]);
    assert.deepEqual(does, ["import", "import", "refresh", "up", "up", "up"]);
    const refreshed = ended.calls.find((call) => call.startsWith("refresh "))!;
    assert.match(
      refreshed,
      /--clear-pending-creates .*--target urn:pulumi:region1::restate::pulumi:pulumi:Stack::restate-region1/,
    );
    const imports = readFileSync(join(folder, "imports"), "utf8").trim().split("\n");
    assert.deepEqual(JSON.parse(imports[0]!), {
      nameTable: {
        parent: "urn:pulumi:region1::restate::restate:index:Parent::parent",
        provider: "urn:pulumi:region1::restate::pulumi:providers:aws::default_7",
      },
      resources: [{ type: "aws:s3/bucket:Bucket", name: "thing", id: "made", parent: "parent", provider: "provider" }],
    });
  });

  test("recover does so for one stack, and brings nothing up", async () => {
    const scenario = { ...deployable, states: { region1: killed }, existing: ["made"] };
    const ended = await run(scenario, "recover", "--stack", "region1");
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(ended.stdout, /region1 {2}ready\. Next: pulumi up --stack region1\n$/);
    assert.ok(!ended.calls.some((call) => call.startsWith("up ") || call.includes("region2")));
  });

  test("what cannot be recovered stops before anything is made, with the next command", async () => {
    for (const [states, fails, message] of [
      [
        { region1: interruptedState(["aws:sqs/queue:Queue", {}]) },
        {},
        /interrupted while it created what is not known here.*pulumi import --stack region1 aws:sqs\/queue:Queue thing <id>.*pulumi refresh --clear-pending-creates --stack region1/s,
      ],
      [
        { region1: killed },
        { "import region1": "no credentials" },
        /^whether thing \(s3\/bucket:Bucket\) exists as made cannot be found out: no credentials$/,
      ],
      [
        { region1: killed },
        { "import region1": "the stack is currently locked by 1 lock(s)" },
        /^Another update of region1 is in progress\. Wait for it, or, if nothing runs any more: pulumi cancel --stack region1$/,
      ],
    ] as const) {
      const ended = await run({ ...deployable, states, fails }, "up", "--yes", "--json");
      assert.equal(ended.code, 1, ended.stderr);
      assert.match(JSON.parse(ended.stdout).error, message);
      assert.ok(!ended.calls.some((call) => call.startsWith("up ")));
    }
  });

  test("a lock whose process was killed is removed; up says so and goes on", async () => {
    const lock = join(folder, "lock.json");
    writeFileSync(lock, "{}");
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    const said = `the stack is currently locked by 1 lock(s)\n  file://${lock}: created by me@${hostname()} (pid ${pid}) at now`;
    const ended = await run({ ...deployable, lock, fails: { "up region1": said } }, "up", "--yes");
    assert.equal(ended.code, 0, ended.stderr);
    assert.match(
      ended.stdout,
      new RegExp(`region1: removed the lock of a run that was killed \\(process ${pid}\\)$`, "m"),
    );
    assert.equal(existsSync(lock), false);
  });

  test("an up that is told to end lets Pulumi end in good order, once, and begins nothing more", async () => {
    let told = false;
    const tell = (calls: string, child: ChildProcess) => {
      if (told || !calls.includes("began")) return;
      told = true;
      child.kill("SIGTERM");
    };
    const ended = await runAndWatch(tell, { ...deployable, endless: true }, "up", "--yes");
    assert.equal(ended.code, 1, ended.stderr);
    assert.match(ended.stdout, /interrupted; Pulumi finishes what it has begun/);
    assert.match(ended.stdout, /region1 failed:\n {2}update canceled\n/);
    assert.equal(ended.calls.filter((call) => call === "interrupted").length, 1);
    assert.equal(ended.calls.filter((call) => call.startsWith("up ")).length, 1);
  });

  test("stacks that never settle: exit code 1 after the most runs, and a report", async () => {
    const counted = (outputs: Record<string, unknown>) => ({ alone: outputs, together: outputs, counted: true });
    const scenario = { outputs: { region1: {}, region2: {} }, after: { region1: counted(one), region2: counted(two) } };
    const ended = await run(scenario, "up", "--yes", "--json");
    assert.equal(ended.code, 1);
    const report = JSON.parse(ended.stdout);
    assert.equal(report.runs.length, mostRuns);
    assert.equal(report.settled, false);
    assert.match(report.error, /^the stacks do not settle after 6 runs; compare their outputs: pulumi stack output/);
  });

  test("a preview changes nothing; one that fails ends with exit code 1", async () => {
    const looked = await run(deployable, "up", "--preview", "--json");
    assert.equal(looked.code, 0, looked.stderr);
    assert.deepEqual(
      (JSON.parse(looked.stdout).previews as { stack: string }[]).map(({ stack }) => stack),
      ["region1", "region2"],
    );
    assert.ok(!looked.calls.some((call) => call.startsWith("up ")));
    const failed = await run(
      { ...deployable, fails: { "preview region2": "no credentials" } },
      "up",
      "--preview",
      "--json",
    );
    assert.equal(failed.code, 1);
    assert.equal(JSON.parse(failed.stdout).error, "the preview of region2 failed, nothing was changed. no credentials");
  });

  test("status of regions whose clusters do not answer: exit code 1, with commands as the settings reach them", async () => {
    writeFileSync(
      join(folder, "nobody.kubeconfig"),
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "nobody", cluster: { server: "https://127.0.0.1:1" } }],
        contexts: [{ name: "nobody", context: { cluster: "nobody", user: "nobody" } }],
        users: [{ name: "nobody", user: {} }],
      }),
    );
    const config = (region: RegionName) => {
      const settings = {
        "aws:region": peerOutputs(region).awsRegion,
        "restate:domain": "restate.example.com",
        "restate:accountId": "123456789012",
        "restate:kubernetes": JSON.stringify({
          kubeconfig: "nobody.kubeconfig",
          context: "nobody",
          namespace: `ns-${region}`,
        }),
        "restate:subnets": JSON.stringify({ byZone: { "us-east-1a": "subnet-0123456789abcdef0" } }),
        "restate:loadBalancers": JSON.stringify({ securityGroups: ["sg-0123456789abcdef0"] }),
        "restate:identity": JSON.stringify({ mode: "oidc", oidcIssuer: "https://issuer.example.com" }),
        // Right only if the organization is the backend's own.
        "restate:forgetPeer": `organization/restate/${region === "region1" ? "region2" : "region1"}`,
      };
      return Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, { value, secret: false }]));
    };
    const scenario = {
      outputs: { region1: { ...one, pending: [waiting] }, region2: {} },
      config: { region1: config("region1"), region2: config("region2") },
    };
    const ended = await run(scenario, "status", "--json");
    assert.equal(ended.code, 1, ended.stderr);
    const report = JSON.parse(ended.stdout) as { healthy: boolean; findings: Finding[] };
    assert.equal(report.healthy, false);
    const kubectl = (region: string) =>
      `kubectl --kubeconfig ${join(folder, "nobody.kubeconfig")} --context nobody -n ns-${region} get pods`;
    assert.deepEqual(
      report.findings.map(({ what, next }) => [what.replace(/(cannot be reached): .*ECONNREFUSED.*/, "$1"), next]),
      [
        ["region1 cannot be reached", kubectl("region1")],
        ["region2 cannot be reached", kubectl("region2")],
        [
          "the Restate cluster cannot be asked: no Restate pod runs",
          `${kubectl("region1")} -l app=restate; ${kubectl("region2")} -l app=restate`,
        ],
        ["region1: provisioning waits for the nodes of the peer", "pulumi up --stack region2"],
        ["region2: stack region2 was never brought up, or is destroyed", "pulumi up --stack region2"],
      ],
    );
  });
});
