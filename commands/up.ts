/**
 * Brings both regions up, one after the other and never both at once, until neither has anything left to do.
 *
 *     npm run up -- [--yes] [--preview] [--stacks region1,region2] [--json]
 *
 * Works with whatever backend and credentials the environment gives, as `pulumi up` does. Exit code 0 if both regions
 * are up (or the preview went through), 1 if something failed or was declined, 2 if it could not begin: wrong flags, a
 * stack that does not exist.
 */
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import type { V1StatefulSet, V1StatefulSetList } from "@kubernetes/client-node";
import { ConcurrentUpdateError, type ConfigMap, type Stack } from "@pulumi/pulumi/automation";
import { within } from "../kubernetes/deadline";
import { peerOutputsSchema } from "../outputs";
import { clusterSettings, projectName } from "../settings";
import { mostRuns, nextStack, type StackProgress } from "./order";
import { follow } from "./progress";
import { lockedMessage, recover, withLock } from "./recovery";
import { awaitRollout, releaseType, rolloutLeft } from "./rollout";
import { openStack, plainOutputs, reasonOf, runCommand, twoStacks, UsageError } from "./stacks";

const usage = `npm run up -- [options]: pulumi up for both regions, in the right order, until nothing is left to do

  --yes         do not ask; needed where there is no terminal
  --preview     show what would change and stop
  --stacks A,B  the two stacks, home region first (default: region1,region2)
  --json        one JSON report on standard output; progress goes to standard error`;

/** What happened in one run of one stack. */
interface Run {
  stack: string;
  seconds: number;
  result: "changed" | "unchanged" | "failed";
  /** Resources by what was done to them, e.g. `{create: 4, same: 12}`. */
  changes: Record<string, number>;
  /** What failed, resource by resource. */
  errors: string[];
}

/** The report of the whole command. */
interface Report {
  /** What previews found, when they were asked for or shown before asking. */
  previews: { stack: string; changes: Record<string, number> }[];
  runs: Run[];
  /** What each stack still waits for now that both are settled; empty before that, since it would be out of date. */
  pending: Record<string, string[]>;
  settled: boolean;
  /** Why it ended before both were settled, where that is not an error of a run. */
  error?: string;
}

/** How far a stack has come, by its outputs. */
interface Progress extends StackProgress {
  /** Whether the cluster was provisioned when this stack was last brought up. */
  provisioned: boolean;
}

/** What a stack's outputs tell of its progress. */
async function exportedBy(stack: Stack): Promise<Pick<Progress, "exported" | "provisioned">> {
  const outputs = await plainOutputs(stack);
  const parsed = peerOutputsSchema.safeParse(outputs);
  return {
    exported: parsed.success ? JSON.stringify(parsed.data) : undefined,
    provisioned: outputs.provisioning !== undefined,
  };
}

async function confirm(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // The end of the input, or an interrupt, is a no; the question itself would then never be answered.
  const closed = new Promise<string>((done) => terminal.once("close", () => done("")));
  try {
    return /^y(es)?$/i.test((await Promise.race([terminal.question(`${question} [y/N] `), closed])).trim());
  } finally {
    terminal.close();
  }
}

/** Whether this command was told to end. */
let interrupted = false;

/** Aborted where Pulumi has to be told by this process that it is to end. */
const interruption = new AbortController();

/** Ends in good order when it is told to: Pulumi finishes what it has begun, and this process stays to tell how. */
function heedSignals(line: (text: string) => void): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      line("interrupted; Pulumi finishes what it has begun");
      interrupted = true;
      // A terminal interrupts Pulumi as well, and a second interrupt would make it stop at once.
      if (signal === "SIGTERM" || !process.stdin.isTTY) interruption.abort();
    });
  }
}

/** Runs the command; returns its exit code. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      yes: { type: "boolean", default: false },
      preview: { type: "boolean", default: false },
      stacks: { type: "string", default: "region1,region2" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const names = twoStacks(values.stacks);
  if (!values.yes && !values.preview && !process.stdin.isTTY) {
    throw new UsageError("there is no terminal to ask on: add --yes, or --preview to look only");
  }

  const started = Date.now();
  const out = values.json ? process.stderr : process.stdout;
  const line = (text: string) => out.write(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)}s  ${text}\n`);
  const report: Report = { previews: [], runs: [], pending: {}, settled: false };
  heedSignals(line);
  let code = 2;
  try {
    const stacks: [Stack, Stack] = [await openStack(names[0]), await openStack(names[1])];
    code = 1;
    await refuseConflicts(stacks);
    if (values.preview || !values.yes) await preview(stacks, report, line, out);
    if (values.preview) code = 0;
    else if (!values.yes && !(await confirm("Bring both regions up?")))
      report.error = "not confirmed; nothing was changed";
    else if (await settle(stacks, report, line)) code = 0;
  } catch (error) {
    report.error = reasonOf(error);
  }
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else print(report, line);
  if (report.error) console.error(report.error);
  return code;
}

/** Throws if the two stacks are configured for different clusters, with all settings in which they are. */
async function refuseConflicts(stacks: [Stack, Stack]): Promise<void> {
  const [one, other] = await Promise.all(stacks.map((stack) => stack.getAllConfig()));
  const keys = [...clusterSettings, "serving"].map((name) => `${projectName}:${name}`);
  const conflicts = keys.filter((key) => one![key]?.value !== other![key]?.value);
  if (conflicts.length === 0) return;
  const said = (config: ConfigMap, key: string, stack: Stack) => `${config[key]?.value ?? "not set"} in ${stack.name}`;
  throw new Error(
    [
      "the stacks disagree on settings of the cluster that they share; nothing was changed:",
      ...conflicts.map((key) => `  ${key} is ${said(one!, key, stacks[0])}, ${said(other!, key, stacks[1])}`),
      "Set them once, in Pulumi.yaml, and not in a stack's own file. Next:",
      ...conflicts.flatMap((key) => stacks.map(({ name }) => `  pulumi config rm ${key} --stack ${name}`)),
    ].join("\n"),
  );
}

/** Shows what an `up` of each stack would change. */
async function preview(
  stacks: readonly Stack[],
  report: Report,
  line: (text: string) => void,
  out: NodeJS.WritableStream,
): Promise<void> {
  for (const stack of stacks) {
    line(`${stack.name}: preview`);
    try {
      const { changeSummary } = await stack.preview({ onOutput: (text) => void out.write(text) });
      report.previews.push({ stack: stack.name, changes: changeSummary as Record<string, number> });
    } catch (error) {
      throw new Error(`the preview of ${stack.name} failed, nothing was changed. ${nextAfter(error, stack.name)}`);
    }
  }
}

/** What to do about a run of Pulumi that failed for a reason of its own. */
function nextAfter(error: unknown, stack: string): string {
  return error instanceof ConcurrentUpdateError ? lockedMessage(stack) : reasonOf(error);
}

/** Brings the stacks up until both are settled. Fills the report; false if a run failed. */
async function settle(stacks: [Stack, Stack], report: Report, line: (text: string) => void): Promise<boolean> {
  const progressOf = async (stack: Stack): Promise<Progress> => ({
    name: stack.name,
    ...(await exportedBy(stack)),
    sawPeer: undefined,
  });
  await recoverAll(stacks, line);
  const progress: [Progress, Progress] = [await progressOf(stacks[0]), await progressOf(stacks[1])];
  for (;;) {
    const next = nextStack(progress);
    if (!next) break;
    if (interrupted) throw new Error("interrupted; npm run up goes on where it stopped");
    if (report.runs.length === mostRuns) {
      throw new Error(
        `the stacks do not settle after ${mostRuns} runs; compare their outputs: ${stacks
          .map(({ name }) => `pulumi stack output --json --stack ${name}`)
          .join("; ")}`,
      );
    }
    const i = progress.indexOf(next) as 0 | 1;
    const sawPeer = { exported: progress[1 - i]!.exported };
    line(`${next.name}: up`);
    // Before the cluster is provisioned no pod is ready, and none is waited for.
    const provisioned = progress.some((one) => one.provisioned);
    const peer = sawPeer.exported && provisioned ? stacks[1 - i] : undefined;
    const run = await bringUp(stacks[i], { provisioned, peer }, line);
    report.runs.push(run);
    if (run.result === "failed") return false;
    progress[i] = { ...next, ...(await exportedBy(stacks[i])), sawPeer };
  }
  for (const stack of stacks) {
    report.pending[stack.name] = ((await plainOutputs(stack)).pending as string[] | undefined) ?? [];
  }
  report.settled = true;
  return true;
}

/** Makes both stacks ready for a run, whatever the last one left behind. */
async function recoverAll(stacks: readonly Stack[], line: (text: string) => void): Promise<void> {
  // Each to its end, also if the other fails.
  const ended = await Promise.allSettled(
    stacks.map((stack) => recover(stack, (text) => line(`${stack.name}: ${text}`))),
  );
  const failed = ended.find((one) => one.status === "rejected");
  if (failed) throw failed.reason;
}

/**
 * Brings one stack up. In a provisioned cluster it waits before that until no pods of the peer restart, whoever began it, and
 * afterwards until this region's have restarted.
 */
async function bringUp(
  stack: Stack,
  { provisioned, peer }: { provisioned: boolean; peer: Stack | undefined },
  line: (text: string) => void,
): Promise<Run> {
  const { name } = stack;
  const begun = Date.now();
  const { onEvent, errors, changes, updated } = follow(name, line);
  const ended = (result: Run["result"]): Run => {
    const seconds = (Date.now() - begun) / 1000;
    const word = { changed: "done", unchanged: "nothing to change", failed: "failed" }[result];
    line(`${name}: ${word} in ${seconds.toFixed(1)} s`);
    return { stack: name, seconds, result, changes, errors };
  };
  const say = (of: Stack) => (text: string) => line(`${of.name}    ${text}`);
  try {
    if (peer) await rolledOut(peer, say(peer), name);
    const options = { onEvent, suppressProgress: true, signal: interruption.signal };
    const { summary } = await withLock(
      name,
      (text) => line(`${name}: ${text}`),
      () => stack.up(options),
    );
    Object.assign(changes, summary.resourceChanges);
    if (provisioned && updated.has(releaseType)) await rolledOut(stack, say(stack));
    return ended(Object.entries(changes).some(([op, count]) => op !== "same" && count > 0) ? "changed" : "unchanged");
  } catch (error) {
    if (errors.length === 0) errors.push(nextAfter(error, name));
    return ended("failed");
  }
}

/**
 * Waits until no pods of a region restart because of a change. Where another stack waits for a region that was not touched, that
 * region may be lost: that it could not be asked is told, and so is how to go on without waiting.
 */
async function rolledOut(stack: Stack, say: (text: string) => void, waiting?: string): Promise<void> {
  // Loaded only here: they bring the AWS SDK with them, and every run would wait for that.
  const { accessOf, patience, settingsOf } = require("./regions") as typeof import("./regions");
  const { reader } = require("../kubernetes/reader") as typeof import("../kubernetes/reader");
  const settings = await settingsOf(stack);
  const { namespace } = settings;
  // Listed, not got: a region that was deleted with its cluster has none, and that is an answer.
  const path = `/apis/apps/v1/namespaces/${namespace}/statefulsets?fieldSelector=metadata.name%3Drestate`;
  let read: () => Promise<V1StatefulSet | undefined>;
  try {
    const ask = await reader(await within(patience, accessOf(settings)));
    read = async () => (await ask<V1StatefulSetList>(path, AbortSignal.timeout(patience))).items[0];
    if (waiting && rolloutLeft(await read())) say(`${waiting} waits; to go on at once: pulumi up --stack ${waiting}`);
  } catch (error) {
    if (!waiting) throw error;
    say(`whether pods restart there cannot be told: ${reasonOf(error)}`);
    return;
  }
  await awaitRollout({ read, stack: stack.name, namespace, say, interrupted: () => interrupted });
}

/** The report for people: the runs, then what failed or what is pending. */
function print(report: Report, line: (text: string) => void): void {
  const counts = (changes: Record<string, number>) =>
    Object.entries(changes)
      .map(([op, count]) => `${count} ${op}`)
      .join(", ");
  if (report.runs.length > 0) console.log();
  for (const run of report.runs) {
    console.log(
      `  ${run.stack.padEnd(12)} ${run.result.padEnd(10)} ${run.seconds.toFixed(1).padStart(6)} s  ${counts(run.changes)}`,
    );
  }
  for (const run of report.runs.filter((one) => one.result === "failed")) {
    console.log(`\n${run.stack} failed:`);
    for (const error of run.errors) console.log(`  ${error.replaceAll("\n", "\n  ")}`);
    console.log("\nMend that and run npm run up again: it goes on where it stopped.");
  }
  for (const [stack, pending] of Object.entries(report.pending)) {
    for (const one of pending) console.log(`  pending in ${stack}: ${one}`);
  }
  if (report.settled) {
    console.log();
    line("both regions are up. Next: npm run status");
  }
}

runCommand(usage, main);
