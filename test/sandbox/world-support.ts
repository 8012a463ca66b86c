/** What tests of the sandbox's world share: its processes, and what they listen on. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Host's ids of all processes that belong to the sandbox in this folder, this process left out. */
export function processesOf(sandboxDir: string): number[] {
  const marker = `RESTATE_SANDBOX_DIR=${sandboxDir}\0`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && environmentOf(pid).includes(marker));
}

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1");
  } catch {
    return "";
  }
}

/** Addresses, in hexadecimal as the kernel prints them, on which the processes listen in the host's network. */
export function hostListeners(pids: readonly number[]): string[] {
  const own = readlinkSync("/proc/self/ns/net");
  const sockets = new Set<string>();
  for (const pid of pids) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/net`) !== own) continue;
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
        if (inode) sockets.add(inode);
      }
    } catch {
      // It ended meanwhile.
    }
  }
  return ["tcp", "tcp6", "udp", "udp6"].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, "utf8")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => sockets.has(fields[9] ?? "") && (fields[3] === "0A" || table.startsWith("udp")))
      .map((fields) => fields[1]!.split(":")[0]!),
  );
}

/** Waits for a condition, 10 s at most. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (condition()) return;
    await sleep(50);
  }
  assert.fail(`not within 10 s: ${what}`);
}
