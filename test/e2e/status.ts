/** `npm run status` against real nodes: the age of snapshots, what waits for replication, roles and S3 that fail, a region out of reach. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Finding, RegionView } from "../../commands/report";
import type { SnapshotSummary } from "../../commands/snapshots";
import { typescript } from "../../sandbox/world/paths";
import { bucketOf, denyReplication } from "../support/mischief";
import { eventually, type Sandbox } from "../support/sandbox";

interface Printed {
  healthy: boolean;
  findings: Finding[];
  regions: (RegionView & { snapshotSummary?: SnapshotSummary })[];
  cluster?: { nodes: { state: string }[] };
}

/** For regions that have just been deployed: there are no snapshots yet. */
export const statusTold = (sandbox: Sandbox) => {
  const status = ["node", ...typescript, "commands/status.ts"];
  async function look(): Promise<Printed & { code: number }> {
    const ended = await sandbox.tool("region1", ...status, "--json");
    assert.equal(ended.stderr, "");
    return { ...(JSON.parse(ended.stdout) as Printed), code: ended.code };
  }
  const restatectl = (...args: string[]) =>
    sandbox.must("region1", ...["kubectl", "-n", "restate-region1", "exec", "restate-0", "--", "restatectl", ...args]);
  const nothingLacks = { waiting: 0, oldestWaitingSeconds: null, failed: 0, neverCopied: 0, gone: 0, notLookedAt: 0 };
  const replications = ({ regions }: Printed) => regions.map(({ snapshots }) => snapshots?.replication);
  const settled = (seen: Printed) =>
    replications(seen).every((one) => JSON.stringify(one) === JSON.stringify(nothingLacks));

  test("before the first snapshot there is none, and that is no fault while few records are written", async () => {
    const { code, healthy, findings, regions } = await look();
    assert.deepEqual([code, healthy, findings], [0, true, []]);
    for (const { snapshots, snapshotSummary } of regions) {
      assert.deepEqual(snapshots?.problems, []);
      assert.deepEqual(snapshots?.objects, 0);
      assert.deepEqual(snapshotSummary, { without: [0, 1, 2, 3] });
    }
  });

  test("snapshots in both buckets: their age and how far they are behind, of each region", async () => {
    await restatectl("snapshots", "create");
    const seen = await eventually(
      60,
      look,
      (one) => settled(one) && one.regions.every((r) => r.snapshots?.partitions.length === 4),
    );
    assert.equal(seen.code, 0);
    for (const { snapshots, snapshotSummary } of seen.regions) {
      assert.ok(snapshotSummary?.newestSeconds !== undefined && snapshotSummary.newestSeconds < 300);
      assert.ok(snapshotSummary.recordsBehind !== undefined && snapshotSummary.recordsBehind < 100);
      assert.deepEqual(snapshots?.problems, []);
    }
    const screen = await sandbox.must("region1", ...status);
    assert.match(screen, /^✓ all is well$/m);
    assert.match(screen, /^ {2}region2 +\d+ \S+ +\d+ \S+ \(partition \d\) +\d+ +to region1: nothing waiting$/m);
  });

  test("what replication has not copied yet is counted, with the age of the oldest; then nothing waits", async () => {
    await sandbox.command("fault", "copier", "pause");
    await restatectl("snapshots", "create");
    const seen = await eventually(60, look, (one) =>
      replications(one).some((r) => r && r.waiting > 0 && (r.oldestWaitingSeconds ?? 0) >= 5),
    );
    // A short wait is no fault.
    assert.deepEqual([seen.code, seen.findings], [0, []]);
    const screen = await sandbox.must("region1", ...status);
    assert.match(screen, /to region[12]: \d+ objects?, oldest \d+ s$/m);
    await sandbox.command("fault", "copier", "resume");
    await eventually(60, look, settled);
  });

  test("copies that failed are told, with the command that mends them", async () => {
    await denyReplication(sandbox, "region1");
    await sandbox.must(
      "region1",
      ...[
        "aws",
        "s3",
        "cp",
        "package.json",
        `s3://${await bucketOf(sandbox, "region1")}/snapshots/0/lsn_99999999999999999999-snap_test/1.sst`,
      ],
    );
    const seen = await eventually(60, look, (one) => (one.regions[0]!.snapshots?.replication?.failed ?? 0) > 0);
    assert.equal(seen.code, 1);
    const finding = seen.findings.find(({ what }) => what.startsWith("S3 gave up copying"));
    assert.match(
      finding?.next ?? "",
      /^pulumi up --refresh --stack region1; then kubectl .* restatectl snapshots create$/,
    );
    await sandbox.must("region1", ...["pulumi", "up", "--refresh", "--yes", "--skip-preview", "--suppress-outputs"]);
    await sandbox.command("fault", "copier", "retry");
    await eventually(60, look, settled);
  });

  test("a role without its permissions: denied is told, and the home stack's command brings it back", async () => {
    const policy = ["--role-name", "restate-nodes", "--policy-name", "snapshots"];
    await sandbox.must("region1", ...["aws", "iam", "delete-role-policy", ...policy]);
    const seen = await eventually(30, look, (one) => one.findings.length === 2);
    assert.equal(seen.code, 1);
    for (const [i, { severity, what, next }] of seen.findings.entries()) {
      assert.equal(severity, "error");
      assert.match(
        what,
        new RegExp(`^region${i + 1}: nodes cannot list \\S+ and \\S+: AccessDenied: User: \\S+ is not authorized`),
      );
      assert.equal(next, "pulumi up --refresh --stack region1");
    }
    await sandbox.must("region1", ...["pulumi", "up", "--refresh", "--yes", "--skip-preview", "--suppress-outputs"]);
    await eventually(30, look, ({ code }) => code === 0);
  });

  test("S3 that does not answer costs seconds, and the rest is told", async () => {
    await sandbox.command("fault", "hang", "s3", "ListBucket");
    const { code, findings, cluster } = await look();
    await sandbox.command("fault", "unfault");
    assert.equal(code, 1);
    assert.equal(findings.length, 2);
    for (const { what, next } of findings) {
      assert.match(what, /nodes cannot list \S+ and \S+: unreachable: .*timed out/i);
      assert.match(next, /logs restate-\d \| grep -i snapshot$/);
    }
    assert.equal(cluster?.nodes.length, 6);
  });

  test("a region whose API server is gone is shown as such; its bucket is looked at from the other region", async () => {
    await sandbox.command("fault", "kill", "region1/kube-apiserver");
    const { code, findings, regions, cluster } = await look();
    assert.equal(code, 1);
    assert.match(findings[0]!.what, /^region1 cannot be reached: /);
    assert.equal(cluster?.nodes.length, 6);
    assert.deepEqual(
      regions.map(({ snapshots }) => [snapshots?.askedIn.region, snapshots?.partitions.length]),
      [
        ["region2", 4],
        ["region2", 4],
      ],
    );
    // With the parts that ended for want of it.
    await sandbox.command("up", "--world-only");
    await eventually(60, look, (one) => one.code === 0);
  });
};
