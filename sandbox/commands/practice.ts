/** `practice`: a real service on Restate in both regions, to call, to put under load, and to count. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { readState } from "../service/admin";
import { faultsOf, judgeCalls, type Verdict } from "../service/check";
import { deployService, portsOfRegions, type RegionPorts, removeService } from "../service/deploy";
import { type Figures, figuresByRegion, figuresOf } from "../service/figures";
import { startLoad } from "../service/load";
import { hostPortsOf } from "../world/access";
import { type Arguments, type Command, UsageError, wholeNumberFlag } from "./command";
import { Progress } from "./progress";
import { colours, table } from "./text";

/** Deploys the practice service, loads it, takes it away. */
export const practice: Command = {
  name: "practice",
  summary: "A real service on Restate in both regions: deploy it, put it under load, count its calls",
  usage: "[deploy | load | remove]",
  help: `
  deploy   the ledger: pods in both regions, registered with Restate; what is there already stays (the default)
  load     deploys it, has clients call it through both regions' ingress, and compares what they were told with the state
  remove   its pods; Restate keeps the ledger's state

  --seconds <n>      how long the load lasts (default 10)
  --clients <n>      how many clients call at the same time (default 8)
  --accounts <n>     how many accounts they call (default 16)
  --region <region>  call through this region's ingress only

A client keeps a call's idempotency key until it is answered, also when it asks the other region. Exit code 0: every
acknowledged call is in the state exactly once. Try it while something is broken: fault --help.`,
  options: {
    seconds: { type: "string" },
    clients: { type: "string" },
    accounts: { type: "string" },
    region: { type: "string" },
  },
  positionals: { min: 0, max: 1 },
  async run(args) {
    const [action = "deploy"] = args.positionals;
    if (action !== "deploy" && action !== "load" && action !== "remove") {
      throw new UsageError(`practice takes deploy, load or remove, not ${action}`, practice);
    }
    const asked = loadArguments(args.flags);
    if (action !== "load" && Object.keys(args.flags).some((flag) => flag in practice.options! && args.flags[flag])) {
      throw new UsageError(`only load takes options, not ${action}`, practice);
    }
    const { ports } = await hostPortsOf();
    const all = portsOfRegions(ports);
    const regions = all.filter(({ region }) => asked.region === undefined || region === asked.region);
    if (regions.length === 0) {
      const names = all.map(({ region }) => region).join(", ");
      throw new UsageError(`no region ${asked.region}: there are ${names}`, practice);
    }
    if (action === "remove") {
      await removeService();
      console.log(args.json ? JSON.stringify({ removed: true }) : "The practice service is gone.");
      return 0;
    }
    const progress = new Progress();
    const task = progress.task("practice service");
    const deployed = await deployService(ports, { say: (what) => task.update(what) })
      .then((result) => {
        task.done();
        return result;
      })
      .catch((error) => {
        task.fail();
        throw error;
      })
      .finally(() => progress.close());
    if (action === "load") return load(regions, asked, args.json);
    if (args.json) console.log(JSON.stringify({ ...deployed, regions }));
    else console.log(howToCall(regions, deployed.uri));
    return 0;
  },
};

interface LoadArguments {
  seconds: number;
  clients: number;
  accounts: number;
  region?: string;
}

/** What the load is to be like, from the flags. Pure. */
export function loadArguments(flags: Arguments["flags"]): LoadArguments {
  const number = (name: string, fallback: number, most: number) =>
    wholeNumberFlag(practice, flags, name, fallback, most);
  return {
    seconds: number("seconds", 10, 86_400),
    clients: number("clients", 8, 1_000),
    accounts: number("accounts", 16, 10_000),
    region: flags.region as string | undefined,
  };
}

/** What one can type next. Pure. */
function howToCall(regions: readonly RegionPorts[], uri: string): string {
  const lines = [
    `The ledger runs in ${regions.map(({ region }) => region).join(" and ")}; Restate calls it at ${uri}`,
    "",
    "Call it, through either region; a call that is sent again with its key gets the same answer and counts once:",
    ...regions.map(
      ({ ingress }, i) =>
        `  curl ${ingress}/ledger/alice/add -H 'idempotency-key: call-${i + 1}' -H 'content-type: application/json' ` +
        `-d '{"id": "call-${i + 1}", "amount": 5}'`,
    ),
    ...regions.map(({ ingress }) => `  curl ${ingress}/ledger/alice/read`),
    "",
    "What the state says of each call, and Restate's UI:",
    `  curl ${regions[0]!.admin}/query -H 'accept: application/json' -H 'content-type: application/json' -d \\`,
    `    '{"query": "select key, value_utf8 from state where service_name = '"'ledger'"'"}'`,
    ...regions.map(({ admin }) => `  ${admin}`),
    "",
    "Next: npm run sandbox -- practice load",
  ];
  return lines.join("\n");
}

async function load(regions: readonly RegionPorts[], asked: LoadArguments, json: boolean): Promise<number> {
  const run = `load-${randomBytes(4).toString("hex")}`;
  const accounts = Array.from({ length: asked.accounts }, (_, i) => `${run}-${i}`);
  const load = startLoad(run, { regions, clients: asked.clients, accounts, repeatShare: 0.05 });
  await sleep(asked.seconds * 1000);
  const calls = await load.stop();
  // The state as each region's nodes tell it: it must be the same.
  const verdicts: Record<string, Verdict> = {};
  for (const { region, admin } of regions) verdicts[region] = judgeCalls(calls, await readState(admin, `${run}-`));
  const faults = Object.entries(verdicts).flatMap(([region, verdict]) =>
    faultsOf(verdict).map((fault) => `as ${region} has it, ${fault}`),
  );
  const figures = { all: figuresOf(calls), ...figuresByRegion(calls) };
  if (json) console.log(JSON.stringify({ run, correct: faults.length === 0, faults, figures, verdicts }, null, 2));
  else console.log(reportText(figures, Object.values(verdicts)[0]!, faults));
  return faults.length === 0 ? 0 : 1;
}

/** The figures and the verdict as text. Pure. */
function reportText(figures: Record<string, Figures>, verdict: Verdict, faults: readonly string[]): string {
  const paint = colours(process.stdout);
  const ms = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
  const rows = Object.entries(figures).map(([name, one]) => [
    name,
    String(one.acknowledged),
    String(one.retried),
    one.perSecond.toFixed(0),
    ms(one.p50),
    ms(one.p99),
    ms(one.slowest),
    ms(one.longestSilence),
  ]);
  const header = ["INGRESS", "ANSWERED", "RETRIED", "PER SECOND", "P50", "P99", "SLOWEST", "LONGEST SILENCE"];
  const { open, acknowledged } = verdict;
  const unanswered = open.effective + open.ineffective;
  const last =
    faults.length > 0
      ? faults.map((fault) => `${paint.red("✗")} ${fault}`)
      : [paint.green(`✓ each of ${acknowledged} acknowledged calls is in the state exactly once`)];
  if (unanswered > 0) last.push(`${unanswered} calls got no answer; ${open.effective} of them took effect`);
  return [table(header, rows), "", ...last].join("\n");
}
