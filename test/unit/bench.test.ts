/** Sums of the benchmarks. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { timed } from "../../sandbox/bench/bench-sandbox";
import {
  childrenTime,
  comparisonTable,
  figureTable,
  median,
  partitionCounts,
  previewFigures,
  ratioOf,
  replicaCounts,
} from "../../sandbox/bench/figures";
import { compare, type Noticed, noticedOf, originalJob, originalRun, ourRun } from "../../sandbox/bench/handover";
import type { CallRecord } from "../../sandbox/service/load";
import { receiptOf } from "../support/receipts";

test("the median is in the middle, whatever the order", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.throws(() => median([]), /no median of nothing/);
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
      const middle = median(values);
      assert.ok(values.filter((one) => one < middle).length <= values.length / 2);
      assert.ok(values.filter((one) => one > middle).length <= values.length / 2);
    }),
  );
});

test("processor time of children, as shells print it", () => {
  assert.equal(childrenTime("0m0.00s 0m0.01s\n1m2.50s 0m0.25s\n"), 62.75);
  assert.equal(childrenTime("0m0,001s 0m0,000s\n0m1,500s 0m0,250s\n"), 1.75);
  assert.throws(() => childrenTime("0m0.00s"), /times printed something else: 0m0.00s/);
});

test("a command is timed with its children, and its failure is told with what it printed", () => {
  const busy = "const end = Date.now() + 200; while (Date.now() < end);";
  const times = timed([process.execPath, "-e", busy], process.env, "/");
  assert.ok(times.wall >= 0.2);
  assert.ok(times.processor > 0 && times.processor < times.wall + 5);
  assert.throws(
    () => timed(["sh", "-c", "echo no such stack; exit 3"], process.env, "/"),
    /exit code 3\nno such stack/,
  );
});

test("previews are compared by their medians", () => {
  const times = (...walls: number[]) => walls.map((wall) => ({ wall, processor: 2 * wall }));
  const figures = previewFigures("3 nodes", times(2, 9, 3), times(2, 1, 2), times(4, 4), 1.5);
  assert.deepEqual(
    figures.map(({ value, unit, target }) => [value, unit, target]),
    [
      [3, "s", undefined],
      [2, "s", undefined],
      [1.5, "x", 1.5],
      [4, "s", undefined],
      [0.75, "x", undefined],
      [6, "s", undefined],
      [4, "s", undefined],
      [1.5, "x", undefined],
    ],
  );
});

test("numbers of nodes", () => {
  assert.deepEqual(replicaCounts("3,9"), [3, 9]);
  assert.deepEqual(replicaCounts("3,3"), [3]);
  for (const wrong of ["", "0", "10", "3;9", "1.5"])
    assert.throws(() => replicaCounts(wrong), /--replicas takes nodes/);
});

test("the table says which targets are met", () => {
  const text = figureTable([
    { what: "up", value: 59.994, unit: "s", target: 60 },
    { what: "ratio", value: 1.5, unit: "x", target: 1.5 },
    { what: "memory", value: 1024 ** 3, unit: "B" },
  ]);
  assert.match(text, /^up +59\.99 s +met: under 60 s$/m);
  assert.match(text, /^ratio +1\.50 +missed: under 1\.5$/m);
  assert.match(text, /^memory +1\.0 GiB$/m);
});

test("numbers of partitions", () => {
  assert.deepEqual(partitionCounts("4,32,4"), [4, 32]);
  for (const wrong of ["", "0", "1025", "4;32", "1.5"])
    assert.throws(() => partitionCounts(wrong), /--partitions takes partitions/);
});

test("comparisons show medians, their ratio, and which targets are met", () => {
  const total = { what: "total", unit: "s", original: [9, 12, 10], ours: [3, 2, 4], target: { ratio: 1 / 3 } } as const;
  const slowest = {
    what: "slowest",
    unit: "ms",
    atRest: [100, 140],
    original: [3000, 5000],
    ours: [900, 900],
    target: { value: 900, ratio: 0.2 },
  } as const;
  const lost = { what: "gave up", unit: "runs", original: [1, 0, 1], ours: [0, 0, 0] } as const;
  assert.equal(ratioOf(total), 0.3);
  const text = comparisonTable([total, slowest, lost]);
  assert.match(text, /^total +10\.0 s +3\.0 s +0\.30 +met: at most 0\.33 of the original$/m);
  assert.match(
    text,
    /^slowest +120 ms +4000 ms +900 ms +0\.23 +missed: under 900 ms; missed: at most 0\.20 of the original$/m,
  );
  assert.match(text, /^gave up +2 of 3 +0 of 3$/m);
});

describe("handovers in two orders", () => {
  const steps = [
    { step: "every partition is led from region2", seconds: 1.5, changes: 2 },
    { step: "all of it still holds", seconds: 0.5, changes: 1 },
    { step: "a snapshot holds what was written before", seconds: 7, changes: 1 },
  ];

  test("ours ends when every gate held, before the snapshot", () => {
    const receipt = receiptOf(1, "both", "region2", { began: "2026-01-01T00:00:00.250Z", steps });
    const run = ourRun(receipt, "region2");
    assert.deepEqual([run.began, run.took, run.held], [Date.parse("2026-01-01T00:00:00.250Z"), 2000, true]);
    assert.deepEqual(
      run.steps.map(({ seconds }) => seconds),
      [1.5, 0.5],
    );
    assert.throws(() => ourRun(receipt, "both"), /no receipt of a handover to both/);
    assert.throws(() => ourRun({ ...receipt, steps: steps.slice(0, 1) }, "region2"), /no receipt/);
  });

  test("the original's ends when the same gates hold, or is given up", () => {
    const printed = {
      began: "2026-01-01T00:00:00.250Z",
      seconds: 12.5,
      held: false,
      missing: ["partition 1 is on restate-0.region1"],
      steps: [
        { step: "commands given", at: 0.5 },
        { step: "logs", at: 10 },
      ],
    };
    const run = originalRun(printed, "both");
    assert.deepEqual([run.took, run.held], [12_500, false]);
    assert.deepEqual(
      run.steps.map(({ seconds }) => seconds),
      [0.5, 9.5],
    );
    assert.throws(() => originalRun(null, "both"));
  });

  test("the original runs in the same pod, with its script and nothing else in ours' place", () => {
    const env = [{ name: "NODES", value: "[]" }];
    const container = { name: "handover", image: "restate", command: ["bash", "/operations/handover.sh", "run"], env };
    const volumes = [
      { name: "operations", configMap: { name: "restate-handover-1" } },
      { name: "tmp", emptyDir: {} },
    ];
    const job = { spec: { template: { spec: { containers: [container], volumes } } } };
    const changed = originalJob(job, "region2");
    assert.deepEqual(changed.spec!.template.spec!.containers, [
      {
        ...container,
        command: ["bash", "/operations/original.sh", "region2"],
        env: [...env, { name: "CAP", value: "120" }, { name: "RETURNING", value: "region1" }],
      },
    ]);
    assert.deepEqual(changed.spec!.template.spec!.volumes, [
      { name: "operations", configMap: { name: "bench-original" } },
      volumes[1],
    ]);
    assert.equal(container.env.length, 1);
  });

  test("what callers notice, by partition too: only of calls that were under way meanwhile", () => {
    const call = (account: string, start: number, end: number) =>
      ({ key: `${account}-${start}`, account, start, end, outcome: "acknowledged", attempts: [{}] }) as CallRecord;
    const calls = [
      ...[call("a", 0, 900), call("a", 1_000, 1_400), call("b", 1_100, 1_200), call("c", 1_500, 1_520)],
      call("c", 2_500, 9_000),
    ];
    const places = new Map([
      ["a", 0],
      ["b", 1],
      ["c", 1],
    ]);
    const noticed = noticedOf(calls, places, { began: 1_000, took: 1_000 });
    assert.deepEqual(
      [noticed.calls, noticed.slowest, noticed.worstPartitionP99, noticed.usualPartitionSlowest],
      [3, 400, 400, 250],
    );
  });

  test("each direction is compared by itself", () => {
    const noticed = (slowest: number) => ({ slowest, longestSilence: 1, p99: 2 }) as Noticed;
    const run = (order: "original" | "ours", target: string, took: number, held = true) => ({
      run: { order, target, took, held },
      noticed: noticed(took / 10),
      atRest: noticed(took / 100),
    });
    const compared = compare(4, "both", [
      ...[run("original", "both", 9_000), run("ours", "both", 1_000), run("original", "both", 120_000, false)],
      ...[run("ours", "both", 2_000), run("ours", "region2", 500)],
    ]);
    assert.deepEqual(
      compared
        .map(({ what, atRest, original, ours }) => [what, atRest, original, ours])
        .filter((_, i) => [0, 2, 6].includes(i)),
      [
        ["4 partitions, restore: total", undefined, [9, 120], [1, 2]],
        ["4 partitions, restore: slowest call", [90, 10, 1_200, 20], [900, 12_000], [100, 200]],
        ["4 partitions, restore: did not get there in 120 s", undefined, [0, 1], [0, 0]],
      ],
    );
  });
});
