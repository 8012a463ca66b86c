/** Runs the programs that build and install tools; a failure tells the last lines of their output. */
import { spawn } from "node:child_process";

/** How a command is run. */
export interface CommandOptions {
  cwd?: string;
  /** The whole environment. */
  env?: NodeJS.ProcessEnv;
  /** Hears each line of output. */
  onLine?: (line: string) => void;
  /** Ends the command after so many milliseconds. */
  timeout?: number;
}

/** A command that ended badly. */
export class CommandError extends Error {
  constructor(
    readonly command: string[],
    readonly outcome: string,
    readonly tail: string[],
  ) {
    const output = tail.length > 0 ? `; the end of its output:\n${tail.map((line) => `    ${line}`).join("\n")}` : "";
    super(`${command.join(" ")}: ${outcome}${output}`);
  }
}

/** How many lines of output an error tells: npm says first what is wrong, and then 40 lines of usage. */
const tailLength = 50;

/** Runs a command to its end and returns its output; rejects with a {@link CommandError} unless it ends with 0. */
export function runCommand(command: string[], options: CommandOptions = {}): Promise<string> {
  const [file, ...args] = command as [string, ...string[]];
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: options.timeout,
    });
    const tail: string[] = [];
    let output = "";
    const hear = (line: string) => {
      if (!line.trim()) return;
      tail.push(line);
      if (tail.length > tailLength) tail.shift();
      options.onLine?.(line);
    };
    for (const stream of [child.stdout, child.stderr]) {
      let rest = "";
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        if (stream === child.stdout) output += text;
        const lines = (rest + text).split(/\r?\n/);
        rest = lines.pop() ?? "";
        for (const line of lines) hear(line);
      });
      stream.on("end", () => hear(rest));
    }
    child.once("error", (error) => reject(new CommandError(command, error.message, [])));
    child.once("close", (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new CommandError(command, signal ? `ended by ${signal}` : `exit code ${code}`, tail));
    });
  });
}

/** The environment for package managers: what `npm run` put there about this project would mislead an npm inside. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(npm_(package|lifecycle|config_local_prefix)|INIT_CWD)/.test(name),
    ),
  );
}
