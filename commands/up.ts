/**
 * Brings both regions up, one after the other and never both at once, until neither has anything left to do.
 *
 *     npm run up -- [--yes] [--preview] [--stacks region1,region2] [--json]
 *
 * Works with whatever backend and credentials the environment gives, as `pulumi up` does.
 */
import { resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { type EngineEvent, LocalWorkspace, type Stack } from "@pulumi/pulumi/automation";
import { peerOutputsSchema } from "../outputs";
import { mostRuns, nextStack, type StackProgress } from "./order";

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
  runs: Run[];
  /** What each stack says that it still waits for. */
  pending: Record<string, string[]>;
  settled: boolean;
}

/** Where Pulumi.yaml is: here, unless the environment names another folder, as `pulumi --cwd` would. */
const projectFolder = process.env.PULUMI_OPTION_CWD ?? resolve(__dirname, "..");

/** Name and short type of a resource, as progress and errors show it. */
function resourceLabel(urn: string): string {
  const [, , type = "", name = ""] = urn.split("::");
  return `${name} (${type
    .split("$")
    .at(-1)
    ?.replace(/^kubernetes:|^aws:/, "")})`;
}

/** Turns the engine's events into lines of progress and a list of errors. */
function follow(
  stack: string,
  line: (text: string) => void,
): { onEvent: (event: EngineEvent) => void; errors: string[] } {
  const errors: string[] = [];
  const verbs: Record<string, string> = {
    create: "created",
    update: "updated",
    delete: "deleted",
    replace: "replaced",
    "create-replacement": "created in its place",
    "delete-replaced": "deleted the old",
  };
  return {
    errors,
    onEvent: (event) => {
      const pre = event.resourcePreEvent?.metadata;
      if (pre && pre.op !== "same" && verbs[pre.op] && !pre.type.startsWith("restate:")) {
        line(`${stack}  … ${pre.op} ${resourceLabel(pre.urn)}`);
      }
      const done = event.resOutputsEvent?.metadata;
      if (done && done.op !== "same" && verbs[done.op] && !done.type.startsWith("restate:")) {
        line(`${stack}  ✓ ${verbs[done.op]} ${resourceLabel(done.urn)}`);
      }
      const failed = event.resOpFailedEvent?.metadata;
      if (failed) errors.push(`${failed.op} of ${resourceLabel(failed.urn)} failed`);
      const diagnostic = event.diagnosticEvent;
      if (!diagnostic?.message) return;
      const text = diagnostic.message.replace(/<\{%[^%]*%\}>/g, "").trim();
      if (diagnostic.severity === "error") {
        errors.push(diagnostic.urn ? `${resourceLabel(diagnostic.urn)}: ${text}` : text);
      } else if (text !== "" && diagnostic.severity === "info" && !/selected nothing$|^Found \{/.test(text)) {
        line(`${stack}    ${text}`);
      }
    },
  };
}

/** The part of a stack's outputs that its peer builds from, as text to compare. */
async function exportedText(stack: Stack): Promise<string | undefined> {
  const outputs = await stack.outputs();
  const parsed = peerOutputsSchema.safeParse(
    Object.fromEntries(Object.entries(outputs).map(([key, { value }]) => [key, value])),
  );
  return parsed.success ? JSON.stringify(parsed.data) : undefined;
}

async function confirm(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
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
  const names = values.stacks.split(",").map((name) => name.trim());
  if (names.length !== 2 || names[0] === names[1] || names.includes("")) {
    throw new UsageError("--stacks needs two names, home region first, e.g. --stacks region1,region2");
  }
  if (!values.yes && !values.preview && !process.stdin.isTTY) {
    throw new UsageError("there is no terminal to ask on: add --yes, or --preview to look only");
  }

  const started = Date.now();
  const out = values.json ? process.stderr : process.stdout;
  const line = (text: string) => out.write(`${((Date.now() - started) / 1000).toFixed(1).padStart(6)}s  ${text}\n`);
  const stacks = new Map<string, Stack>();
  for (const name of names) stacks.set(name, await select(name));

  if (values.preview || !values.yes) {
    for (const [name, stack] of stacks) {
      line(`${name}: preview`);
      await stack.preview({ onOutput: (text) => void out.write(text) });
    }
    if (values.preview) return 0;
    if (!(await confirm("Bring both regions up?"))) return 1;
  }

  const progress: [StackProgress, StackProgress] = [
    { name: names[0]!, exported: await exportedText(stacks.get(names[0]!)!), sawPeer: undefined },
    { name: names[1]!, exported: await exportedText(stacks.get(names[1]!)!), sawPeer: undefined },
  ];
  const report: Report = { runs: [], pending: {}, settled: false };
  for (;;) {
    const next = nextStack(progress);
    if (!next) break;
    if (report.runs.length === mostRuns)
      throw new Error(
        `the stacks do not settle after ${mostRuns} runs; compare their outputs: pulumi stack output --stack ${names[0]}`,
      );
    const stack = stacks.get(next.name)!;
    const peer = progress[0] === next ? progress[1] : progress[0];
    const sawPeer = { exported: peer.exported };
    line(`${next.name}: up`);
    const run = await bringUp(next.name, stack, line);
    report.runs.push(run);
    if (run.result === "failed") break;
    next.exported = await exportedText(stack);
    next.sawPeer = sawPeer;
    report.pending[next.name] = ((await stack.outputs()).pending?.value as string[]) ?? [];
  }
  const failed = report.runs.find((run) => run.result === "failed");
  report.settled = !failed;
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else print(report, line);
  return failed ? 1 : 0;
}

class UsageError extends Error {}

async function select(name: string): Promise<Stack> {
  try {
    return await LocalWorkspace.selectStack({ stackName: name, workDir: projectFolder });
  } catch (error) {
    if (/no stack named/.test(String(error))) {
      throw new UsageError(`there is no stack ${name} in this backend. Make it: pulumi stack init ${name}`);
    }
    throw error;
  }
}

async function bringUp(name: string, stack: Stack, line: (text: string) => void): Promise<Run> {
  const begun = Date.now();
  const { onEvent, errors } = follow(name, line);
  const seconds = () => (Date.now() - begun) / 1000;
  try {
    const result = await stack.up({ onEvent, suppressProgress: true });
    const changes = (result.summary.resourceChanges ?? {}) as Record<string, number>;
    const changed = Object.entries(changes).some(([op, count]) => op !== "same" && count > 0);
    line(`${name}: ${changed ? "done" : "nothing to change"} in ${seconds().toFixed(1)} s`);
    return { stack: name, seconds: seconds(), result: changed ? "changed" : "unchanged", changes, errors };
  } catch (error) {
    if (errors.length === 0) errors.push(error instanceof Error ? error.message : String(error));
    return { stack: name, seconds: seconds(), result: "failed", changes: {}, errors };
  }
}

/** The report for people: what failed and what is pending first, then the runs. */
function print(report: Report, line: (text: string) => void): void {
  const counts = (changes: Record<string, number>) =>
    Object.entries(changes)
      .map(([op, count]) => `${count} ${op}`)
      .join(", ");
  console.log();
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

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    console.error(
      error instanceof UsageError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS")
        ? `${message}\n\n${usage}`
        : message,
    );
    process.exitCode = 2;
  },
);
