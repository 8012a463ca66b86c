/** The sandbox's frame, as far as it is pure: order, judgement, quoting, ports, texts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { defaultVersion } from "../../restate/versions";
import { type Command, readArguments, UsageError } from "../../sandbox/commands/command";
import { duration, shellQuote, size, table } from "../../sandbox/commands/text";
import type { WorldStatus } from "../../sandbox/world/control";
import { socketPath } from "../../sandbox/world/files";
import { networkCommands } from "../../sandbox/world/namespace";
import { checkItems, dependents, type Item, stopOrder, waitsFor } from "../../sandbox/world/plan";
import { candidatePorts, listenOnFirstFree } from "../../sandbox/world/ports";
import { identify, isAlive, parseStat, processTree } from "../../sandbox/world/processes";
import { regions, witnessRegion } from "../../sandbox/world/regions";
import { problemsOf, type WorldReport } from "../../sandbox/world/report";
import { rotateLog, tailOf } from "../../sandbox/world/supervisor";
import { askedRestateVersions } from "../../sandbox/world/versions";

const item = (name: string, after: string[] = [], boundTo?: string[]): Item => ({
  name,
  after,
  boundTo,
  command: ["true"],
  ready: async () => true,
});

test("the versions of Restate that stacks ask for: of their own files, else of Pulumi.yaml, each once", () => {
  const project = mkdtempSync(join(tmpdir(), "versions-"));
  try {
    assert.deepEqual(askedRestateVersions(project), [defaultVersion], "before there is a project, the clone's");
    const text = readFileSync(join(__dirname, "../../Pulumi.yaml"), "utf8");
    writeFileSync(join(project, "Pulumi.yaml"), text.replace(`default: ${defaultVersion}`, "default: 1.7.10"));
    assert.deepEqual(askedRestateVersions(project), ["1.7.10"]);
    writeFileSync(join(project, "Pulumi.region2.yaml"), "config:\n  restate:restateVersion: 1.6.2\n");
    assert.deepEqual(askedRestateVersions(project), ["1.7.10", "1.6.2"]);
    copyFileSync(join(project, "Pulumi.region2.yaml"), join(project, "Pulumi.region1.yaml"));
    assert.deepEqual(askedRestateVersions(project), ["1.6.2"]);
  } finally {
    rmSync(project, { recursive: true });
  }
});

describe("order", () => {
  test("a plan's faults are all named", () => {
    assert.throws(() => checkItems([item("a", ["x"]), item("a"), item("b", [], ["y"])]), {
      message:
        "the sandbox's plan is wrong: two parts are named a; a comes after x, which does not exist; b comes after y, which does not exist",
    });
    assert.throws(() => checkItems([item("a", ["c"]), item("b", ["a"]), item("c", ["b"]), item("d")]), {
      message: "the sandbox's plan is wrong: these wait for each other: a, b, c",
    });
    checkItems([item("a"), item("b", ["a"], ["a"])]);
  });

  test("parts stop after all that came up after them", () => {
    const items = [item("etcd"), item("api", ["etcd"]), item("node", ["api", "aws"]), item("aws")];
    assert.deepEqual(stopOrder(items), [["node"], ["api"], ["etcd", "aws"]]);
  });

  test("in any plan without circles, every part stops before what it comes after", () => {
    const plans = fc.array(fc.array(fc.nat(20), { maxLength: 4 }), { maxLength: 20 });
    fc.assert(
      fc.property(plans, (choices) => {
        const items = choices.map((after, i) => item(`p${i}`, i === 0 ? [] : after.map((a) => `p${a % i}`)));
        checkItems(items);
        const order = stopOrder(items);
        assert.equal(order.flat().length, items.length);
        const level = new Map(order.flatMap((names, i) => names.map((name) => [name, i] as const)));
        for (const { name, after } of items) {
          for (const earlier of after ?? []) assert.ok(level.get(name)! < level.get(earlier)!);
        }
      }),
    );
  });

  test("what waits for what", () => {
    const items = [item("a"), item("b", ["a"]), item("c", ["b"]), item("d")];
    const all = new Map(items.map((one) => [one.name, one]));
    const waiting = (up: string[]): string[] => waitsFor(items[2]!, all, (name) => up.includes(name));
    assert.deepEqual(waiting(["a", "b"]), []);
    assert.deepEqual(waiting(["a"]), ["b"]);
    assert.deepEqual(waiting(["b"]), ["a"], "b is up, but has outlived a");
    assert.deepEqual([...dependents(items, ["a"])], ["b", "c"]);
    assert.deepEqual([...dependents(items, ["d"])], []);
  });
});

describe("ports", () => {
  test("the remembered one first, then a row of the clone's own, each once and outside the ephemeral range", () => {
    const ports = [...candidatePorts("/clone", "aws", 25_000)];
    assert.equal(ports[0], 25_000);
    assert.equal(new Set(ports).size, 12_000);
    assert.equal(ports.length, 12_000);
    assert.ok(ports.every((port) => port >= 20_000 && port < 32_768));
    const first = (clone: string): number => candidatePorts(clone, "aws").next().value as number;
    assert.equal(first("/clone"), first("/clone"));
    assert.notEqual(first("/clone"), first("/other clone"));
  });

  test("ports in use or given away are passed over", async () => {
    const [busy, server] = [createServer(), createServer()];
    await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
    const { port } = busy.address() as { port: number };
    const free = [...candidatePorts("/a clone of the tests", "x")];
    const found = await listenOnFirstFree(server, [port, 1234, ...free], new Set([1234]));
    assert.ok(free.includes(found));
    assert.deepEqual((server.address() as { address: string }).address, "127.0.0.1");
    server.close();
    await assert.rejects(listenOnFirstFree(createServer(), [port], new Set()), /no free port on 127\.0\.0\.1/);
    busy.close();
  });
});

describe("processes", () => {
  test("a stat line is read whatever the command's name", () => {
    const line = `42 (a) b (c)) S 7 42 42 0 -1 4194560 ${"0 ".repeat(12)}31337 1 2 3`;
    assert.deepEqual(parseStat(line), { pid: 42, state: "S", parent: 7, startTicks: 31_337 });
  });

  test("a process is known by more than its number", () => {
    const self = identify(process.pid)!;
    assert.ok(isAlive(self));
    assert.ok(!isAlive({ ...self, startTicks: self.startTicks + 1 }));
    assert.ok(!isAlive({ ...self, bootId: "another" }));
    assert.equal(identify(2 ** 22 + 1), undefined);
  });

  test("a tree holds descendants of descendants, and no one else", () => {
    const entry = (pid: number, parent: number) => ({ pid, parent, state: "S", startTicks: 0 });
    assert.deepEqual(processTree(2, [entry(2, 1), entry(3, 2), entry(4, 3), entry(5, 1)]), [2, 3, 4]);
  });
});

describe("files", () => {
  test("a socket's path always fits", () => {
    assert.equal(socketPath("/short/control.sock"), "/short/control.sock");
    const base = mkdtempSync(join(tmpdir(), `deep-${"x".repeat(100)}`));
    assert.match(socketPath(join(base, "control.sock")), /^\/proc\/self\/fd\/\d+\/control\.sock$/);
    assert.equal(socketPath(join(base, "a.sock")).split("/")[4], socketPath(join(base, "b.sock")).split("/")[4]);
    rmSync(base, { recursive: true });
  });

  test("a log that has grown is moved aside, and its end can be read", () => {
    const base = mkdtempSync(join(tmpdir(), "log-"));
    const path = join(base, "part.log");
    writeFileSync(path, `${Array.from({ length: 50 }, (_, i) => `line ${i}`).join("\n")}\n`);
    assert.deepEqual(tailOf(path, 2), ["line 48", "line 49"]);
    rotateLog(path, 1_000);
    assert.ok(statSync(path).size > 0, "it is small enough");
    rotateLog(path, 100);
    assert.equal(statSync(path).size, 0);
    assert.match(readFileSync(`${path}.1`, "utf8"), /^line 0\n(.*\n)*line 49\n$/);
    assert.deepEqual(tailOf(join(base, "none.log"), 2), []);
    rmSync(base, { recursive: true });
  });
});

test("the network's commands: fixed addresses once, one bridge per region with a hardware address of its own", () => {
  const commands = networkCommands([...regions, witnessRegion]);
  assert.deepEqual(commands.slice(0, 3), [
    "link set lo up",
    "address add 10.0.0.10/32 dev lo",
    "address add 10.0.0.53/32 dev lo",
  ]);
  assert.deepEqual(commands.slice(3, 10), [
    "link add vpc1 address 02:00:0a:01:00:01 type bridge",
    "address add 10.1.0.1/16 dev vpc1",
    "address add 10.1.0.2/32 dev vpc1",
    "address add 10.1.16.10/32 dev vpc1",
    "address add 10.1.32.10/32 dev vpc1",
    "address add 10.1.48.10/32 dev vpc1",
    "link set vpc1 up",
  ]);
  assert.equal(commands.filter((command) => command.startsWith("link add")).length, 3);
});

describe("judgement", () => {
  const well: WorldStatus = {
    startedAt: 0,
    pid: 2,
    parts: [
      { name: "aws", kind: "part", group: "main", state: "ready", answers: true },
      { name: "seed", kind: "step", group: "main", state: "done" },
      { name: "witness/etcd", kind: "part", group: "witness", state: "stopped" },
    ],
    hostPorts: { pid: 3, ports: {} },
  };
  const report: WorldReport = {
    clusters: [
      {
        region: "region1",
        nodes: [{ name: "n1", zone: "us-east-1a", ready: true, unschedulable: false, pods: 1 }],
      },
    ],
    loadBalancers: [{ region: "region1", name: "nlb", hostname: "h", healthyTargets: 1, targets: 1 }],
    replication: [{ source: "a", destination: "b", pending: 1, failed: 0, lagSeconds: 1 }],
    faults: [],
    unanswered: {},
  };
  const withPart = (part: Partial<WorldStatus["parts"][number]>): WorldStatus => ({
    ...well,
    parts: [{ name: "aws", kind: "part", group: "main", state: "ready", ...part }],
  });
  const next = "npm run sandbox -- up";
  const reported = (change: Partial<WorldReport>): [WorldStatus, WorldReport] => [well, { ...report, ...change }];
  type Case = [string, WorldStatus | undefined | [WorldStatus, WorldReport], { what: string; next: string }[]];
  const cases: Case[] = [
    ["all is well", well, []],
    ["nothing runs", undefined, [{ what: "the sandbox is not running", next }]],
    [
      "a dead part",
      withPart({ state: "dead", ended: "exit code 1" }),
      [{ what: "aws has ended: exit code 1", next: `npm run sandbox -- logs aws; then ${next}` }],
    ],
    ["a failed step", withPart({ kind: "step", state: "failed", ended: "why" }), [{ what: "aws failed: why", next }]],
    ["a stopped part", withPart({ state: "stopped", ended: "stopped" }), [{ what: "aws is stopped (stopped)", next }]],
    [
      "a paused part",
      withPart({ state: "paused" }),
      [{ what: "aws is paused", next: "npm run sandbox -- fault resume aws" }],
    ],
    [
      "a part that is not ready",
      withPart({ state: "starting", notReady: "connection refused" }),
      [{ what: "aws is starting: connection refused", next: "npm run sandbox -- logs aws" }],
    ],
    [
      "a part that waits",
      withPart({ state: "waiting", waitsFor: ["a", "b"] }),
      [{ what: "aws is waiting: waits for a, b", next: "npm run sandbox -- logs aws" }],
    ],
    [
      "a part that does not answer",
      withPart({ answers: false }),
      [{ what: "aws runs and does not answer", next: "npm run sandbox -- logs aws" }],
    ],
    ["no ports", { ...well, hostPorts: undefined }, [{ what: "nothing keeps the ports on 127.0.0.1", next }]],
    [
      "a cluster that does not answer",
      reported({ clusters: [{ region: "region1", error: "refused" }] }),
      [{ what: "the cluster of region1 does not answer: refused", next }],
    ],
    [
      "a node that is not ready",
      reported({
        clusters: [
          { region: "region1", nodes: [{ name: "n", zone: "z", ready: false, unschedulable: false, pods: 0 }] },
        ],
      }),
      [{ what: "node n (region1, z) is not ready", next: "npm run sandbox -- logs region1/node-z" }],
    ],
    [
      "a fault",
      reported({ faults: [{ what: "region1 is cut off", heal: "heal it" }] }),
      [{ what: "fault: region1 is cut off", next: "heal it" }],
    ],
    [
      "a load balancer without targets",
      reported({ loadBalancers: [{ region: "region1", name: "n", hostname: "h", healthyTargets: 0, targets: 2 }] }),
      [{ what: "load balancer n (region1) has no healthy target of 2", next: "npm run sandbox -- logs network/nlb" }],
    ],
    [
      "copies that failed",
      reported({ replication: [{ source: "a", destination: "b", pending: 0, failed: 2, lagSeconds: 0 }] }),
      [{ what: "2 objects could not be copied from a to b", next: "npm run sandbox -- logs aws" }],
    ],
    [
      "a stand-in that is silent",
      reported({ unanswered: { network: "refused" } }),
      [{ what: "network cannot be asked: refused", next: "npm run sandbox -- status --json" }],
    ],
  ];
  for (const [name, status, problems] of cases) {
    const [world, about] = Array.isArray(status) ? status : [status, report];
    test(name, () => assert.deepEqual(problemsOf(world, about), problems));
  }
});

describe("texts", () => {
  test("quoted words are read back by a shell as they were", () => {
    const words = fc.array(
      fc.string({ maxLength: 12 }).filter((word) => !word.includes("\0")),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(words, (list) => {
        const script = `printf '%s\\0' ${list.map((word) => shellQuote(word)).join(" ")}`;
        const output = list.length === 0 ? "" : execFileSync("bash", ["-c", script], { encoding: "utf8" });
        assert.equal(output, list.map((word) => `${word}\0`).join(""));
      }),
      { numRuns: 30 },
    );
    assert.equal(shellQuote("/a/b-c.d:1"), "/a/b-c.d:1");
    assert.equal(shellQuote("it's"), `'it'\\''s'`);
    assert.equal(shellQuote(""), "''");
  });

  test("durations and sizes", () => {
    const said = [0, 850, 12_300, 245_000, 7_800_000, 273_600_000].map(duration);
    assert.deepEqual(said, ["0 ms", "850 ms", "12.3 s", "4 min 5 s", "2 h 10 min", "3 d 4 h"]);
    assert.deepEqual([2_048, 36 * 2 ** 20, 1.25 * 2 ** 30].map(size), ["2 KiB", "36 MiB", "1.3 GiB"]);
  });

  test("columns are as wide as what can be seen of their widest cell", () => {
    assert.equal(
      table(
        ["A", "B"],
        [
          ["\x1b[31mlong\x1b[0m", "1"],
          ["x", "2"],
        ],
      ),
      "A     B\n\x1b[31mlong\x1b[0m  1\nx     2",
    );
  });
});

describe("arguments", () => {
  const command: Command = {
    name: "do",
    summary: "",
    usage: "<thing> [-f]",
    help: "",
    options: { force: { type: "boolean", short: "f" } },
    positionals: { min: 1, max: 1 },
    run: async () => 0,
  };
  test("are read", () => {
    assert.deepEqual(readArguments(command, ["it", "-f", "--json"]), {
      positionals: ["it"],
      flags: { __proto__: null, force: true, json: true },
      json: true,
    });
    assert.equal(readArguments(command, ["--help"]), "help");
  });
  for (const [args, message] of [
    [[], "an argument is missing"],
    [["a", "b"], "unexpected argument b"],
    [["a", "--nope"], "Unknown option '--nope'"],
  ] as const) {
    test(`[${args}] is refused`, () => {
      assert.throws(
        () => readArguments(command, [...args]),
        (error: Error) => error instanceof UsageError && error.message === message,
      );
    });
  }
});
