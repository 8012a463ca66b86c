/** Sabotaged variants of the program, under mocks: each is stopped, by the rule that is meant for it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PolicyPackProcess } from "../support/policy-pack";
import { World } from "../support/scenarios";
import { ProgramCopy } from "../support/variants";
import { shippedSettings } from "./recordings";
import { sabotages } from "./sabotage";

let world: World;
let pack: PolicyPackProcess;
before(async () => {
  world = await World.start();
  pack = await PolicyPackProcess.start();
});
after(() => Promise.all([world.stop(), pack.stop()]));

for (const { rule, also = [], ...variant } of sabotages) {
  test(`${variant.title}: ${rule}`, async () => {
    const copy = ProgramCopy.of(variant);
    try {
      world.program = copy.program;
      const { region1, region2 } = await world.play({ about: variant.title, settings: shippedSettings });
      const said = [...(await pack.analyze(region1)), ...(await pack.analyze(region2))];
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
