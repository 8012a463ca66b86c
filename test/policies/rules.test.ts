/** Each rule, asked as the engine asks it: what is shipped passes, and what breaks a rule is reported by that rule. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { rules } from "../../policies/rules";
import type { Recordings } from "../support/dumps";
import { PolicyPackProcess, type Violation } from "../support/policy-pack";
import { type Case, cases, harmless } from "./cases";
import { copied, record } from "./recordings";

let recordings: Recordings;
let pack: PolicyPackProcess;
before(async () => {
  recordings = await record();
  pack = await PolicyPackProcess.start();
});
after(() => pack.stop());

const names = (violations: Violation[]) =>
  [...new Set(violations.map((one) => `${one.rule} of ${one.resource}`))].sort();
const of = (scenario: string, region: "region1" | "region2") => recordings.get(scenario)![region];

/** What is said of a recording as it is. */
const usual = new Map<string, Promise<Violation[]>>();
function usually(scenario: string, region: "region1" | "region2"): Promise<Violation[]> {
  const name = `${scenario} ${region}`;
  const said = usual.get(name) ?? pack.analyze(of(scenario, region));
  usual.set(name, said);
  return said;
}

/** What is said of a recording once it is changed, and was not said before. */
async function saidAfter({ change, of: [scenario, region] = ["converged", "region1"] }: Pick<Case, "change" | "of">) {
  const key = (one: Violation) => `${one.rule} ${one.resource} ${one.message}`;
  const before = new Set((await usually(scenario, region)).map(key));
  const changed = copied(of(scenario, region));
  change(changed);
  return (await pack.analyze(changed)).filter((one) => !before.has(key(one)));
}

describe("what is shipped", () => {
  test("the stack files as they are: nothing is found, not even advice", async () => {
    for (const region of ["region1", "region2"] as const) {
      assert.deepEqual(names(await pack.analyze(of("shipped", region))), []);
    }
  });

  // Findings that scenarios call for: they try settings that production must not have, or leave out what has a default.
  const defaults = ["release-storage-class of restate", "release-zone-spread-strict of restate"];
  const expected: Record<string, string[]> = {
    "every-option": [
      ...["0", "1", "2"].map((i) => `lb-internal of load-balancers-restate-${i}`),
      "release-zone-spread-strict of restate",
    ],
    "eks-discovered": [
      "bucket-no-force-destroy of snapshots",
      "bucket-protected of snapshots",
      "release-protected of restate",
      "release-protected of restate-namespace",
      ...defaults,
    ],
    "one-replica": ["release-replicas of restate", ...defaults],
    shipped: [],
  };
  test("every scenario of the dumps: only what it is about", async () => {
    for (const [scenario, regions] of recordings) {
      for (const [region, recording] of Object.entries(regions)) {
        const wanted = [...(expected[scenario] ?? defaults)].sort();
        assert.deepEqual(names(await pack.analyze(recording)), wanted, `${scenario} ${region}`);
      }
    }
  });
});

describe("a rule is broken", () => {
  for (const one of cases) {
    test(`${one.rule}: ${one.title}`, async () => {
      const said = await saidAfter(one);
      assert.deepEqual([...new Set(said.map(({ rule }) => rule))].sort(), [one.rule, ...(one.also ?? [])].sort());
      const rule = rules.find(({ id }) => id === one.rule)!;
      const own = said.filter((violation) => violation.rule === one.rule);
      for (const { message, level } of own) {
        const [title, text] = message.split("\n");
        assert.equal(title, rule.title);
        assert.equal(level, rule.level);
        // Resource or stack, fault, remedy.
        assert.match(text!, /^[^:]+: .+; .+$/);
      }
      assert.ok(
        own.some(({ message }) => one.says.test(message)),
        own.map(({ message }) => message).join("\n"),
      );
    });
  }

  test("every rule is", () => {
    const broken = new Set(cases.map(({ rule }) => rule));
    assert.deepEqual(
      rules.map(({ id }) => id).filter((id) => !broken.has(id)),
      [],
    );
    assert.ok(rules.length >= 30);
    assert.equal(new Set(rules.map(({ id }) => id)).size, rules.length);
  });
});

describe("no rule minds", () => {
  for (const one of harmless) {
    test(one.title, async () => assert.deepEqual(await saidAfter(one), []));
  }
});
