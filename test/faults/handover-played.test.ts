/**
 * operations/handover with the real bash and jq against a cluster that is played: what test/unit/handover-script.test.ts does
 * a part of, in full. Round trips for every size; each change on its own lost or cut off by a kill, in both directions; and
 * random faults, changes of mind and kinds of restatectl.
 *
 *   npm run test:faults -- --test-name-pattern random
 *
 * FAULTS_RUNS is how many random stories are tried (10 unless told), FAULTS_SEED makes them those of an earlier run.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { differences, HandoverStage, watchHandover } from "../support/handover-script";
import type { Fate } from "../support/played-cluster";

type Target = "both" | "region1" | "region2";

/** What has to hold of a run that ended by itself: it is done, or says what to type next. */
function assertHonest({ code, out }: { code: number | null; out: string }): void {
  if (code) assert.match(out, /FAILED: [\s\S]*Next: /, out);
}

describe("round trips", { concurrency: 2 }, () => {
  for (const replicas of [1, 2, 3, 9]) {
    for (const canPin of [true, false]) {
      test(`${replicas} nodes a region, leaders ${canPin ? "can" : "cannot"} be pinned`, async () => {
        const stage = await HandoverStage.open(replicas, 5);
        stage.cluster.canPin = canPin;
        let serving: Target = "both";
        for (const target of ["region2", "both", "region1", "both"] as const) {
          const moved: Target = target === "both" ? serving : target;
          const faults = watchHandover(
            stage.cluster,
            moved === "region2" ? "region1" : "region2",
            target === "both" ? "restore" : "drain",
          );
          const run = await stage.run(target);
          assert.equal(run.code, 0, run.out);
          assert.deepEqual([[...faults], differences(stage, target)], [[], []], run.out);
          const again = await stage.run(target);
          assert.deepEqual([again.code, again.commands, again.writes], [0, [], 0], again.out);
          serving = target;
        }
        stage.close();
      });
    }
  }
});

describe("each change on its own", { concurrency: 2 }, () => {
  /** Meets the change with that number with a fate, and goes on until it is done. False if there are not so many changes. */
  async function meet(replicas: number, target: "both" | "region2", number: number, fate: Fate): Promise<boolean> {
    const stage = await HandoverStage.open(replicas, 2);
    const { cluster } = stage;
    if (target === "both") assert.equal((await stage.run("region2")).code, 0);
    const faults = watchHandover(cluster, "region1", target === "both" ? "restore" : "drain");
    let changes = 0;
    let met = "";
    cluster.fate = (command, document) => {
      // What is written into the record is met too, but for signs of life, of which there are more or less.
      if (document?.lock && (document.lock as { step: string }).step !== "begun") return "done";
      if (changes++ !== number) return "done";
      met = command;
      return fate;
    };
    for (let runs = 1; ; runs++) {
      assert.ok(runs < 5, `${fate} ${met}: ${runs} runs have not come to an end`);
      const run = await stage.run(target, { LEASE: "1", TIMEOUT: "60" });
      assertHonest(run);
      assert.deepEqual([...faults], [], `${fate} ${met}\n${run.out}`);
      if (run.code === 0) break;
    }
    // Which leaders are pinned the cluster does not tell: they stay so where the one command that unpins them was lost.
    const found = differences(stage, target).filter((one) => !(/ unpin /.test(met) && one.startsWith("pin of ")));
    assert.deepEqual(found, [], `${fate} ${met}`);
    stage.close();
    return met !== "";
  }

  for (const replicas of [1, 2, 3]) {
    for (const target of ["region2", "both"] as const) {
      for (const fate of ["lost", "killed before", "killed after"] as const) {
        test(`${replicas} nodes a region, to ${target}: ${fate}`, async () => {
          let number = 0;
          while (await meet(replicas, target, number, fate)) number++;
          assert.ok(number > 7, `${number} changes were met`);
        });
      }
    }
  }
});

test("random faults and changes of mind: no record could be in the drained region alone, and it comes to an end", async () => {
  const seed = process.env.FAULTS_SEED;
  const fates: fc.Arbitrary<Fate> = fc.constantFrom(
    "done",
    "done",
    "done",
    "done",
    "lost",
    "killed before",
    "killed after",
  );
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.tuple(fc.constantFrom("both" as const, "region2" as const), fc.boolean(), fc.array(fates)), {
        maxLength: 6,
      }),
      fc.constantFrom("both" as const, "region2" as const),
      async (replicas, partitions, story, end) => {
        const stage = await HandoverStage.open(replicas, partitions);
        try {
          const { cluster } = stage;
          for (const [target, canPin, destiny] of [...story, [end, true, []] as const, [end, true, []] as const]) {
            // By region1: one that does not move is not asked to.
            const faults = watchHandover(cluster, "region1", target === "both" ? "restore" : "drain");
            cluster.canPin = canPin;
            let next = 0;
            cluster.fate = () => destiny[next++] ?? "done";
            const run = await stage.run(target, { LEASE: "1", TIMEOUT: "40" });
            assertHonest(run);
            assert.deepEqual([...faults], [], run.out);
          }
          assert.deepEqual(differences(stage, end), []);
        } finally {
          stage.close();
        }
      },
    ),
    {
      numRuns: Number(process.env.FAULTS_RUNS ?? 10),
      ...(seed ? { seed: Number(seed) } : {}),
      endOnFailure: true,
      includeErrorInReport: true,
    },
  );
});
