/** A drill as an operator makes it: handed over and back under load, counted, reported, and the sandbox as it was. */
import assert from "node:assert/strict";
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { DrillRow } from "../../sandbox/drill/figures";
import type { Drill } from "../../sandbox/drill/record";
import { placeOf } from "../../sandbox/drill/timeline";
import { Sandbox } from "../support/sandbox";

interface Report {
  passed: boolean;
  faults: string[];
  html: string;
  json: string;
  figures: DrillRow[];
  handovers: Drill["handovers"];
}

const sandbox = new Sandbox();
before(() => sandbox.command("up"));
after(() => sandbox.stop());

test("a drill hands over and back, counts every call, and leaves the sandbox as it was", async () => {
  const report = JSON.parse(await sandbox.command("drill", "--once", "--clients", "4", "--json")) as Report;
  assert.deepEqual(report.faults, []);
  assert.equal(report.passed, true);
  assert.deepEqual(
    report.handovers.map(({ from, to, receipt }) => [from, to, receipt?.from, receipt?.to, receipt?.number]),
    [
      ["both", "region2", "both", "region2", 1],
      ["region2", "both", "region2", "both", 2],
    ],
  );
  for (const { name, figures, lost, doubled } of report.figures) {
    assert.ok(figures.acknowledged > 0, name);
    assert.deepEqual([lost, doubled], [0, 0], name);
  }

  const drill = JSON.parse(readFileSync(report.json, "utf8")) as Omit<Drill, "calls"> & { calls: { rows: unknown[] } };
  assert.equal(drill.calls.rows.length, report.figures.at(-1)!.figures.calls);
  // What was seen: every log in region2 alone and led from there, and both before and afterwards.
  const seen = drill.samples.map(({ partitions, nodes }) => {
    const leaders = partitions.map(({ leader }) => placeOf(leader ? [leader] : [], nodes));
    return [...new Set([...partitions.map(({ nodeset }) => placeOf(nodeset, nodes)), ...leaders])].sort().join(" ");
  });
  assert.match(seen[0]!, /^both/);
  assert.ok(seen.includes("region2"), seen.join("; "));
  assert.match(seen.at(-1)!, /^both/);

  const page = readFileSync(report.html, "utf8");
  assert.match(page, /<b>Passed\.<\/b>/);
  for (const { receipt } of report.handovers) {
    for (const { step } of receipt!.steps) assert.ok(page.includes(`>${step}: `), step);
  }
  assert.equal(lstatSync(join(sandbox.folder, "project", "Pulumi.yaml")).isSymbolicLink(), true);
  for (const region of ["region1", "region2"]) assert.deepEqual(await sandbox.up(region), []);
});
