/** A sandbox of the benchmarks' own, used through its commands; the clone's is left alone. */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { ownEnvironment } from "../toolchain";
import type { WorldStatus } from "../world/control";
import { presetStacks } from "../world/environment";
import { projectDir, typescript } from "../world/paths";
import { childrenTime, type Times } from "./figures";

/** Runs its commands in a folder of its own. */
export class BenchSandbox {
  readonly folder: string;

  /** `base` is a folder that the sandbox's is made in. `environment` comes on top of the user's. */
  constructor(
    base: string,
    private readonly environment: NodeJS.ProcessEnv = {},
  ) {
    this.folder = join(base, "sandbox");
  }

  /** Environment of every command. */
  get env(): NodeJS.ProcessEnv {
    return { ...ownEnvironment(), ...this.environment, RESTATE_SANDBOX_DIR: this.folder };
  }

  /** {@link presetStacks} of this sandbox. */
  setInBothStacks(key: string, value: unknown): void {
    presetStacks(join(this.folder, "project"), key, value);
  }

  /** Runs a command of the sandbox; returns its standard output. */
  command(...args: string[]): string {
    const result = spawnSync(process.execPath, [...typescript, "sandbox/cli.ts", ...args], {
      cwd: projectDir,
      env: this.env,
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024,
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (result.status !== 0) throw new Error(`sandbox ${args.join(" ")} failed`);
    return result.stdout;
  }

  /** Every part, as `status --json` has it. */
  status(): WorldStatus {
    return JSON.parse(this.command("status", "--json")) as WorldStatus;
  }

  /** Environment of an operator's tools for a region. */
  operatorEnvironment(region: string): NodeJS.ProcessEnv {
    const own = JSON.parse(this.command("env", region, "--json")) as Record<string, string>;
    return { ...this.env, ...own, PATH: `${own.PATH}:${process.env.PATH}` };
  }

  /** Stops everything and deletes its folder. */
  remove(): void {
    this.command("down", "--delete-state");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Runs a program through a shell that tells what it took; throws with all that it printed if it fails. */
export function timed(command: readonly string[], env: NodeJS.ProcessEnv, cwd: string): Times {
  const begun = process.hrtime.bigint();
  const script = '"$@" >&2; code=$?; times; exit $code';
  const result = spawnSync("sh", ["-c", script, "sh", ...command], { cwd, env, encoding: "utf8" });
  const wall = Number(process.hrtime.bigint() - begun) / 1e9;
  if (result.status !== 0) throw new Error(`${command.join(" ")}: exit code ${result.status}\n${result.stderr}`);
  return { wall, processor: childrenTime(result.stdout) };
}
