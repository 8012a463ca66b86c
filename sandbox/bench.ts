/**
 * `npm run bench`: how long the world takes to come up, and what it needs.
 *
 * Usage: bench [--runs <n>] [--cold] [--json]. It works in a sandbox of its own, which it deletes at the end, and leaves
 * the clone's alone. `--cold` builds every tool in an empty cache first: that takes minutes.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { size, table } from "./commands/text";
import type { WorldStatus } from "./world/control";
import { projectDir } from "./world/paths";
import { processTable, processTree } from "./world/processes";

/** One measurement: seconds, or bytes. */
interface Figure {
  what: string;
  value: number;
  unit: "s" | "B";
}

/** One of each thing that is built or installed, in the order of `up`. */
const coldTools = ["pulumi", "kubernetes-plugin", "cluster", "jq", "kubectl", "restate-server", "python"] as const;

const options = {
  runs: { type: "string", default: "3" },
  cold: { type: "boolean" },
  json: { type: "boolean" },
} as const;

function main(): number {
  const { values } = parseArgs({ options });
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1) {
    console.error(`--runs takes a whole number from 1, not ${values.runs}`);
    return 2;
  }
  const base = mkdtempSync(join(tmpdir(), "sandbox-bench-"));
  const environment: NodeJS.ProcessEnv = { ...process.env, RESTATE_SANDBOX_DIR: join(base, "sandbox") };
  const figures: Figure[] = [];
  const sandbox = (...args: string[]): string => {
    const result = spawnSync(process.execPath, ["--import", "tsx", "sandbox/cli.ts", ...args], {
      cwd: projectDir,
      env: environment,
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024,
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (result.status !== 0) throw new Error(`sandbox ${args.join(" ")} failed`);
    return result.stdout;
  };
  const timed = (what: string, work: () => void): void => {
    const begun = process.hrtime.bigint();
    work();
    figures.push({ what, value: Number(process.hrtime.bigint() - begun) / 1e9, unit: "s" });
  };
  try {
    if (values.cold) {
      environment.RESTATE_SANDBOX_CACHE = join(base, "cache");
      environment.GOCACHE = join(base, "go-build");
      for (const tool of coldTools) {
        timed(`cold build or install: ${tool}`, () => {
          const program = ["--import", "tsx", "sandbox/toolchain/main.ts", "ensure", tool];
          const result = spawnSync(process.execPath, program, { cwd: projectDir, env: environment, stdio: "inherit" });
          if (result.status !== 0) throw new Error(`${tool} could not be built`);
        });
      }
    }
    timed("first start: nothing but the tools", () => sandbox("up", "--world-only", "--json"));
    for (let run = 1; run <= runs; run++) {
      sandbox("down");
      timed(`warm start ${run}: both clusters ready`, () => sandbox("up", "--world-only", "--json"));
      figures.push(processorTime(JSON.parse(sandbox("status", "--json")) as WorldStatus));
    }
    timed("up when all is up", () => sandbox("up", "--world-only", "--json"));
    figures.push(...memory(JSON.parse(sandbox("status", "--json")) as WorldStatus));
    timed("down", () => sandbox("down"));
  } finally {
    sandbox("down", "--delete-state");
    rmSync(base, { recursive: true, force: true });
  }
  const load = loadavg()[0]!;
  const machine = { load, cores: cpus().length, model: cpus()[0]?.model, memory: totalmem(), node: process.version };
  if (values.json) console.log(JSON.stringify({ machine, figures }, null, 2));
  else {
    console.log(
      `${machine.cores} cores (${machine.model}), ${size(machine.memory)}, Node ${machine.node}, load ${load.toFixed(1)}\n`,
    );
    const rows = figures.map(({ what, value, unit }) => [what, unit === "s" ? `${value.toFixed(2)} s` : size(value)]);
    console.log(table(["WHAT", "FIGURE"], rows));
  }
  return 0;
}

/** Processor seconds that the parts have needed so far: unlike times, the same on a machine that is busy otherwise. */
function processorTime(status: WorldStatus): Figure {
  const ticks = Number(spawnSync("getconf", ["CLK_TCK"], { encoding: "utf8" }).stdout);
  const processes = processTable();
  const own = (pid: number): number => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(fields[11]) + Number(fields[12]);
    } catch {
      return 0;
    }
  };
  const pids = status.parts.flatMap((part) => (part.hostPid ? processTree(part.hostPid, processes) : []));
  const value = pids.reduce((sum, pid) => sum + own(pid), 0) / ticks;
  return { what: "processor time of all parts until then", value, unit: "s" };
}

/** Memory by part and in all; shared pages are counted in proportion. */
function memory(status: WorldStatus): Figure[] {
  const parts = status.parts.filter((part) => part.memory !== undefined);
  const total = parts.reduce((sum, part) => sum + part.memory!, status.memory ?? 0);
  return [
    { what: "memory: everything", value: total, unit: "B" },
    { what: "memory: supervisor", value: status.memory ?? 0, unit: "B" },
    ...parts.map((part): Figure => ({ what: `memory: ${part.name}`, value: part.memory!, unit: "B" })),
  ];
}

process.exitCode = main();
