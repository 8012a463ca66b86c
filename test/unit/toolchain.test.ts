/** The toolchain's pure logic: decisions, parsing, keys and texts. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ProgramInfo, RunRequest } from "@pulumi/pulumi/proto/language_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";
import { pulumiEnv, restateImage } from "../../sandbox/toolchain";
import { hashOf } from "../../sandbox/toolchain/cache";
import { CommandError, cleanEnvironment, runCommand } from "../../sandbox/toolchain/command";
import {
  configEnvironment,
  optionsEnvironment,
  runArguments,
  runtimeOptions,
  sdkConfigKey,
  splitArguments,
} from "../../sandbox/toolchain/language-host/options";
import { describeMissing, findMissing, type Machine, type Need } from "../../sandbox/toolchain/prerequisites";
import { elapsed, streamProgress } from "../../sandbox/toolchain/progress";
import { compareVersions, decideEngine, pulumiMode } from "../../sandbox/toolchain/pulumi";
import { goSource, npmVersion } from "../../sandbox/toolchain/recipes";

const folder = mkdtempSync(join(tmpdir(), "toolchain-unit-"));
after(() => rmSync(folder, { recursive: true }));

describe("the choice of the engine", () => {
  const fit = { path: "/usr/bin/pulumi", version: "3.300.1", hasLanguageHost: true };

  it("compares versions by number", () => {
    assert.ok(compareVersions("3.9.0", "3.10.0") < 0);
    assert.ok(compareVersions("v3.256.0", "3.256.0") === 0);
    assert.ok(compareVersions("4.0", "3.256.9") > 0);
    assert.ok(compareVersions("3.256.0-alpha.1", "3.256.0") === 0);
  });

  for (const [mode, engine, expected] of [
    ["auto", fit, { official: true, why: "pulumi 3.300.1 on PATH" }],
    ["auto", undefined, { official: false, why: "no pulumi on PATH" }],
    ["auto", { ...fit, version: "3.255.9" }, { official: false, why: "pulumi 3.255.9 on PATH is older than 3.256.0" }],
    [
      "auto",
      { ...fit, hasLanguageHost: false },
      { official: false, why: "pulumi 3.300.1 on PATH has no pulumi-language-nodejs next to it" },
    ],
    ["built", fit, { official: false, why: "RESTATE_SANDBOX_PULUMI=built" }],
    ["official", fit, { official: true, why: "pulumi 3.300.1 on PATH" }],
  ] as const) {
    it(`${mode}, ${engine ? `${engine.version} ${engine.hasLanguageHost}` : "none"}`, () => {
      assert.deepEqual(decideEngine(mode, engine), expected);
    });
  }

  it("refuses to go on without the official engine that was asked for", () => {
    assert.throws(() => decideEngine("official", undefined), {
      message:
        "RESTATE_SANDBOX_PULUMI=official, but no pulumi on PATH: install Pulumi 3.256.0 or newer, " +
        "or unset the variable to have it built",
    });
  });

  it("reads the variable", () => {
    assert.equal(pulumiMode(undefined), "auto");
    assert.equal(pulumiMode(""), "auto");
    assert.equal(pulumiMode("built"), "built");
    assert.throws(() => pulumiMode("newest"), {
      message: "RESTATE_SANDBOX_PULUMI must be built, official or auto, not newest",
    });
  });
});

describe("the environment of pulumi", () => {
  it("keeps state and plugins to the sandbox", () => {
    const { PATH, ...env } = pulumiEnv({ backendDir: "/state/pulumi", home: "/state/home" });
    assert.match(PATH ?? "", /\/bin:/);
    assert.deepEqual(env, {
      PULUMI_HOME: "/state/home",
      PULUMI_BACKEND_URL: "file:///state/pulumi?metadata=skip",
      PULUMI_CONFIG_PASSPHRASE: "restate-sandbox",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      PULUMI_IGNORE_AMBIENT_PLUGINS: "true",
    });
  });

  it("names another stack file if asked", () => {
    const env = pulumiEnv({ backendDir: "/b", home: "/h", projectFolder: "/c" });
    assert.equal(env.PULUMI_OPTION_CWD, "/c");
  });
});

describe("the language host's requests", () => {
  const info = (options: Record<string, string | boolean | number>) =>
    new ProgramInfo()
      .setRootDirectory("/root")
      .setProgramDirectory("/root/program")
      .setEntryPoint(".")
      .setOptions(Struct.fromJavaScript(options));

  it("has the official host's defaults", () => {
    assert.deepEqual(runtimeOptions(undefined), {
      typescript: true,
      nodeargs: [],
      tsconfig: undefined,
      packagemanager: "npm",
    });
    assert.deepEqual(optionsEnvironment(runtimeOptions(undefined)), { PULUMI_NODEJS_TYPESCRIPT: "true" });
  });

  it("reads every option", () => {
    const options = runtimeOptions(
      info({ typescript: false, nodeargs: "--import tsx", tsconfig: "ts.json", packagemanager: "pnpm" }),
    );
    assert.deepEqual(options, {
      typescript: false,
      nodeargs: ["--import", "tsx"],
      tsconfig: "ts.json",
      packagemanager: "pnpm",
    });
    assert.deepEqual(optionsEnvironment(options), { PULUMI_NODEJS_TSCONFIG_PATH: "ts.json" });
  });

  for (const [options, message] of [
    [{ typescript: "yes" }, 'Pulumi.yaml: runtime.options.typescript must be true or false, not "yes"'],
    [{ nodeargs: 1 }, "Pulumi.yaml: runtime.options.nodeargs must be a string, not 1"],
    [{ nodeargs: "-r 'a" }, "Pulumi.yaml: runtime.options.nodeargs has a quote that is not closed: -r 'a"],
    [
      { packagemanager: "pip" },
      'Pulumi.yaml: runtime.options.packagemanager must be one of npm, pnpm, yarn, bun, not "pip"',
    ],
  ] as const) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      assert.throws(() => runtimeOptions(info(options)), { message });
    });
  }

  it("splits arguments as a shell does", () => {
    assert.deepEqual(splitArguments(""), []);
    assert.deepEqual(splitArguments("  --import   tsx "), ["--import", "tsx"]);
    assert.deepEqual(splitArguments(`--a="b c" 'd e'f "" g`), ["--a=b c", "d ef", "", "g"]);
  });

  it("gives configuration in the SDK's form", () => {
    assert.equal(sdkConfigKey("aws:region"), "aws:config:region");
    assert.equal(sdkConfigKey("aws:config:region"), "aws:config:region");
    const request = new RunRequest();
    request.getConfigMap().set("aws:region", "us-east-1").set("p:password", "s3");
    request.setConfigsecretkeysList(["p:password"]);
    assert.deepEqual(configEnvironment(request), {
      PULUMI_CONFIG: '{"aws:config:region":"us-east-1","p:config:password":"s3"}',
      PULUMI_CONFIG_SECRET_KEYS: '["p:config:password"]',
    });
  });

  it("runs the program with everything that the engine said", () => {
    const request = new RunRequest()
      .setMonitorAddress("127.0.0.1:1")
      .setOrganization("organization")
      .setProject("project")
      .setStack("region1")
      .setPwd("/root/program")
      .setDryrun(true)
      .setParallel(16)
      .setArgsList(["a"])
      .setInfo(info({ nodeargs: "--import tsx" }));
    assert.deepEqual(runArguments(request, "/sdk/run", "127.0.0.1:2", runtimeOptions(request.getInfo())), [
      ...["--import", "tsx", "/sdk/run", "--monitor", "127.0.0.1:1", "--engine", "127.0.0.1:2"],
      ...["--organization", "organization", "--project", "project", "--root-directory", "/root"],
      ...["--stack", "region1", "--pwd", "/root/program", "--dry-run", "--parallel", "16", ".", "a"],
    ]);
  });
});

describe("prerequisites", () => {
  const complete: Machine = {
    platform: "linux",
    arch: "x64",
    node: "20.19.0",
    go: "1.26",
    python: "3.10.4",
    pythonVenv: true,
    programs: new Set(["unshare", "nsenter", "flock", "mount", "ip", "sysctl", "bash", "curl", "npm"]),
    namespacesRefused: undefined,
    settings: {},
  };
  const all: Need[] = ["run", "go", "npm", "python"];
  const without = (...names: string[]) => new Set([...complete.programs].filter((name) => !names.includes(name)));

  it("finds nothing missing on a complete machine", () => {
    assert.deepEqual(findMissing(complete, all), []);
  });

  for (const [name, machine, needs, expected] of [
    ["another system", { platform: "darwin" }, ["run"], ["Linux on x64 or arm64; this is darwin on x64"]],
    ["old Node.js", { node: "20.18.3" }, ["run"], ["Node.js 20.19.0 or newer; 20.18.3 was found"]],
    ["no Go, nothing to build", { go: undefined }, ["run"], []],
    [
      "no Go, something to build",
      { go: undefined },
      ["go"],
      ["Go 1.26.0 or newer, to build what is not in the cache yet; none was found"],
    ],
    [
      "old Go",
      { go: "1.25.9" },
      ["go"],
      ["Go 1.26.0 or newer, to build what is not in the cache yet; 1.25.9 was found"],
    ],
    ["old Python", { python: "3.9.2" }, ["run"], ["Python 3.10.0 or newer; 3.9.2 was found"]],
    ["no venv, not needed", { pythonVenv: false }, ["run"], []],
    ["no venv", { pythonVenv: false }, ["python"], ["Python's venv module with ensurepip"]],
    ["programs", { programs: without("ip", "curl", "npm") }, ["run"], ["the program ip", "the program curl"]],
    ["npm", { programs: without("npm") }, ["npm"], ["the program npm"]],
    [
      "arm64",
      { arch: "arm64" },
      ["run"],
      [
        "the program kubectl, which the sandbox brings along for x64 only",
        "the program helm, which the sandbox brings along for x64 only",
      ],
    ],
  ] as [string, Partial<Machine>, Need[], string[]][]) {
    it(name, () => {
      const missing = findMissing({ ...complete, ...machine }, needs);
      assert.deepEqual(
        missing.map(({ what }) => what),
        expected,
      );
      assert.ok(missing.every(({ remedy }) => remedy.length > 0));
    });
  }

  for (const [settings, remedy] of [
    [{ apparmorRestrict: "1" }, /sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0/],
    [{ unprivilegedClone: "0" }, /sysctl -w kernel\.unprivileged_userns_clone=1/],
    [{ maxUserNamespaces: "0" }, /sysctl -w user\.max_user_namespaces=15000/],
    [{ apparmorRestrict: "0", unprivilegedClone: "1", maxUserNamespaces: "100" }, /--privileged/],
  ] as [Machine["settings"], RegExp][]) {
    it(`says how to allow user namespaces: ${JSON.stringify(settings)}`, () => {
      const [missing] = findMissing({ ...complete, namespacesRefused: "Operation not permitted", settings }, ["run"]);
      assert.equal(missing?.what, "user namespaces without privileges; unshare said: Operation not permitted");
      assert.equal(missing?.remedy.length, 1);
      assert.match(missing?.remedy[0] ?? "", remedy);
    });
  }

  it("tells everything at once, with what to type", () => {
    const missing = findMissing({ ...complete, programs: without("ip", "curl") }, all);
    assert.equal(
      describeMissing(missing),
      [
        "The sandbox needs what this machine does not have:",
        "  - the program ip",
        "      Debian, Ubuntu: sudo apt-get install iproute2",
        "      Fedora: sudo dnf install iproute",
        "  - the program curl",
        "      Debian, Ubuntu: sudo apt-get install curl",
        "      Fedora: sudo dnf install curl",
      ].join("\n"),
    );
  });
});

describe("what a tool is made from", () => {
  it("hashes contents by name, in any order", () => {
    assert.equal(hashOf({ a: "1", b: "2" }), hashOf({ b: "2", a: "1" }));
    assert.notEqual(hashOf({ a: "1", b: "2" }), hashOf({ a: "12", b: "" }));
    assert.notEqual(hashOf({ a: "1" }), hashOf({ b: "1" }));
    assert.match(hashOf({}), /^[0-9a-f]{16}$/);
  });

  it("changes with a Go module's sources and build file, not with what Go does not read", () => {
    const module = join(folder, "module");
    mkdirSync(join(module, "inner"), { recursive: true });
    const build = (ldflags: string) =>
      writeFileSync(join(module, "build.json"), JSON.stringify({ package: ".", ldflags }));
    const hash = () => goSource("fake", module, "fake").hash;
    build("-s");
    writeFileSync(join(module, "inner/main.go"), "package main");
    const first = hash();
    for (const ignored of ["notes.md", "parts.ts", "inner/main_test.go", ".hidden"]) {
      writeFileSync(join(module, ignored), "x");
    }
    assert.equal(hash(), first);
    writeFileSync(join(module, "inner/main.go"), "package main // changed");
    const second = hash();
    assert.notEqual(second, first);
    build("-s -X main.version={{@pulumi/kubernetes}}");
    assert.notEqual(hash(), second);
  });

  it("refuses a build file with unknown keys and a package without an exact version", () => {
    const module = join(folder, "bad");
    mkdirSync(module);
    writeFileSync(join(module, "build.json"), '{"package": ".", "ldflags": "", "flags": ""}');
    assert.throws(() => goSource("bad", module, "bad"), /flags/);
    assert.throws(() => npmVersion("left-pad"), {
      message: "package.json: left-pad must have an exact version, such as 1.2.3, not undefined",
    });
  });

  it("knows which versions of Restate there are", () => {
    assert.throws(() => restateImage("1.5.0"), {
      message: "the sandbox has no Restate 1.5.0: set restate:restateVersion to one of 1.7.12, 1.7.10, 1.6.2",
    });
  });
});

describe("progress", () => {
  it("tells time shortly", () => {
    assert.deepEqual([0, 59_400, 60_000, 125_000].map(elapsed), ["0s", "59s", "1m00s", "2m05s"]);
  });

  it("writes plain lines where there is no terminal", async () => {
    const lines: string[] = [];
    const progress = streamProgress({ write: (text) => lines.push(text) });
    progress.say("hello");
    assert.equal(await progress.task("building x", async () => 7), 7);
    await assert.rejects(
      progress.task("building y", () => Promise.reject(new Error("no"))),
      { message: "no" },
    );
    assert.deepEqual(lines, [
      "hello\n",
      "building x ...\n",
      "building x: done in 0s\n",
      "building y ...\n",
      "building y: failed after 0s\n",
    ]);
  });

  it("counts on one line of a terminal, with what happens now", async (context) => {
    context.mock.timers.enable({ apis: ["setInterval", "Date"] });
    const lines: string[] = [];
    const progress = streamProgress({ isTTY: true, columns: 32, write: (text) => lines.push(text) });
    await progress.task("building x", async (detail) => {
      detail("some/package  with\na long name");
      context.mock.timers.tick(1000);
      context.mock.timers.tick(1000);
    });
    assert.deepEqual(lines, [
      "\r\x1b[Kbuilding x 1s  some/package wit",
      "\r\x1b[Kbuilding x 2s  some/package wit",
      "\r\x1b[Kbuilding x: done in 2s\n",
    ]);
  });
});

describe("commands", () => {
  it("returns standard output and hears every line", async () => {
    const heard: string[] = [];
    const output = await runCommand(["sh", "-c", "echo a; echo b >&2; printf c"], {
      onLine: (line) => heard.push(line),
    });
    assert.equal(output, "a\nc");
    assert.deepEqual(heard.sort(), ["a", "b", "c"]);
  });

  it("tells the end of the output of a failure", async () => {
    await assert.rejects(runCommand(["sh", "-c", "seq 100; exit 3"]), (error) => {
      assert.ok(error instanceof CommandError);
      assert.equal(error.outcome, "exit code 3");
      assert.deepEqual(
        error.tail,
        Array.from({ length: 50 }, (_, i) => String(51 + i)),
      );
      assert.match(error.message, /^sh -c seq 100; exit 3: exit code 3; the end of its output:\n {4}51\n/);
      return true;
    });
    await assert.rejects(runCommand(["no-such-program"]), /no-such-program: spawn no-such-program ENOENT/);
    await assert.rejects(runCommand(["sleep", "9"], { timeout: 50 }), /sleep 9: ended by SIGTERM/);
  });

  it("hides from an npm inside what an npm outside said", () => {
    process.env.npm_package_name = "outside";
    try {
      assert.equal(cleanEnvironment().npm_package_name, undefined);
      assert.equal(cleanEnvironment().PATH, process.env.PATH);
    } finally {
      delete process.env.npm_package_name;
    }
  });
});
