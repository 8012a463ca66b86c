/** What an interrupted run leaves behind, and what is done about it; the parts that need neither Pulumi nor a cluster. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { parse } from "yaml";
import { type HelmRecord, helmRecord, unfinished } from "../../commands/helm";
import { breakStaleLocks, locksIn } from "../../commands/locks";
import {
  clusterOf,
  interruptedCreations,
  interruptedDeletions,
  plainValue,
  remedyOf,
  type StackState,
} from "../../commands/pending";
import { refuseAtWork } from "../../commands/recovery";

/** Every resource that the program makes, in any of the committed situations. */
function dumpedResources(): { type: string; inputs: Record<string, unknown> }[] {
  const folder = join(__dirname, "../dumps");
  return readdirSync(folder).flatMap((situation) =>
    readdirSync(join(folder, situation)).flatMap(
      (file) => parse(readFileSync(join(folder, situation, file), "utf8")).resources,
    ),
  );
}

const isComponent = (type: string) => type.startsWith("restate:");

describe("operations that were interrupted", () => {
  test("there is a rule for every type of resource that the program makes, and none for what it does not make", () => {
    const made = new Set(
      dumpedResources()
        .map(({ type }) => type)
        .filter((type) => !isComponent(type)),
    );
    assert.ok(made.size > 15);
    for (const type of made)
      assert.ok(remedyOf({ type, inputs: {} }), `no rule for ${type}: add one to commands/pending.ts`);
    assert.equal(remedyOf({ type: "aws:s3/bucketAcl:BucketAcl", inputs: {} }), undefined);
    assert.equal(remedyOf({ type: "kubernetes:core/v1:Secret", inputs: {} }), undefined);
  });

  test("a component and the stack itself are nothing out there: made again", () => {
    for (const type of ["restate:index:SnapshotBucket", "pulumi:pulumi:Stack", "acme:index:Component"]) {
      assert.equal(remedyOf({ type, custom: false }), "create again");
      assert.equal(remedyOf({ type, custom: true }), undefined);
    }
  });

  test("ids by which what may exist is found, from real inputs", () => {
    const ids = dumpedResources()
      .filter(({ type }) => !isComponent(type))
      .flatMap((resource) => {
        const remedy = remedyOf(resource);
        return typeof remedy === "object" ? [`${resource.type.split(":").at(-1)} ${JSON.stringify(remedy)}`] : [];
      });
    const patterns = [
      /^Bucket \{"id":"restate-snapshots-region[12]-[^"]+"\}$/,
      /^Role \{"id":"[\w-]+"\}$/,
      /^Release \{"id":"[\w-]+\/restate"\}$/,
      /^PodIdentityAssociation \{"association":\{"clusterName":"[^"]+","namespace":"[^"]+","serviceAccount":"restate"\}\}$/,
    ];
    for (const id of ids)
      assert.ok(
        patterns.some((pattern) => pattern.test(id)),
        id,
      );
    for (const pattern of patterns)
      assert.ok(
        ids.some((id) => pattern.test(id)),
        String(pattern),
      );
  });

  test("creations and deletions, each resource once; what was updated or read is not among them", () => {
    const resource = (name: string) => ({ urn: `urn:pulumi:s::p::t::${name}`, type: "t" });
    const state: StackState = {
      pending_operations: [
        { type: "creating", resource: resource("a") },
        { type: "creating", resource: { ...resource("a"), id: "later" } },
        { type: "updating", resource: resource("b") },
        { type: "deleting", resource: resource("c") },
        { type: "reading", resource: resource("d") },
        { type: "creating", resource: resource("e") },
      ],
    };
    assert.deepEqual(
      interruptedCreations(state).map(({ urn, id }) => [urn.at(-1), id]),
      [
        ["a", "later"],
        ["e", undefined],
      ],
    );
    assert.deepEqual(
      interruptedDeletions(state).map(({ urn }) => urn.at(-1)),
      ["c"],
    );
    assert.deepEqual([interruptedCreations({}), interruptedDeletions({})], [[], []]);
  });

  test("the cluster of a resource is its provider's, with its secrets in plain text", () => {
    const secret = (value: unknown) => ({
      "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
      plaintext: JSON.stringify(value),
    });
    const urn = "urn:pulumi:s::p::pulumi:providers:kubernetes::kubernetes";
    const provider = { urn, type: "pulumi:providers:kubernetes", inputs: { kubeconfig: secret("k"), context: "c" } };
    const state: StackState = { resources: [provider] };
    const release = { urn: "r", type: "kubernetes:helm.sh/v3:Release", provider: `${urn}::0123` };
    assert.deepEqual(clusterOf(state, release), { kubeconfig: "k", context: "c" });
    assert.equal(clusterOf(state, { ...release, provider: "urn:pulumi:s::p::pulumi:providers:aws::x::1" }), undefined);
    assert.equal(clusterOf({}, release), undefined);
    assert.deepEqual(plainValue(secret({ a: 1 })), { a: 1 });
    assert.equal(plainValue({ ...secret(1), plaintext: undefined }), undefined);
    assert.deepEqual(plainValue({ a: 1 }), { a: 1 });
  });
});

describe("locks of killed runs", () => {
  /** A process that has ended. */
  const dead = () => spawnSync(process.execPath, ["-e", ""]).pid;
  const told = (url: string, host: string, pid: number) =>
    "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock " +
    `file with \`pulumi cancel\`.\n  ${url}: created by root@${host} (pid ${pid}) at 2026-11-22T23:49:12Z\n`;

  test("what Pulumi tells of them; told twice, counted once", () => {
    const message = told("file:///state/locks/a b.json".replace(" ", "%20"), "vm", 12);
    assert.deepEqual(locksIn(message + message), [{ url: "file:///state/locks/a%20b.json", host: "vm", pid: 12 }]);
    assert.deepEqual(locksIn("[409] Conflict: Another update is currently in progress."), []);
  });

  test("only those of dead processes of this machine, in files, are removed", () => {
    const folder = mkdtempSync(join(tmpdir(), "restate locks "));
    try {
      const file = join(folder, "lock.json");
      const write = () => {
        writeFileSync(file, "{}");
        writeFileSync(`${file}.attrs`, "{}");
      };
      const url = String(pathToFileURL(file));
      write();
      const pid = dead();
      assert.equal(breakStaleLocks(told(url, hostname(), process.pid)), undefined, "a process that runs");
      assert.equal(breakStaleLocks(told(url, hostname(), 1)), undefined, "a process that runs, of anybody");
      assert.equal(breakStaleLocks(told(url, `not-${hostname()}`, pid)), undefined, "another machine");
      assert.equal(breakStaleLocks(told("s3://bucket/lock.json", hostname(), pid)), undefined, "not a file");
      assert.equal(
        breakStaleLocks(told(url, hostname(), pid) + told(`${url}2`, hostname(), process.pid)),
        undefined,
        "one of two may be held",
      );
      assert.equal(breakStaleLocks("[409] Conflict: Another update is currently in progress."), undefined);
      assert.ok(existsSync(file));
      assert.deepEqual(breakStaleLocks(told(url, hostname(), pid)), [pid]);
      assert.deepEqual(readdirSync(folder), []);
      assert.deepEqual(breakStaleLocks(told(url, hostname(), pid)), [pid], "gone meanwhile");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("Helm releases that were left halfway", () => {
  const record = (revision: number, status: string): HelmRecord => ({
    release: "restate",
    secret: `sh.helm.release.v1.restate.v${revision}`,
    uid: `uid-${revision}`,
    revision,
    status,
    writtenAt: 0,
  });

  test("records as Helm keeps them", () => {
    const labels = {
      owner: "helm",
      name: "restate",
      status: "pending-upgrade",
      version: "12",
      createdAt: "1700000000",
    };
    const metadata = { name: "sh.helm.release.v1.restate.v12", uid: "u" };
    assert.deepEqual(helmRecord({ metadata: { ...metadata, labels } }), {
      release: "restate",
      secret: metadata.name,
      uid: "u",
      revision: 12,
      status: "pending-upgrade",
      writtenAt: 1_700_000_000_000,
    });
    const later = helmRecord({ metadata: { ...metadata, labels: { ...labels, modifiedAt: "1700000060" } } });
    assert.equal(later.writtenAt, 1_700_000_060_000);
    const { createdAt: _, ...without } = labels;
    const created = helmRecord({ metadata: { ...metadata, labels: without, creationTimestamp: new Date(5000) } });
    assert.equal(created.writtenAt, 5000);
  });

  test("somebody may be at work on one that is younger than the state, and than any operation takes", () => {
    const name = { namespace: "restate-region1", name: "restate" };
    const ago = (seconds: number) => Date.now() - seconds * 1000;
    const wrote = (seconds: number) => [{ ...record(3, "pending-upgrade"), writtenAt: ago(seconds) }];
    const state = (seconds: number) => ({ manifest: { time: new Date(ago(seconds)).toISOString() } });
    const refused = {
      message:
        "Helm release restate-region1/restate is pending-upgrade since 40 s. Wait for it, or, if nothing runs any more: " +
        "kubectl -n restate-region1 delete secret sh.helm.release.v1.restate.v3",
    };
    assert.throws(() => refuseAtWork(state(41), name, wrote(40)), refused);
    assert.throws(() => refuseAtWork({}, name, wrote(40)), refused);
    // The run that wrote it has ended.
    refuseAtWork(state(39), name, wrote(40));
    refuseAtWork(state(1000), name, wrote(301));
    refuseAtWork(state(1000), name, wrote(40), 39);
  });

  test("what has to go, by the newest revision's status", () => {
    const table: [HelmRecord[], number[]][] = [
      [[], []],
      [[record(1, "pending-install")], [1]],
      [[record(9, "superseded"), record(11, "pending-upgrade"), record(10, "deployed")], [11]],
      [[record(2, "pending-rollback"), record(1, "deployed")], [2]],
      [
        [record(1, "superseded"), record(2, "uninstalling")],
        [1, 2],
      ],
      [[record(1, "deployed")], []],
      [[record(1, "failed")], []],
      // An old one that was never finished, and a newer one that was.
      [[record(1, "pending-upgrade"), record(2, "deployed")], []],
    ];
    for (const [records, gone] of table) {
      assert.deepEqual(
        unfinished(records).map(({ revision }) => revision),
        gone,
        JSON.stringify(records),
      );
    }
  });
});
