/** `drill`: the round trip of `serving` under load, as an operator would make it, with a report to look at. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { drillRows } from "../drill/figures";
import { drillPage } from "../drill/page";
import { type Drill, drillJson } from "../drill/record";
import { runDrill } from "../drill/run";
import { writeAtomically } from "../world/files";
import { sandboxDir } from "../world/paths";
import { type Arguments, type Command, wholeNumberFlag } from "./command";
import { Progress, type Task } from "./progress";
import { colours, table } from "./text";

/** Practises handovers. */
export const drill: Command = {
  name: "drill",
  summary: "Practise handovers: the round trip of `serving` under load, every call counted, with a report to look at",
  usage: "[--rounds <n>] [--once]",
  help: `
  --rounds <n>    how often the round trip is made: both, region2, both, region1, both (default 1)
  --once          a shorter one: both, region2, both
  --clients <n>   how many clients call all the time, through both regions' ingress (default 8)
  --accounts <n>  how many accounts of the practice service they call (default 64)

Each handover is a change of restate:serving in the sandbox's project (the clone's Pulumi.yaml stays as it is) and
npm run up. At the end serving and the cluster are as they were. The report, a page that opens from a file and the same as
JSON, is in .sandbox/drills/. Exit code 0: every handover was done, and every acknowledged call is in the state exactly once.
An interrupt lets the handover that is under way end, and begins no other.`,
  options: {
    rounds: { type: "string" },
    once: { type: "boolean" },
    clients: { type: "string" },
    accounts: { type: "string" },
  },
  async run(args) {
    const asked = drillArguments(args.flags);
    let interrupted = false;
    const interrupt = () => {
      interrupted = true;
    };
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, interrupt);
    const view = tasks(new Progress());
    let done: Drill;
    try {
      done = await runDrill({ ...asked, say: view.say, interrupted: () => interrupted });
      view.end(true);
    } catch (error) {
      view.end(false);
      throw error;
    } finally {
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, interrupt);
    }
    const files = writeReport(done);
    if (args.json) {
      const { run, handovers, faults } = done;
      console.log(
        JSON.stringify(
          { run, passed: faults.length === 0, faults, ...files, figures: drillRows(done), handovers },
          null,
          2,
        ),
      );
    } else console.log(reportText(done, files));
    return done.faults.length === 0 ? 0 : 1;
  },
};

/** What the drill is to be like, from the flags. Pure. */
export function drillArguments(flags: Arguments["flags"]): {
  rounds: number;
  once: boolean;
  clients: number;
  accounts: number;
} {
  const number = (name: string, fallback: number, most: number) => wholeNumberFlag(drill, flags, name, fallback, most);
  return {
    rounds: number("rounds", 1, 100),
    once: flags.once === true,
    clients: number("clients", 8, 1_000),
    accounts: number("accounts", 64, 10_000),
  };
}

/** One task after the other on a view of progress. */
function tasks(progress: Progress): { say: (what: string, detail?: string) => void; end: (well: boolean) => void } {
  let name = "";
  let task: Task | undefined;
  return {
    say(what, detail) {
      if (what !== name) {
        task?.done();
        task = progress.task(what);
        name = what;
      }
      if (detail) task?.update(detail);
    },
    end(well) {
      if (well) task?.done();
      else task?.fail();
      progress.close();
    },
  };
}

/** Where a drill's report is. */
interface ReportFiles {
  html: string;
  json: string;
}

function writeReport(done: Drill): ReportFiles {
  const time = new Date(done.began).toISOString().slice(0, 19).replaceAll(":", "-");
  const folder = join(sandboxDir, "drills", time);
  mkdirSync(folder, { recursive: true });
  const files = { html: join(folder, "drill.html"), json: join(folder, "drill.json") };
  writeAtomically(files.html, drillPage(done), 0o644);
  writeAtomically(files.json, drillJson(done), 0o644);
  return files;
}

/** The figures and the verdict as text. */
function reportText(done: Drill, files: ReportFiles): string {
  const paint = colours(process.stdout);
  const ms = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  const rows = drillRows(done).map(({ name, seconds, steps, problem, figures, unanswered, lost, doubled }) => [
    name,
    problem ? paint.red("not done") : seconds === undefined ? "" : `${seconds.toFixed(1)} s`,
    steps === undefined ? "" : String(steps),
    String(figures.calls),
    ms(figures.p50),
    ms(figures.p99),
    ms(figures.slowest),
    ms(figures.longestSilence),
    String(figures.retried),
    String(unanswered),
    `${lost}/${doubled}`,
  ]);
  const header = [
    "HANDOVER",
    "TOOK",
    "STEPS",
    "CALLS",
    "P50",
    "P99",
    "SLOWEST",
    "LONGEST SILENCE",
    "SENT AGAIN",
    "NO ANSWER",
    "LOST/DOUBLED",
  ];
  const acknowledged = Math.max(0, ...Object.values(done.verdicts).map((verdict) => verdict.acknowledged));
  const verdict =
    done.faults.length > 0
      ? done.faults.map((fault) => `${paint.red("✗")} ${fault}`)
      : [
          paint.green(
            `✓ every handover was done, and each of ${acknowledged} acknowledged calls is in the state exactly once`,
          ),
        ];
  return [table(header, rows), "", ...verdict, "", `${pathToFileURL(files.html)}`, files.json].join("\n");
}
