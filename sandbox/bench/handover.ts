/**
 * Handing the cluster over: the original project's order of steps against ours, by turns, in the same cluster and under the
 * same load. Both run as a Job of the same template, and what is measured is the script's own time.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { V1ConfigMap, V1CronJob, V1Job } from "@kubernetes/client-node";
import { z } from "zod";
import { lastLineOfJob } from "../../kubernetes/jobLog";
import { receiptSchema } from "../../outputs";
import { handoverFiles, serveTemplate } from "../../restate/handover";
import { readPartitions, readState } from "../service/admin";
import { faultsOf, judgeCalls } from "../service/check";
import type { RegionPorts } from "../service/deploy";
import { type Figures, figuresBetween } from "../service/figures";
import { type CallRecord, startLoad } from "../service/load";
import { kubeGet } from "../world/kube";
import { regions } from "../world/regions";
import { BenchSandbox } from "./bench-sandbox";
import { type Comparison, median } from "./figures";

/** What to measure. */
export interface HandoverBench {
  /** Folder for the sandbox. */
  base: string;
  partitions: number;
  /** How often each order drains and restores. */
  rounds: number;
  /** Told of each run as it ends. */
  say: (text: string) => void;
}

/** Clients that call all the time, half of them through each region. */
const clients = 8;

/**
 * How long each rests between two calls, in milliseconds. A call takes some 25 ms of the processors, nearly all of it in the six nodes:
 * so many leave a third of two cores to the handover. With twice as many, callers mostly wait for a processor, handover or not.
 */
const restMs = 200;

/** Seconds after which a run of the original's order is given up, and finished by ours. */
const cap = 120;

/** Time between two runs, in milliseconds: the cluster comes to rest. */
const settle = 4_000;

/** For how long callers are seen without a handover before each run, in milliseconds: about as long as one takes. */
const rest = 15_000;

/** The region that is drained and comes back, and the one that carries the cluster, where both orders run. */
const [drained, carrying] = [regions[0]!.name, regions[1]!.name];
const namespace = `restate-${carrying}`;

/** The step of ours with which the cluster is where it shall be, and every gate has been looked at once more. */
const lastCondition = "all of it still holds";

type Order = "original" | "ours";
/** `both` or the carrying region. */
type Target = string;

/** One run of one order. Times in milliseconds. */
interface Run {
  order: Order;
  target: Target;
  /** When its script began, by the clock, and how long it took until every condition held. */
  began: number;
  took: number;
  /** Whether they held before the original was given up. */
  held: boolean;
  /** Its steps, with the seconds of each. */
  steps: { step: string; seconds: number }[];
}

/** What callers noticed of a run. */
export interface Noticed extends Figures {
  /** p99 of the partition with the highest one, and the median of the slowest calls of all partitions. */
  worstPartitionP99: number;
  usualPartitionSlowest: number;
}

/** What original.sh prints last. */
const originalSchema = z.object({
  began: z.string(),
  seconds: z.number(),
  held: z.boolean(),
  missing: z.array(z.string()),
  steps: z.array(z.object({ step: z.string(), at: z.number() })),
});

const execute = promisify(execFile);

/** Runs everything in a sandbox of its own. */
export async function benchHandover({ base, partitions, rounds, say }: HandoverBench): Promise<Comparison[]> {
  const sandbox = new BenchSandbox(base);
  try {
    sandbox.setInBothStacks("restate:partitions", partitions);
    sandbox.command("up", "--json");
    const { regions: ports } = JSON.parse(sandbox.command("practice", "--json")) as { regions: RegionPorts[] };
    const jobs = await Jobs.prepare(sandbox);
    const run = `bench-${randomBytes(4).toString("hex")}`;
    const accounts = Array.from({ length: Math.max(64, 8 * partitions) }, (_, i) => `${run}-${i}`);
    const load = startLoad(run, { regions: ports, clients, accounts, restMs, timeoutMs: 3_000 });
    const runs: Run[] = [];
    try {
      for (let round = 0; round < rounds; round++) {
        // By turns, and each first as often as the other.
        const orders: Order[] = round % 2 === 0 ? ["original", "ours"] : ["ours", "original"];
        for (const order of orders) {
          for (const target of [carrying, "both"]) {
            await sleep(settle + rest);
            const one = await jobs.run(order, target);
            runs.push(one);
            say(`${partitions} partitions, round ${round + 1}: ${describe(one, load.calls)}`);
            // So that the next one begins as this one did, with leaders in both regions.
            if (!one.held || (order === "original" && target === "both")) await jobs.finish(target);
          }
        }
      }
      await sleep(settle);
    } finally {
      await load.stop();
    }
    const faults = faultsOf(judgeCalls(load.calls, await readState(ports[0]!.admin, `${run}-`)));
    if (faults.length > 0) throw new Error(`not every call counts exactly once: ${faults.join("; ")}`);
    const places = await readPartitions(ports[0]!.admin, `${run}-`, partitions);
    const noticed = runs.map((one) => ({
      run: one,
      noticed: noticedOf(load.calls, places, one),
      atRest: noticedOf(load.calls, places, { began: one.began - rest, took: rest }),
    }));
    return [carrying, "both"].flatMap((target) => compare(partitions, target, noticed));
  } finally {
    sandbox.remove();
  }
}

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`;

/** A run in one line. */
function describe(run: Run, calls: readonly CallRecord[]): string {
  const { p99, slowest, longestSilence, perSecond } = figuresBetween(calls, run.began, run.began + run.took);
  const what = run.target === "both" ? `${drained} restored` : `${drained} drained`;
  const steps = run.steps.map(({ step, seconds }) => `${step}: ${seconds.toFixed(1)}`).join(", ");
  return (
    `${what}, ${run.order}: ${run.held ? seconds(run.took) : `not within ${cap} s`}; ${perSecond.toFixed(0)} answers a second, ` +
    `p99 ${p99.toFixed(0)} ms, slowest ${slowest.toFixed(0)} ms, silence ${longestSilence.toFixed(0)} ms\n    ${steps}`
  );
}

/** What callers noticed of a run, in all and by partition. Pure. */
export function noticedOf(
  calls: readonly CallRecord[],
  places: ReadonlyMap<string, number>,
  { began, took }: Pick<Run, "began" | "took">,
): Noticed {
  const figures = (some: readonly CallRecord[]) => figuresBetween(some, began, began + took);
  const byPartition = new Map<number, CallRecord[]>();
  for (const call of calls) {
    const partition = places.get(call.account);
    if (partition === undefined || call.end < began || call.start > began + took) continue;
    byPartition.set(partition, [...(byPartition.get(partition) ?? []), call]);
  }
  const each = [...byPartition.values()].map(figures);
  return {
    ...figures(calls),
    worstPartitionP99: each.reduce((worst, { p99 }) => Math.max(worst, p99), 0),
    usualPartitionSlowest: each.length === 0 ? 0 : median(each.map(({ slowest }) => slowest)),
  };
}

/** The two orders side by side, for one direction, and what callers notice without a handover. Pure. */
export function compare(
  partitions: number,
  target: Target,
  runs: readonly { run: Pick<Run, "order" | "target" | "took" | "held">; noticed: Noticed; atRest: Noticed }[],
): Comparison[] {
  const title = `${partitions} partitions, ${target === "both" ? "restore" : "drain"}`;
  const of = (order: Order, value: (one: (typeof runs)[number]) => number) =>
    runs.filter(({ run }) => run.order === order && run.target === target).map(value);
  const both = (value: (one: (typeof runs)[number]) => number) => ({
    original: of("original", value),
    ours: of("ours", value),
  });
  const noticed = (value: (one: Noticed) => number) => ({
    atRest: runs.filter(({ run }) => run.target === target).map(({ atRest }) => value(atRest)),
    ...both(({ noticed }) => value(noticed)),
  });
  return [
    { what: `${title}: total`, unit: "s", ...both(({ run }) => run.took / 1000), target: { ratio: 1 / 3 } },
    {
      what: `${title}: longest silence`,
      unit: "ms",
      ...noticed(({ longestSilence }) => longestSilence),
      target: { value: 100 },
    },
    {
      what: `${title}: slowest call`,
      unit: "ms",
      ...noticed(({ slowest }) => slowest),
      target: { value: 1_000, ratio: 1 / 5 },
    },
    {
      what: `${title}: slowest call of the median partition`,
      unit: "ms",
      ...noticed(({ usualPartitionSlowest }) => usualPartitionSlowest),
    },
    { what: `${title}: p99 of calls`, unit: "ms", ...noticed(({ p99 }) => p99) },
    {
      what: `${title}: p99 of the worst partition`,
      unit: "ms",
      ...noticed(({ worstPartitionP99 }) => worstPartitionP99),
    },
    { what: `${title}: did not get there in ${cap} s`, unit: "runs", ...both(({ run }) => (run.held ? 0 : 1)) },
  ];
}

/** Starts Jobs of both orders in the carrying region, from the stack's own templates. */
class Jobs {
  private count = 0;

  private constructor(
    private readonly kubeconfig: string,
    private readonly env: NodeJS.ProcessEnv,
  ) {}

  /** Brings the original's script into the cluster, beside the gates that it waits for. */
  static async prepare(sandbox: BenchSandbox): Promise<Jobs> {
    const env = sandbox.operatorEnvironment(carrying);
    const jobs = new Jobs(env.KUBECONFIG!, env);
    const script = readFileSync(join(__dirname, "original.sh"), "utf8");
    const files: V1ConfigMap = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: originalFiles, namespace },
      data: { ...handoverFiles(), "original.sh": script },
    };
    await jobs.create(files);
    return jobs;
  }

  /** Runs one order to its end, and reads what it says of itself. Throws if ours fails. */
  async run(order: Order, target: Target): Promise<Run> {
    const printed = await this.start(order, target);
    return order === "ours" ? ourRun(printed, target) : originalRun(printed, target);
  }

  /** Has ours do what is left to be done; nothing is measured. */
  async finish(target: Target): Promise<void> {
    await this.start("ours", target);
  }

  private async start(order: Order, target: Target): Promise<unknown> {
    const template = await kubeGet<V1CronJob>(
      this.kubeconfig,
      `/apis/batch/v1/namespaces/${namespace}/cronjobs/${serveTemplate(target)}`,
    );
    const name = `bench-${++this.count}-${order}`;
    const spec = template.spec!.jobTemplate.spec!;
    const job: V1Job = { apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace }, spec };
    await this.create(order === "ours" ? job : originalJob(job, target));
    await this.ended(name);
    return lastLineOfJob({ kubeconfig: readFileSync(this.kubeconfig, "utf8") }, namespace, name);
  }

  private create(object: object): Promise<unknown> {
    const created = execute("kubectl", ["create", "-f", "-"], { env: this.env });
    created.child.stdin!.end(JSON.stringify(object));
    return created;
  }

  private async ended(name: string): Promise<void> {
    for (;;) {
      const { status } = await kubeGet<V1Job>(this.kubeconfig, `/apis/batch/v1/namespaces/${namespace}/jobs/${name}`);
      const done = (type: string) => status?.conditions?.some((one) => one.type === type && one.status === "True");
      if (done("Complete")) return;
      if (done("Failed")) {
        const { stdout } = await execute("kubectl", ["-n", namespace, "logs", `job/${name}`], { env: this.env });
        throw new Error(`Job ${name} failed:\n${stdout}`);
      }
      await sleep(300);
    }
  }
}

/** Name of the config map with the original's script. */
const originalFiles = "bench-original";

/** The same Job with the original's script in place of ours. Pure. */
export function originalJob(job: V1Job, target: Target): V1Job {
  const changed = structuredClone(job);
  const pod = changed.spec!.template.spec!;
  const container = pod.containers[0]!;
  container.command = ["bash", "/operations/original.sh", target];
  container.env = [
    ...(container.env ?? []),
    { name: "CAP", value: String(cap) },
    { name: "RETURNING", value: drained },
  ];
  for (const volume of pod.volumes ?? []) if (volume.configMap) volume.configMap.name = originalFiles;
  return changed;
}

/** A run of ours, from its receipt: until every gate held once more; the snapshot after that is no condition. Pure. */
export function ourRun(printed: unknown, target: Target): Run {
  const { began, steps, to } = receiptSchema.parse(printed);
  const last = steps.findIndex(({ step }) => step === lastCondition);
  if (to !== target || last < 0) throw new Error(`no receipt of a handover to ${target}: ${JSON.stringify(printed)}`);
  const counted = steps.slice(0, last + 1);
  const took = counted.reduce((sum, { seconds }) => sum + 1000 * seconds, 0);
  return { order: "ours", target, began: Date.parse(began), took, held: true, steps: counted };
}

/** A run of the original's order. Pure. */
export function originalRun(printed: unknown, target: Target): Run {
  const { began, seconds, held, steps } = originalSchema.parse(printed);
  const each = steps.map(({ step, at }, i) => ({ step, seconds: at - (steps[i - 1]?.at ?? 0) }));
  return { order: "original", target, began: Date.parse(began), took: 1000 * seconds, held, steps: each };
}
