/** Running the project's commands and pulumi as an operator does: with the environment that `env` prints. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { operatorProcess } from "./environment";
import { projectDir, typescript } from "./paths";
import { regions } from "./regions";

/** How a command ended. */
export interface CommandEnd {
  code: number;
  /** What it printed, as far as that was kept. */
  stdout: string;
}

/** Where a command's output goes. */
export interface OutputOptions {
  /** Keep the standard output instead of passing it on. Default false. */
  keep?: boolean;
  /** Told of each line on standard error, which is otherwise passed on. */
  onLine?: (line: string) => void;
}

/** Runs a command for both stacks; none of them is preselected. Never rejects for an exit code. */
export function runAsOperator(command: readonly string[], options: OutputOptions = {}): Promise<CommandEnd> {
  const child = spawn(command[0]!, command.slice(1), {
    cwd: projectDir,
    env: operatorProcess(regions[0]!),
    stdio: ["ignore", options.keep ? "pipe" : "inherit", options.onLine ? "pipe" : "inherit"],
  });
  let stdout = "";
  child.stdout?.setEncoding("utf8").on("data", (data: string) => {
    stdout += data;
  });
  let rest = "";
  child.stderr?.setEncoding("utf8").on("data", (data: string) => {
    const lines = (rest + data).split("\n");
    rest = lines.pop()!;
    for (const line of lines) options.onLine?.(line);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, stdout }));
  });
}

/** `npm run up -- --yes` for both stacks, without npm. With `json` it prints one JSON report. */
export function runUp(json: boolean, options: OutputOptions = {}): Promise<CommandEnd> {
  const program = [process.execPath, ...typescript, join(projectDir, "commands", "up.ts"), "--yes"];
  return runAsOperator([...program, ...(json ? ["--json"] : [])], options);
}
