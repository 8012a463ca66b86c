/**
 * Handing the cluster over as an operator does: one line in Pulumi.yaml and `pulumi up`, while clients call all the time;
 * with what would block it, with runs that are killed, and without Pulumi. Every step of it under every fault is in
 * test/faults/handover.test.ts.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, test } from "node:test";
import type { Receipt } from "../../outputs";
import { readState } from "../../sandbox/service/admin";
import { faultsOf, judgeCalls } from "../../sandbox/service/check";
import type { RegionPorts } from "../../sandbox/service/deploy";
import { type Load, startLoad } from "../../sandbox/service/load";
import { typescript } from "../../sandbox/world/paths";
import { changeServing } from "../../sandbox/world/serving";
import { type RegionName, regionNames, type Serving } from "../../topology";
import { Running } from "../faults/processes";
import { assertServedBy, clusterState, comesTo, killHandover, segmentsOn } from "../support/handovers";
import { type Ended, eventually, type Sandbox } from "../support/sandbox";

/**
 * For regions that nothing was handed over in, with the practice service. `there and back` drains region1 and restores it, with
 * a Job that is killed on the way; `every way` takes several minutes more, and ends with one region.
 */
export const handedOver = (sandbox: Sandbox, extent: "there and back" | "every way") => {
  let ports: RegionPorts[] = [];
  let load: Load;

  before(async () => {
    ports = (JSON.parse(await sandbox.command("practice", "--json")) as { regions: RegionPorts[] }).regions;
    const accounts = Array.from({ length: 32 }, (_, i) => `handover-${i}`);
    load = startLoad("handover", { regions: ports, clients: 2, accounts, repeatShare: 0.05, pauseMs: 300 });
  });

  const kubectl = (region: RegionName, ...words: string[]) =>
    sandbox.must(region, "kubectl", "-n", `restate-${region}`, ...words);
  const receiptOf = async (region: RegionName) =>
    ((await sandbox.outputs(region)).handover as { receipt: Receipt } | undefined)?.receipt;

  /** The line of the pull request: `serving`, for both stacks. */
  const wanted = (serving: Serving) => changeServing(serving, join(sandbox.folder, "project"));

  /** Both stacks know the same last receipt, and so does the bucket of the region that led. */
  async function assertReceipt(number: number, from: Serving, to: Serving): Promise<Receipt> {
    const [one, two] = await Promise.all(regionNames.map(receiptOf));
    assert.ok(one && two);
    assert.deepEqual(one, two);
    assert.deepEqual([one.number, one.from, one.to, one.saved], [number, from, to, true]);
    const { bucket } = (await sandbox.outputs(one.ranIn as RegionName)) as { bucket: { name: string } };
    const object = `s3://${bucket.name}/handovers/${String(number).padStart(6, "0")}.json`;
    assert.deepEqual(JSON.parse(await sandbox.must("region1", "aws", "s3", "cp", object, "-")), one);
    return one;
  }

  /** Calls go on: that many more are acknowledged within a minute. */
  async function assertCallsGoOn(count = 20): Promise<void> {
    const before = load.calls.length;
    await eventually(
      60,
      async () => load.calls.length - before,
      (more) => more >= count,
    );
  }

  /** Has logs trimmed until a drained region holds no records any more. */
  async function trimAll(region: RegionName): Promise<void> {
    const { nodes } = await clusterState(sandbox);
    const drained = nodes.filter(({ location }) => location === region).map(({ id }) => id as string);
    const trim = "restatectl snapshots create --trim-log --yes".split(" ");
    await eventually(
      120,
      async () => {
        await kubectl(region, "exec", "restate-0", "--", ...trim);
        return segmentsOn(sandbox, drained);
      },
      (left) => left === 0,
    );
  }

  const preview = async (region: RegionName): Promise<Ended> =>
    sandbox.tool(region, "pulumi", "preview", "--color", "never");

  /** What an operator sees of an `up`. */
  const up = (region: RegionName): Promise<Ended> =>
    sandbox.tool(region, "pulumi", "up", "--yes", "--skip-preview", "--color", "never");

  test("a preview says in words what it does, and which stack leads", async () => {
    wanted("region2");
    const [lead, follower] = await Promise.all([preview("region2"), preview("region1")]);
    assert.equal(lead.code, 0, lead.stdout + lead.stderr);
    assert.match(lead.stdout, /serving: both -> region2\. This update hands the cluster over \(handover 1\):/);
    assert.match(lead.stdout, /every log is written in region2 alone/);
    assert.match(lead.stdout, /Nothing would block it now; \d+ things differ from what is wanted\./);
    assert.match(
      follower.stdout,
      /region2 hands the cluster over \(serving: both -> region2\)\. Next: pulumi up --stack \S*region2/,
    );
  });

  test("what blocks it is told by the preview, and by an up that then changes nothing in the cluster", async () => {
    const setting = ["--path", "restate:handover.maxUnsavedRecords"];
    await sandbox.must("region2", "pulumi", "config", "set", ...setting, "1");
    const blocked = await preview("region2");
    assert.match(blocked.stdout, /BLOCKED as things are now:\n.*partition 0: \d+ records since its last snapshot/);
    const before = await clusterState(sandbox);
    const { code, stdout } = await up("region2");
    assert.notEqual(code, 0);
    for (const id of [0, 1, 2, 3])
      assert.match(stdout, new RegExp(`partition ${id}: \\d+ records since its last snapshot`));
    assert.match(stdout, /nothing was changed:/);
    assert.match(stdout, /Next: npm run status, then pulumi up --stack region2/);
    assert.deepEqual(await clusterState(sandbox), before);
    assert.equal(await receiptOf("region2"), undefined);
    await sandbox.must("region2", "pulumi", "config", "rm", ...setting);
  });

  test("both -> region2: the lead hands over and its peer follows; then nothing is left to change", async () => {
    const lead = await sandbox.up("region2");
    assert.ok(lead.some(({ name, type }) => name === "handover-job" && type === "kubernetes:batch/v1:Job"));
    await assertCallsGoOn();
    assert.deepEqual(
      (await sandbox.up("region1")).filter(({ type }) => type !== "pulumi:index:Stash"),
      [],
    );
    await assertServedBy(sandbox, "region2");
    const receipt = await assertReceipt(1, "both", "region2");
    assert.equal(receipt.ranIn, "region2");
    assert.ok(receipt.changes > 0 && receipt.changes === receipt.steps.reduce((sum, { changes }) => sum + changes, 0));
    assert.match(String(receipt.askedBy.commit), /^[0-9a-f]{40}$/);
    for (const region of regionNames) assert.deepEqual(await sandbox.up(region), [], region);
  });

  test("stacks that want different regions are refused", async () => {
    await sandbox.must("region1", "pulumi", "config", "set", "restate:serving", "region1");
    const { code, stdout } = await preview("region1");
    assert.notEqual(code, 0);
    assert.match(stdout, /the same Pulumi\.yaml was used for handover 1 to region2 alone/);
    assert.match(stdout, /pulumi config rm restate:serving/);
    await sandbox.must("region1", "pulumi", "config", "rm", "restate:serving");
  });

  if (extent === "every way")
    test("a drained region may run fewer nodes, and runs them all again before it is restored", async () => {
      for (const region of regionNames)
        await sandbox.must(region, "pulumi", "config", "set", "restate:standbyReplicas", "1");
      const running = async () =>
        (await kubectl("region1", "get", "statefulset", "restate", "-o", "jsonpath={.status.readyReplicas}")).trim();
      // Without them the logs that they have records of could not be trimmed.
      await sandbox.up("region1");
      assert.match(
        String((await sandbox.outputs("region1")).pending),
        /^region1 keeps running all its nodes, not 1: they hold older records/,
      );
      assert.equal(await running(), "3");
      await trimAll("region1");
      const shrunk = await sandbox.up("region1");
      assert.deepEqual(
        shrunk.filter(({ type }) => type !== "pulumi:index:Stash").map(({ name }) => name),
        ["restate"],
      );
      await eventually(60, running, (count) => count === "1");
      await sandbox.up("region2");
      await assertServedBy(sandbox, "region2");
      await assertCallsGoOn();
      for (const region of regionNames) assert.deepEqual(await sandbox.up(region), [], region);
    });

  test("region2 -> both: the Job's pod is killed on the way, and the next up goes on where it stopped", async () => {
    wanted("both");
    const [disturbed] = await Promise.all([
      up("region1"),
      comesTo(sandbox, "region1", "every partition lives in both regions").then(() => killHandover(sandbox, "region1")),
    ]);
    assert.notEqual(disturbed.code, 0, disturbed.stdout);
    await assertCallsGoOn();
    await sandbox.up("region1");
    await sandbox.up("region2");
    await assertServedBy(sandbox, "both");
    await assertReceipt(2, "region2", "both");
    assert.equal(await kubectl("region1", "get", "pods", "-l", "app=restate", "-o", "name"), pods(3));
  });

  if (extent === "every way")
    test("both -> region1: pulumi up is killed on the way, and npm run up finishes", async () => {
      wanted("region1");
      const run = new Running(["pulumi", "up", "--yes", "--skip-preview"], await sandbox.environment("region1"));
      await comesTo(sandbox, "region1", "every log is written in region1 alone", () => run.over);
      assert.equal(run.over, false, run.output);
      run.kill();
      await run.ended;
      await sandbox.must("region1", process.execPath, ...typescript, "commands/up.ts", "--yes");
      await assertServedBy(sandbox, "region1");
      await assertReceipt(3, "both", "region1");
      await assertCallsGoOn();
    });

  if (extent === "every way")
    test("region1 -> both without Pulumi: the stack's command starts the same Job, and the next up finds it done", async () => {
      const { emergency } = (await sandbox.outputs("region1")) as { emergency: Record<Serving, string> };
      await trimAll("region2");
      await sandbox.up("region2");
      // Region2 stands by with fewer nodes.
      const refused = await sandbox.tool("region1", "bash", "-c", emergency.both);
      assert.match(refused.stdout, /the cluster cannot be handed over to both; nothing was changed:/);
      assert.match(refused.stdout, /restate-2\.region2 is dead/);
      await sandbox.must("region2", "kubectl", "-n", "restate-region2", "scale", "statefulset/restate", "--replicas=3");
      await sandbox.must("region2", "kubectl", "-n", "restate-region2", "rollout", "status", "statefulset/restate");
      const printed = await eventually(
        60,
        () => sandbox.must("region1", "bash", "-c", emergency.both),
        (text) => text.includes("done: the cluster is served by both"),
      );
      assert.match(printed, /receipt: s3:\/\//);
      wanted("both");
      // But for segments: some time after a leader has moved the cluster takes its log's sequencer after it.
      const settled = async () => {
        const { logs, ...others } = await clusterState(sandbox);
        return { ...others, logs: logs.map(({ log_id, replication }) => ({ log_id, replication })) };
      };
      const before = await settled();
      // Region2 first: its stack still has fewer nodes than it runs.
      for (const region of ["region2", "region1", "region2"] as const) await sandbox.up(region);
      assert.deepEqual(await settled(), before);
      await assertServedBy(sandbox, "both");
      const receipt = await assertReceipt(4, "region1", "both");
      assert.deepEqual(receipt.askedBy, { user: "started by hand in region1" });
      for (const region of regionNames) assert.deepEqual(await sandbox.up(region), [], region);
    });

  if (extent === "every way")
    test("a region that is drained may be destroyed, and the other one goes on", async () => {
      wanted("region1");
      await sandbox.up("region1");
      await sandbox.up("region2");
      await assertServedBy(sandbox, "region1");
      const destroy = () => sandbox.tool("region2", "pulumi", "destroy", "--yes", "--skip-preview", "--run-program");
      const refused = await destroy();
      assert.notEqual(refused.code, 0, refused.stdout);
      assert.match(refused.stdout + refused.stderr, /logs? [\d, ]+: older records are on nodes of region2/);
      // As the refusal says.
      await trimAll("region2");
      const destroyed = await destroy();
      assert.equal(destroyed.code, 0, destroyed.stdout + destroyed.stderr);
      await assertCallsGoOn();
    });

  test("every call that was acknowledged meanwhile is in the state exactly once", async () => {
    const calls = await load.stop();
    assert.ok(calls.length > 100, `${calls.length} calls`);
    for (const one of calls) assert.equal(one.outcome, "acknowledged", JSON.stringify(one.attempts));
    const { admin } = ports.find(({ region }) => region === "region1")!;
    assert.deepEqual(faultsOf(judgeCalls(calls, await readState(admin, "handover-"))), []);
  });
};

const pods = (count: number) => Array.from({ length: count }, (_, i) => `pod/restate-${i}\n`).join("");
