/** Addresses of load balancers: one for each load balancer and subnet, from the zone's range, kept for as long as it exists. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { readJson, writeAtomically } from "../world/files";
import { ipNumber } from "./routes";

/** The address after another. */
export function nextIp(ip: string): string {
  const n = ipNumber(ip) + 1;
  return [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");
}

/** The first address of a range that is not taken; undefined when all are. Pure. */
export function freeIp([first, last]: readonly [string, string], taken: ReadonlySet<string>): string | undefined {
  for (let ip = first; ipNumber(ip) <= ipNumber(last); ip = nextIp(ip)) if (!taken.has(ip)) return ip;
  return undefined;
}

/** Hands out addresses and remembers them in a file. */
export class AddressBook {
  private readonly given: Map<string, string>;

  constructor(private readonly file: string) {
    const stored = z.record(z.string(), z.string()).safeParse(readJson(file));
    this.given = new Map(Object.entries(stored.success ? stored.data : {}));
  }

  /** The address of `owner`, a new one from `range` when it has none. */
  take(owner: string, range: readonly [string, string]): string {
    const before = this.given.get(owner);
    if (before) return before;
    const ip = freeIp(range, new Set(this.given.values()));
    if (!ip) throw new Error(`no address is left between ${range[0]} and ${range[1]}`);
    this.given.set(owner, ip);
    this.save();
    return ip;
  }

  /** Gives back the addresses of a group of owners (those with this prefix) that are not in `owners`. */
  keepOnly(prefix: string, owners: ReadonlySet<string>): void {
    let changed = false;
    for (const owner of [...this.given.keys()]) {
      if (owner.startsWith(prefix) && !owners.has(owner)) changed = this.given.delete(owner) || changed;
    }
    if (changed) this.save();
  }

  private save(): void {
    mkdirSync(dirname(this.file), { recursive: true, mode: 0o700 });
    writeAtomically(this.file, `${JSON.stringify(Object.fromEntries(this.given), null, 2)}\n`);
  }
}
