/** How long the world without stacks takes to come up, and what it needs. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { WorldStatus } from "../world/control";
import { projectDir, typescript } from "../world/paths";
import { processTable, processTree } from "../world/processes";
import { BenchSandbox } from "./bench-sandbox";
import type { Figure } from "./figures";

/** One of each thing that is built or installed, in the order of `up`. */
const coldTools = ["pulumi", "kubernetes-plugin", "cluster", "jq", "kubectl", "restate-server", "python"] as const;

/** Builds or installs each tool in an empty cache, inside `base`: minutes. */
export function benchTools(base: string): Figure[] {
  const env = { ...process.env, RESTATE_SANDBOX_CACHE: join(base, "cache"), GOCACHE: join(base, "go-build") };
  return coldTools.map((tool) =>
    timed(`cold build or install: ${tool}`, () => {
      const program = [...typescript, "sandbox/toolchain/main.ts", "ensure", tool];
      const result = spawnSync(process.execPath, program, { cwd: projectDir, env, stdio: ["ignore", 2, 2] });
      if (result.status !== 0) throw new Error(`${tool} could not be built`);
    }),
  );
}

/** Starts and stops the world `runs` times. */
export function benchWorld(base: string, runs: number): Figure[] {
  const sandbox = new BenchSandbox(base);
  const figures: Figure[] = [];
  const up = () => void sandbox.command("up", "--world-only", "--json");
  try {
    figures.push(timed("first start: nothing but the tools", up));
    for (let run = 1; run <= runs; run++) {
      sandbox.command("down");
      figures.push(timed(`warm start ${run}: both clusters ready`, up), processorTime(sandbox.status()));
    }
    figures.push(timed("up when all is up", up));
    figures.push(...memory(sandbox.status()));
    figures.push(timed("down", () => void sandbox.command("down")));
  } finally {
    sandbox.remove();
  }
  return figures;
}

function timed(what: string, work: () => void): Figure {
  const begun = process.hrtime.bigint();
  work();
  return { what, value: Number(process.hrtime.bigint() - begun) / 1e9, unit: "s" };
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
