/**
 * Runs a plan: starts parts as soon as what they come after is ready, watches them, records their state, stops them in
 * order. Nothing is restarted behind the user's back: a part that ends stays ended, and says so, until `ensure`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeAtomically } from "./files";
import type { Part } from "./part";
import { checkItems, dependents, type Item, isPart, type Plan, type Step, stopOrder, waitsFor } from "./plan";
import { memoryOf, processEntry, processTable, processTree } from "./processes";

/** Where a part or step stands. `done` is a step's `ready`; `failed` a step's `dead`. */
type ItemState =
  | "idle"
  | "waiting"
  | "starting"
  | "ready"
  | "done"
  | "paused"
  | "stopping"
  | "stopped"
  | "dead"
  | "failed";

/** What the supervisor tells about one part or step. Times are milliseconds since 1970. */
export interface ItemStatus {
  name: string;
  kind: "part" | "step";
  group: string;
  state: ItemState;
  /** Process id inside the sandbox's pid namespace. */
  pid?: number;
  /** Process id as the host sees it; filled in by the host's side. */
  hostPid?: number;
  startedAt?: number;
  readyAt?: number;
  endedAt?: number;
  /** How it ended, in words. */
  ended?: string;
  /** What it waits for before it can start. */
  waitsFor?: string[];
  /** Why it is not ready yet: the last message of its readiness check. */
  notReady?: string;
  /** Bytes, the part's whole process tree, shared pages in proportion. Only when asked for. */
  memory?: number;
  /** Whether it answers now. Only when asked for. */
  answers?: boolean;
  log?: string;
  /** The log's last lines, when it ended without being asked to. */
  tail?: string[];
}

interface Entry {
  item: Item;
  group: string;
  state: ItemState;
  child?: ChildProcess;
  pid?: number;
  startedAt?: number;
  readyAt?: number;
  endedAt?: number;
  ended?: string;
  notReady?: string;
  /** Counts starts, so that what an earlier start left behind (timers, exits) is told apart. */
  generation: number;
}

/** Settings of a supervisor. */
export interface SupervisorOptions {
  plan: Plan;
  logDir: string;
  /** File that the state is written to after each change. */
  stateFile: string;
  /** Working directory of the parts. */
  workDir: string;
  /** The parts' environment, before their own additions. */
  environment: NodeJS.ProcessEnv;
  /** Milliseconds between two readiness checks of a part. */
  pollInterval?: number;
  /** Size in bytes at which a log is moved aside (one older log is kept). */
  logLimit?: number;
}

const up: readonly ItemState[] = ["ready", "done", "paused"];
const running: readonly ItemState[] = ["starting", "ready", "paused", "stopping"];

/** An error for whoever asked: about the request, not about the supervisor. */
export class RequestError extends Error {}

/** Runs the parts and steps of one plan. */
export class Supervisor {
  private readonly entries = new Map<string, Entry>();
  private readonly pollInterval: number;
  private saving: NodeJS.Timeout | undefined;
  private stopping = false;

  constructor(private readonly options: SupervisorOptions) {
    this.pollInterval = options.pollInterval ?? 50;
    mkdirSync(options.logDir, { recursive: true, mode: 0o700 });
    setInterval(() => this.rotateLogs(), 5_000).unref();
  }

  /** Brings up all of a group that is not up: new, ended, or failed. Resolves when all is on its way, not when it is up. */
  async ensure(group: string): Promise<void> {
    // What is still ending, with what it is bound to, must have ended before it can start again.
    while ([...this.entries.values()].some((e) => e.state === "stopping")) await sleep(this.pollInterval);
    if (this.stopping) throw new RequestError("the sandbox is shutting down");
    if (![...this.entries.values()].some((e) => e.group === group)) this.add(this.itemsOf(group), group);
    const fallen = [...this.entries.values()].filter((e) => !up.includes(e.state) && !running.includes(e.state));
    const after = dependents(
      [...this.entries.values()].map((e) => e.item),
      fallen.map((e) => e.item.name),
    );
    for (const entry of this.entries.values()) {
      // What a step has told a part may be lost with it: steps are made to be run again.
      if (entry.group === group && entry.state === "done" && after.has(entry.item.name)) this.await(entry);
      if (entry.group === group && (entry.state === "paused" || this.isFrozen(entry))) this.resume(entry.item.name);
      if (entry.group === group && !up.includes(entry.state) && !running.includes(entry.state)) this.await(entry);
    }
    this.advance();
  }

  /** Stops all parts of a group, last first. */
  async stopGroup(group: string): Promise<void> {
    this.itemsOf(group);
    await this.stopAll((entry) => entry.group === group);
    for (const entry of this.entries.values()) if (entry.group === group) entry.state = "stopped";
  }

  /** Starts one part, or runs one step again. */
  start(name: string): void {
    const entry = this.entry(name);
    if (running.includes(entry.state)) return;
    this.await(entry);
    this.advance();
  }

  /** Asks one part to end, and makes sure that it does. What is bound to it ends first. */
  async stop(name: string): Promise<void> {
    const entry = this.entry(name);
    for (const bound of this.boundTo(name)) await this.end(bound, `${name} is being stopped`);
    await this.end(entry);
  }

  /** Stops and starts one part, and what is bound to it. */
  async restart(name: string): Promise<void> {
    const affected = [this.entry(name), ...this.boundTo(name)].filter((e) => running.includes(e.state));
    await this.stop(name);
    for (const entry of affected) this.await(entry);
    this.start(name);
  }

  /** Ends one part as a crash would. */
  kill(name: string): void {
    this.signal(name, "SIGKILL");
  }

  /** Freezes one part: it keeps its sockets and answers nothing. */
  pause(name: string): void {
    this.signal(name, "SIGSTOP");
    this.change(this.entry(name), { state: "paused" });
  }

  /** Lets a frozen part go on. */
  resume(name: string): void {
    const entry = this.entry(name);
    this.signal(name, "SIGCONT");
    this.change(entry, { state: entry.readyAt === undefined ? "starting" : "ready" });
  }

  /** Stops everything, last first. */
  async shutdown(): Promise<void> {
    this.stopping = true;
    await this.stopAll(() => true);
    if (this.saving) this.save();
  }

  /** Where every part and step stands. */
  async status(wanted: { memory?: boolean; probe?: boolean } = {}): Promise<ItemStatus[]> {
    const table = wanted.memory ? processTable() : [];
    // Nested parts do not exist: each process tree belongs to one part.
    return Promise.all(
      [...this.entries.values()].map(async (entry) => {
        const { item, group, pid, startedAt, readyAt, endedAt, ended, notReady } = entry;
        const part = isPart(item);
        const state = this.isFrozen(entry) ? "paused" : entry.state;
        const status: ItemStatus = { name: item.name, kind: part ? "part" : "step", group, state };
        if (pid !== undefined && running.includes(entry.state)) status.pid = pid;
        Object.assign(status, { startedAt, readyAt, endedAt, ended });
        if (state === "waiting") status.waitsFor = this.waitsFor(item);
        if (state === "starting") status.notReady = notReady;
        if (part) status.log = this.logPath(item.name);
        if (part && (state === "dead" || state === "starting")) status.tail = tailOf(this.logPath(item.name), 15);
        if (wanted.memory && status.pid !== undefined) {
          status.memory = processTree(status.pid, table).reduce((sum, p) => sum + memoryOf(p), 0);
        }
        if (wanted.probe && part && state === "ready") status.answers = (await probe(item)) === true;
        return status;
      }),
    );
  }

  private itemsOf(group: string): Item[] {
    const make = this.options.plan.groups[group];
    if (!make)
      throw new RequestError(`no group ${group}: there are ${Object.keys(this.options.plan.groups).join(", ")}`);
    return make();
  }

  private add(items: Item[], group: string): void {
    // A step that runs again brings the same items again: those that are there already stay as they are.
    const fresh = items.filter((item) => !this.entries.has(item.name));
    checkItems([...[...this.entries.values()].map((e) => e.item), ...fresh]);
    for (const item of fresh) this.entries.set(item.name, { item, group, state: "idle", generation: 0 });
  }

  private entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (!entry) throw new RequestError(`no part ${name}: there are ${[...this.entries.keys()].join(", ")}`);
    return entry;
  }

  private isUp(name: string): boolean {
    const state = this.entries.get(name)?.state;
    return state !== undefined && up.includes(state);
  }

  private waitsFor(item: Item): string[] {
    const items = new Map([...this.entries.values()].map((e) => [e.item.name, e.item]));
    return waitsFor(item, items, (name) => this.isUp(name));
  }

  private isFrozen(entry: Entry): boolean {
    return entry.pid !== undefined && running.includes(entry.state) && processEntry(entry.pid)?.state === "T";
  }

  private boundTo(name: string): Entry[] {
    return [...this.entries.values()].filter((e) => isPart(e.item) && e.item.boundTo?.includes(name));
  }

  private await(entry: Entry): void {
    this.change(entry, { state: "waiting", ended: undefined, endedAt: undefined, readyAt: undefined });
  }

  /** Starts whatever can start now. */
  private advance(): void {
    if (this.stopping) return;
    for (const entry of this.entries.values()) {
      if (entry.state !== "waiting") continue;
      if (this.waitsFor(entry.item).length > 0) continue;
      if (this.boundTo(entry.item.name).some((bound) => running.includes(bound.state))) continue;
      if (isPart(entry.item)) this.launch(entry, entry.item);
      else void this.perform(entry, entry.item);
    }
  }

  private async perform(entry: Entry, step: Step): Promise<void> {
    entry.generation++;
    this.change(entry, { state: "starting", startedAt: Date.now() });
    try {
      const more = await step.run();
      if (more) {
        this.add(more, entry.group);
        for (const item of more) {
          const added = this.entry(item.name);
          if (!up.includes(added.state) && !running.includes(added.state)) this.await(added);
        }
      }
      this.change(entry, { state: "done", readyAt: Date.now() });
    } catch (error) {
      this.change(entry, { state: "failed", ended: messageOf(error), endedAt: Date.now() });
    }
    this.advance();
  }

  private launch(entry: Entry, part: Part): void {
    const generation = ++entry.generation;
    const log = openSync(this.logPath(part.name), "a", 0o600);
    writeSync(log, `--- ${new Date().toISOString()} ${part.command.join(" ")}\n`);
    const [program, ...args] = part.command as [string, ...string[]];
    // A session of its own: a signal to the part's group reaches its helpers and nothing else.
    const child = spawn(program, args, {
      cwd: this.options.workDir,
      env: { ...this.options.environment, ...part.env },
      stdio: ["ignore", log, log],
      detached: true,
    });
    closeSync(log);
    const ended = (how: string): void => {
      if (entry.generation !== generation || entry.child !== child) return;
      const asked = entry.state === "stopping";
      entry.child = undefined;
      this.signalGroup(child.pid, "SIGKILL");
      this.change(entry, {
        state: asked ? "stopped" : "dead",
        ended: asked ? (entry.ended ?? "stopped") : how,
        endedAt: Date.now(),
      });
      for (const bound of this.boundTo(part.name)) void this.end(bound, `ended because ${part.name} ended`);
      this.advance();
    };
    child.on("error", (error) => ended(`cannot be started: ${error.message}`));
    child.on("exit", (code, signal) => ended(signal ? `ended by ${signal}` : `exit code ${code}`));
    entry.child = child;
    this.change(entry, { state: "starting", pid: child.pid, startedAt: Date.now(), notReady: undefined });
    if (child.pid !== undefined) void this.waitUntilReady(entry, part, generation);
  }

  private async waitUntilReady(entry: Entry, part: Part, generation: number): Promise<void> {
    const current = (): boolean => entry.generation === generation && ["starting", "paused"].includes(entry.state);
    while (current()) {
      const answer = entry.state === "paused" ? "it is paused" : await probe(part);
      if (!current()) return;
      if (answer === true) {
        this.change(entry, { state: "ready", readyAt: Date.now(), notReady: undefined });
        this.advance();
        return;
      }
      entry.notReady = answer;
      await sleep(this.pollInterval);
    }
  }

  /** SIGTERM, then SIGKILL when it does not end in time. Resolves when it has ended. */
  private async end(entry: Entry, reason?: string): Promise<void> {
    const child = entry.child;
    if (!isPart(entry.item) || !child?.pid) {
      if (entry.state === "waiting") this.change(entry, { state: "stopped", ended: reason ?? "stopped" });
      return;
    }
    const frozen = this.isFrozen(entry);
    this.change(entry, { state: "stopping", ended: reason });
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    if (child.exitCode !== null || child.signalCode !== null) return;
    this.signalProcess(child.pid, "SIGTERM");
    if (frozen) this.signalGroup(child.pid, "SIGCONT");
    const timer = setTimeout(() => this.signalGroup(child.pid, "SIGKILL"), (entry.item.stopSeconds ?? 5) * 1_000);
    await gone;
    clearTimeout(timer);
  }

  private async stopAll(wanted: (entry: Entry) => boolean): Promise<void> {
    for (const entry of this.entries.values()) {
      if (wanted(entry) && entry.state === "waiting") this.change(entry, { state: "stopped", ended: "stopped" });
    }
    for (const level of stopOrder([...this.entries.values()].map((e) => e.item))) {
      const entries = level.map((name) => this.entry(name)).filter(wanted);
      await Promise.all(entries.map((entry) => this.end(entry)));
    }
  }

  private signal(name: string, signal: NodeJS.Signals): void {
    const entry = this.entry(name);
    if (!isPart(entry.item)) throw new RequestError(`${name} is a step of the start, not a running part`);
    if (!entry.child?.pid || !running.includes(entry.state)) {
      throw new RequestError(`${name} is not running (${entry.state})`);
    }
    if (signal === "SIGKILL") this.signalProcess(entry.child.pid, signal);
    else this.signalGroup(entry.child.pid, signal);
  }

  private signalProcess(pid: number, signal: NodeJS.Signals): void {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended already.
    }
  }

  private signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
    if (pid !== undefined) this.signalProcess(-pid, signal);
  }

  private change(entry: Entry, change: Partial<Entry>): void {
    Object.assign(entry, change);
    this.saving ??= setTimeout(() => this.save(), 50);
  }

  private save(): void {
    clearTimeout(this.saving);
    this.saving = undefined;
    const parts = [...this.entries.values()].map(({ item, group, state, pid, startedAt, readyAt, endedAt, ended }) => ({
      name: item.name,
      group,
      state,
      pid,
      startedAt,
      readyAt,
      endedAt,
      ended,
    }));
    writeAtomically(this.options.stateFile, `${JSON.stringify({ parts }, null, 2)}\n`);
  }

  private logPath(name: string): string {
    return logPath(this.options.logDir, name);
  }

  private rotateLogs(): void {
    for (const { item } of this.entries.values()) {
      if (isPart(item)) rotateLog(this.logPath(item.name), this.options.logLimit ?? 20 * 1024 * 1024);
    }
  }
}

/** The log file of a part. */
export function logPath(logDir: string, name: string): string {
  return join(logDir, `${name.replaceAll("/", "-")}.log`);
}

/**
 * Copies a log that has grown too large aside and empties it. The part writes to its log itself, at the end of the
 * file, so it notices nothing; lines written between copy and cut are lost.
 */
export function rotateLog(path: string, limit: number): void {
  if (!existsSync(path) || statSync(path).size < limit) return;
  copyFileSync(path, `${path}.1`);
  truncateSync(path);
}

/** The last lines of a file; none when it cannot be read. */
export function tailOf(path: string, lines: number): string[] {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return [];
  }
  try {
    const size = fstatSync(file).size;
    const length = Math.min(size, 16 * 1024);
    const buffer = Buffer.alloc(length);
    readSync(file, buffer, 0, length, size - length);
    return buffer.toString("utf8").trimEnd().split("\n").slice(-lines);
  } finally {
    closeSync(file);
  }
}

/** Asks a part once whether it is ready; when not, says why. Answers that take longer than two seconds count as no. */
async function probe(part: Part): Promise<true | string> {
  const late = new AbortController();
  try {
    const answer = await Promise.race([
      part.ready(),
      sleep(2_000, "no answer within 2 s", { signal: late.signal, ref: false }),
    ]);
    return answer === true ? true : answer === false ? "not ready yet" : answer;
  } catch (error) {
    return messageOf(error);
  } finally {
    late.abort();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
