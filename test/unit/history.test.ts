/** What the commands tell of handovers: the history from both buckets, and who serves in the status. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type History, mergeHistory, renderHistory, renderReceipt } from "../../commands/history";
import {
  type ClusterView,
  type Finding,
  judge,
  type NodeRow,
  partitionRow,
  render,
  type StatusView,
} from "../../commands/report";
import { type HandoverRecord, handoverRecord } from "../../restate/handover";
import { type HistoryDocument, historyDocument } from "../../restate/history";
import { type RegionName, regionNames, type Serving } from "../../topology";
import { receiptOf } from "../support/receipts";
import { regionView } from "../support/region-view";

const document = (numbers: number[], changes: Partial<HistoryDocument> = {}): HistoryDocument => ({
  bucket: "bucket",
  count: numbers.length,
  receipts: numbers.map((number) => receiptOf(number, "both", "region1")),
  problems: [],
  ...changes,
});

describe("history", () => {
  test("both buckets together: newest first, each once", () => {
    const { receipts, problems } = mergeHistory({ region1: document([3, 1]), region2: document([3, 2, 1]) });
    assert.deepEqual(
      receipts.map(({ number }) => number),
      [3, 2, 1],
    );
    assert.deepEqual(problems, []);
  });

  test("property: whatever each bucket has, every number is there once, in order", () => {
    const numbers = fc.uniqueArray(fc.integer({ min: 1, max: 40 }));
    fc.assert(
      fc.property(numbers, numbers, (one, two) => {
        const { receipts } = mergeHistory({ region1: document(one), region2: document(two) });
        assert.deepEqual(
          receipts.map(({ number }) => number),
          [...new Set([...one, ...two])].sort((a, b) => b - a),
        );
      }),
    );
  });

  test("what one bucket does not tell is said, and the other's receipts are shown", () => {
    const problem = { step: "read" as const, bucket: "b", code: "AccessDenied", message: "no" };
    const history = mergeHistory({ region1: "no pod runs", region2: document([1], { problems: [problem] }) });
    assert.deepEqual(history.problems, ["region1: no pod runs", "region2: read of b: AccessDenied: no"]);
    const text = renderHistory(history, 20);
    assert.match(text, /^✗ region1: no pod runs\n {4}next: npm run status\n\n✗ region2: /);
    assert.match(text, /^ {2}1 +2026-01-01T00:00:04Z +both -> region1 +4\.2 s +2 +yes +alice at aaaaaaaaaaaa$/m);
  });

  test("no handover yet, and too many for the screen", () => {
    assert.match(renderHistory({ receipts: [], problems: [] }, 20), /no handover yet/);
    const many: History = mergeHistory({ region1: document([1, 2, 3]) });
    assert.equal(renderHistory(many, 2).match(/both -> region1/g)?.length, 2);
  });

  test("one in full: steps, nodes, and each log before and after", () => {
    const text = renderReceipt(
      receiptOf(7, "both", "region2", {
        saved: false,
        askedBy: { user: "alice", commit: "b".repeat(40), dirty: true },
      }),
    );
    assert.match(
      text,
      /^handover 7: both -> region2, 2026-01-01T00:00:00Z to 2026-01-01T00:00:04Z \(4\.2 s\), run in region2$/m,
    );
    assert.match(text, /^asked for by: alice at bbbbbbbbbbbb with changes$/m);
    assert.match(text, /in snapshots: not all of them/);
    assert.match(text, /^ {2}every partition is led from here +0\.4 s +2$/m);
    assert.match(text, /^ {2}N1 +restate-0\.region1 +read-only +draining +standby$/m);
    assert.match(text, /^ {2}0 +1 -> 2 +99 -> 130 +\{node: 3, region: 2\} -> \{node: 2\} /m);
  });

  test("what the script prints is checked", () => {
    assert.deepEqual(historyDocument(JSON.stringify(document([2]))), document([2]));
    assert.throws(() => historyDocument('{"bucket":"b","count":1,"receipts":[{"number":1}],"problems":[]}'));
  });
});

describe("who serves", () => {
  const withdrawn = { storage_state: "read-only", worker_state: "draining", metadata_server_state: "standby" };
  const serves = { storage_state: "read-write", worker_state: "active", metadata_server_state: "member" };

  /** A cluster that a handover has led to `serving`, and what is different. */
  function cluster(
    serving: Serving,
    changes: { record?: HandoverRecord; nodes?: Record<string, Partial<NodeRow>> } = {},
  ) {
    const leader: RegionName = serving === "region2" ? "region2" : "region1";
    return {
      askedIn: { stack: leader, pod: "restate-0" },
      nodes: regionNames.flatMap((region) =>
        regionView(region).nodes.map(({ name }) => ({
          ...{ name, location: region, state: "alive" },
          ...(serving === "both" || serving === region ? serves : withdrawn),
          ...changes.nodes?.[name],
        })),
      ),
      logs: [{ log_id: 0, replication: "{node: 2}" }],
      partitions: [
        partitionRow({ partition_id: 0, node: `restate-0.${leader}`, effective_mode: "leader", archived_log_lsn: 1 }),
      ],
      record: { number: 3, serving, ...changes.record },
    } satisfies ClusterView;
  }

  function view(
    serving: Serving,
    made: ClusterView,
    changes: Partial<Record<RegionName, Partial<ReturnType<typeof regionView>>>> = {},
  ): StatusView {
    return {
      regions: regionNames.map((region) => regionView(region, changes[region])),
      cluster: made,
      ...{ serving, home: "region1", replicas: 3, partitions: 1 },
    };
  }
  const warning = (what: string, next: string): Finding => ({ severity: "warning", what, next });
  const error = (what: string, next: string): Finding => ({ severity: "error", what, next });

  for (const serving of ["both", ...regionNames] as const) {
    test(`${serving}, as the settings want it: nothing is wrong`, () => {
      assert.deepEqual(judge(view(serving, cluster(serving))), []);
    });
  }

  test("the screen says who serves and since when", () => {
    const receipt = receiptOf(3, "both", "region2");
    assert.match(
      render(view("region2", cluster("region2"), { region2: { receipt } })),
      /^✓ all is well\n\nserved by region2 alone: its loss would be the loss of the cluster \(handover 3 since 2026-01-01T00:00:04Z; npm run history\)$/m,
    );
    assert.match(render(view("both", cluster("both"))), /^served by both regions \(handover 3; npm run history\)$/m);
    assert.doesNotMatch(render(view("both", cluster("both", { record: handoverRecord("null") }))), /served by/);
  });

  test("nodes that stand by may be gone, and no others", () => {
    const gone = { "restate-1.region1": { state: "dead" }, "restate-2.region1": { state: "dead" } };
    const [pod] = regionView("region1").pods;
    const shrunk = { runningReplicas: 1, pods: [pod!] };
    assert.deepEqual(judge(view("region2", cluster("region2", { nodes: gone }), { region1: shrunk })), []);
    assert.match(
      render(view("region2", cluster("region2", { nodes: gone }), { region1: shrunk })),
      /^ {2}restate-2\.region1 +standby +dead /m,
    );
    const first = { "restate-0.region1": { state: "dead" } };
    assert.deepEqual(
      judge(view("region2", cluster("region2", { nodes: first }), { region1: shrunk })).map(({ what }) => what),
      ["restate-0.region1 is dead"],
    );
    // Stopped although it still has a part in the cluster.
    const member = { "restate-2.region1": { state: "dead", metadata_server_state: "member" } };
    assert.deepEqual(
      judge(view("region2", cluster("region2", { nodes: member }), { region1: shrunk })).map(({ what }) => what),
      [
        "the cluster is between two regions: its last handover led to region2, and that does not hold for restate-2.region1",
        "restate-2.region1 is dead",
      ],
    );
  });

  test("another setting than what the cluster is at", () => {
    const { stack } = regionView("region2");
    assert.deepEqual(judge(view("region2", cluster("both"))), [
      warning("the cluster is served by both, and serving is set to region2", `pulumi up --stack ${stack}`),
    ]);
    assert.deepEqual(judge(view("both", cluster("region2"))), [
      warning("the cluster is served by region2, and serving is set to both", "pulumi up --stack region1"),
    ]);
  });

  test("a stack that has yet to follow", () => {
    const regions = { region1: { serving: "both" }, region2: { serving: "region2" } } as const;
    assert.deepEqual(judge(view("region2", cluster("region2"), regions)), [
      warning(
        "region1 was last brought up with serving both, which is set to region2 now",
        "pulumi up --stack region1",
      ),
    ]);
  });

  test("a handover that runs, or was stopped", () => {
    const lock = { holder: "restate-handover-4-abc", number: 4, to: "region2" as const, step: "every log" };
    assert.deepEqual(judge(view("region2", cluster("both", { record: { number: 3, serving: "both", lock } }))), [
      warning(
        "handover 4 to region2 runs, or was stopped (restate-handover-4-abc, at: every log)",
        "kubectl -n ns-region1 get pods -l app.kubernetes.io/component=handover; kubectl -n ns-region2 get pods -l app.kubernetes.io/component=handover; if none runs: pulumi up --stack region2",
      ),
    ]);
  });

  test("between two regions: an up where another region is wanted, and else the command that starts the Job again", () => {
    const nodes = { "restate-1.region2": { storage_state: "read-only" } };
    const what =
      "the cluster is between two regions: its last handover led to both, and that does not hold for restate-1.region2";
    assert.deepEqual(judge(view("both", cluster("both", { nodes }))), [
      error(what, "kubectl -n ns-region1 create job --from=cronjob/restate-serve-both restate-serve-both-again"),
    ]);
    assert.deepEqual(judge(view("region1", cluster("both", { nodes }))), [error(what, "pulumi up --stack region1")]);
  });

  test("a node whose volume is lost is no sign of it", () => {
    const nodes = { "restate-1.region2": { state: "dead", storage_state: "data-loss" } };
    assert.deepEqual(
      judge(view("both", cluster("both", { nodes }))).map(({ what }) => what),
      ["restate-1.region2 has come back without what was on its volume, and the cluster refuses it"],
    );
  });

  test("before the first handover nothing is said of nodes that are still joining", () => {
    const nodes = { "restate-1.region2": { metadata_server_state: "provisioning" } };
    assert.deepEqual(judge(view("both", cluster("both", { record: handoverRecord("null"), nodes }))), []);
  });
});
