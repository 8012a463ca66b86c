/**
 * From Restate 1.6 to 1.7, a region at a time and under load, as docs/deploy.md has it: the cluster is handed over before, in between,
 * while nodes of both versions are in it, and afterwards, and every acknowledged call is there once.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { presetStacks } from "../../sandbox/world/environment";
import { typescript } from "../../sandbox/world/paths";
import { leadRegion, type RegionName, regionNames, type Serving } from "../../topology";
import { type Callers, startCallers } from "../support/callers";
import { assertClusterServedBy } from "../support/handovers";
import { eventually, Sandbox } from "../support/sandbox";

const [older, newer] = ["1.6.2", "1.7.12"];

describe("an upgrade of Restate", { timeout: 30 * 60_000 }, () => {
  const sandbox = new Sandbox();
  let callers: Callers | undefined;

  before(async () => {
    // Before there is a world: it fetches what its stacks ask for.
    presetStacks(join(sandbox.folder, "project"), "restate:restateVersion", older);
    await sandbox.command("up");
    callers = await startCallers(sandbox, "upgrade-");
  });
  after(async () => {
    await callers?.stop();
    await sandbox.stop();
  });

  /** Hands the cluster over without Pulumi, and back; what the Jobs printed. */
  async function thereAndBack(there: RegionName, spread: boolean): Promise<string> {
    let printed = "";
    for (const target of [there, "both"] satisfies Serving[]) {
      const lead = leadRegion({ home: "region1", serving: target });
      const { emergency } = (await sandbox.outputs(lead)) as { emergency: Record<string, string> };
      const output = await sandbox.must(lead, "bash", "-c", emergency[target]!);
      assert.match(output, new RegExp(`done: the cluster is served by ${target} `), output);
      await assertClusterServedBy(sandbox, target, spread);
      printed += output;
    }
    return printed;
  }

  const versions = async () =>
    (
      await sandbox.query<{ binary_version: string }>("region1", "select distinct binary_version from nodes order by 1")
    ).map(({ binary_version }) => binary_version);

  async function upgrade(region: RegionName): Promise<void> {
    await sandbox.must(region, "pulumi", "config", "set", "restate:restateVersion", newer!);
    await sandbox.up(region);
    await sandbox.must(region, "kubectl", "-n", `restate-${region}`, "rollout", "status", "statefulset/restate");
    await eventually(120, status, ({ findings }) => findings.every(({ severity }) => severity !== "error"));
  }

  /** What `npm run status` finds. */
  async function status() {
    const { stdout } = await sandbox.tool("region1", ...["node", ...typescript, "commands/status.ts", "--json"]);
    return JSON.parse(stdout) as { findings: { severity: string; what: string }[] };
  }

  test("1.6: there and back, both ways, without asking for leaders", async () => {
    for (const region of regionNames)
      assert.doesNotMatch(await thereAndBack(region, false), /every partition is led from region\d$/m);
  });

  test("one region upgraded: all of it is told, and the cluster can be handed over both ways", async () => {
    await upgrade("region2");
    assert.deepEqual(await versions(), [older, newer]);
    const { findings } = await status();
    const mixed = `region1 runs Restate ${older}, and region2 runs Restate ${newer}`;
    assert.ok(
      findings.some(({ what }) => what === mixed),
      JSON.stringify(findings),
    );
    for (const region of regionNames)
      assert.match(
        await thereAndBack(region, false),
        /nodes run 1\.6\.2 and 1\.7\.12: leaders cannot be asked to move/,
      );
  });

  test("both upgraded: all is well, and leaders are asked to move", async () => {
    await upgrade("region1");
    assert.deepEqual(await versions(), [newer]);
    for (const region of regionNames)
      assert.match(await thereAndBack(region, true), new RegExp(`every partition is led from ${region}$`, "m"));
  });

  test("every acknowledged call is there, once", () => callers!.assertEachOnce());
});
