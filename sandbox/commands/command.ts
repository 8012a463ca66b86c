/** What a command of the sandbox is, and how its arguments are read. */
import { type ParseArgsConfig, parseArgs } from "node:util";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** Arguments of a command, as given. */
export interface Arguments {
  positionals: string[];
  /** Flags by name: present flags are true, options their value. */
  flags: Record<string, string | boolean | (string | boolean)[] | undefined>;
  json: boolean;
}

/** One command of `npm run sandbox -- <command>`. */
export interface Command {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** What follows the command's name, e.g. `<part|pod> [-f]`. */
  usage: string;
  /** More about it, for its own help: flags with their meaning, examples. */
  help: string;
  options?: Options;
  /** How many arguments without a dash it takes. */
  positionals?: { min: number; max: number };
  /** Does it. Returns the exit code. */
  run(args: Arguments): Promise<number>;
}

/** The way something was asked for is wrong: the usage is shown, the exit code is 2. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly command?: Command,
  ) {
    super(message);
  }
}

const common: Options = { json: { type: "boolean" }, help: { type: "boolean", short: "h" } };

/** Reads a command's arguments; `help` when its help was asked for. */
export function readArguments(command: Command, args: string[]): Arguments | "help" {
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args, options: { ...common, ...command.options }, allowPositionals: true, strict: true });
  } catch (error) {
    throw new UsageError((error as Error).message.split(". ")[0]!, command);
  }
  if (parsed.values.help) return "help";
  const { min, max } = command.positionals ?? { min: 0, max: 0 };
  if (parsed.positionals.length < min) throw new UsageError("an argument is missing", command);
  if (parsed.positionals.length > max) {
    throw new UsageError(`unexpected argument ${parsed.positionals[max]}`, command);
  }
  return { positionals: parsed.positionals, flags: parsed.values, json: parsed.values.json === true };
}

/** The value of a flag that takes a whole number from 1 to `most`; `fallback` where it is not given. */
export function wholeNumberFlag(
  command: Command,
  flags: Arguments["flags"],
  name: string,
  fallback: number,
  most: number,
): number {
  const text = flags[name] as string | undefined;
  if (text === undefined) return fallback;
  if (/^\d{1,6}$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text);
  throw new UsageError(`--${name} takes a whole number from 1 to ${most}, not ${text}`, command);
}

/** The usage line of a command. */
export function usageLine(command: Command): string {
  return `npm run sandbox -- ${`${command.name} ${command.usage}`.trim()}`;
}

/** A command's help. */
export function helpText(command: Command): string {
  const lines = [command.summary, "", `Usage: ${usageLine(command)}`];
  if (command.help) lines.push("", command.help.replace(/^\n+|\s+$/g, ""));
  lines.push("", "  --json       print the result as JSON", "  -h, --help   print this");
  return lines.join("\n");
}
