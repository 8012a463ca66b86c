/** In which order the stacks come up, and with which of them absent: it ends in the same one cluster. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { assertOneCluster, twoClusters } from "../support/cluster";
import { Sandbox } from "../support/sandbox";

describe("stacks brought up in another order", () => {
  const sandbox = new Sandbox();
  const regions = twoClusters.map((place) => place.cluster);
  const pending = async (region: string) => (await sandbox.outputs(region)).pending as string[];
  const health = async (region: string) =>
    JSON.parse(
      await sandbox.must(
        region,
        ...["kubectl", "-n", `restate-${region}`, "exec", "restate-0", "--", "curl", "-s", "localhost:5122/health"],
      ),
    ) as { node_id?: string };
  const assertSettled = async () => {
    for (const region of regions) {
      assert.deepEqual(await sandbox.up(region), []);
      assert.deepEqual(await pending(region), []);
    }
  };

  before(() => sandbox.command("up", "--world-only"));
  after(() => sandbox.stop());

  test("both at the same moment from nothing, then once more: one cluster, provisioned once", async () => {
    await Promise.all(regions.map((region) => sandbox.up(region)));
    const report = JSON.parse(
      await sandbox.must("region1", ...["npm", "run", "-s", "up", "--", "--yes", "--json"]),
    ) as {
      settled: boolean;
    };
    assert.equal(report.settled, true);
    await assertOneCluster(sandbox);
    await assertSettled();
    await Promise.all(regions.map((region) => sandbox.giveUp(region)));
  });

  test("region1 alone stays as it is for as long as one likes, and says what it waits for", async () => {
    await sandbox.up("region1");
    const waits = await pending("region1");
    assert.match(waits.join("\n"), /the peer stack \S*region2 does not exist yet or has no outputs/);
    assert.match(waits.join("\n"), /provisioning waits for the nodes of the peer\. Next: pulumi up --stack \S*region2/);
    assert.deepEqual(await sandbox.up("region1"), []);
    assert.deepEqual(await pending("region1"), waits);
    assert.equal((await health("region1")).node_id ?? null, null, "no cluster of three nodes was made");
    const outputs = await sandbox.outputs("region1");
    assert.equal((outputs.nodes as unknown[]).length, 3);
    assert.equal(outputs.replication, undefined);
    await sandbox.giveUp("region1");
  });

  test("region2 first, then region1, then region2", async () => {
    await sandbox.up("region2");
    const waits = await pending("region2");
    assert.match(waits.join("\n"), /the peer stack \S*region1 does not exist yet or has no outputs/);
    assert.equal((await health("region2")).node_id ?? null, null, "region2 does not provision by itself");
    const changes = await sandbox.up("region1");
    assert.ok(
      changes.some(({ name, op }) => name === "provisioning" && op === "create"),
      "region1 sees both regions' nodes and provisions",
    );
    assert.ok((await sandbox.up("region2")).some(({ name, op }) => name === "replication" && op === "create"));
    await assertOneCluster(sandbox);
    await assertSettled();
  });
});
