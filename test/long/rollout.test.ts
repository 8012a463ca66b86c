/**
 * A change that restarts the pods of both regions, by `npm run up`, under load: at no time are pods of both away, also when the
 * command is killed while the first region's restart and is run again.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1NodeList, V1StatefulSet } from "@kubernetes/client-node";
import { typescript } from "../../sandbox/world/paths";
import { type RegionName, regionNames } from "../../topology";
import { Running } from "../faults/processes";
import { type Callers, startCallers } from "../support/callers";
import { eventually, Sandbox } from "../support/sandbox";

describe("a change that restarts pods of both regions", { timeout: 20 * 60_000 }, () => {
  const sandbox = new Sandbox();
  let callers: Callers | undefined;

  before(async () => {
    await sandbox.command("up");
    callers = await startCallers(sandbox, "rollout-");
  });
  after(async () => {
    await callers?.stop();
    await sandbox.stop();
  });

  /** Revision of a region's pods, and whether all of them run it and are ready. */
  async function stateOf(region: RegionName) {
    const { spec, status } = await sandbox.objects<V1StatefulSet>(region, "statefulset/restate");
    const away = (spec?.replicas ?? 0) - (status?.readyReplicas ?? 0);
    return { away, revision: status?.updateRevision, restarting: status?.currentRevision !== status?.updateRevision };
  }

  /** Looks at both regions again and again until told to end; how often, and when pods of both were away. */
  function watch() {
    const seen = { looks: 0, restarting: { region1: 0, region2: 0 }, together: [] as string[] };
    let over = false;
    const done = (async () => {
      while (!over) {
        const [one, two] = await Promise.all([stateOf("region1"), stateOf("region2")]);
        seen.looks++;
        if (one.restarting) seen.restarting.region1++;
        if (two.restarting) seen.restarting.region2++;
        if ((one.away > 0 && two.away > 0) || (one.restarting && two.restarting))
          seen.together.push(JSON.stringify([one, two]));
        await sleep(500);
      }
    })();
    return async () => {
      over = true;
      await done;
      return seen;
    };
  }

  async function change(value: string): Promise<void> {
    for (const region of regionNames)
      await sandbox.must(region, "pulumi", "config", "set", "--path", "restate:env.TRIED", value);
  }

  const command = [process.execPath, ...typescript, "commands/up.ts", "--yes"];

  async function assertBothSettled(before: readonly (string | undefined)[]): Promise<void> {
    const states = await Promise.all(regionNames.map(stateOf));
    assert.ok(
      states.every(({ away, restarting, revision }, i) => away === 0 && !restarting && revision !== before[i]),
      JSON.stringify({ before, states }),
    );
  }

  const says = (one: Running, what: RegExp) =>
    eventually(
      240,
      async () => one.output,
      (output) => {
        if (one.over) throw new Error(`it ended: ${output}`);
        return what.test(output);
      },
    );

  const revisions = async () => (await Promise.all(regionNames.map(stateOf))).map(({ revision }) => revision);

  test("one region after the other", async () => {
    const before = await revisions();
    await change("once");
    const end = watch();
    await sandbox.must("region1", ...command);
    const seen = await end();
    assert.deepEqual(seen.together, []);
    assert.ok(seen.restarting.region1 > 0 && seen.restarting.region2 > 0, JSON.stringify(seen));
    await assertBothSettled(before);
  });

  test("killed while the first region's pods restart, and run again: the second waits for them", async () => {
    const before = await revisions();
    await change("twice");
    const end = watch();
    // The pod that is stopped first finds no machine, so that the restart lasts until it may have one.
    const { items } = JSON.parse(await sandbox.must("region1", "kubectl", "get", "nodes", "-o", "json")) as V1NodeList;
    const nodes = items.map(({ metadata }) => metadata!.name!);
    await sandbox.must("region1", "kubectl", "cordon", ...nodes);
    const environment = await sandbox.environment("region1");
    const first = new Running(command, environment);
    try {
      await says(first, /region1 +pods restart: /);
    } finally {
      first.kill();
    }
    const second = new Running(command, environment);
    try {
      // What the first one began is told before region2 is touched.
      await says(
        second,
        /region2: up\n.*region1 +region2 waits; to go on at once: pulumi up --stack region2\n.*region1 +pods restart: /,
      );
      await sleep(5_000);
      assert.doesNotMatch(second.output, /updated restate/);
      assert.equal((await stateOf("region2")).revision, before[1]);
      await sandbox.must("region1", "kubectl", "uncordon", ...nodes);
      assert.equal(await second.ended, 0, second.output);
    } finally {
      second.kill();
    }
    const seen = await end();
    assert.match(second.output, /region1 +all pods have restarted\n(.*\n)*.*region2 .*updated restate/);
    assert.deepEqual(seen.together, []);
    assert.ok(seen.restarting.region1 > 0 && seen.restarting.region2 > 0, JSON.stringify(seen));
    await assertBothSettled(before);
  });

  test("every acknowledged call is there, once", () => callers!.assertEachOnce());
});
