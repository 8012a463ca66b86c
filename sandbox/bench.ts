/**
 * `npm run bench`: how long an operator waits for the sandbox and for previews, and what the sandbox needs.
 *
 * It works in sandboxes of its own, which it deletes at the end, and leaves the clone's alone.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Figure, figureTable, replicaCounts } from "./bench/figures";
import { benchStacks } from "./bench/stacks";
import { benchTools, benchWorld } from "./bench/world";
import { size } from "./commands/text";

const usage = `usage: npm run bench -- [PART...] [--replicas N,...] [--runs N] [--json]

Parts; without any, --provisioned and --preview:
  --provisioned   npm run sandbox, all tools there and no state, until the cluster is provisioned
  --preview       the same, then an unchanged preview of each region against one of an empty program, by turns
  --world         the clusters and all around them, without stacks: start, start again, stop, memory
  --cold          build and install every tool in an empty cache: minutes

  --replicas N,...   Restate nodes in each region, one sandbox for each number (default 3,9)
  --runs N           previews of each program, starts of the world (default 5)
  --json             print JSON
`;

const options = {
  provisioned: { type: "boolean" },
  preview: { type: "boolean" },
  world: { type: "boolean" },
  cold: { type: "boolean" },
  replicas: { type: "string", default: "3,9" },
  runs: { type: "string", default: "5" },
  json: { type: "boolean" },
  help: { type: "boolean" },
} as const;

function main(): number {
  const { values } = parseArgs({ options });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs takes a whole number from 1, not ${values.runs}`);
  const counts = replicaCounts(values.replicas);
  const noPart = !values.provisioned && !values.preview && !values.world && !values.cold;
  const preview = noPart || values.preview;
  const figures: Figure[] = [];
  const inFolder = (work: (base: string) => Figure[]) => {
    const base = mkdtempSync(join(tmpdir(), "sandbox-bench-"));
    try {
      figures.push(...work(base));
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  };
  if (values.cold) inFolder(benchTools);
  if (values.world) inFolder((base) => benchWorld(base, runs));
  for (const replicas of preview || values.provisioned ? counts : []) {
    inFolder((base) => benchStacks({ base, replicas, previews: preview ? runs : 0 }));
  }
  const load = loadavg()[0]!;
  const machine = { load, cores: cpus().length, model: cpus()[0]?.model, memory: totalmem(), node: process.version };
  if (values.json) console.log(JSON.stringify({ machine, figures }, null, 2));
  else {
    const processors = `${machine.cores} cores (${machine.model}), ${size(machine.memory)}`;
    console.log(`${processors}, Node ${machine.node}, load ${load.toFixed(1)}\n\n${figureTable(figures)}`);
  }
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
