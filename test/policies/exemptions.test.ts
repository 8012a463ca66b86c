/** Levels, parameters and exemptions: what the pack's configuration changes, and what it cannot. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { judgeExemptions } from "../../policies/exemptions";
import type { Resource } from "../../policies/rule";
import type { Recordings } from "../support/dumps";
import { PolicyPackProcess } from "../support/policy-pack";
import { record } from "./recordings";

/** A day some days from now, as exemptions write it. */
const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10);

let recordings: Recordings;
let pack: PolicyPackProcess;
before(async () => {
  recordings = await record(["every-option", "converged"]);
  pack = await PolicyPackProcess.start();
});
after(() => pack.stop());
beforeEach(() => pack.configure({}));

/** What a rule says of the scenario with options of all kinds, by resource. */
async function said(rule: string, scenario = "every-option") {
  const all = await pack.analyze(recordings.get(scenario)!.region1);
  return all
    .filter((one) => one.rule === rule)
    .map(({ resource, level, message }) => [resource, level, message.split("\n")[1]!] as const);
}

const reason = "a test of the internet-facing option";

describe("exemptions", () => {
  test("one that holds turns a violation into advice that says until when and why", async () => {
    const expires = inDays(30);
    await pack.configure({
      "lb-internal": { exemptions: [{ resource: "load-balancers-restate-0", reason, expires }] },
    });
    const [first, second] = await said("lb-internal");
    assert.deepEqual(first!.slice(0, 2), ["load-balancers-restate-0", "advisory"]);
    assert.ok(
      first![2].startsWith(
        `exempt until ${expires} (${reason}): load-balancers-restate-0: its scheme is internet-facing`,
      ),
    );
    assert.deepEqual(second!.slice(0, 2), ["load-balancers-restate-1", "mandatory"]);
  });

  test("a star stands for any characters", async () => {
    await pack.configure({
      "lb-internal": { exemptions: [{ resource: "load-balancers-*", reason, expires: inDays(1) }] },
    });
    assert.deepEqual(
      (await said("lb-internal")).map(([, level]) => level),
      ["advisory", "advisory", "advisory"],
    );
  });

  test("one that has expired lets nothing pass, and is named", async () => {
    const expires = inDays(-1);
    await pack.configure({ "lb-internal": { exemptions: [{ resource: "*", reason, expires }] } });
    const [first] = await said("lb-internal");
    assert.equal(first![1], "mandatory");
    assert.ok(first![2].endsWith(`; its exemption (${reason}): expired on ${expires}`), first![2]);
  });

  test("one for another rule or resource lets nothing pass", async () => {
    const expires = inDays(30);
    await pack.configure({
      "lb-class": { exemptions: [{ resource: "*", reason, expires }] },
      "lb-internal": { exemptions: [{ resource: "load-balancers", reason, expires }] },
    });
    assert.deepEqual(
      (await said("lb-internal")).map(([, level]) => level),
      ["mandatory", "mandatory", "mandatory"],
    );
  });

  const judged = (expires: string, today: string, resource = "stack") =>
    judgeExemptions([{ resource, reason, expires }], undefined, new Date(today));
  test("the last day counts to its end", () => {
    assert.ok(judged("2027-03-31", "2027-03-31T23:59:00Z").exempt);
    assert.deepEqual(judged("2027-03-31", "2027-04-01T00:00:00Z").notes, [
      `its exemption (${reason}): expired on 2027-03-31`,
    ]);
  });
  test("more than a year ahead does not count", () => {
    assert.ok(judged("2028-03-31", "2027-03-31T12:00:00Z").exempt);
    assert.match(
      judged("2028-04-03", "2027-03-31T12:00:00Z").notes[0]!,
      /does not count, since 2028-04-03 is more than 366 days ahead/,
    );
  });
  test("a day that is none does not count", () => {
    assert.match(judged("2027-02-30", "2027-01-01").notes[0]!, /2027-02-30 is no day/);
    assert.match(judged("2027-13-01", "2027-01-01").notes[0]!, /2027-13-01 is no day/);
  });
  test("names are taken literally but for the star", () => {
    const named = (pattern: string, name: string) =>
      judgeExemptions(
        [{ resource: pattern, reason, expires: "2027-01-01" }],
        { name } as Resource,
        new Date("2027-01-01"),
      ).exempt !== undefined;
    assert.deepEqual(
      [
        named("a.b", "axb"),
        named("a.b", "a.b"),
        named("a*", "abc"),
        named("a*c", "abd"),
        named("*", ""),
        named("(a", "(a"),
      ],
      [false, true, true, false, true, true],
    );
  });
});

describe("levels and parameters", () => {
  test("a level is what the configuration says", async () => {
    await pack.configure({ "lb-internal": { enforcementLevel: "advisory" } });
    assert.deepEqual([...new Set((await said("lb-internal")).map(([, level]) => level))], ["advisory"]);
    await pack.configure({ "lb-internal": { enforcementLevel: "disabled" } });
    assert.deepEqual(await said("lb-internal"), []);
    await pack.configure({ "release-storage-class": { enforcementLevel: "mandatory" } });
    assert.deepEqual(
      (await said("release-storage-class", "converged")).map(([, level]) => level),
      ["mandatory"],
    );
  });

  test("a parameter replaces its default", async () => {
    assert.deepEqual(await said("bucket-lifecycle"), []);
    await pack.configure({ "bucket-lifecycle": { mostNoncurrentDays: 14 } });
    assert.match((await said("bucket-lifecycle"))[0]![2], /kept for 30 days; .* to 3 to 14/);
    await pack.configure({ "stack-tags": { tags: ["owner"] } });
    assert.match((await said("stack-tags"))[0]![2], /it lacks the tags owner/);
  });
});
