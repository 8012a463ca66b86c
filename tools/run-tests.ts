/**
 * `npm test`: runs the checks and all test files, several at a time, and says at the end which of them failed.
 *
 *     node --require ./tools/typescript.cjs tools/run-tests.ts [--jobs N] [e2e|sandbox|check|unit|FILE...]
 *
 * A test file is a process of its own. Tests that took more than a second are told as they end, and each file
 * has a line at its end, with all that it printed if it failed. What failed is told once more at the very end, by its name.
 * One that leaves a process behind that holds its output has failed. Exit code 0 if all passed, 1 if not, 2 for wrong arguments.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setPriority } from "node:os";
import { join, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ensureToolchain, ownEnvironment, streamProgress } from "../sandbox/toolchain";
import { projectDir, typescript } from "../sandbox/world/paths";
import { processTable } from "../sandbox/world/processes";

/** Folders of each suite's test files. Those that take longest come first, so that short ones fill the gaps at the end. */
const folders = { e2e: ["test/e2e"], sandbox: ["test/sandbox"], unit: ["test/policies", "test/unit"] } as const;

/** What is asked for when nothing is named. The checks begin with the first, and a file of the last suite that mostly waits. */
const everything = ["e2e", "check", "test/unit/handover-script.test.ts", "sandbox", "unit"];

/** One process: a test file, or the checks. */
interface Job {
  name: string;
  command: string[];
}

/** How a job ended. */
interface Ended {
  job: Job;
  failed: boolean;
  output: string;
}

/** Faulty arguments. */
class UsageError extends Error {}

// What a test left open, such as a connection that nobody answers any more, does not keep its file's process alive for ever.
const flags = ["--test-force-exit", "--test-reporter=spec"];

function testFile(path: string): Job {
  if (!existsSync(path)) throw new UsageError(`there is no file ${path}`);
  const name = relative(projectDir, resolve(path));
  return { name, command: [process.execPath, ...typescript, ...flags, path] };
}

/** The jobs that a word of the command line stands for. */
function jobsOf(word: string): Job[] {
  if (word === "check") return [{ name: "check", command: ["npm", "run", "--silent", "check"] }];
  if (!(word in folders)) return [testFile(word)];
  return folders[word as keyof typeof folders].flatMap((folder) =>
    readdirSync(join(projectDir, folder))
      .filter((file) => file.endsWith(".test.ts"))
      .sort()
      .map((file) => testFile(join(projectDir, folder, file))),
  );
}

const begin = Date.now();
const clock = (since = begin) => `${((Date.now() - since) / 1000).toFixed(1)} s`;
const say = (text: string) => void process.stdout.write(`${clock().padStart(8)}  ${text}\n`);

/** What a process has open as its output and its errors, in the words of /proc. */
function outputOf(pid: number | undefined): string[] {
  return [1, 2].flatMap((file) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${file}`)];
    } catch {
      return []; // It has ended, or is another user's.
    }
  });
}

/** The processes that write to one of these outputs: process id and command line. */
function holders(output: readonly string[]): string[] {
  return processTable().flatMap(({ pid }) => {
    if (!outputOf(pid).some((file) => output.includes(file))) return [];
    try {
      return [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 200)}`];
    } catch {
      return []; // It has ended since.
    }
  });
}

/** Runs a job to its end. */
function run(job: Job, running: Set<ChildProcess>): Promise<Ended> {
  const started = Date.now();
  const child = spawn(job.command[0]!, job.command.slice(1), {
    cwd: projectDir,
    // Also in a shell that works with the sandbox, or with an account of its own.
    env: ownEnvironment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.add(child);
  // How long everything takes is how long the longest file takes: the others give way to it.
  if (child.pid !== undefined && !job.name.startsWith("test/e2e/")) setPriority(child.pid, 5);
  const lines: string[] = [];
  let summary = false;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      // After its counts the reporter repeats what failed.
      summary ||= /^ℹ tests \d/.test(line);
      const [, title, milliseconds] = /^\s*(\S .+) \(([\d.]+)ms\)/.exec(line) ?? [];
      if (!summary && Number(milliseconds) > 1000) {
        say(`${job.name}: ${title} (${(Number(milliseconds) / 1000).toFixed(1)} s)`);
      }
    });
  }
  return new Promise((done) => {
    const end = (failed: boolean) => {
      running.delete(child);
      const output = lines.join("\n");
      const count = /^ℹ tests (\d+)$/m.exec(output)?.[1];
      const passed = count ? `${count} tests passed` : "passed";
      say(`${job.name}: ${failed ? "FAILED" : passed} after ${clock(started)}`);
      if (failed) process.stdout.write(`${output}\n`);
      done({ job, failed, output });
    };
    child.on("error", (error) => {
      lines.push(error.message);
      end(true);
    });
    const output = outputOf(child.pid);
    let leftOpen = false;
    // What it left running keeps its output open, which would never close.
    child.on("exit", () => {
      const timer = setTimeout(() => {
        leftOpen = true;
        lines.push("It has ended, but these that it started have not, and hold its output:", ...holders(output));
        for (const stream of [child.stdout, child.stderr]) stream.destroy();
      }, 10_000);
      child.on("close", () => clearTimeout(timer));
    });
    child.on("close", (code) => end(code !== 0 || leftOpen));
  });
}

/** Runs all jobs, in their order, at most so many at a time. */
async function runAll(jobs: readonly Job[], atOnce: number): Promise<Ended[]> {
  const running = new Set<ChildProcess>();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      for (const child of running) child.kill(signal);
      process.kill(process.pid, signal);
    });
  }
  const left = [...jobs];
  const ended: Ended[] = [];
  const slot = async () => {
    for (let job = left.shift(); job; job = left.shift()) ended.push(await run(job, running));
  };
  await Promise.all(Array.from({ length: atOnce }, slot));
  return ended;
}

/** The part of an output that matters most: what the reporter says of tests that failed, or the last lines. */
function excerpt(output: string): string {
  const [, failures] = output.split("\n✖ failing tests:\n");
  const lines = (failures ?? output).trimEnd().split("\n");
  return (failures ? lines.slice(0, 40) : lines.slice(-40)).join("\n");
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { jobs: { type: "string" } }, allowPositionals: true });
  // On two cores one more than cores: worlds wait for half of the time.
  const atOnce = Number(values.jobs ?? 3);
  if (!Number.isInteger(atOnce) || atOnce < 1) throw new UsageError(`--jobs takes a number, not ${values.jobs}`);
  const words = positionals.length > 0 ? positionals : everything;
  // What is named twice runs once, where it comes first.
  const jobs = [...new Map(words.flatMap(jobsOf).map((job) => [job.name, job])).values()];
  // Minutes on a machine that has none of them yet: not in the time of a test.
  if (words.some((word) => word in folders && word !== "unit")) await ensureToolchain("all", streamProgress());

  const ended = await runAll(jobs, atOnce);
  const failed = ended.filter((one) => one.failed);
  for (const { job, output } of failed) console.log(`\n--- ${job.name} failed:\n${excerpt(output)}`);
  if (failed.length === 0) console.log(`\n${jobs.length} passed in ${clock()}`);
  else
    console.log(
      `\n${failed.length} of ${jobs.length} FAILED in ${clock()}: ${failed.map((one) => one.job.name).join(", ")}`,
    );
  return failed.length === 0 ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error instanceof UsageError ? `error: ${error.message}` : error);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  },
);
