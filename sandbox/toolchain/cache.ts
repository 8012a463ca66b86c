/**
 * The user's cache of tools. An entry is a folder named `<tool>-<hash of what it is made from>-<made with>`; it appears
 * in one step when it is complete, with a manifest of the files that it provides. A damaged entry counts as missing.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../world/paths";
import { lock, tryLock } from "./lock";
import type { Progress } from "./progress";

/** What identifies an entry. */
export interface EntryId {
  /** Name of what it holds, e.g. `pulumi`. */
  name: string;
  /** Hash of everything that it is made from. */
  hash: string;
}

/** An entry to be made. */
export interface EntryRecipe extends EntryId {
  /** What it is made with and depends on, e.g. `go1.26.8`; part of its name. */
  variant: string;
  /** Files that it provides, relative to its folder. */
  files: string[];
  /** Title for progress, e.g. `building pulumi`. */
  title: string;
  /** Fills an empty folder. The folder is renamed afterwards: nothing in it may hold its path. */
  make(folder: string, detail: (text: string) => void): Promise<void>;
}

const manifestName = ".complete.json";
const lockDir = "locks";
const temporaryPrefix = ".toolchain-tmp-";
const day = 24 * 60 * 60 * 1000;

/** Entries that nobody used for so long are removed. */
const unusedDays = 30;

/** Hash of named contents; the order of the names does not matter. */
export function hashOf(parts: Record<string, string | Buffer>): string {
  const hash = createHash("sha256");
  for (const name of Object.keys(parts).sort()) {
    const content = createHash("sha256")
      .update(parts[name] ?? "")
      .digest("hex");
    hash.update(`${name}\0${content}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

/** The folder of a good entry made with anything, the most recently used first; undefined if there is none. */
export function findEntry(id: EntryId, variant?: string, root = cacheDir): string | undefined {
  const prefix = `${id.name}-${id.hash}-`;
  if (!existsSync(root)) return undefined;
  const good = readdirSync(root)
    .filter((name) => (variant === undefined ? name.startsWith(prefix) : name === prefix + variant))
    .map((name) => join(root, name))
    .filter(isGood)
    .sort((a, b) => lastUse(b) - lastUse(a));
  if (good[0]) touch(good[0]);
  return good[0];
}

/** Whether an entry is complete and its files are as they were made. */
function isGood(folder: string): boolean {
  try {
    const sizes: Record<string, number> = JSON.parse(readFileSync(join(folder, manifestName), "utf8"));
    return Object.entries(sizes).every(([file, size]) => statSync(join(folder, file)).size === size);
  } catch {
    return false;
  }
}

function lastUse(folder: string): number {
  try {
    return statSync(join(folder, manifestName)).mtimeMs;
  } catch {
    return statSync(folder).mtimeMs;
  }
}

/** Notes the use of an entry, at most once an hour; a cache that cannot be written to is none the worse for it. */
function touch(folder: string): void {
  try {
    const now = new Date();
    if (now.getTime() - lastUse(folder) > day / 24) utimesSync(join(folder, manifestName), now, now);
  } catch {}
}

/** Finds an entry, or makes it; of two processes that want the same one, the second waits for the first. */
export async function ensureEntry(recipe: EntryRecipe, progress: Progress, root = cacheDir): Promise<string> {
  const found = findEntry(recipe, recipe.variant, root);
  if (found) return found;
  const name = `${recipe.name}-${recipe.hash}-${recipe.variant}`;
  mkdirSync(root, { recursive: true });
  const release = await lock(join(root, lockDir, name), (holder) =>
    progress.say(`${recipe.title}: waiting for ${holder}, which does the same`),
  );
  try {
    const other = findEntry(recipe, recipe.variant, root);
    if (other) return other;
    return await progress.task(recipe.title, (detail) => makeEntry(recipe, join(root, name), root, detail));
  } finally {
    await release();
  }
}

async function makeEntry(
  recipe: EntryRecipe,
  target: string,
  root: string,
  detail: (text: string) => void,
): Promise<string> {
  const work = mkdtempSync(join(root, temporaryPrefix));
  try {
    const folder = join(work, "new");
    mkdirSync(folder);
    await recipe.make(folder, detail);
    const lacking = recipe.files.filter((file) => !existsSync(join(folder, file)));
    if (lacking.length > 0) throw new Error(`${recipe.title} did not bring ${lacking.join(", ")}`);
    const sizes = Object.fromEntries(recipe.files.map((file) => [file, statSync(join(folder, file)).size]));
    writeFileSync(join(folder, manifestName), JSON.stringify(sizes));
    if (existsSync(target)) renameSync(target, join(work, "damaged"));
    renameSync(folder, target);
    return target;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * Removes entries that nobody used for 30 days, and what interrupted runs left behind a day ago; nothing
 * else, for the folder may hold more. Returns the names of what was removed.
 */
export async function pruneCache(now = Date.now(), root = cacheDir): Promise<string[]> {
  if (!existsSync(root)) return [];
  const removed: string[] = [];
  for (const name of readdirSync(root)) {
    const folder = join(root, name);
    const isTemporary = name.startsWith(temporaryPrefix);
    if (!isTemporary && !/-[0-9a-f]{16}-/.test(name)) continue;
    const limit = isTemporary ? day : unusedDays * day;
    if (now - lastUse(folder) < limit) continue;
    // Whoever makes or replaces the entry has its lock.
    const release = await tryLock(join(root, lockDir, name));
    if (!release) continue;
    try {
      const away = mkdtempSync(join(root, temporaryPrefix));
      renameSync(folder, join(away, "old"));
      rmSync(away, { recursive: true, force: true });
      removed.push(name);
    } finally {
      await release();
    }
  }
  return removed;
}
