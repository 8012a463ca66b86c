/** Locks that a killed run of Pulumi leaves behind in a backend of files. */
import { existsSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { fileURLToPath } from "node:url";

/** A lock, as Pulumi's error tells of it. */
export interface Lock {
  url: string;
  host: string;
  pid: number;
}

/** The locks that Pulumi's error names, each once; none for a backend that is not made of files. Pure. */
export function locksIn(message: string): Lock[] {
  const lines = message.matchAll(/^\s*(\S+): created by \S*@(\S+) \(pid (\d+)\) at /gm);
  const locks = [...lines].map(([, url, host, pid]): Lock => ({ url: url!, host: host!, pid: Number(pid) }));
  return [...new Map(locks.map((lock) => [lock.url, lock])).values()];
}

/** Whether a process of this machine runs. */
function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Of somebody else.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/**
 * Removes the locks that a message names if all of them are provably stale: files, of processes of this machine that no
 * longer run. Returns their process ids; undefined, with nothing removed, if one of them may be held.
 */
export function breakStaleLocks(message: string): number[] | undefined {
  const locks = locksIn(message);
  const stale = ({ url, host, pid }: Lock) => url.startsWith("file://") && host === hostname() && !runs(pid);
  if (locks.length === 0 || !locks.every(stale)) return undefined;
  for (const { url } of locks) {
    const path = fileURLToPath(url);
    for (const file of [path, `${path}.attrs`]) if (existsSync(file)) rmSync(file);
  }
  return locks.map(({ pid }) => pid);
}
