/** What a stack does about `serving`: who hands over, after what, and which checkout must not. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { ageOf, readAsker } from "../../handover/asker";
import { describeHandover, type HandoverQuestion, planHandover } from "../../handover/plan";
import { handoverInWords } from "../../handover/preview";
import { handoverEnvironment, handoverFiles, handoverScript } from "../../restate/handover";
import { leadRegion, provisionedReplication, regionNames, servingValues, soloReplication } from "../../topology";
import { peerOutputs } from "../support/peer-outputs";
import { receiptOf } from "../support/receipts";

const asker = { commit: "b".repeat(40), dirty: false, settings: "fedcba9876543210", user: "bob" };
const peerOf = (region: "region1" | "region2") => (region === "region1" ? "region2" : "region1");

/** A question of a region whose peer is up, with what is different in it. */
function question(
  region: "region1" | "region2",
  settings: Partial<HandoverQuestion["settings"]>,
  changes: Partial<HandoverQuestion> = {},
): HandoverQuestion {
  return {
    settings: {
      region,
      home: "region1",
      serving: "both",
      replicas: 3,
      standbyReplicas: undefined,
      peer: `org/restate/${peerOf(region)}`,
      ...settings,
    },
    peer: peerOutputs(peerOf(region)),
    asker: () => asker,
    age: () => "not older",
    ...changes,
  };
}
const known = (receipt: ReturnType<typeof receiptOf>, region: "region1" | "region2") => ({
  peer: peerOutputs(region, { handover: { receipt } }),
});

describe("the plan", () => {
  test("both serve and nothing was ever handed over: nothing to do, in either region", () => {
    for (const region of regionNames) {
      assert.deepEqual(planHandover(question(region, {})), { runningReplicas: 3, pending: [] });
    }
  });

  test("region2 is to serve: region2 hands over, as the first handover, for who asks", () => {
    assert.deepEqual(planHandover(question("region2", { serving: "region2" })), {
      runningReplicas: 3,
      pending: [],
      order: { target: "region2", after: 0, before: "both", askedBy: asker, done: false },
    });
  });

  test("the region that is drained only says who hands over", () => {
    assert.deepEqual(planHandover(question("region1", { serving: "region2" })), {
      runningReplicas: 3,
      pending: [
        "region2 hands the cluster over (serving: both -> region2). Next: pulumi up --stack org/restate/region2",
      ],
    });
  });

  test("one that is done is asked for again in the same words, so that nothing changes", () => {
    const receipt = receiptOf(1, "both", "region2");
    const { order, pending } = planHandover(question("region2", { serving: "region2" }, { remembered: { receipt } }));
    assert.deepEqual(order, { target: "region2", after: 0, before: "both", askedBy: receipt.askedBy, done: true });
    assert.deepEqual(pending, []);
  });

  test("handovers by hand that came between change nothing about how it was asked", () => {
    const receipt = receiptOf(3, "both", "region2");
    const remembered = { receipt, askedBy: asker, after: 0, before: "both" } as const;
    const { order } = planHandover(question("region2", { serving: "region2" }, { remembered }));
    assert.deepEqual(order, { target: "region2", after: 0, before: "both", askedBy: asker, done: true });
    // Another one came after it, and was only taken note of.
    const later = receiptOf(5, "both", "region2");
    const { order: noted } = planHandover(
      question("region2", { serving: "region2" }, { remembered, ...known(later, "region1") }),
    );
    assert.deepEqual(noted, { target: "region2", after: 4, before: "both", askedBy: later.askedBy, done: true });
  });

  test("the way back is home's, and follows what region2 exported", () => {
    const { order } = planHandover(
      question("region1", { serving: "both" }, known(receiptOf(1, "both", "region2"), "region2")),
    );
    assert.deepEqual(order, { target: "both", after: 1, before: "region2", askedBy: asker, done: false });
  });

  test("the latest of what is remembered and what the peer tells counts", () => {
    const own = receiptOf(4, "region2", "both");
    const older = known(receiptOf(3, "both", "region2"), "region2");
    assert.deepEqual(planHandover(question("region1", {}, { ...older, remembered: { receipt: own } })).order, {
      target: "both",
      after: 3,
      before: "region2",
      askedBy: own.askedBy,
      done: true,
    });
    const newer = known(receiptOf(5, "both", "region2"), "region2");
    assert.deepEqual(planHandover(question("region1", {}, { ...newer, remembered: { receipt: own } })).order, {
      target: "both",
      after: 5,
      before: "region2",
      askedBy: asker,
      done: false,
    });
  });

  test("without its peer nothing is handed over", () => {
    const { order, pending } = planHandover(question("region2", { serving: "region2" }, { peer: undefined }));
    assert.equal(order, undefined);
    assert.deepEqual(pending, [
      "the handover to region2 alone waits for the peer. Next: pulumi up --stack org/restate/region1",
    ]);
  });

  describe("nodes that stand by", () => {
    const drained = receiptOf(1, "both", "region2");
    const standby = { serving: "region2", standbyReplicas: 1 } as const;
    const running = (settings: object, changes: Partial<HandoverQuestion>) =>
      planHandover(question("region1", settings, changes)).runningReplicas;

    test("fewer run once the receipt says that the region is drained, and not before", () => {
      assert.equal(running(standby, {}), 3);
      assert.equal(running(standby, known(drained, "region2")), 1);
    });
    test("all run while something is only in records that they hold", () => {
      assert.equal(running(standby, known({ ...drained, saved: false }, "region2")), 3);
    });
    test("all run when both are to serve again, before anything is restored", () => {
      assert.equal(running({ serving: "both", standbyReplicas: 1 }, known(drained, "region2")), 3);
    });
    test("all run by default, and in the region that serves", () => {
      assert.equal(running({ serving: "region2" }, known(drained, "region2")), 3);
      const serving = planHandover(question("region2", standby, { remembered: { receipt: drained } }));
      assert.equal(serving.runningReplicas, 3);
    });
    test("a restore waits until the peer runs all of its nodes", () => {
      const peer = peerOutputs("region2", {
        runningReplicas: 1,
        handover: { receipt: receiptOf(1, "both", "region1") },
      });
      const { order, pending } = planHandover(question("region1", { serving: "both" }, { peer }));
      assert.equal(order, undefined);
      assert.deepEqual(pending, [
        "the handover to both regions waits for 3 nodes of region2, which runs 1. Next: pulumi up --stack org/restate/region2, then pulumi up here again",
      ]);
    });
  });

  describe("a checkout that must not", () => {
    const last = receiptOf(3, "both", "region2");
    const ask = (changes: Partial<HandoverQuestion>) => () =>
      planHandover(question("region1", { serving: "both" }, { ...known(last, "region2"), ...changes }));

    test("is older than the one that asked last", () => {
      assert.throws(ask({ age: () => "older" }), {
        message:
          "this checkout is older than the one (aaaaaaaaaaaa) that asked for handover 3 to region2 alone, at 2026-01-01T00:00:04Z, and would undo it. Nothing was changed. Next: git pull, then pulumi up again; to hand over to both regions, change restate:serving there",
      });
    });
    test("does not have the commit that asked last", () => {
      assert.throws(ask({ age: () => "unknown" }), {
        message:
          "handover 3 to region2 alone, at 2026-01-01T00:00:04Z, was asked for by commit aaaaaaaaaaaa, which this checkout does not have: it may be older, and would undo it. Nothing was changed. Next: git fetch --unshallow, or git pull, then pulumi up again; to hand over to both regions, change restate:serving there",
      });
    });
    test("contradicts itself: one Pulumi.yaml, two values", () => {
      assert.throws(ask({ asker: () => ({ ...asker, settings: "0123456789abcdef" }) }), {
        message:
          "restate:serving is both here, and the same Pulumi.yaml was used for handover 3 to region2 alone, at 2026-01-01T00:00:04Z: a stack's own file sets it to something else. Nothing was changed. Both stacks must agree: pulumi config rm restate:serving in each stack, and set it once, in Pulumi.yaml.",
      });
    });
    test("is not asked after where nothing changes", () => {
      const { order } = planHandover(
        question("region2", { serving: "region2" }, { remembered: { receipt: last }, age: () => "older" }),
      );
      assert.equal(order?.done, true);
    });
    test("a handover by hand says nothing of a checkout, and any may follow it", () => {
      const byHand = { ...last, askedBy: { user: "started by hand in region2" } };
      assert.equal(ask(known(byHand, "region2"))().order?.after, 3);
    });
  });

  test("whatever is remembered, only the lead hands over, and to nothing but serving; a handover that is done is not done again", () => {
    const serving = fc.constantFrom(...servingValues);
    const receipt = fc.option(
      fc.tuple(fc.integer({ min: 1, max: 9 }), serving, serving).map(([n, from, to]) => receiptOf(n, from, to)),
      { nil: undefined },
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...regionNames),
        fc.constantFrom(...regionNames),
        serving,
        receipt,
        receipt,
        (region, home, wanted, remembered, told) => {
          const peer = peerOutputs(peerOf(region), told ? { handover: { receipt: told } } : {});
          const settings = { home, serving: wanted };
          const plan = planHandover(
            question(region, settings, { peer, ...(remembered ? { remembered: { receipt: remembered } } : {}) }),
          );
          const latest = [remembered, told].flatMap((one) => (one ? [one.number] : []));
          if (plan.order) {
            assert.equal(leadRegion(settings), region);
            assert.equal(plan.order.target, wanted);
            const number = Math.max(0, ...latest);
            assert.equal(plan.order.after, plan.order.done ? number - 1 : number);
          }
          if (plan.latest) assert.equal(plan.latest.number, Math.max(...latest));
        },
      ),
    );
  });
});

describe("in words", () => {
  const order = { target: "region2", after: 2, before: "both", askedBy: {}, done: false } as const;
  const check = { serving: "both", number: 2, target: "region2", outstanding: ["a", "b"], obstacles: [] as string[] };

  test("what a drain does, and that nothing blocks it", () => {
    assert.equal(
      handoverInWords(order, check),
      [
        "serving: both -> region2. This update hands the cluster over (handover 3):",
        "  - every partition is led from region2 and lives there alone",
        "  - the nodes of region1 leave the metadata store, one by one",
        "  - every log is written in region2 alone; a snapshot holds what was written before",
        "  - until the way back, every record is in region2 alone: its loss would be the loss of the cluster",
        "Nothing would block it now; 2 things differ from what is wanted.",
      ].join("\n"),
    );
  });
  test("what blocks it, in full", () => {
    const words = handoverInWords(order, { ...check, obstacles: ["restate-0.region2 is dead", "and more"] });
    assert.match(words, /\nBLOCKED as things are now:\n {2}- restate-0\.region2 is dead\n {2}- and more$/);
  });
  test("that nobody could be asked", () => {
    assert.match(
      handoverInWords(order, "connection refused"),
      /\nWhat would block it is not known: the cluster cannot be asked \(connection refused\)\.$/,
    );
  });
  test("a restore names the region that comes back", () => {
    assert.match(
      describeHandover({ target: "both", before: "region1" }).join("\n"),
      /^every partition gets a processor in region2/,
    );
    assert.match(
      describeHandover({ target: "both", before: "region2" }).join("\n"),
      /^every partition gets a processor in region1/,
    );
  });
});

describe("who asks", () => {
  let folder: string;
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.com", ...args], {
      cwd: folder,
      encoding: "utf8",
    }).trim();
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "restate-asker-"));
    git("init", "-q");
    writeFileSync(join(folder, "Pulumi.yaml"), "name: restate\n");
    git("add", ".");
    git("commit", "-qm", "one");
  });
  after(() => rmSync(folder, { recursive: true }));

  test("commit, whether there are changes, and the hash of the shared settings", () => {
    const clean = readAsker(folder, folder);
    assert.equal(clean.commit, git("rev-parse", "HEAD"));
    assert.equal(clean.dirty, false);
    assert.match(clean.settings, /^[0-9a-f]{16}$/);
    assert.notEqual(clean.user, "");
    writeFileSync(join(folder, "Pulumi.yaml"), "name: other\n");
    const changed = readAsker(folder, folder);
    assert.equal(changed.dirty, true);
    assert.notEqual(changed.settings, clean.settings);
    git("checkout", "-q", "--", ".");
  });

  test("older than a commit that came after it, and than none that did not", () => {
    const first = git("rev-parse", "HEAD");
    git("commit", "-q", "--allow-empty", "-m", "two");
    const second = git("rev-parse", "HEAD");
    assert.equal(ageOf(folder, first), "not older");
    assert.equal(ageOf(folder, second), "not older");
    git("checkout", "-q", first);
    assert.equal(ageOf(folder, second), "older");
    assert.equal(ageOf(folder, "c".repeat(40)), "unknown");
  });

  test("outside a repository there is no commit, and nothing is older", () => {
    const bare = mkdtempSync(join(tmpdir(), "restate-asker-"));
    writeFileSync(join(bare, "Pulumi.yaml"), "name: restate\n");
    assert.deepEqual(Object.keys(readAsker(bare, bare)).sort(), ["settings", "user"]);
    assert.equal(ageOf(bare, "c".repeat(40)), "not older");
    rmSync(bare, { recursive: true });
  });
});

describe("what is brought into pods", () => {
  test("every part that handover.sh sources and every statement that is asked for is there, and none that is not", () => {
    const files = handoverFiles();
    const scripts = Object.entries(files).filter(([name]) => name.endsWith(".sh"));
    const text = scripts.map(([, content]) => content).join("\n");
    const sourced = [...text.matchAll(/^\. "\$here\/(.+)"$/gm)].map(([, name]) => name as string);
    assert.deepEqual([...sourced, "handover.sh"].sort(), scripts.map(([name]) => name).sort());
    const asked = new Set(
      [...text.matchAll(/\b(?:missing|statement) ([a-z]+(?:-[a-z]+)+)/g)].map(([, name]) => `${name}.sql`),
    );
    assert.deepEqual(
      [...asked].sort(),
      Object.keys(files)
        .filter((name) => name.endsWith(".sql"))
        .sort(),
    );
  });

  test("each statement begins with what it proves or tells; each gate gives what is missing", () => {
    for (const [name, text] of Object.entries(handoverFiles())) {
      if (!name.endsWith(".sql")) continue;
      assert.match(text, /^-- [A-Z]/, name);
      if (name === "the-cluster.sql") assert.doesNotMatch(text, / as missing\n/, name);
      else assert.match(text, /^-- [A-Z].*\.\nselect concat\([\s\S]* as missing\n/, name);
    }
  });

  const setting = {
    cluster: "it's one",
    region: "region2",
    nodes: [],
    both: provisionedReplication(3),
    one: soloReplication(3),
    timeout: 900,
    maxUnsaved: 30_000,
    bucket: "b",
    awsRegion: "us-west-2",
    env: { AWS_ENDPOINT_URL: "http://127.0.0.1:1" },
  };
  const environment = handoverEnvironment(setting, {
    target: "region2",
    after: 3,
    before: "both",
    askedBy: { user: "bob" },
    next: "pulumi up",
  });

  test("the environment", () => {
    assert.deepEqual(environment, {
      CLUSTER: "it's one",
      NODES: "[]",
      REGION: "region2",
      TARGET: "region2",
      AFTER: "3",
      BEFORE: "both",
      LOG_BOTH: "{node: 3, region: 2}",
      PARTITION_BOTH: "{region: 2}",
      LOG_ONE: "{node: 2}",
      PARTITION_ONE: "{node: 2}",
      ASKED: '{"user":"bob"}',
      TIMEOUT: "900",
      MAX_UNSAVED: "30000",
      BUCKET: "b",
      BUCKET_REGION: "us-west-2",
      NEXT: "pulumi up",
      AWS_ENDPOINT_URL: "http://127.0.0.1:1",
    });
    const { AFTER } = handoverEnvironment(setting, { target: "both", askedBy: {}, next: "" });
    assert.equal(AFTER, "");
  });

  test("the script for a pod unpacks every file as it is, and runs with the environment", () => {
    const script = handoverScript(environment, "check").replace(
      /^bash "\$folder\/handover\.sh" check.*$/m,
      'printf "%s\\n" "$CLUSTER"; cat "$folder"/*',
    );
    const { stdout, status } = spawnSync("bash", ["-s"], { input: script, encoding: "utf8" });
    assert.equal(status, 0);
    const files = handoverFiles();
    const names = Object.keys(files).sort();
    assert.equal(stdout, `it's one\n${names.map((name) => files[name]).join("")}`);
  });
});
