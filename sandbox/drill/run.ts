/** Runs a drill: the round trip of `serving` under load, as an operator would make it, and the judgement of every call. */
import { cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { type Receipt, receiptSchema } from "../../outputs";
import { leadRegion, type RegionName, regionNames, type Serving } from "../../topology";
import { readState } from "../service/admin";
import { faultsOf, judgeCalls, type Verdict } from "../service/check";
import { deployService, portsOfRegions } from "../service/deploy";
import { startLoad } from "../service/load";
import { hostPortsOf } from "../world/access";
import { runAsOperator, runUp } from "../world/operator";
import { changeServing, readServing, rememberServing } from "../world/serving";
import { type Drill, type DrillHandover, servingOf } from "./record";
import { startWatch } from "./watch";

/** What a drill is like. */
export interface DrillOptions {
  /** How often the round trip is made. */
  rounds: number;
  /** To one region and back, instead of to each in turn. */
  once: boolean;
  clients: number;
  accounts: number;
  /** Told of what is going on. */
  say: (what: string, detail?: string) => void;
  /** Whether it was told to end: the handover that is under way is finished, and no other begun. */
  interrupted: () => boolean;
}

/** How often the cluster is looked at, in milliseconds. */
const interval = 500;

/** How long callers are watched before the first handover and after the last one, in milliseconds. */
const calm = 4_000;

/** What `serving` is set to, one after the other: from what it is, through both regions in turn, and back to it. Pure. */
export function roundTrip(serving: Serving, { rounds, once }: Pick<DrillOptions, "rounds" | "once">): Serving[] {
  const cycle: Serving[] = once
    ? ["both", serving === "both" ? "region2" : serving]
    : ["both", "region2", "both", "region1"];
  const begin = cycle.indexOf(serving);
  const round = cycle.map((_, i) => cycle[(begin + 1 + i) % cycle.length]!);
  return Array.from({ length: rounds }, () => round).flat();
}

/** What a drill reads of a stack's outputs. */
const outputsSchema = z.object({
  home: z.enum(regionNames),
  serving: z.enum(["both", ...regionNames]),
  kubernetes: z.object({ namespace: z.string() }),
  release: z.object({ restateVersion: z.string() }),
  handover: z.object({ receipt: receiptSchema }).optional(),
  pending: z.array(z.string()),
});

type StackOutputs = z.infer<typeof outputsSchema>;

async function outputsOf(stack: RegionName): Promise<StackOutputs> {
  const { code, stdout } = await runAsOperator(["pulumi", "stack", "output", "--json", "--stack", stack], {
    keep: true,
  });
  const parsed = outputsSchema.safeParse(code === 0 ? JSON.parse(stdout) : undefined);
  if (parsed.success) return parsed.data;
  throw new Error(`stack ${stack} is not up: a drill needs both stacks. Next: npm run sandbox`);
}

/** Both stacks' outputs; throws unless the cluster is where `serving` wants it. */
async function settledOutputs(serving: Serving): Promise<Record<RegionName, StackOutputs>> {
  const [region1, region2] = [await outputsOf("region1"), await outputsOf("region2")];
  const last = latestReceipt([region1, region2]);
  const pending = [region1, region2].flatMap((one) => one.pending);
  if (
    pending.length > 0 ||
    region1.serving !== serving ||
    region2.serving !== serving ||
    (last?.to ?? "both") !== serving
  ) {
    const why = pending[0] ?? `serving is ${serving}, and the cluster is served by ${last?.to ?? "both"}`;
    throw new Error(`the stacks are not settled (${why}). Next: npm run sandbox`);
  }
  return { region1, region2 };
}

/** The receipt of the last handover that any of the stacks knows. */
function latestReceipt(outputs: readonly StackOutputs[]): Receipt | undefined {
  return outputs.flatMap(({ handover }) => (handover ? [handover.receipt] : [])).sort((a, b) => b.number - a.number)[0];
}

/** What of the report of `npm run up --json` tells why it failed. */
const upReportSchema = z.object({
  runs: z.array(z.object({ errors: z.array(z.string()) })),
  settled: z.boolean(),
  error: z.string().optional(),
});

/** `npm run up` to its end; what went wrong, in words, or undefined. */
async function bringUp(onLine: (line: string) => void): Promise<string | undefined> {
  const { code, stdout } = await runUp(true, { keep: true, onLine });
  if (code === 0) return undefined;
  try {
    const { runs, error } = upReportSchema.parse(JSON.parse(stdout));
    return [...runs.flatMap(({ errors }) => errors), ...(error ? [error] : [])].join("\n") || `exit code ${code}`;
  } catch {
    return `exit code ${code}`;
  }
}

/** Changes `serving` and brings both stacks up. Never throws for a handover that fails. */
async function handOver(
  from: Serving,
  to: Serving,
  home: RegionName,
  change: () => void,
  onLine: (line: string) => void,
): Promise<DrillHandover> {
  const lead = leadRegion({ home, serving: to });
  const before = latestReceipt([await outputsOf(lead)])?.number ?? 0;
  const began = Date.now();
  change();
  const problem = await bringUp(onLine);
  const done = { from, to, began, ended: Date.now() };
  if (problem) return { ...done, problem };
  const receipt = (await outputsOf(lead)).handover?.receipt;
  if (receipt && receipt.to === to && receipt.number > before) return { ...done, receipt };
  return { ...done, problem: `npm run up ended well, and there is no receipt of a handover to ${to}` };
}

/**
 * Makes the drill. `serving` is what it was afterwards, and so is the cluster unless that failed or was interrupted, which
 * the drill's faults then say with the next command to type.
 */
export async function runDrill(options: DrillOptions): Promise<Drill> {
  const { say } = options;
  const { ports } = await hostPortsOf();
  const initial = readServing();
  say("the stacks");
  const outputs = await settledOutputs(initial);
  say("the practice service");
  await deployService(ports, { say: (what) => say("the practice service", what) });

  const run = `drill-${new Date().toISOString().replace(/\D/g, "").slice(0, 14)}`;
  const accounts = Array.from({ length: options.accounts }, (_, i) => `${run}-${i}`);
  const regions = portsOfRegions(ports);
  const restore = rememberServing();
  const watch = startWatch(
    regionNames.map((region) => ({ region, namespace: outputs[region].kubernetes.namespace })),
    interval,
  );
  const began = Date.now();
  const load = startLoad(run, { regions, clients: options.clients, accounts, repeatShare: 0.05 });
  const handovers: DrillHandover[] = [];
  const faults: string[] = [];
  let serving = initial;
  try {
    say("calls before the first handover");
    await sleep(calm);
    const found = servingOf(watch.samples.at(-1)?.nodes ?? []);
    if (watch.samples.length === 0 || found !== initial) {
      const state =
        watch.samples.length === 0 ? "cannot be looked at" : `is served by ${found ?? "neither one nor both"}`;
      throw new Error(`the cluster ${state}, and serving is ${initial}. Next: npm run status`);
    }
    const targets = roundTrip(initial, options);
    for (const [i, to] of targets.entries()) {
      if (options.interrupted()) break;
      const what = `${i + 1} of ${targets.length}: ${serving} → ${to}`;
      say(what);
      const change = i === targets.length - 1 ? restore : () => changeServing(to);
      const one = await handOver(serving, to, outputs.region1.home, change, (line) => say(what, line.trim()));
      handovers.push(one);
      if (one.problem) break;
      serving = to;
    }
    if (options.interrupted()) faults.push("it was interrupted");
    const failed = handovers.find(({ problem }) => problem);
    if (failed) faults.push(`the handover to ${failed.to} was not done: ${failed.problem}`);
    if (serving !== initial || failed) faults.push(...(await wayBack(options, initial, restore)));
    await sleep(calm);
  } finally {
    restore();
    await load.stop();
    await watch.stop();
  }
  const ended = Date.now();

  say("the state of every account");
  const verdicts: Record<string, Verdict> = {};
  for (const { region, admin } of regions) {
    verdicts[region] = judgeCalls(load.calls, await readState(admin, `${run}-`));
    faults.push(...faultsOf(verdicts[region]).map((fault) => `as ${region} has it, ${fault}`));
  }
  return {
    run,
    began,
    ended,
    restateVersion: outputs.region1.release.restateVersion,
    machine: {
      cores: cpus().length,
      model: cpus()[0]?.model ?? "unknown",
      node: process.version,
      load: loadavg()[0]!,
    },
    clients: options.clients,
    accounts: options.accounts,
    interval,
    handovers,
    samples: [...watch.samples],
    calls: load.calls,
    verdicts,
    faults,
  };
}

/** Sets `serving` to what it was and brings the cluster there; what is left to do, in words. */
async function wayBack(options: DrillOptions, initial: Serving, restore: () => void): Promise<string[]> {
  restore();
  const next = `serving is ${initial} again. Next: npm run sandbox, which hands the cluster over to it`;
  if (options.interrupted()) return [`the cluster may not be where it was; ${next}`];
  const what = `back to ${initial}`;
  options.say(what);
  const problem = await bringUp((line) => options.say(what, line.trim()));
  return problem ? [`the way back to ${initial} failed too (${problem}); ${next}`] : [];
}
