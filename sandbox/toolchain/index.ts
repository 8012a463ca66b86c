/** The sandbox's toolchain: builds or installs what the sandbox runs, and tells where it is. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { ensureEntry, findEntry, pruneCache } from "./cache";
import { CommandError } from "./command";
import { findOnPath, outputOf } from "./host";
import { checkPrerequisites, type Missing, requirePrerequisites } from "./prerequisites";
import type { Progress } from "./progress";
import {
  binDir,
  chooseEngine,
  fillPulumiHome,
  installOfficialPlugins,
  officialPlugin,
  placeLink,
  pluginNames,
} from "./pulumi";
import { npmVersion, type Source } from "./recipes";
import {
  defaultRestate,
  onDemand,
  placeOf,
  type RestateVersion,
  restatePath,
  restateSource,
  restateVersions,
  type ToolName,
  toolNames,
} from "./tools";

export { leadingElsewhere, ownEnvironment, replacedVariable, withoutProxy } from "./caller";
export { describeMissing, type Missing } from "./prerequisites";
export { noProgress, type Progress, streamProgress } from "./progress";
export { pulumiEnv } from "./pulumi";
export { restateVersions, type ToolName, toolNames } from "./tools";

/** Where a tool comes from: Pulumi's own release, the machine, or built or installed by this toolchain. */
type ToolOrigin = "official" | "machine" | "built" | "npm" | "PyPI" | "bundled";

/** What is known of a tool. */
export interface ToolRow {
  tool: string;
  version: string;
  source: ToolOrigin;
  /** Undefined if it is not there yet. */
  path: string | undefined;
}

/** The tool of the machine that is used instead of ours; undefined if ours is. */
function machineTool(tool: ToolName): { path: string; source: ToolOrigin } | undefined {
  switch (tool) {
    case "pulumi": {
      const { engine } = chooseEngine();
      return engine && { path: engine.path, source: "official" };
    }
    case "kubernetes-plugin": {
      const path = officialPlugin("kubernetes");
      return path ? { path, source: "official" } : undefined;
    }
    case "jq":
    case "aws":
    case "shellcheck":
    case "actionlint":
    case "zizmor":
    case "promtool":
      return machineProgram(tool);
    case "kubectl":
    case "helm":
      // The npm package that holds them has x64 binaries only.
      return process.arch === "x64" ? undefined : machineProgram(tool);
    default:
      return undefined;
  }
}

function machineProgram(name: string): { path: string; source: ToolOrigin } | undefined {
  const path = findOnPath(name, [binDir]);
  return path ? { path, source: "machine" } : undefined;
}

/** Says how to go on after a failure. */
function explain(title: string, error: unknown): Error {
  if (!(error instanceof CommandError)) return error as Error;
  return new Error(
    `${title} failed.\n  ${error.message}\n` +
      "  Run the same command again: what is compiled or downloaded already is kept. If it fails again, see whether\n" +
      "  the Go, npm and PyPI registries can be reached from here, and whether the disk is full.",
  );
}

async function ensureSource(source: Source, progress: Progress): Promise<void> {
  const recipe = source.recipe();
  try {
    await ensureEntry(recipe, progress);
  } catch (error) {
    throw explain(recipe.title, error);
  }
}

/** The tools that are meant. */
function namesOf(tools: readonly ToolName[] | "all"): readonly ToolName[] {
  return tools === "all" ? toolNames.filter((name) => !onDemand.includes(name)) : tools;
}

/** The cache entries that are still to be made for tools. */
function lackingSources(tools: readonly ToolName[] | "all"): Source[] {
  return namesOf(tools)
    .filter((tool) => !machineTool(tool))
    .map((tool) => placeOf(tool).source)
    .filter((source) => !findEntry(source));
}

/** All that is missing on this machine to run the sandbox, and to make the tools that are not there yet. */
export function missingPrerequisites(tools: readonly ToolName[] | "all" = "all"): Missing[] {
  return checkPrerequisites(["run", ...lackingSources(tools).map(({ needs }) => needs)]);
}

/**
 * Makes tools available; "all" means those that every sandbox needs. Builds and installs what is not in the user's
 * cache yet, one after the other. Two processes can do so at once: the second waits for the first.
 */
export async function ensureToolchain(tools: readonly ToolName[] | "all", progress: Progress): Promise<void> {
  if (namesOf(tools).includes("kubernetes-plugin")) await installOfficialPlugins(progress);
  const lacking = lackingSources(tools);
  requirePrerequisites(lacking.map(({ needs }) => needs));
  for (const source of lacking) await ensureSource(source, progress);
  await pruneCache();
}

/** Makes one version of Restate available. */
export async function ensureRestate(version: string, progress: Progress): Promise<void> {
  const source = restateSource(restateVersion(version));
  if (findEntry(source)) return;
  requirePrerequisites([source.needs]);
  await ensureSource(source, progress);
}

function restateVersion(version: string): RestateVersion {
  const known = restateVersions.find((v) => v === version);
  if (known) return known;
  throw new Error(
    `the sandbox has no Restate ${version}: set restate:restateVersion to one of ${restateVersions.join(", ")}`,
  );
}

/** Path of a tool; an error if it is not there yet. */
export function toolPath(tool: ToolName): string {
  const path = findTool(tool);
  if (path) return path;
  throw new Error(`the tool ${tool} is not there yet: type npm run sandbox -- up`);
}

function findTool(tool: ToolName): string | undefined {
  const ofMachine = machineTool(tool);
  if (ofMachine) return ofMachine.path;
  const { source, file } = placeOf(tool);
  const entry = findEntry(source);
  return entry && join(entry, file);
}

/** A container image that the sandbox's nodes can run: files of this machine, by their path in the image. */
export interface ProgramImage {
  image: string;
  files: Record<string, string>;
  entrypoint: string[];
}

/** The image of one version of Restate, for the nodes' image table. */
export function restateImage(version: string): ProgramImage {
  const entry = findEntry(restateSource(restateVersion(version)));
  if (!entry) throw new Error(`Restate ${version} is not there yet: type npm run sandbox -- up`);
  const binaries = ["restate-server", "restatectl"] as const;
  return {
    image: `docker.io/restatedev/restate:${version}`,
    files: {
      ...Object.fromEntries(binaries.map((name) => [`/usr/local/bin/${name}`, restatePath(entry, name)])),
      // The real image has jq, too. Where the machine has it, containers see that one.
      ...(machineTool("jq") ? {} : { "/usr/local/bin/jq": toolPath("jq") }),
    },
    entrypoint: ["/usr/local/bin/restate-server"],
  };
}

/** The images of several versions; makes them available first. */
export async function restateImages(versions: readonly string[], progress: Progress): Promise<ProgramImage[]> {
  for (const version of versions) await ensureRestate(version, progress);
  return versions.map(restateImage);
}

/** Programs that users of the sandbox find on their PATH. */
const onPath = ["pulumi", "kubectl", "helm", "restatectl", "restate-server", "jq", "aws"] as const;

/** Makes or refreshes a PULUMI_HOME and the folder of programs that `pulumiEnv` puts on PATH. */
export async function preparePulumiHome(home: string): Promise<void> {
  await fillPulumiHome(home, () => toolPath("kubernetes-plugin"));
  for (const tool of onPath) {
    const path = findTool(tool);
    const link = join(binDir, tool);
    // What the machine has is on PATH already.
    if (path && !machineTool(tool)) placeLink(link, path);
    else rmSync(link, { force: true });
  }
}

/** Which tools are used, in which version, and where they come from. */
export function describeToolchain(): ToolRow[] {
  const rows: ToolRow[] = toolNames.map((tool) => {
    const ofMachine = machineTool(tool);
    const path = findTool(tool);
    const source = ofMachine?.source ?? origins[placeOf(tool).source.needs];
    return { tool, version: path ? versionOf(tool, path) : "", source, path };
  });
  for (const name of pluginNames.filter((plugin) => plugin !== "kubernetes")) {
    const path = officialPlugin(name);
    const version = npmVersion(`@pulumi/${name}`);
    rows.push({ tool: `${name}-plugin`, version, source: path ? "official" : "bundled", path });
  }
  return rows;
}

const origins = { go: "built", npm: "npm", python: "PyPI" } as const;

/** Asks a tool for its version. */
function versionOf(tool: ToolName, path: string): string {
  const first = (args: string[]) => outputOf(path, args)?.match(/\d+\.\d+[\w.-]*/)?.[0] ?? "";
  switch (tool) {
    case "kubernetes-plugin":
      return npmVersion("@pulumi/kubernetes");
    case "restate-server":
    case "restatectl":
      return defaultRestate;
    case "pulumi":
      return first(["version"]);
    case "kubectl":
      return first(["version", "--client"]);
    case "helm":
      return first(["version", "--short"]);
    case "cluster":
      return first(["version"]);
    case "python":
      return first(["-c", "import moto; print(moto.__version__)"]);
    default:
      return first(["--version"]);
  }
}
