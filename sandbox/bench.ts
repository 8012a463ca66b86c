/**
 * `npm run bench`: how long an operator waits for the sandbox and for previews, what the sandbox needs, and what callers
 * notice of a handover.
 *
 * It works in sandboxes of its own, which it deletes at the end, and leaves the clone's alone.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  type Comparison,
  comparisonTable,
  type Figure,
  figureTable,
  partitionCounts,
  replicaCounts,
} from "./bench/figures";
import { benchHandover } from "./bench/handover";
import { benchStacks } from "./bench/stacks";
import { benchTools, benchWorld } from "./bench/world";
import { size } from "./commands/text";

const usage = `usage: npm run bench -- [PART...] [--replicas N,...] [--runs N] [--json]

Parts; without any, --provisioned and --preview:
  --provisioned   npm run sandbox, all tools there and no state, until the cluster is provisioned
  --preview       the same, then an unchanged preview of each region against one of an empty program, by turns
  --world         the clusters and all around them, without stacks: start, start again, stop, memory
  --cold          build and install every tool in an empty cache: minutes
  --handover      drain and restore a region under load: the original project's order of steps against ours, by turns

  --replicas N,...     Restate nodes in each region, one sandbox for each number (default 3,9)
  --runs N             previews of each program, starts of the world (default 5)
  --partitions N,...   partitions that handovers are measured with, one sandbox for each number (default 4,32)
  --rounds N           drains and restores in each order (default 4)
  --json               print JSON
`;

const options = {
  provisioned: { type: "boolean" },
  preview: { type: "boolean" },
  world: { type: "boolean" },
  cold: { type: "boolean" },
  replicas: { type: "string", default: "3,9" },
  handover: { type: "boolean" },
  runs: { type: "string", default: "5" },
  partitions: { type: "string", default: "4,32" },
  rounds: { type: "string", default: "4" },
  json: { type: "boolean" },
  help: { type: "boolean" },
} as const;

/** Reads a flag that takes a number of times. */
function times(flag: string, text: string): number {
  if (/^\d{1,4}$/.test(text) && Number(text) >= 1) return Number(text);
  throw new Error(`--${flag} takes a whole number from 1, not ${text}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const runs = times("runs", values.runs);
  const rounds = times("rounds", values.rounds);
  const counts = replicaCounts(values.replicas);
  const partitions = partitionCounts(values.partitions);
  const noPart = !values.provisioned && !values.preview && !values.world && !values.cold && !values.handover;
  const preview = noPart || values.preview;
  const figures: Figure[] = [];
  const comparisons: Comparison[] = [];
  const inFolder = async <T>(work: (base: string) => T | Promise<T>): Promise<T> => {
    const base = mkdtempSync(join(tmpdir(), "sandbox-bench-"));
    try {
      return await work(base);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  };
  if (values.cold) figures.push(...(await inFolder(benchTools)));
  if (values.world) figures.push(...(await inFolder((base) => benchWorld(base, runs))));
  for (const replicas of preview || values.provisioned ? counts : []) {
    figures.push(...(await inFolder((base) => benchStacks({ base, replicas, previews: preview ? runs : 0 }))));
  }
  for (const count of values.handover ? partitions : []) {
    const say = (text: string) => console.error(text);
    comparisons.push(...(await inFolder((base) => benchHandover({ base, partitions: count, rounds, say }))));
  }
  const load = loadavg()[0]!;
  const machine = { load, cores: cpus().length, model: cpus()[0]?.model, memory: totalmem(), node: process.version };
  if (values.json) console.log(JSON.stringify({ machine, figures, comparisons }, null, 2));
  else {
    const processors = `${machine.cores} cores (${machine.model}), ${size(machine.memory)}`;
    console.log(`${processors}, Node ${machine.node}, load ${load.toFixed(1)}`);
    if (figures.length > 0) console.log(`\n${figureTable(figures)}`);
    if (comparisons.length > 0) console.log(`\n${comparisonTable(comparisons)}`);
  }
  return 0;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  },
);
