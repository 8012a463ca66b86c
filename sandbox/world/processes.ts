/** Looking at processes through /proc: who they are, whether they still are, and what they use. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** A process for certain: a process id alone may be another process's after a while, or after a reboot. */
export interface ProcessIdentity {
  pid: number;
  /** Start time in clock ticks since boot, from /proc/<pid>/stat. */
  startTicks: number;
  bootId: string;
}

/** One line of the process table. */
export interface ProcessEntry {
  pid: number;
  parent: number;
  /** One letter, as in ps: R, S, D, T (stopped), Z (zombie) … */
  state: string;
  startTicks: number;
}

/** Reads the text of /proc/<pid>/stat. The command's name, in parentheses, may itself hold spaces and parentheses. */
export function parseStat(text: string): ProcessEntry {
  const close = text.lastIndexOf(")");
  const fields = text.slice(close + 2).split(" ");
  return {
    pid: Number.parseInt(text, 10),
    state: fields[0] ?? "?",
    parent: Number(fields[1]),
    startTicks: Number(fields[19]),
  };
}

/** The process's entry, or undefined when there is none. */
export function processEntry(pid: number): ProcessEntry | undefined {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return undefined;
  }
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** Identity of a running process; undefined when it has ended. */
export function identify(pid: number): ProcessIdentity | undefined {
  const entry = processEntry(pid);
  return entry && { pid, startTicks: entry.startTicks, bootId: bootId() };
}

/** Whether exactly this process still runs (a zombie does not). */
export function isAlive(identity: ProcessIdentity): boolean {
  const entry = processEntry(identity.pid);
  return (
    entry !== undefined &&
    entry.state !== "Z" &&
    entry.startTicks === identity.startTicks &&
    bootId() === identity.bootId
  );
}

/** Every process that /proc shows. */
export function processTable(): ProcessEntry[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => processEntry(Number(name)) ?? []);
}

/** A process and all its descendants. */
export function processTree(root: number, table: readonly ProcessEntry[]): number[] {
  const children = new Map<number, number[]>();
  for (const entry of table) children.set(entry.parent, [...(children.get(entry.parent) ?? []), entry.pid]);
  const found = [root];
  for (let i = 0; i < found.length; i++) found.push(...(children.get(found[i]!) ?? []));
  return found;
}

/** Memory of one process in bytes, shared pages counted in proportion (PSS); 0 when it has ended. */
export function memoryOf(pid: number): number {
  try {
    const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return match ? Number(match[1]) * 1024 : 0;
  } catch {
    return 0;
  }
}

/** From the host: maps process ids inside the sandbox's pid namespace to the host's, given any process in it. */
export function hostPids(insider: number): Map<number, number> {
  const namespace = readlinkSync(`/proc/${insider}/ns/pid`);
  const result = new Map<number, number>();
  for (const { pid } of processTable()) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/pid`) !== namespace) continue;
      const match = /^NSpid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
      const inner = match?.[1]?.trim().split(/\s+/).at(-1);
      if (inner) result.set(Number(inner), pid);
    } catch {
      // It ended meanwhile, or belongs to another user.
    }
  }
  return result;
}
