/** The comment on pull requests, from previews that were recorded in the sandbox. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { commentMark, type Preview, readPreview, renderComment } from "../../commands/preview-comment";
import { recorded, recordedEvents } from "../support/recorded-previews";

const lines = (previews: [Preview, Preview], commit?: string) => renderComment(previews, commit).split("\n");
const part = (comment: string[], heading: string) => {
  const from = comment.indexOf(heading);
  assert.ok(from >= 0, `${heading} is missing`);
  const to = comment.findIndex((line, i) => i > from && (line.startsWith("### ") || line.startsWith("**Order**")));
  return comment.slice(from, to < 0 ? undefined : to).join("\n");
};
const order = (comment: string[]) => comment.filter((line) => /^\d+\. /.test(line));

/** Two stacks that are up, with nothing to change. */
function settled(): [Preview, Preview] {
  const shared = { home: "region1", serving: "both", nodes: ["n"], pending: [] };
  const one = (stack: string): Preview => ({
    ...{ stack, succeeded: true, steps: [], unchanged: 30, violations: [], advice: [], notKnown: 0, errors: [] },
    before: { ...shared },
    after: { ...shared },
  });
  return [one("region1"), one("region2")];
}

describe("a first preview of both regions", () => {
  const comment = lines(recorded("first"), "0123456789abcdef");

  test("begins with the mark by which the one comment is found again, and names the commit", () => {
    assert.equal(comment[0], commentMark);
    assert.equal(comment[1], "## What would change (01234567)");
  });

  test("counts what each region gets", () => {
    assert.ok(comment.includes("| region1 | 16 | 0 | 0 | 0 | 0 | kept |"), comment.join("\n"));
    assert.ok(comment.includes("| region2 | 14 | 0 | 0 | 0 | 0 | kept |"), comment.join("\n"));
  });

  test("home comes first, and again at the end, since it has to learn what the peer exports", () => {
    assert.deepEqual(order(comment), [
      "1. `pulumi up --stack region1 --policy-pack policies`",
      "2. `pulumi up --stack region2 --policy-pack policies`",
      "3. `pulumi up --stack region1 --policy-pack policies`, again, for what the other one exports then",
    ]);
  });

  test("says what waits, and what policies could not look at", () => {
    const region1 = part(comment, "### region1");
    assert.match(region1, /^- provisioning waits for the nodes of the peer\. Next: pulumi up --stack/m);
    assert.match(region1, /^Policies cannot look at \d+ things before the update/m);
    assert.match(region1, /^\| create \| `load-balancers-restate-0` kubernetes:core\/v1:Service \| {2}\|$/m);
    assert.match(region1, /<summary>4 pieces of advice by policies<\/summary>/);
    assert.ok(comment.includes("`serving` is `both`."));
  });

  test("shows no value of any resource", () => {
    assert.doesNotMatch(comment.join("\n"), /subnet-|sg-|kubeconfig|AKIA|04da6b54/);
  });
});

describe("previews that do not go through", () => {
  const [stopped, broken] = recorded("stopped");
  const comment = lines([stopped, { ...broken, stack: "region2" }]);

  test("the verdict names them, and there is no order to apply in", () => {
    assert.ok(comment.includes("**Not to be merged as it is:** see region1 and region2."));
    assert.deepEqual(order(comment), []);
    assert.ok(comment.includes("Nothing is to be applied before both previews go through."));
  });

  test("a broken policy is shown with its rule and what to do", () => {
    assert.match(
      part(comment, "### region1"),
      /\*\*Policies stop this:\*\*\n\n- `bucket-public-access` snapshots-access: blockPublicPolicy is not on; set blockPublicPolicy: true/,
    );
    assert.ok(comment.some((line) => /^\| region1 \|.*\| 1 broken \|$/.test(line)));
  });

  test("a failed preview is shown with its error, and does not look like one without changes", () => {
    const region2 = part(comment, "### region2");
    assert.match(region2, /restate:serving: must be one of both, region1, region2\./);
    assert.doesNotMatch(region2, /Nothing changes/);
    assert.ok(comment.some((line) => /^\| region2 \|.*\| preview failed \|$/.test(line)));
  });

  test("events that break off are no success", () => {
    const events = recordedEvents("first", "region1");
    assert.equal(readPreview("region1", events).succeeded, true);
    assert.equal(readPreview("region1", events.slice(0, -1)).succeeded, false);
    assert.equal(readPreview("region1", []).succeeded, false);
  });
});

describe("previews of a cluster that is up", () => {
  test("unchanged: nothing is to be applied", () => {
    const comment = lines(recorded("unchanged"));
    assert.ok(comment.includes("`serving` stays `both`."));
    assert.ok(comment.includes("Nothing is to be applied."));
    assert.equal(comment.filter((line) => line === "Nothing changes.").length, 2);
    assert.ok(comment.includes("| region1 | 0 | 0 | 0 | 0 | 25 | kept |"), comment.join("\n"));
  });

  test("a setting: one update in each region, shown by its path", () => {
    const comment = lines(recorded("settings"));
    const update = "| update | `restate` kubernetes:helm.sh/v3:Release | `values.env[10].value` |";
    assert.equal(comment.filter((line) => line === update).length, 2, comment.join("\n"));
    assert.deepEqual(order(comment), [
      "1. `pulumi up --stack region1 --policy-pack policies`",
      "2. `pulumi up --stack region2 --policy-pack policies`",
    ]);
  });

  test("a handover: announced first, with the Job that does it and what waits", () => {
    const comment = lines(recorded("handover"));
    assert.ok(
      comment.includes(
        "**This is a handover: `serving` changes from `both` to `region2`.** region1 is to serve no more; region2 leads.",
      ),
    );
    assert.match(part(comment, "### region2"), /^\| create \| `handover-job` kubernetes:batch\/v1:Job \| {2}\|$/m);
    assert.match(
      part(comment, "### region1"),
      /region2 hands it over\. Next: pulumi up --stack organization\/restate\/region2/,
    );
    assert.equal(order(comment).length, 3);
  });
});

describe("serving", () => {
  test("the way back from a handover is one too", () => {
    const [one, two] = settled();
    for (const preview of [one, two]) preview.before.serving = "region2";
    assert.match(
      renderComment([one, two]),
      /from `region2` to `both`\.\*\* both regions are to serve; region1 leads\./,
    );
  });
  test("stacks that disagree are named", () => {
    const [one, two] = settled();
    one.after.serving = "region2";
    two.before.serving = "region1";
    assert.match(
      renderComment([one, two]),
      /\*\*The stacks disagree on `serving`\*\*: region1 `region2`, region2 `both`\./,
    );
  });
  test("otherwise it stays, and nothing is to be applied", () => {
    const text = renderComment(settled());
    assert.match(text, /`serving` stays `both`\./);
    assert.match(text, /Nothing is to be applied\./);
    assert.match(text, /### region2\n\nNothing changes\./);
  });
});

describe("what is told of a step", () => {
  const step = (changes: Partial<Preview["steps"][number]>) => ({
    op: "update",
    type: "a:b:C",
    name: "n",
    paths: [],
    ...changes,
  });

  test("what differs, by its path; long lists are cut", () => {
    const [one, two] = settled();
    one.steps = [step({ paths: Array.from({ length: 10 }, (_, i) => `p${i}|`) })];
    const text = renderComment([one, two]);
    assert.match(text, /\| update \| `n` a:b:C \| `p0\\\|`, .*`p7\\\|`, and 2 more \|/);
    assert.deepEqual(order(text.split("\n")), ["1. `pulumi up --stack region1 --policy-pack policies`"]);
  });
  test("lost data comes first", () => {
    const [one, two] = settled();
    one.steps = [step({ op: "replace", type: "aws:s3/bucket:Bucket", name: "snapshots" })];
    assert.match(renderComment([one, two]), /\*\*Data would be lost:\*\* replace of `snapshots`\./);
  });
  test("many changes still fit into a comment", () => {
    const [one, two] = settled();
    const paths = Array.from({ length: 30 }, (_, i) => `spec.template.spec.containers[${i}].image`);
    one.steps = two.steps = Array.from({ length: 500 }, (_, i) => step({ name: `resource-${i}`, paths }));
    const text = renderComment([one, two]);
    assert.ok(text.length < 65_536, String(text.length));
    assert.match(text, /and 440 more/);
  });
  test("markup in what others wrote stays text", () => {
    const [one, two] = settled();
    one.advice = [{ rule: "r", resource: "n", message: "<script> a | b\n- c" }];
    assert.match(renderComment([one, two]), /- `r` &lt;script> a \\\| b - c/);
  });
});
