/**
 * The sandbox's own TypeScript programs as commands. `up` bundles each into one file, which starts several times as fast
 * as its source and needs half the memory; where there is no bundle, the source runs.
 */
import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { bundleProgram } from "../toolchain/pulumi";
import { projectDir, sandboxDir, typescript } from "./paths";

/** The programs that run for as long as the world does. */
export const programs = {
  supervisor: "sandbox/world/inside.ts",
  plan: "sandbox/world/composition.ts",
  hostPorts: "sandbox/world/host-ports.ts",
  traffic: "sandbox/network/traffic.ts",
  controllers: "sandbox/network/controllers.ts",
  aws: "sandbox/aws/main.ts",
} as const;

function bundleOf(program: string): string {
  return join(sandboxDir, "bundles", `${program.replace(/\.ts$/, "").replaceAll("/", "-")}.js`);
}

/** Puts the bundles of all programs into this sandbox; those whose sources have changed are made anew. */
export async function bundlePrograms(): Promise<void> {
  const define = { "process.env.RESTATE_SANDBOX_PROJECT": JSON.stringify(projectDir) };
  for (const program of Object.values(programs)) {
    await bundleProgram(join(projectDir, program), bundleOf(program), define);
  }
}

/** Path of a program in the form that starts fastest: its bundle, or its source. */
export function programFile(program: string): string {
  const bundle = bundleOf(program);
  return existsSync(bundle) ? bundle : join(projectDir, program);
}

/** The command that runs a program. */
export function programCommand(program: string): string[] {
  const file = programFile(program);
  return file.endsWith(".js") ? [process.execPath, file] : [process.execPath, ...typescript, file];
}

/** A command with the bundle in the source's place, where it runs one of the programs from its source. */
export function bundledCommand(command: readonly string[]): string[] {
  const [node, flag, loader, file, ...args] = command;
  if (node !== process.execPath || flag !== typescript[0] || loader !== typescript[1] || !file) return [...command];
  return [...programCommand(relative(projectDir, file)), ...args];
}
