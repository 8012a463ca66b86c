/** What the machine itself has. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Path of a program on PATH, or undefined; folders in `except` do not count. */
export function findOnPath(program: string, except: string[] = []): string | undefined {
  const excluded = new Set(except.map(real));
  return (process.env.PATH ?? "")
    .split(delimiter)
    .filter((folder) => folder && !excluded.has(real(folder)))
    .map((folder) => join(folder, program))
    .find(isProgram);
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Standard output of a program, or undefined if it fails. */
export function outputOf(program: string, args: string[]): string | undefined {
  const result = spawnSync(program, args, { encoding: "utf8", timeout: 20_000 });
  return result.status === 0 ? result.stdout : undefined;
}
