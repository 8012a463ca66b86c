/** How the program is loaded: with nothing that a preview does not need, and with all there when it is needed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";

const project = resolve(__dirname, "../..");

describe("the program's loader", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "restate-loader-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  /** Runs a program as the language host runs the stack's; returns the JSON that it printed. */
  function run(program: string): unknown {
    const file = join(folder, "program.ts");
    writeFileSync(file, program);
    const args = ["--require", join(project, "tools/typescript.cjs"), file];
    const env = { ...process.env, NODE_PATH: join(project, "node_modules") };
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: project, env, encoding: "utf8" });
    assert.equal(status, 0, stderr);
    assert.equal(stderr, "");
    return JSON.parse(stdout);
  }

  test("the stack needs neither a compiler of types, nor a solver of dependencies, nor the client library", () => {
    const loaded = run(`
      require(${JSON.stringify(join(project, "index.ts"))});
      console.log(JSON.stringify(Object.entries(require.cache).map(([file, { children }]) => [file, children.length])));
    `) as [string, number][];
    const heavy = loaded.filter(([file]) => /node_modules\/(typescript|@npmcli\/arborist|@kubernetes)\//.test(file));
    // Their places are taken, by what has loaded nothing.
    assert.deepEqual(
      heavy.map(([file, children]) => [/node_modules\/(@?[^/]+)/.exec(file)![1], children]),
      [
        ["typescript", 0],
        ["@npmcli", 0],
      ],
    );
    assert.ok(loaded.some(([file]) => file.endsWith("/region.ts")));
  });

  test("functions can be serialized all the same", () => {
    const text = run(`
      import * as pulumi from "@pulumi/pulumi";
      const three: number = 3;
      pulumi.runtime.serializeFunction(() => three + 1).then(({ text }) => console.log(JSON.stringify(text)));
    `);
    assert.match(String(text), /with\({ three: 3, .*return \(\) *=> *three \+ 1;/s);
  });

  test("an error tells the line of the source", () => {
    const line = run(`
      type Nothing = { x?: undefined };
      function fails(nothing: Nothing) {
        return new Error("here" as string);
      }
      console.log(JSON.stringify(fails({}).stack!.split("\\n")[1]));
    `);
    assert.match(String(line), /at fails \(.*program\.ts:4:16\)/);
  });
});
