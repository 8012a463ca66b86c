/** A world with its real parts in a folder of its own, through its commands, as a user has it; with the parts alone, without stacks. */
import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import type { WorldStatus } from "../../sandbox/world/control";
import { projectDir, typescript } from "../../sandbox/world/paths";
import type { Problem, WorldReport } from "../../sandbox/world/report";

/** What `status --json` prints. */
type Status = WorldStatus & { healthy: boolean; problems: Problem[]; report: WorldReport };

/** Folder that the sandbox is in. */
export const base = mkdtempSync(join(tmpdir(), "sandbox-real-"));
export const dir = join(base, "sandbox");
export const environment = { ...process.env, RESTATE_SANDBOX_DIR: dir };

/** Runs a program to its end. */
export function run(program: string, args: string[], env: NodeJS.ProcessEnv = environment): SpawnSyncReturns<string> {
  return spawnSync(program, args, { cwd: projectDir, env, encoding: "utf8", timeout: 900_000 });
}

/** `npm run sandbox -- …`, without npm. */
export function sandbox(...args: string[]): SpawnSyncReturns<string> {
  return run(process.execPath, [...typescript, "sandbox/cli.ts", ...args]);
}

/** The same, and fails if it fails; what it printed. */
export function done(...args: string[]): string {
  const result = sandbox(...args);
  assert.equal(result.status, 0, `${args.join(" ")}: ${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Runs a script in a shell that has evaluated what `env` prints; `before` is what that shell had set already. */
export function operator(region: string, script: string, before: Record<string, string> = {}): string {
  const full = `set -e; eval "$(${process.execPath} ${typescript.join(" ")} sandbox/cli.ts env ${region})"; ${script}`;
  const result = run("bash", ["--norc", "-c", full], { ...environment, ...before });
  assert.equal(result.status, 0, `${script}: ${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** What the world tells of itself now. */
export const status = (): Status => JSON.parse(sandbox("status", "--json").stdout) as Status;

/** One of its parts. */
export function part(name: string): WorldStatus["parts"][number] {
  const found = status().parts.find((p) => p.name === name);
  assert.ok(found, `no part ${name}`);
  return found;
}

/** Nothing is wrong with it. */
export function assertHealthy(): void {
  const result = sandbox("status");
  assert.equal(result.status, 0, result.stdout);
}

/** What tells a region's cluster from any other, also one that was made anew in its place. */
export const clusterId = (region: string): string =>
  operator(region, "kubectl get namespace kube-system -o jsonpath={.metadata.uid}");

/** For a suite: the world is up before it, and gone after it. */
export function withWorld(): void {
  before(() => {
    done("up", "--world-only");
  });
  after(() => {
    sandbox("down", "--delete-state");
    rmSync(base, { recursive: true, force: true });
  });
}
