/** The runner behind `npm test`: what it says, and that one failure fails all. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { projectDir, typescript } from "../../sandbox/world/paths";

describe("the runner of tests", () => {
  const folder = mkdtempSync(join(tmpdir(), "run-tests-"));
  after(() => rmSync(folder, { recursive: true }));

  const file = (name: string, body: string) => {
    const path = join(folder, `${name}.test.ts`);
    writeFileSync(path, `import { test } from "node:test";\n${body}\n`);
    return path;
  };
  const run = (...args: string[]) => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const command = [...typescript, "tools/run-tests.ts", ...args];
    return spawnSync(process.execPath, command, { cwd: projectDir, env, encoding: "utf8", timeout: 120_000 });
  };
  const passes = file(
    "passes",
    'test("one", () => {}); test("two", () => new Promise((done) => setTimeout(done, 1100)));',
  );
  const fails = file("fails", 'test("three", () => { throw new Error("not so" as string); });');
  const crashes = file("crashes", "process.kill(process.pid, 'SIGKILL');");
  const orphans = file(
    "orphans",
    'test("five", () => void require("node:child_process").spawn("sleep", ["87"], { stdio: "inherit" }));',
  );
  const leaves = file("leaves", 'test("four", () => { setInterval(() => {}, 1000); });');

  test("files that pass: one line each, tests that take long, and exit code 0", () => {
    const { status, stdout } = run(passes);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /^ +[\d.]+ s {2}\S+passes\.test\.ts: ✔ two \(1\.\d s\)$/m);
    assert.doesNotMatch(stdout, /✔ one/);
    assert.match(stdout, /^ +[\d.]+ s {2}\S+passes\.test\.ts: 2 tests passed after [\d.]+ s$/m);
    assert.match(stdout, /\n1 passed in [\d.]+ s\n$/);
  });

  test("one that fails fails all: the others still run, the failure is told at the end, and its file's name is last", () => {
    const { status, stdout } = run("--jobs", "1", fails, passes);
    assert.equal(status, 1, stdout);
    assert.match(stdout, /2 tests passed/);
    assert.match(stdout, /--- \S+fails\.test\.ts failed:\n[\s\S]*✖ three[\s\S]*Error: not so[\s\S]*$/);
    assert.match(stdout, /\n1 of 2 FAILED in [\d.]+ s: \S+fails\.test\.ts\n$/);
  });

  test("one that ends before it could tell anything has failed", () => {
    const { status, stdout } = run(crashes);
    assert.equal(status, 1, stdout);
    assert.match(stdout, /1 of 1 FAILED in [\d.]+ s: \S+crashes\.test\.ts\n$/);
  });

  test("one that is named twice runs once", () => {
    const { status, stdout } = run(leaves, leaves);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /\n1 passed in/);
  });

  test("one that leaves something open ends with its last test", () => {
    const { status, stdout } = run(leaves);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /1 tests passed/);
  });

  test("one that leaves a process behind that holds its output has failed, and the process is named", () => {
    const { status, stdout } = run(orphans, passes);
    const pid = Number(/^(\d+) sleep 87 $/m.exec(stdout)?.[1]);
    process.kill(pid, "SIGKILL");
    assert.equal(status, 1, stdout);
    assert.match(stdout, /\n1 of 2 FAILED in [\d.]+ s: \S+orphans\.test\.ts\n$/);
  });

  test("wrong arguments: exit code 2", () => {
    for (const [args, message] of [
      [["nothing"], "error: there is no file nothing\n"],
      [["--jobs", "many", passes], "error: --jobs takes a number, not many\n"],
    ] as const) {
      const { status, stderr } = run(...args);
      assert.deepEqual([status, stderr], [2, message]);
    }
  });
});
