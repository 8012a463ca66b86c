/** Sums of the benchmarks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { timed } from "../../sandbox/bench/bench-sandbox";
import { childrenTime, figureTable, median, previewFigures, replicaCounts } from "../../sandbox/bench/figures";

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
