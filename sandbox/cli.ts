/** The sandbox's command line: `npm run sandbox -- <command>`. */
import { type Command, helpText, readArguments, UsageError, usageLine } from "./commands/command";
import { down } from "./commands/down";
import { drill } from "./commands/drill";
import { env } from "./commands/env";
import { fault } from "./commands/fault";
import { logs } from "./commands/logs";
import { practice } from "./commands/practice";
import { shell } from "./commands/shell";
import { status } from "./commands/status";
import { colours } from "./commands/text";
import { up } from "./commands/up";
import { witness } from "./commands/witness";

const commands: readonly Command[] = [up, down, status, env, logs, shell, fault, practice, drill, witness];

function overview(): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  return [
    "The two-region world on this machine, no cloud account needed.",
    "",
    "Usage: npm run sandbox -- <command> [--json] [--help]",
    "Without a command: up.",
    "",
    ...commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`),
  ].join("\n");
}

/** Runs one command line; returns the exit code: 0 done, 1 failed, 2 asked for in the wrong way. */
export async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  const paint = colours(process.stderr);
  try {
    if (name === "--help" || name === "-h" || name === "help") {
      console.log(overview());
      return 0;
    }
    const command = name === undefined ? up : commands.find((c) => c.name === name);
    if (!command) throw new UsageError(`unknown command ${name}`);
    const args = readArguments(command, rest);
    if (args === "help") {
      console.log(helpText(command));
      return 0;
    }
    return await command.run(args);
  } catch (error) {
    if (error instanceof UsageError) {
      const usage = error.command ? `Usage: ${usageLine(error.command)}` : overview();
      console.error(`${paint.red("error:")} ${error.message}\n\n${usage}`);
      return 2;
    }
    const message = error instanceof Error ? error.message : String(error);
    console.error(`${paint.red("error:")} ${message}`);
    if (process.env.RESTATE_SANDBOX_TRACE && error instanceof Error) console.error(error.stack);
    return 1;
  }
}

if (require.main === module) {
  main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
  });
}
