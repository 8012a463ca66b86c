/**
 * A world for the network's tests: the sandbox's namespaces with real control planes and AWS, but without nodes. Nodes and
 * pods are objects that the tests write themselves; a pod's network namespace is real, with an agent in it that obeys.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createWriteStream, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Part } from "../../sandbox/world/part";
import { logDir, projectDir, typescript } from "../../sandbox/world/paths";
import type { WorldRegion, Zone } from "../../sandbox/world/regions";

/** A process of the world that can be killed and started again. */
export class Running {
  private child: ChildProcess | undefined;

  constructor(private readonly part: Part) {}

  /** Starts it; its output goes to its log file. */
  start(): void {
    mkdirSync(logDir, { recursive: true });
    const log = createWriteStream(join(logDir, `${this.part.name.replaceAll("/", "-")}.log`), { flags: "a" });
    const [program, ...args] = this.part.command;
    this.child = spawn(program!, args, {
      cwd: projectDir,
      env: { ...process.env, ...this.part.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout!.pipe(log, { end: false });
    this.child.stderr!.pipe(log, { end: false });
    this.child.on("error", (error) => log.write(`${error.message}\n`));
  }

  /** Waits until it is ready. */
  async ready(): Promise<void> {
    await eventually(`${this.part.name} is ready`, () => this.part.ready(), 180_000);
  }

  /** Kills it, without warning, and waits until it is gone. */
  async kill(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }
}

/** Starts parts, each when those that it comes after are ready, and waits until all are. */
export async function startAll(parts: Part[]): Promise<Running[]> {
  const ready = new Map<string, Promise<void>>();
  const all = parts.map((part) => ({ part, running: new Running(part) }));
  for (const { part, running } of all) {
    const before = (part.after ?? []).map((name) => ready.get(name));
    ready.set(
      part.name,
      Promise.all(before).then(() => {
        running.start();
        return running.ready();
      }),
    );
  }
  await Promise.all(ready.values());
  return all.map(({ running }) => running);
}

/** Asks until the answer is truthy, and gives it; after the deadline, throws with the last failure. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  deadlineMs = 30_000,
): Promise<T> {
  const end = Date.now() + deadlineMs;
  let last: unknown = "the answer was no";
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = "the answer was no";
    } catch (error) {
      last = error instanceof Error ? error.message : error;
    }
    if (Date.now() > end) throw new Error(`not within ${deadlineMs / 1000} s: ${what} (${last})`);
    await sleep(50);
  }
}

let interfaces = 0;

/** A pod's network namespace, with an agent in it. */
export class PodNet {
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  private count = 0;

  private constructor(
    readonly ip: string,
    private readonly holder: ChildProcess,
    private readonly agent: ChildProcess,
  ) {
    createInterface(agent.stdout!).on("line", (line) => {
      const answer = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      const call = this.waiting.get(answer.id);
      this.waiting.delete(answer.id);
      if (answer.error) call?.reject(new Error(answer.error));
      else call?.resolve(answer.result);
    });
  }

  /** Makes the n-th pod of a zone: an interface on the region's bridge, and the way out by its gateway. */
  static async make(region: WorldRegion, zone: Zone, n: number): Promise<PodNet> {
    const ip = zone.podIps[0].replace(/\d+$/, String(n));
    const holder = spawn("unshare", ["--net", "sleep", "infinity"], { stdio: "ignore" });
    const outer = `pod${interfaces++}`;
    const own = spawnSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }).stdout;
    await eventually("the pod's namespace is there", () => {
      const other = spawnSync("readlink", [`/proc/${holder.pid}/ns/net`], { encoding: "utf8" }).stdout;
      return other !== "" && other !== own;
    });
    run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", String(holder.pid));
    run("ip", "link", "set", outer, "master", region.bridge, "up");
    const inside = ["nsenter", "--net", "--target", String(holder.pid)];
    run(...inside, "ip", "link", "set", "lo", "up");
    run(...inside, "ip", "address", "add", `${ip}/16`, "dev", "eth0");
    run(...inside, "ip", "link", "set", "eth0", "up");
    run(...inside, "ip", "route", "add", "default", "via", region.gatewayIp);
    const [program, ...args]: string[] = [
      ...inside,
      process.execPath,
      ...typescript,
      join(__dirname, "network-agent.ts"),
    ];
    const agent = spawn(program!, args, { stdio: ["pipe", "pipe", "inherit"], cwd: projectDir });
    return new PodNet(ip, holder, agent);
  }

  /** Gives the agent an order; rejects with the agent's error. */
  async do<T = Record<string, never>>(op: string, order: Record<string, unknown> = {}): Promise<T> {
    const id = ++this.count;
    const answer = new Promise<unknown>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    this.agent.stdin!.write(`${JSON.stringify({ ...order, op, id })}\n`);
    return (await answer) as T;
  }

  /** Ends the agent and with it the namespace. */
  end(): void {
    this.agent.kill("SIGKILL");
    this.holder.kill("SIGKILL");
  }
}

function run(...command: string[]): void {
  const [program, ...args] = command as [string, ...string[]];
  const result = spawnSync(program, args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`${command.join(" ")}: ${result.stderr}`);
}
