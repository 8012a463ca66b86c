/** The toolchain against real processes: the cache under contention, and the real engine with our language host. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  describeToolchain,
  ensureRestate,
  ensureToolchain,
  noProgress,
  preparePulumiHome,
  pulumiEnv,
  restateImages,
  restateVersions,
  streamProgress,
  toolPath,
} from "../../sandbox/toolchain";
import { ensureEntry, findEntry, pruneCache } from "../../sandbox/toolchain/cache";
import { runCommand } from "../../sandbox/toolchain/command";
import { lock, tryLock } from "../../sandbox/toolchain/lock";
import { bundleProgram } from "../../sandbox/toolchain/pulumi";
import { npmVersion } from "../../sandbox/toolchain/recipes";
import { projectDir, typescript } from "../../sandbox/world/paths";
import { processEntry } from "../../sandbox/world/processes";
import { fakeTool } from "./toolchain-fake";

const folder = mkdtempSync(join(tmpdir(), "toolchain-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a process that ensures the fake tool, and hears what it says. */
function ensureElsewhere(root: string): { child: ChildProcess; said: () => string } {
  const fake = join(__dirname, "toolchain-fake.ts");
  const child = spawn(process.execPath, [...typescript, fake, root], {
    cwd: projectDir,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let text = "";
  child.stderr?.setEncoding("utf8").on("data", (part) => {
    text += part;
  });
  return { child, said: () => text };
}

const ended = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once("close", resolve));

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`did not come about in 120 s: ${what}`);
    await delay(20);
  }
}

const visible = (root: string) => readdirSync(root).filter((name) => name !== "locks" && name !== "made.log");

describe("the tool cache", () => {
  const newRoot = () => mkdtempSync(join(folder, "cache-"));

  it("makes a tool once for two processes that want it at once", async () => {
    const root = newRoot();
    writeFileSync(join(root, "hold"), "");
    const first = ensureElsewhere(root);
    const firstEnd = ended(first.child);
    await until("the first process makes it", () => existsSync(join(root, "made.log")));
    const second = ensureElsewhere(root);
    const secondEnd = ended(second.child);
    await until("the second process waits", () => second.said().includes("\n"));
    rmSync(join(root, "hold"));
    assert.deepEqual(await Promise.all([firstEnd, secondEnd]), [0, 0], first.said() + second.said());
    assert.equal(readFileSync(join(root, "made.log"), "utf8"), `${first.child.pid}\n`);
    assert.match(
      second.said(),
      new RegExp(`^making fake: waiting for process ${first.child.pid} .*, which does the same\n$`),
    );
    assert.deepEqual(visible(root), ["fake-0123456789abcdef-test"]);
  });

  it("takes over from a process that died while it made the tool", async () => {
    const root = newRoot();
    writeFileSync(join(root, "hold"), "");
    const first = ensureElsewhere(root);
    await until("the first process makes it", () => existsSync(join(root, "made.log")));
    const second = ensureElsewhere(root);
    const secondEnd = ended(second.child);
    await until("the second process waits", () => second.said().includes("waiting"));
    assert.equal(findEntry(fakeTool(root), undefined, root), undefined);
    const firstEnd = ended(first.child);
    first.child.kill("SIGKILL");
    await firstEnd;
    rmSync(join(root, "hold"));
    assert.equal(await secondEnd, 0, second.said());
    assert.equal(readFileSync(join(root, "made.log"), "utf8"), `${first.child.pid}\n${second.child.pid}\n`);
    assert.equal(findEntry(fakeTool(root), undefined, root), join(root, "fake-0123456789abcdef-test"));
  });

  it("makes a damaged tool again, and a good one not", async () => {
    const root = newRoot();
    const made = () => readFileSync(join(root, "made.log"), "utf8").split("\n").length - 1;
    const path = await ensureEntry(fakeTool(root), noProgress, root);
    await ensureEntry(fakeTool(root), noProgress, root);
    assert.equal(made(), 1);
    const damages = [
      () => truncateSync(join(path, "bin/fake"), 3),
      () => rmSync(join(path, "bin/fake")),
      () => rmSync(join(path, ".complete.json")),
      () => writeFileSync(join(path, ".complete.json"), "{"),
    ];
    for (const [i, damage] of damages.entries()) {
      damage();
      assert.equal(findEntry(fakeTool(root), undefined, root), undefined);
      assert.equal(await ensureEntry(fakeTool(root), noProgress, root), path);
      assert.equal(made(), i + 2);
      assert.equal(readFileSync(join(path, "bin/fake"), "utf8"), "fake tool");
    }
    assert.deepEqual(visible(root), ["fake-0123456789abcdef-test"]);
  });

  it("leaves nothing behind when making fails, and can try again", async () => {
    const root = newRoot();
    const failing = { ...fakeTool(root), make: async () => void (await runCommand(["sh", "-c", "echo why; exit 1"])) };
    await assert.rejects(ensureEntry(failing, noProgress, root), /exit code 1; the end of its output:\n {4}why$/);
    assert.deepEqual(visible(root), []);
    const forgetful = { ...fakeTool(root), make: async () => {} };
    await assert.rejects(ensureEntry(forgetful, noProgress, root), /^Error: making fake did not bring bin\/fake$/);
    assert.deepEqual(visible(root), []);
    await ensureEntry(fakeTool(root), noProgress, root);
  });

  it("removes what nobody used for 30 days, but nothing that is being made", async () => {
    const root = newRoot();
    const path = await ensureEntry(fakeTool(root), noProgress, root);
    const day = 24 * 60 * 60 * 1000;
    const age = (days: number) => {
      const then = new Date(Date.now() - days * day);
      utimesSync(join(path, ".complete.json"), then, then);
    };
    age(29);
    assert.deepEqual(await pruneCache(Date.now(), root), []);
    age(31);
    findEntry(fakeTool(root), undefined, root);
    assert.deepEqual(await pruneCache(Date.now(), root), [], "use makes it young again");
    age(31);
    const release = await lock(join(root, "locks", "fake-0123456789abcdef-test"), () => assert.fail("must be free"));
    assert.deepEqual(await pruneCache(Date.now(), root), [], "locked");
    await release();
    mkdirSync(join(root, ".toolchain-tmp-left"));
    mkdirSync(join(root, "somebody's"));
    const before = new Date(Date.now() - 100 * day);
    utimesSync(join(root, "somebody's"), before, before);
    utimesSync(join(root, ".toolchain-tmp-left"), before, before);
    assert.deepEqual((await pruneCache(Date.now(), root)).sort(), [
      ".toolchain-tmp-left",
      "fake-0123456789abcdef-test",
    ]);
    assert.deepEqual(visible(root), ["somebody's"]);
  });

  it("gives a lock to one at a time", async () => {
    const file = join(folder, "one.lock");
    const release = await tryLock(file);
    assert.ok(release);
    assert.equal(await tryLock(file), undefined);
    await release();
    const again = await tryLock(file);
    assert.ok(again);
    await again();
  });
});

describe("bundles", () => {
  it("are made again when a source changes, and only then", async () => {
    const source = join(folder, "program.ts");
    const bundle = join(folder, "bundle.js");
    writeFileSync(source, "declare const WORD: string; console.log(WORD);");
    assert.equal(await bundleProgram(source, bundle, { WORD: '"one"' }), true);
    assert.equal(await runCommand([process.execPath, bundle]), "one\n");
    assert.equal(await bundleProgram(source, bundle, { WORD: '"one"' }), false);
    assert.equal(await bundleProgram(source, bundle, { WORD: '"two"' }), true);
    writeFileSync(source, "declare const WORD: string; console.log(WORD, 2);");
    assert.equal(await bundleProgram(source, bundle, { WORD: '"two"' }), true);
    assert.equal(await runCommand([process.execPath, bundle]), "two 2\n");
    await assert.rejects(bundleProgram(join(folder, "none.ts"), bundle, {}), /none\.ts/);
  });
});

describe("Restate", () => {
  it("is there in every version that is offered, as an image for the nodes", async () => {
    const images = await restateImages(restateVersions, streamProgress());
    for (const [i, { image, files, entrypoint }] of images.entries()) {
      const version = restateVersions[i] ?? "";
      assert.equal(image, `docker.io/restatedev/restate:${version}`);
      assert.deepEqual(entrypoint, ["/usr/local/bin/restate-server"]);
      assert.match(await runCommand([files["/usr/local/bin/restate-server"] ?? "", "--version"]), new RegExp(version));
      assert.match(await runCommand([files["/usr/local/bin/restatectl"] ?? "", "--version"]), /1\.7\.1[02]/);
    }
    await assert.rejects(ensureRestate("1.0.0", noProgress), /the sandbox has no Restate 1\.0\.0/);
  });
});

describe("an official Pulumi on PATH", () => {
  before(() => ensureToolchain(["kubernetes-plugin"], streamProgress()));

  const bin = join(folder, "official");
  const userHome = join(folder, "user");
  const installed = (home: string, name: string, version: string) => {
    const plugin = join(home, "plugins", `resource-${name}-v${version}`, `pulumi-resource-${name}`);
    mkdirSync(dirname(plugin), { recursive: true });
    writeFileSync(plugin, "");
    return plugin;
  };

  /** Puts a program that plays the official engine on PATH; `install` is what `pulumi plugin install` does. */
  function playEngine(version: string, install: string): void {
    mkdirSync(bin, { recursive: true });
    const plugin = '"$PULUMI_HOME/plugins/resource-$4-v$5"';
    const script = ["#!/bin/sh", `if [ "$1" = version ]; then echo v${version}; exit; fi`, `plugin=${plugin}`, install];
    writeFileSync(join(bin, "pulumi"), script.join("\n"), { mode: 0o755 });
    writeFileSync(join(bin, "pulumi-language-nodejs"), "", { mode: 0o755 });
  }

  /** Runs the toolchain's command line with that engine and a cache of its own. */
  function toolchain(
    cache: string,
    mode: string,
    ...args: string[]
  ): Promise<{ code: number; out: string; err: string }> {
    const env = {
      ...process.env,
      PATH: `${bin}:${process.env.PATH}`,
      HOME: userHome,
      RESTATE_SANDBOX_CACHE: cache,
      RESTATE_SANDBOX_DIR: join(cache, "sandbox"),
      RESTATE_SANDBOX_PULUMI: mode,
    };
    delete (env as NodeJS.ProcessEnv).PULUMI_HOME;
    return new Promise((resolve) => {
      const command = [...typescript, join(projectDir, "sandbox/toolchain/main.ts"), ...args];
      execFile(process.execPath, command, { cwd: projectDir, env }, (error, out, err) => {
        resolve({ code: error ? Number(error.code ?? -1) : 0, out, err });
      });
    });
  }

  const succeed = 'mkdir -p "$plugin" && touch "$plugin/pulumi-resource-$4" && echo "$4 $5" >> "$PULUMI_HOME/asked"';
  const fail = 'mkdir -p "$PULUMI_HOME" && echo "$4 $5" >> "$PULUMI_HOME/asked"; echo no network >&2; exit 1';

  it("is used with its plugins, those of the user first, and nothing is built", async () => {
    const cache = mkdtempSync(join(folder, "cache-"));
    const random = installed(join(userHome, ".pulumi"), "random", npmVersion("@pulumi/random"));
    playEngine("3.300.0", succeed);
    const ensured = await toolchain(cache, "", "ensure", "pulumi", "kubernetes-plugin");
    assert.equal(ensured.code, 0, ensured.err);
    assert.doesNotMatch(ensured.err, /building/);
    const home = join(cache, "pulumi-home");
    const versions = (name: string) => `${name} ${npmVersion(`@pulumi/${name}`)}`;
    assert.equal(readFileSync(join(home, "asked"), "utf8"), `${versions("kubernetes")}\n${versions("aws")}\n`);
    const { out } = await toolchain(cache, "official", "--json", "list");
    const rows: { tool: string; version: string; source: string; path: string }[] = JSON.parse(out);
    const row = (tool: string) => rows.find((candidate) => candidate.tool === tool);
    assert.deepEqual(row("pulumi"), {
      tool: "pulumi",
      version: "3.300.0",
      source: "official",
      path: join(bin, "pulumi"),
    });
    assert.deepEqual([row("aws-plugin")?.source, row("kubernetes-plugin")?.source], ["official", "official"]);
    assert.equal(row("random-plugin")?.path, random);
    const target = join(cache, "target");
    const made = await toolchain(cache, "", "home", target);
    assert.equal(made.code, 0, made.err);
    assert.deepEqual(
      readdirSync(join(target, "plugins")).sort(),
      ["kubernetes", "aws", "random"].map((name) => `resource-${name}-v${npmVersion(`@pulumi/${name}`)}`).sort(),
    );
    const link = `resource-random-v${npmVersion("@pulumi/random")}/pulumi-resource-random`;
    assert.equal(readlinkSync(join(target, "plugins", link)), random);
    assert.equal(existsSync(join(cache, "sandbox/bin/pulumi")), false, "it is on PATH already");
    rmSync(userHome, { recursive: true });
  });

  it("is used with the sandbox's own plugins where it cannot install any, and is not asked again soon", async () => {
    const cache = mkdtempSync(join(folder, "cache-"));
    playEngine("3.300.0", fail);
    // The built Kubernetes plugin is in the user's cache already; here only its entry is of interest.
    symlinkSync(dirname(toolPath("kubernetes-plugin")), join(cache, basename(dirname(toolPath("kubernetes-plugin")))));
    for (const expected of [/the sandbox's own are used instead/, /^$/]) {
      const ensured = await toolchain(cache, "", "ensure", "pulumi", "kubernetes-plugin");
      assert.equal(ensured.code, 0, ensured.err);
      assert.match(ensured.err, expected);
      assert.equal(readFileSync(join(cache, "pulumi-home/asked"), "utf8").split("\n").length, 2);
    }
    const forced = await toolchain(cache, "official", "ensure", "kubernetes-plugin");
    assert.equal(forced.code, 1);
    assert.match(forced.err, /plugin install resource kubernetes .*\n {4}no network/);
  });

  it("is not used when it is too old", async () => {
    const cache = mkdtempSync(join(folder, "cache-"));
    playEngine("3.100.0", fail);
    const { code, err } = await toolchain(cache, "official", "ensure", "pulumi");
    assert.equal(code, 1);
    assert.match(err, /pulumi 3\.100\.0 on PATH is older than 3\.256\.0: install Pulumi 3\.256\.0 or newer/);
  });
});

describe("the real engine", () => {
  const home = join(folder, "home");
  const program = join(folder, "program");
  const env = { ...process.env, ...pulumiEnv({ backendDir: join(folder, "backend"), home }) };
  const write = (path: string, content: string) => {
    mkdirSync(dirname(join(program, path)), { recursive: true });
    writeFileSync(join(program, path), content);
  };

  /** Runs pulumi and returns its exit code and all that it wrote. */
  function pulumi(args: string[], mode?: string): Promise<{ code: number; text: string }> {
    return new Promise((resolve) => {
      execFile(
        toolPath("pulumi"),
        [...args, "--non-interactive", "--color", "never"],
        { cwd: program, env: { ...env, ...(mode ? { TEST_MODE: mode } : {}) }, timeout: 300_000 },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, text: stdout + stderr }),
      );
    });
  }

  async function succeeds(...args: string[]): Promise<string> {
    const { code, text } = await pulumi(args);
    assert.equal(code, 0, text);
    return text;
  }

  before(async () => {
    await ensureToolchain(["pulumi", "kubernetes-plugin", "jq"], streamProgress());
    await preparePulumiHome(home);
    mkdirSync(join(folder, "backend"));
    write(
      "Pulumi.yaml",
      `name: trivial\nruntime: {name: nodejs, options: {typescript: false, nodeargs: "${typescript.join(" ")}"}}\n`,
    );
    write("package.json", '{"name": "trivial", "version": "0.0.0", "private": true, "main": "index.ts"}');
    symlinkSync(join(projectDir, "node_modules"), join(program, "node_modules"));
    write(
      "index.ts",
      `import * as kubernetes from "@pulumi/kubernetes";
       import * as pulumi from "@pulumi/pulumi";
       import * as random from "@pulumi/random";
       const config = new pulumi.Config();
       const mode = process.env.TEST_MODE;
       if (mode === "crash") throw new Error("crashed on purpose");
       if (mode === "exit") process.exit(7);
       if (mode === "hang") { console.log("hangs as process " + process.pid + "."); setInterval(() => {}, 1000); }
       export const secret = config.requireSecret("password").apply((password) => password.length);
       export const plain = { stack: pulumi.getStack(), project: pulumi.getProject(), pwd: process.cwd() };
       export const id = new random.RandomId("id", { byteLength: 4 }).hex;
       const provider = new kubernetes.Provider("files", { renderYamlToDirectory: ${JSON.stringify(join(folder, "out"))} });
       new kubernetes.core.v1.ConfigMap("map", { metadata: { name: "map" }, data: { id } }, { provider });`,
    );
    await succeeds("stack", "init", "dev");
    await succeeds("config", "set", "--secret", "password", "hunter2");
  });

  it("runs a program with our language host, the built plugin and the stand-in plugins", async () => {
    const text = await succeeds("up", "--yes", "--skip-preview");
    assert.match(text, /\+ 4 created/);
    const outputs = JSON.parse(await succeeds("stack", "output", "--json", "--show-secrets"));
    assert.deepEqual(outputs.plain, { stack: "dev", project: "trivial", pwd: program });
    assert.equal(outputs.secret, 7);
    assert.match(outputs.id, /^[0-9a-f]{8}$/);
    assert.match(
      readFileSync(join(folder, "out/1-manifest/v1-configmap-default-map.yaml"), "utf8"),
      new RegExp(outputs.id),
    );
  });

  it("keeps secrets secret", async () => {
    assert.equal(JSON.parse(await succeeds("stack", "output", "--json")).secret, "[secret]");
    assert.doesNotMatch(readFileSync(join(program, "Pulumi.dev.yaml"), "utf8"), /hunter2/);
    assert.doesNotMatch(await succeeds("stack", "export"), /hunter2/);
  });

  it("changes nothing when nothing changed", async () => {
    assert.match(await succeeds("preview", "--expect-no-changes"), /4 unchanged/);
  });

  it("tells an error of the program once, and fails", async () => {
    const { code, text } = await pulumi(["preview"], "crash");
    assert.notEqual(code, 0);
    assert.match(text, /Error: crashed on purpose/);
    assert.doesNotMatch(text, /non-zero exit code/);
  });

  it("fails when the program ends by itself with an exit code", async () => {
    const { code, text } = await pulumi(["preview"], "exit");
    assert.notEqual(code, 0);
    assert.match(text, /Program exited with non-zero exit code: 7/);
  });

  for (const [signal, what] of [
    ["SIGINT", "interrupted"],
    ["SIGKILL", "killed"],
  ] as const)
    it(`ends the program and its host when the engine is ${what}`, async () => {
      const child = spawn(toolPath("pulumi"), ["preview", "--non-interactive"], {
        cwd: program,
        env: { ...env, TEST_MODE: "hang" },
        stdio: ["ignore", "pipe", "ignore"],
      });
      const end = ended(child);
      let text = "";
      child.stdout.setEncoding("utf8").on("data", (part) => {
        text += part;
      });
      const pid = () => text.match(/hangs as process (\d+)\./)?.[1];
      await until("the program hangs", () => pid() !== undefined);
      const host = processEntry(Number(pid()))!.parent;
      child.kill(signal);
      assert.notEqual(await end, 0);
      await until("the program ends", () => !existsSync(`/proc/${pid()}`));
      await until("the host ends", () => !existsSync(`/proc/${host}`));
    });

  it("runs a policy pack", async () => {
    write("policies/PulumiPolicy.yaml", "runtime: nodejs\nversion: 0.0.1\n");
    write("policies/package.json", '{"name": "pack", "version": "0.0.1", "private": true, "main": "index.js"}');
    write("policies/index.js", `require(${JSON.stringify(typescript[1])}); require("./pack.ts");`);
    write(
      "policies/pack.ts",
      `import { PolicyPack } from "@pulumi/policy";
       new PolicyPack("pack", { policies: [{
         name: "no-maps", description: "Maps are forbidden.", enforcementLevel: "mandatory",
         validateResource: (args, report) => { if (args.type === "kubernetes:core/v1:ConfigMap") report("a map: " + args.name); },
       }] });`,
    );
    const { code, text } = await pulumi(["preview", "--policy-pack", "policies"]);
    assert.notEqual(code, 0);
    assert.match(
      text,
      /\[mandatory\] +no-maps +\(kubernetes:core\/v1:ConfigMap: map\)\n +Maps are forbidden\.\n +a map: map/,
    );
    write("policies/pack.ts", readFileSync(join(program, "policies/pack.ts"), "utf8").replace("ConfigMap", "Secret"));
    assert.match(await succeeds("preview", "--policy-pack", "policies"), /pack@v0\.0\.1/);
  });

  it("says what it is made of", async () => {
    const about = await succeeds("about", "--json");
    const { runtime, dependencies } = JSON.parse(about.slice(0, about.lastIndexOf("}") + 1));
    assert.equal(runtime.language, "nodejs");
    assert.equal(runtime.version, process.versions.node);
    assert.ok(Array.isArray(dependencies));
    const rows = describeToolchain();
    const pulumiRow = rows.find(({ tool }) => tool === "pulumi");
    assert.match(pulumiRow?.version ?? "", /^3\.\d+\.\d+$/);
    assert.ok(rows.some(({ tool, source }) => tool === "random-plugin" && ["bundled", "official"].includes(source)));
  });
});
