/** `fault`: breaks things on purpose, and mends them. */
import { type Fault as AwsFault, awsControl, type CopierSettings } from "../aws/control";
import { networkControl } from "../network/control";
import { type CutTarget, targetText } from "../network/faults";
import { type PartAction, partActions, partControl } from "../world/control";
import { awsFaultText, gatherReport } from "../world/live-report";
import { regionNamed, regions, witnessRegion } from "../world/regions";
import { statusFromHost } from "../world/world";
import { type Arguments, type Command, UsageError } from "./command";

/** One kind of fault. */
interface Verb {
  usage: string;
  summary: string;
  arguments: { min: number; max: number };
  /** Does it; returns what was done, in words. */
  run(args: string[], flags: Arguments["flags"]): Promise<string>;
}

const awsEffects = [
  { verb: "fail", effect: "fail", summary: "AWS calls fail with an internal error" },
  { verb: "throttle", effect: "throttle", summary: "AWS calls are throttled, with the service's own error" },
  { verb: "hang", effect: "hang", summary: "AWS calls get no answer" },
  { verb: "slow", effect: "delay", summary: "AWS calls are answered late" },
] as const;

const summaries: Record<PartAction, string> = {
  start: "start a part that has ended",
  stop: "end a part in an orderly way, with what is bound to it",
  restart: "stop and start a part",
  kill: "end a part as a crash would (SIGKILL)",
  pause: "freeze a part: it keeps its connections and answers nothing (SIGSTOP)",
  resume: "let a frozen part go on",
};

const verbs: Record<string, Verb> = {
  cut: {
    usage: "<region> | <from> <to> | node <node> | aws <region>  [--reset]",
    summary: "packets of a region, of one direction, of a node, or to AWS vanish (--reset: connections are reset)",
    arguments: { min: 1, max: 2 },
    run: async (args, flags) => {
      const target = cutTarget(args);
      await networkControl.cut({ ...target, mode: flags.reset ? "reset" : "drop" });
      return `cut: ${targetText(target)}`;
    },
  },
  heal: {
    usage: "[<what was cut>]",
    summary: "mend one cut; without an argument every fault of network, AWS APIs and replication",
    arguments: { min: 0, max: 2 },
    run: async (args) => {
      if (args.length > 0) {
        const target = cutTarget(args);
        await networkControl.heal(target);
        return `healed: ${targetText(target)}`;
      }
      await Promise.all([
        networkControl.reset(),
        awsControl().clearFaults(),
        awsControl().setCopier({ paused: false, delayMs: 0, bytesPerSecond: null, hold: [] }),
      ]);
      return "healed: the network, the AWS APIs, the copier";
    },
  },
  latency: {
    usage: "<region> <region> <milliseconds>",
    summary: "one-way delay between two regions, for open connections too; 0 removes it",
    arguments: { min: 3, max: 3 },
    run: async ([a, b, ms]) => {
      await networkControl.setLatency({ between: [regionArgument(a!), regionArgument(b!)], ms: wholeNumber(ms!) });
      return `${ms} ms each way between ${a} and ${b}`;
    },
  },
  "dns-delay": {
    usage: "<milliseconds>",
    summary: "time until a changed host name is seen",
    arguments: { min: 1, max: 1 },
    run: async ([ms]) => {
      await networkControl.setDnsDelay(wholeNumber(ms!));
      return `changed host names are seen after ${ms} ms`;
    },
  },
  ...Object.fromEntries(
    awsEffects.map(({ verb, effect, summary }): [string, Verb] => [
      verb,
      {
        usage: `<service>|all [<action>]${effect === "delay" ? " --ms <n>" : ""} [--region …] [--caller …] [--resource …] [--share 0…1] [--seconds <n>]`,
        summary,
        arguments: { min: 1, max: 2 },
        run: async ([service, action], flags) => {
          const met = awsFault(effect, service!, action, flags);
          const id = await awsControl().addFault(met);
          return `fault ${id}: ${awsFaultText(met)}`;
        },
      },
    ]),
  ),
  unfault: {
    usage: "[<number>]",
    summary: "end one fault of the AWS APIs; without a number all of them",
    arguments: { min: 0, max: 1 },
    run: async ([id]) => {
      await awsControl().clearFaults(id === undefined ? undefined : wholeNumber(id));
      return id === undefined ? "ended: every fault of the AWS APIs" : `ended: fault ${id}`;
    },
  },
  copier: {
    usage: "pause | resume | slow [--ms <n>] [--rate <bytes per second>] | retry",
    summary: "S3 replication: pause it, let each object wait, limit its rate, copy what failed",
    arguments: { min: 1, max: 1 },
    run: async ([what], flags) => {
      const aws = awsControl();
      if (what === "retry") return `waiting again: ${await aws.retryFailed()} objects`;
      const settings = copierSettings(what!, flags);
      await aws.setCopier(settings);
      return `copier: ${what}`;
    },
  },
  ...Object.fromEntries(
    partActions.map((action): [string, Verb] => [
      action,
      {
        usage: "<part>",
        summary: summaries[action],
        arguments: { min: 1, max: 1 },
        run: async ([part]) => {
          await partControl(part!, action);
          return `${action}: ${part}`;
        },
      },
    ]),
  ),
};

/** Breaks and mends. */
export const fault: Command = {
  name: "fault",
  summary: "Break things on purpose: cut, slow, kill, pause; and mend them",
  usage: "list | <kind> <arguments>",
  help: [
    "  list",
    "      what is broken now",
    ...Object.entries(verbs).map(([name, verb]) => `  ${name} ${verb.usage}\n      ${verb.summary}`),
    "",
    "Parts are those that `status` lists. What was killed or stopped comes back with `up` or `fault start`.",
  ].join("\n"),
  options: {
    reset: { type: "boolean" },
    region: { type: "string" },
    caller: { type: "string" },
    resource: { type: "string" },
    share: { type: "string" },
    seconds: { type: "string" },
    ms: { type: "string" },
    rate: { type: "string" },
  },
  positionals: { min: 1, max: 5 },
  async run(args) {
    const [name, ...rest] = args.positionals as [string, ...string[]];
    if (name === "list") return list(args.json);
    const verb = verbs[name];
    if (!verb) throw new UsageError(`no fault ${name}: there are list, ${Object.keys(verbs).join(", ")}`, fault);
    if (rest.length < verb.arguments.min || rest.length > verb.arguments.max) {
      throw new UsageError(`fault ${name} takes ${verb.usage}`, fault);
    }
    const done = await verb.run(rest, args.flags);
    console.log(args.json ? JSON.stringify({ done }) : done);
    return 0;
  },
};

async function list(json: boolean): Promise<number> {
  const status = await statusFromHost();
  if (!status) throw new Error("the sandbox is not running. Next: npm run sandbox -- up");
  const { faults, unanswered } = await gatherReport(status);
  for (const part of status.parts) {
    if (part.state === "paused") {
      faults.push({ what: `${part.name} is paused`, heal: `npm run sandbox -- fault resume ${part.name}` });
    } else if (part.state === "dead" || (part.state === "stopped" && part.group === "main")) {
      faults.push({ what: `${part.name} is ${part.state}`, heal: "npm run sandbox -- up" });
    }
  }
  if (json) console.log(JSON.stringify({ faults, unanswered }, null, 2));
  else {
    for (const [who, why] of Object.entries(unanswered)) console.log(`${who} cannot be asked: ${why}`);
    console.log(faults.length === 0 ? "no faults" : faults.map((f) => `${f.what}\n    heal: ${f.heal}`).join("\n"));
  }
  return 0;
}

/** What a cut is about, from its words. Pure. */
export function cutTarget(args: readonly string[]): CutTarget {
  const [first, second] = args as [string, string | undefined];
  if (second === undefined) return { region: regionArgument(first) };
  if (first === "node") return { node: second };
  if (first === "aws") return { aws: regionArgument(second) };
  return { from: regionArgument(first), to: regionArgument(second) };
}

function regionArgument(name: string): string {
  const known = [...regions, witnessRegion].map((region) => region.name);
  if (!known.includes(name)) throw new UsageError(`no region ${name}: there are ${known.join(", ")}`, fault);
  return name;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,12}$/.test(text)) throw new UsageError(`${text} is not a whole number`, fault);
  return Number(text);
}

/** A fault of the AWS APIs, from its words and flags. Pure. */
export function awsFault(
  effect: AwsFault["effect"],
  service: string,
  action: string | undefined,
  flags: Arguments["flags"],
): AwsFault {
  const text = (name: string): string | undefined => flags[name] as string | undefined;
  const number = (name: string): number | undefined =>
    text(name) === undefined ? undefined : wholeNumber(text(name)!);
  const share = text("share");
  if (share !== undefined && !(Number(share) > 0 && Number(share) <= 1)) {
    throw new UsageError(`--share takes a number above 0 and up to 1, not ${share}`, fault);
  }
  if (effect === "delay" && text("ms") === undefined) throw new UsageError("slow needs --ms <milliseconds>", fault);
  const region = text("region");
  const found: AwsFault = {
    effect,
    service: service === "all" ? undefined : service,
    action,
    region: region === undefined ? undefined : regionNamed(regionArgument(region)).awsRegion,
    caller: text("caller"),
    resource: text("resource"),
    probability: share === undefined ? undefined : Number(share),
    seconds: number("seconds"),
    delayMs: effect === "delay" ? number("ms") : undefined,
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined)) as unknown as AwsFault;
}

/** Settings of the copier, from its words and flags. Pure. */
export function copierSettings(what: string, flags: Arguments["flags"]): Partial<CopierSettings> {
  if (what === "pause") return { paused: true };
  if (what === "resume") return { paused: false, delayMs: 0, bytesPerSecond: null };
  if (what !== "slow") throw new UsageError(`copier takes pause, resume, slow or retry, not ${what}`, fault);
  if (flags.ms === undefined && flags.rate === undefined) throw new UsageError("slow needs --ms or --rate", fault);
  return {
    ...(flags.ms === undefined ? {} : { delayMs: wholeNumber(String(flags.ms)) }),
    ...(flags.rate === undefined ? {} : { bytesPerSecond: wholeNumber(String(flags.rate)) }),
  };
}
