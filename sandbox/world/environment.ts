/** The environment in which an operator's tools work with a region of the sandbox. */

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import { adminCredentials } from "../aws/credentials";
import { ownEnvironment, pulumiEnv, toolPath, withoutProxy } from "../toolchain";
import { hostKubeconfig, insideKubeconfig, knownPorts } from "./access";
import type { HostPortsStatus } from "./control";
import { writeAtomically } from "./files";
import { projectDir, sandboxDir, stateDir } from "./paths";
import { regions, type WorldRegion } from "./regions";
import { hostAwsEndpoint, insideAwsEndpoint, sandboxStackConfig, worldKeys } from "./stack-config";

/**
 * The Pulumi project as the sandbox sees it: links to the clone's program, beside stack files of the sandbox's own. So
 * every command of Pulumi reads and writes these, and the clone's stay as they are.
 */
export const stackFolder = join(sandboxDir, "project");

/** The stack configuration file of a region. */
function stackConfigFile(region: string, project = stackFolder): string {
  return join(project, `Pulumi.${region}.yaml`);
}

/** Makes the links of the project folder; what is there already stays. */
function linkProject(): void {
  mkdirSync(stackFolder, { recursive: true });
  for (const name of ["Pulumi.yaml", "package.json", "index.ts", "policies", "tools", "node_modules"]) {
    const link = join(stackFolder, name);
    rmSync(link, { force: true });
    symlinkSync(join(projectDir, name), link);
  }
}

/** Writes the stack configuration files of both regions. */
export async function writeStackConfigs({ ports }: HostPortsStatus): Promise<void> {
  // Loaded only here: it brings the AWS SDK with it, and every command would wait for that.
  const { seededWorld } = require("../aws/seed") as typeof import("../aws/seed");
  const { regions: seeded } = seededWorld();
  linkProject();
  for (const region of regions) {
    const config = sandboxStackConfig(region, seeded[region.name]!, ports, hostKubeconfig(region.name));
    // Pulumi keeps there what secrets are encrypted with: without it, those in the stack could not be read again.
    const merged = mergeStackFile(readStackFile(region.name), config);
    writeAtomically(stackConfigFile(region.name), stringify(merged));
  }
}

/** Content of a stack file, as far as it matters here. */
interface StackFile {
  /** What Pulumi encrypts the stack's secrets with. */
  encryptionsalt?: string;
  config?: Record<string, unknown>;
}

/** What a Pulumi.yaml sets for both stacks, unless their own files say otherwise. Pure. */
export function defaultIn(text: string, setting: string): unknown {
  return (parse(text) as { config: Record<string, { default?: unknown }> }).config[setting]?.default;
}

/** Sets something in the stack files of both regions before they are there: `up` keeps what is set in them. */
export function presetStacks(project: string, key: string, value: unknown): void {
  mkdirSync(project, { recursive: true });
  for (const { name } of regions)
    writeFileSync(stackConfigFile(name, project), stringify({ config: { [key]: value } }));
}

/** A region's stack file; empty where there is none. */
export function readStackFile(region: string, project = stackFolder): StackFile {
  const file = stackConfigFile(region, project);
  return existsSync(file) ? (parse(readFileSync(file, "utf8")) as StackFile) : {};
}

/**
 * A stack file for a world that has started again: what an operator has set in it stays, and what says where things are
 * in this world is as it is now. Pure.
 */
function mergeStackFile(before: StackFile, now: { config: Record<string, unknown> }): StackFile {
  const places = Object.entries(now.config).filter(([key]) => worldKeys.has(key));
  return { ...before, config: { ...now.config, ...before.config, ...Object.fromEntries(places) } };
}

/** Makes both stacks, empty, where they do not exist: each needs to be able to name the other. */
export async function ensureStacks(): Promise<void> {
  mkdirSync(pulumiBackend, { recursive: true });
  const projectFile = join(projectDir, "Pulumi.yaml");
  const project = parse(readFileSync(projectFile, "utf8")) as { name: string };
  const stacks = join(pulumiBackend, ".pulumi", "stacks", project.name);
  const missing = regions.filter(({ name }) => !existsSync(join(stacks, `${name}.json`)));
  if (missing.length === 0) return;
  for (const region of missing) {
    shareSalt(region.name);
    await run(toolPath("pulumi"), ["stack", "init", region.name, "--non-interactive"], {
      cwd: stackFolder,
      env: operatorProcess(region),
    });
  }
}

/** Gives a new stack the salt of the other: whoever reads both then derives one key, for which Pulumi takes its time. */
function shareSalt(region: string): void {
  const own = readStackFile(region);
  const salt = regions.map(({ name }) => readStackFile(name).encryptionsalt).find((one) => one !== undefined);
  if (own.encryptionsalt !== undefined || salt === undefined) return;
  writeAtomically(stackConfigFile(region), stringify({ ...own, encryptionsalt: salt }));
}

const run = promisify(execFile);

/** The PULUMI_HOME of this sandbox. */
export const pulumiHome = join(sandboxDir, "pulumi-home");

/** Folder of Pulumi's state backend. */
const pulumiBackend = join(stateDir, "pulumi");

/** Folder with the sandbox's tools, to be put on PATH. */
const toolsDir = join(sandboxDir, "bin");

/** Variables by name; PATH holds only the folder to be put before the others. */
export function operatorEnvironment(region: WorldRegion, where: "host" | "inside" = "host"): Record<string, string> {
  const shared = {
    PATH: toolsDir,
    AWS_ACCESS_KEY_ID: adminCredentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: adminCredentials.secretAccessKey,
    AWS_REGION: region.awsRegion,
    AWS_DEFAULT_REGION: region.awsRegion,
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_PAGER: "",
  };
  if (where === "inside") {
    return { ...shared, KUBECONFIG: insideKubeconfig(region.name), AWS_ENDPOINT_URL: insideAwsEndpoint };
  }
  const { PATH: _, ...pulumi } = pulumiEnv({
    backendDir: pulumiBackend,
    home: pulumiHome,
    projectFolder: stackFolder,
  });
  return {
    ...shared,
    KUBECONFIG: hostKubeconfig(region.name),
    AWS_ENDPOINT_URL: hostAwsEndpoint(knownPorts()),
    ...pulumi,
    PULUMI_STACK: region.name,
    ...withoutProxy(process.env),
  };
}

/** The whole environment of a process that works as an operator does, with none of the stacks preselected. */
export function operatorProcess(region: WorldRegion): NodeJS.ProcessEnv {
  const { PATH: tools, PULUMI_STACK: _, ...environment } = operatorEnvironment(region);
  return { ...ownEnvironment(), ...environment, PATH: `${tools}:${process.env.PATH}` };
}
