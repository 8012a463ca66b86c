/** A real service on Restate, called through both regions: each acknowledged call is in the state exactly once. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { connect, rpc } from "@restatedev/restate-sdk-clients";
import { readState } from "../../sandbox/service/admin";
import { faultsOf, judgeCalls } from "../../sandbox/service/check";
import { figuresByRegion } from "../../sandbox/service/figures";
import type { Ledger } from "../../sandbox/service/ledger";
import { type CallRecord, startLoad } from "../../sandbox/service/load";
import { ledgerName } from "../../sandbox/service/model";
import { eventually, type Sandbox } from "../support/sandbox";

interface Deployed {
  changed: string[];
  registered: boolean;
  deployment: string;
  regions: { region: string; ingress: string; admin: string }[];
}

/** For regions that work, and have no service yet. */
export const serviceCalled = (sandbox: Sandbox) => {
  let regions: Deployed["regions"] = [];

  const deploy = async () => JSON.parse(await sandbox.command("practice", "--json")) as Deployed;
  const accounts = (run: string, count: number) => Array.from({ length: count }, (_, i) => `${run}-${i}`);

  before(async () => {
    const deployed = await deploy();
    assert.deepEqual(deployed.changed, ["region1", "region2"]);
    assert.equal(deployed.registered, true);
    regions = deployed.regions;
  });

  /** Fails unless the state has every acknowledged call exactly once, whichever region's nodes are asked, and how. */
  async function assertExactlyOnce(run: string, calls: readonly CallRecord[]): Promise<void> {
    await Promise.all(
      regions.map(async ({ region, ingress, admin }) => {
        const state = await readState(admin, `${run}-`);
        assert.deepEqual(faultsOf(judgeCalls(calls, state)), [], `as ${region} has it`);
        const accounts = [...state];
        const restate = connect({ url: ingress });
        const balances = await Promise.all(
          accounts.map(([account]) => restate.objectClient<Ledger>({ name: ledgerName }, account).read()),
        );
        assert.deepEqual(
          balances,
          accounts.map(([, { balance }]) => balance),
        );
      }),
    );
  }

  /** Names of the service's pods. */
  async function podsOf(region: string): Promise<string[]> {
    const names = await sandbox.must(region, ...["kubectl", "-n", "practice", "get", "pods", "-o", "name"]);
    return names
      .trim()
      .split("\n")
      .map((name) => name.replace("pod/", ""));
  }

  test("deploying it again changes nothing", async () => {
    const again = await deploy();
    assert.deepEqual(again.changed, []);
    assert.equal(again.registered, false);
  });

  test("calls through both regions count exactly once, and pods of both regions serve them", async () => {
    const load = startLoad("both", {
      regions,
      clients: 8,
      accounts: accounts("both", 12),
      calls: 200,
      repeatShare: 0.2,
    });
    const calls = await load.done();
    assert.equal(calls.length, 200);
    for (const one of calls) assert.equal(one.outcome, "acknowledged", JSON.stringify(one.attempts));
    assert.ok(calls.filter((one) => one.repeated).length > 10);
    assert.deepEqual(Object.keys(figuresByRegion(calls)), ["region1", "region2"]);
    await assertExactlyOnce("both", calls);
    const served = new Set(calls.map((one) => one.receipt!.pod));
    for (const { region } of regions) {
      const own = await podsOf(region);
      assert.ok(
        own.some((pod) => served.has(pod)),
        `no call was served in ${region}, by any of ${own.join(", ")}`,
      );
    }
  });

  test("one key sent through both regions at the same time is one call", async () => {
    const [account, id] = ["race-0", "race-key"];
    const send = ({ ingress }: { ingress: string }) =>
      connect({ url: ingress })
        .objectClient<Ledger>({ name: ledgerName }, account)
        .add({ id, amount: 7, pauseMs: 50 }, rpc.opts({ idempotencyKey: id, timeout: 30_000 }));
    const answers = await Promise.all([...regions, ...regions, ...regions].map(send));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    for (const { admin } of regions) {
      const state = await readState(admin, account);
      assert.deepEqual(state.get(account)?.balance, { count: 1, sum: 7 });
      assert.deepEqual([...state.get(account)!.lines], [[1, { id, amount: 7 }]]);
    }
  });

  test("calls count exactly once while a Restate node and a pod of the service are killed", async () => {
    const leaders = await sandbox.query<{ name: string }>(
      "region2",
      "select distinct n.name from partition_state s join nodes n on s.plain_node_id = n.plain_node_id " +
        "where lower(s.effective_mode) = 'leader' and n.location = 'region1'",
    );
    const victim = leaders[0]?.name.split(".")[0] ?? "restate-1";
    const load = startLoad("kill", { regions, clients: 8, accounts: accounts("kill", 40), pauseMs: 100 });
    const answered = (count: number) =>
      eventually(
        60,
        async () => load.calls.length,
        (now) => now >= count,
      );
    await answered(30);
    const kill = (namespace: string, pod: string) =>
      sandbox.must("region1", ...["kubectl", "-n", namespace, "delete", "pod", pod, "--grace-period=0", "--force"]);
    await kill("restate-region1", victim);
    await kill("practice", (await podsOf("region1"))[0]!);
    await answered(load.calls.length + 60);
    const calls = await load.stop();
    for (const one of calls) assert.equal(one.outcome, "acknowledged", JSON.stringify(one.attempts));
    await assertExactlyOnce("kill", calls);
  });
};
