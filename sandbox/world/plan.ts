/** What the supervisor runs: parts (processes) and steps (work done once), with the order in which they come up. */
import type { Part } from "./part";

/** Work that the supervisor does itself when all of `after` is ready, e.g. seeding AWS. Must be safe to run again. */
export interface Step {
  name: string;
  after?: string[];
  /** Done when it resolves. Parts and steps that it returns join the plan, in the step's group. */
  run(): Promise<Item[] | undefined>;
}

/** One entry of a plan. */
export type Item = Part | Step;

/** A door for the host: a unix socket in the run folder, whose connections are passed on to `target`. */
export interface Gate {
  /** Unique name, e.g. `region1/api`. */
  name: string;
  /** Where a connection goes, asked for each connection. A rejection closes the connection. */
  target(): Promise<{ host: string; port: number }>;
}

/** A world: its parts by group, of which `main` comes up with `up` and the others on demand. */
export interface Plan {
  groups: Record<string, () => Item[]>;
  gates: Gate[];
}

/** Tells a part from a step. */
export function isPart(item: Item): item is Part {
  return "command" in item;
}

/** Checks names and order of a plan's items; throws one error that lists every fault. */
export function checkItems(items: readonly Item[]): void {
  const faults: string[] = [];
  const byName = new Map<string, Item>();
  for (const item of items) {
    if (byName.has(item.name)) faults.push(`two parts are named ${item.name}`);
    byName.set(item.name, item);
  }
  for (const item of items) {
    for (const name of [...(item.after ?? []), ...(isPart(item) ? (item.boundTo ?? []) : [])]) {
      if (!byName.has(name)) faults.push(`${item.name} comes after ${name}, which does not exist`);
    }
  }
  if (faults.length === 0) {
    const left = levels(items).rest;
    if (left.length > 0) faults.push(`these wait for each other: ${left.join(", ")}`);
  }
  if (faults.length > 0) throw new Error(`the sandbox's plan is wrong: ${faults.join("; ")}`);
}

/** Groups items into levels: each level needs only earlier ones. `rest` are items in a circle. */
function levels(items: readonly Item[]): { levels: string[][]; rest: string[] } {
  const names = new Set(items.map((i) => i.name));
  const done = new Set<string>();
  const result: string[][] = [];
  let left = [...items];
  while (left.length > 0) {
    const next = left.filter((i) => (i.after ?? []).every((a) => done.has(a) || !names.has(a)));
    if (next.length === 0) break;
    result.push(next.map((i) => i.name));
    for (const item of next) done.add(item.name);
    left = left.filter((i) => !done.has(i.name));
  }
  return { levels: result, rest: left.map((i) => i.name) };
}

/** The order to stop parts in: each group of names after everything that came up after it. */
export function stopOrder(items: readonly Item[]): string[][] {
  return levels(items).levels.reverse();
}

/**
 * What an item waits for: everything that it comes after, directly or not, and that is not up. A part can be up while
 * one that it came after has ended since.
 */
export function waitsFor(item: Item, all: ReadonlyMap<string, Item>, isUp: (name: string) => boolean): string[] {
  const seen = new Set<string>();
  const visit = (names: readonly string[]): void => {
    for (const name of names) {
      if (seen.has(name)) continue;
      seen.add(name);
      visit(all.get(name)?.after ?? []);
    }
  };
  visit(item.after ?? []);
  return [...seen].filter((name) => !isUp(name));
}

/** Everything that comes after any of `names`, directly or not. */
export function dependents(items: readonly Item[], names: Iterable<string>): Set<string> {
  const found = new Set<string>(names);
  for (let grew = true; grew; ) {
    grew = false;
    for (const item of items) {
      if (!found.has(item.name) && (item.after ?? []).some((a) => found.has(a))) {
        found.add(item.name);
        grew = true;
      }
    }
  }
  for (const name of names) found.delete(name);
  return found;
}
