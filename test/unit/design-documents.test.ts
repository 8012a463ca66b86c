/** What docs/architecture.md and docs/threat-model.md say of the design is what the code does. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { replicationAccess, snapshotAccess } from "../../aws/documents";
import { rules } from "../../policies/rules";
import { metadataQuorum, nodePort, provisionedReplication, soloReplication } from "../../topology";

const read = (path: string) => readFileSync(join(__dirname, "../..", path), "utf8");
const architecture = read("docs/architecture.md");
const threats = read("docs/threat-model.md");

/** The cells of the table that begins with a heading, without that heading. */
function rowsUnder(text: string, heading: string): string[][] {
  const from = text.indexOf(heading);
  assert.ok(from >= 0, `there is no table ${heading}`);
  const [table] = text.slice(from).split("\n\n");
  return table!
    .trim()
    .split("\n")
    .slice(2)
    .map((row) => row.split("|").slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim()));
}

describe("docs/architecture.md", () => {
  test("how many nodes have a record, and how many make a majority", () => {
    const rows = rowsUnder(architecture, "| nodes a region |");
    assert.ok(rows.length >= 4);
    for (const [replicas, both, all, one, own] of rows) {
      const n = Number(replicas);
      assert.deepEqual(
        [both, all, one, own],
        [
          `\`${provisionedReplication(n).log}\``,
          `${metadataQuorum(n)} of ${2 * n}`,
          `\`${soloReplication(n).log}\``,
          `${Math.floor(n / 2) + 1} of ${n}`,
        ],
        replicas,
      );
    }
  });

  test("the steps of a handover, in their order", () => {
    const first = "looking at what speaks against it";
    const stepsIn = (path: string) =>
      [...read(path).matchAll(/^ +step "(.+)"$/gm)].map(([, step]) =>
        step!.replace("$from", "region1").replace("$to", "region2"),
      );
    const shared = stepsIn("operations/handover/handover.sh");
    assert.ok(read("operations/handover/handover.sh").includes(`step_name="${first}"`));
    const rows = rowsUnder(architecture, "| region1 is drained |");
    for (const [column, script] of ["drain", "restore"].entries()) {
      const said = rows.map((row) => row[column]!).filter((step) => step !== "");
      assert.deepEqual(said, [first, ...stepsIn(`operations/handover/${script}.sh`), ...shared], script);
    }
  });
});

describe("docs/threat-model.md", () => {
  const actionsOf = (policy: string) =>
    (JSON.parse(policy) as { Statement: { Action: string | string[] }[] }).Statement.flatMap(({ Action }) => Action);
  const roles = rowsUnder(threats, "| who | takes | may |");

  for (const [who, policy] of [
    ["the Restate pods, and Jobs with their service account", snapshotAccess(["arn:aws:s3:::b"])],
    ["S3", replicationAccess("arn:aws:s3:::a", "arn:aws:s3:::b")],
  ] as const) {
    test(`what ${who} may do in AWS`, () => {
      const [, , said] = roles.find(([one]) => one === who) ?? [];
      assert.deepEqual(
        [...(said ?? "").matchAll(/`(s3:\w+)`/g)].map(([, action]) => action).sort(),
        actionsOf(policy).sort(),
      );
    });
  }

  test("the policies that it relies on exist", () => {
    const ids = new Set(rules.map(({ id }) => id));
    const named = [...threats.matchAll(/`((?:lb|release|bucket|iam)-[a-z-]+)`/g)].map(([, id]) => id!);
    assert.ok(named.length >= 6);
    assert.deepEqual(
      named.filter((id) => !ids.has(id)),
      [],
    );
  });

  test("the nodes' port", () => assert.ok(threats.includes(`## Port ${nodePort}\n`)));
});
