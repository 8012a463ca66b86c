/** What the report of both regions makes of snapshots: their age, how far they are behind, their way to the peer. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Finding,
  judge,
  type PartitionRow,
  partitionRow,
  type RegionView,
  render,
  type StatusView,
  withStanding,
} from "../../commands/report";
import { durationText, type SnapshotState, summarize } from "../../commands/snapshots";
import { durationSeconds, snapshotRules } from "../../restate/snapshotRules";
import { snapshotDocument, snapshotScript } from "../../restate/snapshots";
import { otherRegion, type RegionName } from "../../topology";
import { regionView } from "../support/region-view";

const minute = 60;
const rules = { intervalRecords: 1000, trimDelaySeconds: 15 * minute };
const nothingLacks = { waiting: 0, oldestWaitingSeconds: null, failed: 0, neverCopied: 0, gone: 0, notLookedAt: 0 };

/** A region's snapshots without fault: two partitions, records 900 and 950 of each. */
function snapshots(region: RegionName, changes: Partial<SnapshotState> = {}): SnapshotState {
  return {
    bucket: `bucket-${region}`,
    peerBucket: `bucket-${otherRegion(region)}`,
    objects: 6,
    complete: true,
    partitions: [
      { partition: 0, lsn: 900, ageSeconds: 12 },
      { partition: 1, lsn: 950, ageSeconds: 3 * minute },
    ],
    replication: nothingLacks,
    problems: [],
    askedIn: { stack: region, region, pod: "restate-0" },
    ...changes,
  };
}

const withSnapshots = (region: RegionName, changes: Partial<RegionView> = {}): RegionView =>
  regionView(region, { snapshotRules: rules, snapshots: snapshots(region), ...changes });

interface Changes {
  region1?: Partial<RegionView>;
  region2?: Partial<RegionView>;
  /** Last record that the nodes of each of the two partitions have applied. */
  applied?: [number, number];
  /** What the leaders say that snapshots hold. */
  archived?: [number | null, number | null];
  noCluster?: true;
}

/** Two regions without fault, and what is different. */
function statusView({ region1, region2, applied = [1000, 1000], archived, noCluster }: Changes = {}): StatusView {
  const regions = [withSnapshots("region1", region1), withSnapshots("region2", region2)];
  const cluster = {
    askedIn: { stack: "region1", pod: "restate-0" },
    nodes: regions.flatMap(({ region, nodes }) =>
      nodes.map(({ name }) => ({
        ...{ name, state: "alive", location: region, storage_state: "read-write", worker_state: "active" },
        metadata_server_state: "member",
      })),
    ),
    logs: [0, 1].map((log_id) => ({ log_id, replication: "{node: 3, region: 2}" })),
    partitions: [0, 1].flatMap((id) => [
      partitionRow({
        ...{ partition_id: id, node: "restate-0.region1", effective_mode: "Leader" },
        applied_log_lsn: applied[id]!,
        archived_log_lsn: (archived ?? [900, 950])[id]!,
      }),
      partitionRow({ partition_id: id, node: "restate-0.region2", effective_mode: "Follower" }),
    ]),
  };
  return {
    regions,
    ...(noCluster ? { noCluster: "gone" } : { cluster }),
    serving: "both",
    home: "region1",
    replicas: 3,
    partitions: 2,
  };
}

const error = (what: string, next: string): Finding => ({ severity: "error", what, next });
const warning = (what: string, next: string): Finding => ({ severity: "warning", what, next });
const create = (region: RegionName, ids = "") =>
  `kubectl -n ns-${region} exec restate-0 -- restatectl snapshots create${ids}`;
const repair = (region: RegionName) => `pulumi up --refresh --stack ${region}`;
const remake = (region: RegionName) => `${repair(region)}; then ${create(region)}`;
const replication = (changes: Partial<NonNullable<SnapshotState["replication"]>>) => ({
  region1: { snapshots: snapshots("region1", { replication: { ...nothingLacks, ...changes } }) },
});
const waiting = (minutes: number, trimDelayMinutes = 15): Changes => ({
  region1: {
    snapshotRules: { ...rules, trimDelaySeconds: trimDelayMinutes * minute },
    ...replication({ waiting: 3, oldestWaitingSeconds: minutes * minute }).region1,
  },
});
const empty = { partitions: [], objects: 0 };
const denied = { code: "AccessDenied", message: "not you" };

/** Views and exactly what is found in them. */
const judgements: Record<string, [Changes, Finding[]]> = {
  "all is well": [{}, []],
  "records within two intervals are not overdue": [{ applied: [2900, 2950] }, []],
  "records beyond two intervals": [
    { applied: [2901, 2950] },
    [
      warning(
        "the newest snapshot of partition 0 is up to 2001 records behind and 12 s old; one is due every 1000 records",
        create("region1", " 0"),
      ),
    ],
  ],
  "several partitions are one finding, with the worst of them": [
    { applied: [2901, 9950] },
    [
      warning(
        "the newest snapshots of partitions 0, 1 are up to 9000 records behind and 3 min old; one is due every 1000 records",
        create("region1", " 0 1"),
      ),
    ],
  ],
  "where time must have passed too, records alone are not overdue": [
    { applied: [2901, 9950], region1: { snapshotRules: { ...rules, intervalSeconds: 90 } } },
    [],
  ],
  "and with both": [
    { applied: [2901, 9950], region1: { snapshotRules: { ...rules, intervalSeconds: 89 } } },
    [
      warning(
        "the newest snapshot of partition 1 is up to 9000 records behind and 3 min old; one is due every 1000 records",
        create("region1", " 1"),
      ),
    ],
  ],
  "of two regions the one with the longer interval counts": [
    { applied: [2901, 2950], region2: { snapshotRules: { ...rules, intervalRecords: 2000 } } },
    [],
  ],
  "the newest snapshot counts, whichever bucket it is in": [
    {
      applied: [2901, 2950],
      region2: { snapshots: snapshots("region2", { partitions: [{ partition: 0, lsn: 901, ageSeconds: 1 }] }) },
    },
    [],
  ],
  "no snapshot anywhere, after few records": [
    {
      applied: [2000, 0],
      archived: [null, null],
      region1: { snapshots: snapshots("region1", empty) },
      region2: { snapshots: snapshots("region2", empty) },
    },
    [],
  ],
  "no snapshot anywhere, after many records": [
    {
      applied: [2001, 7000],
      archived: [null, null],
      region1: { snapshots: snapshots("region1", empty) },
      region2: { snapshots: snapshots("region2", empty) },
    },
    [error("partitions 0, 1 have no snapshot after 7000 records; one is due every 1000", create("region1", " 0 1"))],
  ],
  "buckets that cannot be looked at: what the leaders say counts": [
    {
      applied: [2901, 7000],
      archived: [900, null],
      region1: { snapshots: undefined, noSnapshots: "restate-0 of region1: no answer within 20 s" },
      region2: { snapshots: undefined },
    },
    [
      error("partition 1 has no snapshot after 7000 records; one is due every 1000", create("region1", " 1")),
      warning(
        "region1: its snapshots cannot be looked at: restate-0 of region1: no answer within 20 s",
        "kubectl -n ns-region1 get pods -l app=restate",
      ),
      warning(
        "the newest snapshot of partition 0 is up to 2001 records behind; one is due every 1000 records",
        create("region1", " 0"),
      ),
    ],
  ],
  "replication within half of the trim delay": [waiting(7.5), []],
  "replication beyond half of the trim delay": [
    waiting(8),
    [warning("3 objects of region1's snapshots wait to be copied to region2, the oldest for 8 min", repair("region1"))],
  ],
  "a long trim delay: what S3 promises counts": [waiting(15, 120), []],
  "beyond what S3 promises": [
    waiting(16, 120),
    [
      warning(
        "3 objects of region1's snapshots wait to be copied to region2, the oldest for 16 min",
        repair("region1"),
      ),
    ],
  ],
  "beyond the trim delay": [
    waiting(15),
    [
      error(
        "3 objects of region1's snapshots wait to be copied to region2, the oldest for 15 min: beyond the trim delay of 15 min the log may lack what region2's bucket lacks",
        repair("region1"),
      ),
    ],
  ],
  "S3 gave up": [
    replication({ failed: 1 }),
    [error("S3 gave up copying 1 object from region1 to region2", remake("region1"))],
  ],
  "written before the buckets were replicated": [
    replication({ neverCopied: 4 }),
    [
      warning(
        "S3 never copies 4 objects of region1's newest snapshots to region2: written while there was no replication",
        remake("region1"),
      ),
    ],
  ],
  "deleted in the peer's bucket": [
    replication({ gone: 2 }),
    [warning("region2's bucket has lost its copies of 2 objects of region1's newest snapshots", create("region1"))],
  ],
  "a role that cannot be taken: the home stack owns it": [
    {
      region2: {
        snapshots: snapshots("region2", {
          ...{ objects: null, complete: false, partitions: [], replication: null },
          problems: [{ step: "credentials", bucket: null, ...denied }],
        }),
      },
    },
    [error("region2: nodes cannot take their role: AccessDenied: not you", repair("region1"))],
  ],
  "both buckets denied is one finding": [
    {
      region1: {
        snapshots: snapshots("region1", {
          replication: null,
          problems: ["one", "two"].map((bucket) => ({ step: "list" as const, bucket, ...denied })),
        }),
      },
    },
    [error("region1: nodes cannot list one and two: AccessDenied: not you", repair("region1"))],
  ],
  "S3 out of reach": [
    {
      region1: {
        snapshots: snapshots("region1", {
          replication: null,
          problems: [{ step: "list", bucket: "one", code: "unreachable", message: "(28) Connection timed out" }],
        }),
      },
    },
    [
      error(
        "region1: nodes cannot list one: unreachable: (28) Connection timed out",
        "kubectl -n ns-region1 logs restate-0 | grep -i snapshot",
      ),
    ],
  ],
  "a region out of reach whose bucket is looked at from the peer: commands go there": [
    {
      region1: {
        unreachable: "no answer",
        pods: [],
        snapshots: snapshots("region1", {
          replication: { ...nothingLacks, gone: 1 },
          askedIn: { stack: "region2", region: "region2", pod: "restate-2" },
        }),
      },
    },
    [
      error("region1 cannot be reached: no answer", "kubectl -n ns-region1 get pods"),
      warning(
        "region2's bucket has lost its copies of 1 object of region1's newest snapshots",
        "kubectl -n ns-region2 exec restate-2 -- restatectl snapshots create",
      ),
    ],
  ],
  "while the cluster cannot be asked, replication is still judged": [
    { noCluster: true, ...replication({ failed: 2 }) },
    [
      error("S3 gave up copying 2 objects from region1 to region2", remake("region1")),
      error(
        "the Restate cluster cannot be asked: gone",
        "kubectl -n ns-region1 get pods -l app=restate; kubectl -n ns-region2 get pods -l app=restate",
      ),
    ],
  ],
};

describe("judgement of versions", () => {
  /** What is found where nodes run these versions, region1's first, and these are set. */
  function found(run: (string | undefined)[], set: [string, string]): string[] {
    const view = statusView({ region1: { restateVersion: set[0] }, region2: { restateVersion: set[1] } });
    view.cluster!.nodes.forEach((node, i) => {
      if (run[i] !== undefined) node.binary_version = run[i];
    });
    return judge(view).map(({ severity, what, next }) => `${severity}: ${what} > ${next}`);
  }
  const [a, b] = ["1.6.2", "1.7.12"];
  const rollout = (region: string) =>
    `pulumi up --stack ${region}; kubectl -n ns-${region} rollout status statefulset/restate`;

  for (const [name, run, set, expected] of [
    ["all as it is set", [b, b, b, b, b, b], [b, b], []],
    ["not told", [], [b, b], []],
    ["told by some: a node that is down tells nothing", [b, undefined, b, b], [b, b], []],
    [
      "set for both, and one region has it",
      [a, a, a, b, b, b],
      [b, b],
      [`warning: nodes of region1 run Restate 1.6.2, and 1.7.12 is set > ${rollout("region1")}`],
    ],
    [
      "a region whose pods restart one after the other",
      [a, a, a, a, b, a],
      [a, b],
      [`warning: nodes of region2 run Restate 1.6.2 and 1.7.12, and 1.7.12 is set > ${rollout("region2")}`],
    ],
    [
      "set for one region only",
      [a, a, a, b, b, b],
      [a, b],
      [
        "warning: region1 runs Restate 1.6.2, and region2 runs Restate 1.7.12 > " +
          "give both stacks the same restate:restateVersion (docs/deploy.md, Upgrades), then npm run up",
      ],
    ],
  ] satisfies [string, (string | undefined)[], [string, string], string[]][])
    test(name, () => assert.deepEqual(found(run, set), expected));
});

describe("judgement of snapshots", () => {
  for (const [name, [changes, expected]] of Object.entries(judgements)) {
    test(name, () => assert.deepEqual(judge(statusView(changes)), expected));
  }

  test("of many partitions the first ten are named, and all are in the command", () => {
    const view = statusView();
    const rows = Array.from({ length: 12 }, (_, id) =>
      partitionRow({ partition_id: id, node: "restate-0.region1", effective_mode: "leader", applied_log_lsn: 5000 }),
    );
    view.cluster!.partitions = rows;
    for (const region of view.regions) region.snapshots = undefined;
    assert.deepEqual(judge(view), [
      error(
        "partitions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more have no snapshot after 5000 records; one is due every 1000",
        create("region1", " 0 1 2 3 4 5 6 7 8 9 10 11"),
      ),
    ]);
  });
});

describe("screen of snapshots", () => {
  const table = (changes: Changes = {}) => {
    const lines = render(statusView(changes)).split("\n");
    const begin = lines.findIndex((line) => line.startsWith("  SNAPSHOTS"));
    return begin < 0 ? [] : lines.slice(begin, begin + 3).map((line) => line.trim().split(/ {2,}/));
  };

  test("all is well", () => {
    assert.deepEqual(table(), [
      ["SNAPSHOTS", "NEWEST", "OLDEST", "RECORDS BEHIND", "REPLICATION"],
      ["region1", "12 s", "3 min (partition 1)", "100", "to region2: nothing waiting"],
      ["region2", "12 s", "3 min (partition 1)", "100", "to region1: nothing waiting"],
    ]);
    assert.match(render(statusView()), /nothing waiting\n\nasked in pod restate-0 of region1$/);
  });

  test("each state of the copies", () => {
    const text = (changes: Parameters<typeof replication>[0]) => table(replication(changes))[1]![4];
    assert.equal(text({ waiting: 1, oldestWaitingSeconds: 42 }), "to region2: 1 object, oldest 42 s");
    assert.equal(
      text({ waiting: 3, oldestWaitingSeconds: 7200, failed: 1, neverCopied: 2, gone: 4, notLookedAt: 5 }),
      "to region2: 3 objects, oldest 2 h, 1 failed, 2 never copied, 4 deleted there, 5 not looked at",
    );
    assert.equal(
      table({ region1: { snapshots: snapshots("region1", { peerBucket: null, replication: null }) } })[1]![4],
      "no peer yet",
    );
  });

  test("no snapshot, some missing, a list that was cut off", () => {
    const row = (changes: Partial<SnapshotState>) =>
      table({ region1: { snapshots: snapshots("region1", changes) } })[1]!;
    assert.deepEqual(row(empty).slice(1, 4), ["none", "none", "?"]);
    const { partitions } = snapshots("region1");
    assert.equal(row({ partitions: [partitions[0]!] })[2], "12 s (partition 0); none of partition 1");
    assert.deepEqual(row({ partitions: [partitions[0]!], objects: 9000, complete: false }).slice(2), [
      ...["12 s (partition 0)", "100", "to region2: nothing waiting (first 9000 objects)"],
    ]);
  });

  test("what is not known is a question mark; without anybody asked there is no table", () => {
    const unknown = ["region1", "?", "?", "?", "?"];
    assert.deepEqual(table({ region1: { snapshots: undefined, noSnapshots: "gone" } })[1], unknown);
    assert.deepEqual(
      table({ region1: { snapshots: snapshots("region1", { objects: null, replication: null }) } })[1],
      unknown,
    );
    assert.deepEqual(table({ region1: { snapshots: undefined }, region2: { snapshots: undefined } }), []);
    assert.deepEqual(table({ noCluster: true })[1]!.slice(1, 4), ["12 s", "3 min (partition 1)", "?"]);
  });
});

describe("state of snapshots", () => {
  test("summed up", () => {
    const { cluster } = statusView({ applied: [1000, 5000] });
    assert.deepEqual(summarize(snapshots("region1"), cluster, 3), {
      newestSeconds: 12,
      oldest: { partition: 1, seconds: 180 },
      without: [2],
      recordsBehind: 4050,
    });
    assert.deepEqual(summarize(snapshots("region1", empty), cluster, 2), { without: [0, 1] });
    assert.deepEqual(summarize(snapshots("region1", { complete: false }), undefined, 3), {
      newestSeconds: 12,
      oldest: { partition: 1, seconds: 180 },
      without: [],
    });
  });

  test("rules from settings; durations there and back", () => {
    assert.deepEqual(
      snapshotRules({ intervalRecords: 5, interval: "1h30m", retained: 1, trimDelay: "500ms", noncurrentDays: 7 }),
      { intervalRecords: 5, intervalSeconds: 5400, trimDelaySeconds: 0.5 },
    );
    assert.deepEqual(snapshotRules({ intervalRecords: 5, retained: 1, trimDelay: "2d", noncurrentDays: 7 }), {
      intervalRecords: 5,
      trimDelaySeconds: 172_800,
    });
    assert.equal(durationSeconds("1d2h3m4s5ms"), 93_784.005);
    const texts: [number, string][] = [
      [0, "0 s"],
      [89, "89 s"],
      [90, "2 min"],
      [5399, "90 min"],
      [5400, "2 h"],
      [172_799, "48 h"],
      [172_800, "2 days"],
    ];
    for (const [seconds, text] of texts) assert.equal(durationText(seconds), text);
  });

  test("the script's document is read as it is, and nothing else is", () => {
    const { askedIn, ...document } = snapshots("region1");
    assert.deepEqual({ ...snapshotDocument(JSON.stringify(document)), askedIn }, snapshots("region1"));
    assert.throws(() => snapshotDocument("{}"));
    assert.throws(() => snapshotDocument("bash: jq: command not found"));
    assert.match(snapshotScript(), /take_role\(\)[\s\S]+^#!\/usr\/bin\/env bash\n/m);
  });

  test("a processor stands if it was behind before, and has applied nothing since", () => {
    const row = (applied: number | null, tail = 700, node = "restate-0.region2") =>
      partitionRow({ partition_id: 3, node, applied_log_lsn: applied as number, target_tail_lsn: tail });
    const alive = new Set(["restate-0.region2", "restate-1.region2"]);
    const stands = (before: PartitionRow, now: PartitionRow) =>
      withStanding([before], [now], alive)[0]!.stands ?? false;
    assert.equal(stands(row(500), row(500)), true);
    assert.equal(stands(row(500), row(500, 900)), true);
    assert.equal(stands(row(null), row(null)), true);
    assert.equal(stands(row(500), row(501)), false);
    assert.equal(stands(row(500, 501), row(500)), false, "it was not behind before");
    assert.equal(stands(row(500), row(500, 501)), false, "it is not behind any more");
    assert.equal(stands(row(500, 700, "restate-1.region2"), row(500)), false, "another node");
    const dead = row(500, 700, "restate-0.region1");
    assert.equal(stands(dead, dead), false, "its node is dead, and nothing was heard of it since");
  });

  test("a row as restatectl prints it lacks what is null", () => {
    assert.deepEqual(partitionRow({ partition_id: 3, node: "restate-0.region2", effective_mode: "Follower" }), {
      partition_id: 3,
      node: "restate-0.region2",
      effective_mode: "Follower",
      replay_status: null,
      applied_log_lsn: null,
      target_tail_lsn: null,
      archived_log_lsn: null,
      sequencer: null,
    });
  });
});
