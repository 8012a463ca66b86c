/** Sabotaged variants of the program, under mocks: each is stopped, by the rule that is meant for it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type RegionName, regionNames } from "../../topology";
import type { Recording } from "../support/mocks";
import { PolicyPackProcess, type Violation } from "../support/policy-pack";
import { World } from "../support/scenarios";
import { ProgramCopy } from "../support/variants";
import { shippedSettings } from "./recordings";
import { sabotages } from "./sabotage";

let world: World;
let pack: PolicyPackProcess;
/** What is up already: each variant is the next update of both regions. */
let shipped: Record<RegionName, Recording>;
before(async () => {
  world = await World.start();
  shipped = await world.play({ about: "as shipped", settings: shippedSettings });
  pack = await PolicyPackProcess.start();
});
after(() => Promise.all([world.stop(), pack.stop()]));

for (const { rule, also = [], ...variant } of sabotages) {
  test(`${variant.title}: ${rule}`, async () => {
    const copy = ProgramCopy.of(variant);
    try {
      world.program = copy.program;
      for (const region of regionNames) world.arrive(region, shipped[region]);
      const said: Violation[] = [];
      for (const region of regionNames) {
        said.push(...(await pack.analyze(await world.run(region, shippedSettings(region)))));
      }
      const stopping = new Set(said.filter(({ level }) => level === "mandatory").map((one) => one.rule));
      assert.deepEqual([...stopping].sort(), [rule, ...also].sort());
    } finally {
      copy.remove();
    }
  });
}

test("there are 20 or more", () => {
  assert.ok(new Set(sabotages.map(({ rule }) => rule)).size >= 20);
});
