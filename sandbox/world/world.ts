/** The host's side of the sandbox's world: starts it, finds it again, talks to it, stops it. */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  control,
  controlSocket,
  type HostPortsStatus,
  UnreachableError,
  type WorldStatus,
  worldStatus,
} from "./control";
import { lock, readJson, writeAtomically } from "./files";
import { cacheDir, logDir, projectDir, runDir, sandboxDir, stateDir } from "./paths";
import { hostPids, identify, isAlive, type ProcessIdentity, processTable } from "./processes";
import { programCommand, programFile, programs } from "./programs";
import { type ItemStatus, rotateLog, tailOf } from "./supervisor";

/** Who was started by the last `up`, as the host sees it. */
interface Started {
  /** The `unshare` process: its end is the end of everything inside. */
  namespaces: ProcessIdentity;
  hostPorts?: ProcessIdentity;
}

const startedFile = join(sandboxDir, "world.json");
const lockFile = join(sandboxDir, "lock");

/** Something a person can act on: what is wrong, where, and what to type next. */
export class WorldError extends Error {}

/** Hears about the steps of a start or a stop. */
export interface ProgressListener {
  /** A part or step changed its state, or a phase began. */
  phase(name: string): void;
  parts(status: ItemStatus[]): void;
}

/** Settings of a start. */
export interface WorldUpOptions {
  /** Module that exports the plan; default: the real one. */
  planModule?: string;
  /** Group of parts to bring up; default `main`. */
  group?: string;
  /** Program and arguments that become process 1 of the namespaces and run the rest as their child. */
  init: string[];
  progress?: ProgressListener;
  /** Milliseconds until a start that gets nowhere is given up; default 3 minutes. */
  deadline?: number;
}

/** What the start has brought up. */
export interface WorldUp {
  status: WorldStatus;
  hostPorts: HostPortsStatus;
}

/** Holds the clone's lock while `work` runs: `up` and `down` of one clone never run at the same time. */
export async function whileLocked<T>(progress: ProgressListener | undefined, work: () => Promise<T>): Promise<T> {
  const release = await lock(lockFile, () => progress?.phase("waiting for another command of this clone to finish"));
  try {
    return await work();
  } finally {
    release();
  }
}

/** Brings up what is not up, and waits until all of it is ready. Call it under the lock. */
export async function startWorld(options: WorldUpOptions): Promise<WorldUp> {
  const deadline = Date.now() + (options.deadline ?? 180_000);
  const group = options.group ?? "main";
  await startSupervisor(options, deadline);
  const [hostPorts] = await Promise.all([startHostPorts(deadline), startGroup(group, options.progress, deadline)]);
  return { status: await askAgain(deadline, worldStatus), hostPorts };
}

async function startSupervisor(options: WorldUpOptions, deadline: number): Promise<void> {
  const old = readStarted();
  if (old && isAlive(old.namespaces) && (await answersInTime(old.namespaces.pid))) return;
  if (old) {
    options.progress?.phase("clearing away what an earlier run left");
    await endAll(old);
  }
  options.progress?.phase("starting the supervisor");
  rmSync(runDir, { recursive: true, force: true });
  for (const folder of [sandboxDir, runDir, stateDir, logDir, join(stateDir, "home")]) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }
  rotateLog(join(logDir, "supervisor.log"), 1024 * 1024);
  const log = openSync(join(logDir, "supervisor.log"), "a", 0o600);
  const child = spawn(
    "unshare",
    [
      ...[
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--mount-proc",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--",
      ],
      ...options.init,
      ...programCommand(programs.supervisor),
      options.planModule ?? programFile(programs.plan),
    ],
    { cwd: projectDir, env: insideEnvironment(process.env), stdio: ["ignore", log, log], detached: true },
  );
  closeSync(log);
  let ended: string | undefined;
  child.on("error", (error) => {
    ended = error.message;
  });
  child.on("exit", (code, signal) => {
    ended = signal ? `ended by ${signal}` : `exit code ${code}`;
  });
  child.unref();
  const namespaces = child.pid === undefined ? undefined : identify(child.pid);
  if (namespaces) writeStarted({ namespaces });
  for (;;) {
    if (ended !== undefined) {
      throw new WorldError(
        `the supervisor did not start: ${ended}\n${tailOf(join(logDir, "supervisor.log"), 15).join("\n")}`,
      );
    }
    if (existsSync(controlSocket)) {
      try {
        await worldStatus({}, { timeout: 2_000 });
        return;
      } catch (error) {
        if (!(error instanceof UnreachableError)) throw error;
      }
    }
    if (Date.now() > deadline)
      throw new WorldError("the supervisor did not answer in time: see `npm run sandbox -- logs supervisor`");
    await sleep(20);
  }
}

/** Whether the supervisor answers: one that is frozen never will, one on a busy machine may take its time. */
async function answersInTime(namespaces: number): Promise<boolean> {
  const patience = Date.now() + 30_000;
  while (Date.now() < patience) {
    try {
      await worldStatus({}, { timeout: 3_000 });
      return true;
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
    const table = processTable();
    const first = table.filter((entry) => entry.parent === namespaces);
    const second = table.filter((entry) => first.some(({ pid }) => pid === entry.parent));
    // The supervisor is the first process inside, or the child of the one that reaps orphans.
    const supervisor = second.some((entry) => entry.state === "T" && isSupervisor(entry.pid));
    if (supervisor || first.length === 0 || first.some((entry) => entry.state === "T")) return false;
    await sleep(100);
  }
  return false;
}

function isSupervisor(pid: number): boolean {
  try {
    const name = basename(programFile(programs.supervisor));
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(name);
  } catch {
    return false;
  }
}

/**
 * Asks the supervisor what may be asked twice, and again while it runs but does not answer, as it happens on a busy
 * machine. Rejects as the last question did once the deadline has passed or the supervisor has ended.
 */
async function askAgain<T>(deadline: number, question: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await question();
    } catch (error) {
      const started = readStarted();
      const runs = started !== undefined && isAlive(started.namespaces);
      if (!(error instanceof UnreachableError) || !runs || Date.now() > deadline) throw error;
    }
    await sleep(50);
  }
}

/** Starts the process that keeps the host's ports, unless it runs. */
async function startHostPorts(deadline: number): Promise<HostPortsStatus> {
  const status = await askAgain(deadline, worldStatus);
  if (status.hostPorts) return status.hostPorts;
  const log = openSync(join(logDir, "host-ports.log"), "a", 0o600);
  const [program, ...args] = programCommand(programs.hostPorts) as [string, ...string[]];
  const child = spawn(program, args, { cwd: projectDir, stdio: ["ignore", log, log], detached: true });
  closeSync(log);
  let ended = false;
  child.on("error", () => {
    ended = true;
  });
  child.on("exit", () => {
    ended = true;
  });
  child.unref();
  const started = readStarted();
  const hostPorts = child.pid === undefined ? undefined : identify(child.pid);
  if (started && hostPorts) writeStarted({ ...started, hostPorts });
  for (;;) {
    const now = await askAgain(deadline, worldStatus);
    if (now.hostPorts) return now.hostPorts;
    if (ended || Date.now() > deadline) {
      throw new WorldError(
        `the process that keeps the ports on 127.0.0.1 did not start:\n${tailOf(join(logDir, "host-ports.log"), 15).join("\n")}`,
      );
    }
    await sleep(30);
  }
}

/** Starts what of a group does not run, and waits until all of it is ready; throws as soon as a part of it ends or fails. */
export async function startGroup(
  group: string,
  progress: ProgressListener | undefined,
  deadline: number,
): Promise<void> {
  await askAgain(deadline, () => control("POST", "/groups", { group, action: "ensure" }));
  for (;;) {
    const { parts } = await askAgain(deadline, worldStatus);
    const wanted = parts.filter((part) => part.group === group);
    progress?.parts(wanted);
    const fallen = wanted.filter((part) => ["dead", "failed", "stopped"].includes(part.state));
    if (fallen.length > 0) throw new WorldError(fallen.map(describeFall).join("\n\n"));
    const open = wanted.filter((part) => !["ready", "done"].includes(part.state));
    if (open.length === 0) return;
    if (Date.now() > deadline) {
      throw new WorldError(`not ready in time:\n${open.map(describeWait).join("\n")}`);
    }
    await sleep(50);
  }
}

function describeFall(part: ItemStatus): string {
  const tail = part.tail?.length ? `\n${part.tail.map((line) => `    ${line}`).join("\n")}` : "";
  const next = part.log ? `\n  all of its log: npm run sandbox -- logs ${part.name}` : "";
  return `${part.name} has failed: ${part.ended ?? part.state}${tail}${next}`;
}

function describeWait(part: ItemStatus): string {
  const why = part.notReady ?? (part.waitsFor?.length ? `waits for ${part.waitsFor.join(", ")}` : part.state);
  return `  ${part.name}: ${why}`;
}

/** Stops everything that was started, in order; by force what does not go. Call it under the lock. */
export async function stopWorld(
  options: { deleteState?: boolean; progress?: ProgressListener } = {},
): Promise<boolean> {
  const started = readStarted();
  const runs = started !== undefined && (isAlive(started.namespaces) || isAliveOr(started.hostPorts));
  if (started && runs) {
    options.progress?.phase("stopping all parts, last first");
    try {
      await control("POST", "/shutdown", undefined, { timeout: 60_000 });
    } catch (error) {
      options.progress?.phase(`by force: ${error instanceof Error ? error.message : error}`);
    }
    await endAll(started);
  }
  rmSync(startedFile, { force: true });
  rmSync(runDir, { recursive: true, force: true });
  if (options.deleteState) {
    options.progress?.phase("deleting all state");
    for (const name of readdirSync(sandboxDir)) {
      if (join(sandboxDir, name) !== lockFile) removeAll(join(sandboxDir, name));
    }
  }
  return runs;
}

/** Removes a folder with all in it, also folders that their owner may not write to, as volumes can hold them. */
function removeAll(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (!["EACCES", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    spawnSync("chmod", ["-R", "u+rwX", path]);
    rmSync(path, { recursive: true, force: true });
  }
}

function isAliveOr(identity: ProcessIdentity | undefined): boolean {
  return identity !== undefined && isAlive(identity);
}

/** Makes sure that nothing of an earlier start runs: asks for nothing, waits a moment, then ends by force. */
async function endAll(started: Started): Promise<void> {
  const insiders = isAlive(started.namespaces) ? insidersOf(started.namespaces.pid) : [];
  const all = [started.namespaces, started.hostPorts, ...insiders].filter((p) => p !== undefined);
  for (let waited = 0; all.some(isAlive); waited += 20) {
    // The end of the namespaces' first process is, by the kernel, the end of every other.
    if (waited >= 500) {
      for (const identity of all.filter(isAlive)) {
        try {
          process.kill(identity.pid, "SIGKILL");
        } catch {
          // It ended meanwhile.
        }
      }
    }
    if (waited >= 10_000) {
      const left = all.filter(isAlive).map((p) => p.pid);
      throw new WorldError(`these processes of the sandbox do not end: ${left.join(", ")}`);
    }
    await sleep(20);
  }
}

/** The first process inside the namespaces (a child of `unshare`), and so the one to enter them by. */
function insidersOf(namespaces: number): ProcessIdentity[] {
  return processTable()
    .filter((entry) => entry.parent === namespaces)
    .flatMap((entry) => identify(entry.pid) ?? []);
}

/** Host's process id of the namespaces' first process; undefined when the world is down. */
export function firstInsider(): number | undefined {
  const started = readStarted();
  if (!started || !isAlive(started.namespaces)) return undefined;
  return insidersOf(started.namespaces.pid)[0]?.pid;
}

/** Asks where every part stands, with the host's process ids; undefined when the world is down. */
export async function statusFromHost(
  wanted: { memory?: boolean; probe?: boolean } = {},
): Promise<WorldStatus | undefined> {
  const insider = firstInsider();
  if (insider === undefined) return undefined;
  const status = await worldStatus(wanted, { timeout: 30_000 });
  const pids = hostPids(insider);
  for (const part of status.parts) {
    const hostPid = part.pid === undefined ? undefined : pids.get(part.pid);
    if (hostPid !== undefined) part.hostPid = hostPid;
  }
  return status;
}

/** Environment for what runs inside: what programs need, and nothing of the user's own accounts and settings. */
export function insideEnvironment(own: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = ["PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME"];
  return {
    ...Object.fromEntries(kept.flatMap((name) => (own[name] === undefined ? [] : [[name, own[name]]]))),
    HOME: join(stateDir, "home"),
    TMPDIR: join(sandboxDir, "tmp"),
    RESTATE_SANDBOX_DIR: sandboxDir,
    RESTATE_SANDBOX_CACHE: cacheDir,
  };
}

function readStarted(): Started | undefined {
  const content = readJson(startedFile) as Started | undefined;
  return typeof content?.namespaces?.pid === "number" ? content : undefined;
}

function writeStarted(started: Started): void {
  writeAtomically(startedFile, `${JSON.stringify(started, null, 2)}\n`);
}
