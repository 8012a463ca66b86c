/** The frame of the sandbox on its own: namespaces, supervisor, host ports; with small servers as parts. */
import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { ExecResult, WorldStatus } from "../../sandbox/world/control";
import { projectDir, typescript } from "../../sandbox/world/paths";
import { processTable, processTree } from "../../sandbox/world/processes";
import type { WorldUp } from "../../sandbox/world/world";
import { hostListeners, processesOf, until } from "./world-support";

const driver = [...typescript, join(__dirname, "world-driver.ts")];

/** One sandbox of its own, away from the clone's. */
class World {
  readonly base = mkdtempSync(join(tmpdir(), "sandbox-world-"));
  readonly dir: string;
  readonly environment: NodeJS.ProcessEnv;

  constructor(below = "sandbox") {
    this.dir = join(this.base, below);
    const temporary = join(this.base, "tmp");
    mkdirSync(temporary);
    this.environment = {
      ...process.env,
      RESTATE_SANDBOX_DIR: this.dir,
      RESTATE_SANDBOX_CACHE: join(this.base, "cache"),
      TMPDIR: temporary,
    };
  }

  run(...args: string[]): SpawnSyncReturns<string> {
    return spawnSync(process.execPath, [...driver, ...args], {
      env: this.environment,
      cwd: projectDir,
      encoding: "utf8",
      timeout: 60_000,
    });
  }

  json<T>(...args: string[]): T {
    const result = this.run(...args);
    assert.equal(result.status, 0, `${args.join(" ")}: ${result.stderr}`);
    return JSON.parse(result.stdout) as T;
  }

  up(): WorldUp {
    return this.json<WorldUp>("up");
  }

  status(): WorldStatus {
    return this.json<WorldStatus>("status");
  }

  part(name: string): WorldStatus["parts"][number] {
    const found = this.status().parts.find((part) => part.name === name);
    assert.ok(found, `no part ${name}`);
    return found;
  }

  /** Host's ids of all processes that belong to this world. */
  processes(): number[] {
    return processesOf(this.dir);
  }

  async remove(): Promise<void> {
    this.run("down", "--delete-state");
    rmSync(this.base, { recursive: true, force: true });
  }
}

function fetchText(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    // A connection of its own: one kept from before may belong to a process that is gone.
    get({ host: "127.0.0.1", port, timeout: 3_000, agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve(text));
    }).on("error", reject);
  });
}

describe("the world", { timeout: 300_000 }, () => {
  const world = new World();
  before(() => {
    world.up();
  });
  after(() => world.remove());

  test("runs parts in order, in namespaces of their own, and answers on 127.0.0.1", async () => {
    const { parts, hostPorts } = world.status();
    assert.deepEqual(parts.map((part) => `${part.name} ${part.state}`).sort(), [
      "region1/server ready",
      "region1/store ready",
      "region2/node ready",
      "seed done",
    ]);
    const [store, server] = ["region1/store", "region1/server"].map((name) => parts.find((p) => p.name === name)!);
    assert.ok(store!.readyAt! <= server!.startedAt!);
    assert.ok(parts.every((part) => part.kind === "step" || (part.memory! > 1e6 && part.hostPid && part.answers)));
    assert.equal(await fetchText(hostPorts!.ports["region1/api"]!), "port 6443");
    await assert.rejects(fetchText(hostPorts!.ports.nowhere!));
  });

  test("listens on nothing but 127.0.0.1, and only the user can reach its sockets", () => {
    const listeners = hostListeners(world.processes());
    assert.ok(listeners.length >= 3);
    assert.deepEqual([...new Set(listeners)], ["0100007F"]);
    for (const folder of ["", "run", "state", "logs"]) {
      const mode = spawnSync("stat", ["-c", "%a", join(world.dir, folder)], { encoding: "utf8" }).stdout.trim();
      assert.equal(mode, "700", folder);
    }
  });

  test("the namespaces cannot reach the host, and do not forward", () => {
    const { stdout } = world.json<ExecResult>("exec", "cat", "/proc/sys/net/ipv4/ip_forward");
    assert.equal(stdout.trim(), "0");
    const routes = world.json<ExecResult>("exec", "ip", "-json", "route");
    const devices = (JSON.parse(routes.stdout) as { dev: string }[]).map((route) => route.dev);
    assert.deepEqual(devices.sort(), ["vpc1", "vpc2", "vpc3"]);
    const processes = world.json<ExecResult>("exec", "sh", "-c", "ls -d /proc/[0-9]* | wc -l");
    assert.ok(Number(processes.stdout) < 30, "the host's processes are visible");
  });

  test("up again changes nothing", () => {
    const earlier = world.status();
    world.up();
    const now = world.status();
    assert.equal(now.startedAt, earlier.startedAt);
    assert.deepEqual(
      now.parts.map((part) => part.hostPid),
      earlier.parts.map((part) => part.hostPid),
    );
    assert.deepEqual(now.hostPorts, earlier.hostPorts);
  });

  test("two ups at once are as good as one", async () => {
    const { parts } = world.status();
    world.run("part", "region2/node", "kill");
    const runs = [1, 2].map(
      () =>
        new Promise<number | null>((resolve) => {
          spawn(process.execPath, [...driver, "up"], { env: world.environment, cwd: projectDir }).on("exit", resolve);
        }),
    );
    assert.deepEqual(await Promise.all(runs), [0, 0]);
    const now = world.status();
    assert.equal(now.parts.length, parts.length);
    assert.ok(now.parts.every((part) => part.state === "ready" || part.state === "done"));
  });

  test("a killed part is shown as dead with its log; what is bound to it ends; up recovers", async () => {
    const { hostPid } = world.part("region1/store");
    process.kill(hostPid!, "SIGKILL");
    await until("the part is dead", () => world.part("region1/store").state === "dead");
    const dead = world.part("region1/store");
    assert.equal(dead.ended, "ended by SIGKILL");
    assert.equal(dead.tail!.at(-1), "listening");
    await until("its bound part is stopped", () => world.part("region1/server").state === "stopped");
    assert.equal(world.part("region1/server").ended, "ended because region1/store ended");
    assert.equal(world.part("region2/node").state, "ready", "what only comes after it goes on");
    world.up();
    const { parts } = world.status();
    assert.ok(parts.every((part) => part.state === "ready" || part.state === "done"));
    const seeded = readFileSync(join(world.dir, "state/seeded"), "utf8");
    assert.equal(seeded, "once once ", "steps that come after it have run again");
  });

  test("a paused part is found by asking, and resumed by up", () => {
    assert.equal(world.run("part", "region1/server", "pause").status, 0);
    assert.equal(world.part("region1/server").state, "paused");
    world.up();
    assert.equal(world.part("region1/server").state, "ready");
    assert.equal(world.part("region1/server").answers, true);
    process.kill(world.part("region1/server").hostPid!, "SIGSTOP");
    assert.equal(world.part("region1/server").state, "paused", "stopped by someone else");
    world.up();
    assert.equal(world.part("region1/server").answers, true);
  });

  test("parts are stopped, restarted and started one by one", () => {
    assert.equal(world.run("part", "region1/store", "stop").status, 0);
    assert.deepEqual([world.part("region1/store").state, world.part("region1/server").state], ["stopped", "stopped"]);
    assert.equal(world.run("part", "region1/store", "restart").status, 0);
    world.up();
    const { hostPid } = world.part("region2/node");
    assert.equal(world.run("part", "region2/node", "restart").status, 0);
    world.up();
    assert.notEqual(world.part("region2/node").hostPid, hostPid);
  });

  test("errors say what there is", () => {
    assert.match(
      world.run("part", "nothing", "kill").stderr,
      /no part nothing: there are region1\/store, region1\/server/,
    );
    assert.match(world.run("part", "seed", "kill").stderr, /seed is a step of the start, not a running part/);
    assert.match(world.run("up", "nothing").stderr, /no group nothing: there are main, witness/);
  });

  test("a group on demand comes and is left alone by later ups", () => {
    world.json("up", "witness");
    assert.equal(world.part("witness/server").state, "ready");
    const { hostPid } = world.part("witness/server");
    world.up();
    assert.equal(world.part("witness/server").hostPid, hostPid);
  });

  test("after kill -9 of the process that keeps the ports, up brings back the same ports", async () => {
    const before = world.status().hostPorts!;
    process.kill(before.pid, "SIGKILL");
    await until("it is missed", () => world.status().hostPorts === undefined);
    world.up();
    const now = world.status().hostPorts!;
    assert.deepEqual(now.ports, before.ports);
    assert.equal(await fetchText(now.ports["region1/api"]!), "port 6443");
  });

  test("kill -9 of the supervisor ends everything; up recovers with the same ports", async () => {
    const before = world.status().hostPorts!;
    const inner = world.part("region1/store").hostPid!;
    const supervisor = processTable().find((entry) => entry.pid === inner)!.parent;
    process.kill(supervisor, "SIGKILL");
    await until("nothing is left", () => world.processes().length === 0);
    assert.equal(world.json("status"), null);
    world.up();
    assert.deepEqual(world.status().hostPorts!.ports, before.ports);
    assert.equal(await fetchText(before.ports["region1/api"]!), "port 6443");
  });

  test("a supervisor that hangs is replaced", async () => {
    const inner = world.part("region1/store").hostPid!;
    process.kill(processTable().find((entry) => entry.pid === inner)!.parent, "SIGSTOP");
    world.up();
    assert.notEqual(world.part("region1/store").hostPid, inner);
  });

  test("stale records of a process whose number is another's now are not believed", () => {
    world.run("down");
    const bystander = spawn("sleep", ["60"]);
    try {
      const stale = { pid: bystander.pid, startTicks: 1, bootId: "another boot" };
      writeFileSync(join(world.dir, "world.json"), JSON.stringify({ namespaces: stale, hostPorts: stale }));
      mkdirSync(join(world.dir, "run"), { recursive: true });
      writeFileSync(join(world.dir, "run/state.json"), "{ half a rec");
      world.up();
      assert.equal(bystander.exitCode ?? bystander.signalCode, null, "a process of someone else was ended");
      assert.equal(world.part("region1/store").state, "ready");
    } finally {
      bystander.kill();
    }
  });

  test("another clone on the same machine is not disturbed, nor does it disturb", async () => {
    const other = new World(`${"deep/".repeat(30)}sandbox`);
    try {
      const theirs = other.up().hostPorts.ports;
      const ours = world.status().hostPorts!.ports;
      assert.equal(await fetchText(theirs["region1/api"]!), "port 6443");
      const used = [...Object.values(theirs), ...Object.values(ours)];
      assert.equal(new Set(used).size, used.length);
      const before = world.part("region1/store").hostPid;
      assert.equal(other.run("down").status, 0);
      assert.deepEqual(other.processes(), []);
      assert.equal(world.part("region1/store").hostPid, before);
      assert.equal(await fetchText(ours["region1/api"]!), "port 6443");
    } finally {
      await other.remove();
    }
  });

  test("a remembered port that someone else has is replaced", async () => {
    const { ports } = world.status().hostPorts!;
    world.run("down");
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(ports["region1/api"], "127.0.0.1", resolve));
    try {
      const now = world.up().hostPorts.ports;
      assert.notEqual(now["region1/api"], ports["region1/api"]);
      assert.equal(now["region2/api"], ports["region2/api"]);
      assert.equal(await fetchText(now["region1/api"]!), "port 6443");
    } finally {
      squatter.close();
    }
  });

  test("down leaves no process, keeps the state, and deletes it only when told", () => {
    assert.equal(world.run("down").status, 0);
    assert.deepEqual(world.processes(), []);
    assert.ok(existsSync(join(world.dir, "state/ports.json")));
    assert.ok(!existsSync(join(world.dir, "run")));
    assert.equal(world.json("down"), false, "down again finds nothing");
    world.up();
    assert.equal(world.run("down", "--delete-state").status, 0);
    assert.deepEqual(readdirSync(world.dir), ["lock"]);
  });

  test("writes only below its folder", () => {
    assert.deepEqual(readdirSync(world.base).sort(), ["sandbox", "tmp"]);
    assert.deepEqual(readdirSync(join(world.base, "tmp")), []);
  });
});

test("a world started by an unprivileged user works", { skip: process.getuid?.() !== 0, timeout: 60_000 }, () => {
  const world = new World();
  const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
  spawnSync("chown", ["-R", "65534:65534", world.base]);
  const run = (...args: string[]): SpawnSyncReturns<string> =>
    spawnSync("setpriv", [...nobody, process.execPath, ...driver, ...args], {
      env: { ...world.environment, HOME: world.base },
      cwd: projectDir,
      encoding: "utf8",
    });
  try {
    const result = run("up");
    assert.equal(result.status, 0, result.stderr);
    const tree = processTree(world.processes()[0]!, processTable());
    assert.ok(tree.length > 0);
  } finally {
    assert.equal(run("down", "--delete-state").status, 0);
    assert.deepEqual(world.processes(), []);
    rmSync(world.base, { recursive: true, force: true });
  }
});
