/** Small things with files that several modules of the sandbox need: atomic writes, long socket paths, locks. */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";

/** Writes a file so that a reader sees the old content or the new, never a part of it. */
export function writeAtomically(path: string, content: string, mode = 0o600): void {
  const draft = `${path}.${process.pid}.new`;
  writeFileSync(draft, content, { mode });
  renameSync(draft, path);
}

/** The JSON in a file; undefined when the file is missing or half-written by something that crashed. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

const folderDescriptors = new Map<string, number>();

/**
 * A path that can be bound to or connected to whatever the length of the real one: the kernel takes at most 107 bytes,
 * and a clone may lie deeper. The name then goes through a descriptor of the folder, valid in this process only.
 */
export function socketPath(path: string): string {
  if (Buffer.byteLength(path) <= 107) return path;
  const folder = dirname(path);
  let descriptor = folderDescriptors.get(folder);
  if (descriptor === undefined) {
    descriptor = openSync(folder, constants.O_DIRECTORY | constants.O_RDONLY);
    folderDescriptors.set(folder, descriptor);
  }
  return `/proc/self/fd/${descriptor}/${basename(path)}`;
}

/**
 * Holds an exclusive lock on a file until the returned function is called or this process ends, however it ends.
 * The lock belongs to the open file, which flock(1) shares with this process: nothing stale can remain.
 */
export async function lock(path: string, onWait: () => void): Promise<() => void> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const descriptor = openSync(path, "a", 0o600);
  const args = (extra: string[]): [string[], { stdio: ("ignore" | "inherit" | number)[] }] => [
    [...extra, "--exclusive", "3"],
    { stdio: ["ignore", "ignore", "inherit", descriptor] },
  ];
  if (spawnSync("flock", ...args(["--nonblock"])).status !== 0) {
    onWait();
    await new Promise<void>((resolve, reject) => {
      const child = spawn("flock", ...args([]));
      child.on("error", reject);
      child.on("exit", (code) =>
        code === 0 ? resolve() : reject(new Error(`flock (util-linux) could not lock ${path}: exit code ${code}`)),
      );
    });
  }
  return () => closeSync(descriptor);
}
