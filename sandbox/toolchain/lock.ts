/**
 * Locks between processes, by `flock` of util-linux: the kernel holds them, so that the lock of a process that died,
 * by whatever means, is free at once.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Gives a lock back. */
export type Release = () => Promise<void>;

/** Tries to take a lock; undefined if another process has it. */
export async function tryLock(file: string): Promise<Release | undefined> {
  return await take(file, ["--nonblock"]);
}

/** Takes a lock; `waiting` hears once who has it if it is not free. */
export async function lock(file: string, waiting: (holder: string) => void): Promise<Release> {
  const free = await tryLock(file);
  if (free) return free;
  waiting(holder(file));
  const release = await take(file, []);
  if (!release) throw new Error(`cannot lock ${file}: is its folder writable?`);
  return release;
}

/** Who has a lock, in words for the user. */
function holder(file: string): string {
  try {
    return readFileSync(file, "utf8").trim() || "another process";
  } catch {
    return "another process";
  }
}

async function take(file: string, flags: string[]): Promise<Release | undefined> {
  mkdirSync(dirname(file), { recursive: true });
  // The helper keeps the lock until its input ends: when it is released, or when this process is gone.
  const helper = spawn("flock", [...flags, "--exclusive", file, "sh", "-c", "echo locked; exec cat"], {
    stdio: ["pipe", "pipe", "ignore"],
    detached: true,
  });
  const exited = new Promise<void>((resolve, reject) => {
    helper.once("error", (error) => reject(new Error(`cannot start flock (package util-linux): ${error.message}`)));
    helper.once("exit", () => resolve());
  });
  const locked = await Promise.race([once(helper.stdout, "data").then(() => true), exited.then(() => false)]);
  if (!locked) return undefined;
  writeFileSync(file, `process ${process.pid} (${process.argv.slice(1, 3).join(" ")})\n`);
  return async () => {
    writeFileSync(file, "");
    helper.stdin.end();
    await exited;
  };
}
