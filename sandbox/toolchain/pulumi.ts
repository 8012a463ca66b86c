/**
 * Which Pulumi the sandbox uses, and the PULUMI_HOME that it runs with. An official Pulumi and official plugins are used
 * where they are installed and new enough; what is missing is built, or stood in for by the plugins of `sandbox/plugins`.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { build } from "esbuild";
import { cacheDir, projectDir, sandboxDir } from "../world/paths";
import { ownEnvironment } from "./caller";
import { runCommand } from "./command";
import { findOnPath, outputOf } from "./host";
import type { Progress } from "./progress";
import { npmVersion } from "./recipes";

/** Oldest official engine that works with the SDK in package.json. */
const minimumEngine = "3.256.0";

/** Programs that a user of the sandbox finds first on PATH. */
export const binDir = join(sandboxDir, "bin");

/** Resource plugins that the stack needs; the npm package of each has the same version as the plugin. */
export const pluginNames = ["kubernetes", "aws", "random"] as const;

/** A resource plugin that the stack needs. */
export type PluginName = (typeof pluginNames)[number];

/** What may be used: whatever fits best, only what the sandbox builds, or only what Pulumi publishes. */
export type PulumiMode = "auto" | "built" | "official";

/** An official engine on PATH. */
export interface OfficialEngine {
  path: string;
  version: string;
  /** Whether the language host for Node.js lies next to it. */
  hasLanguageHost: boolean;
}

/** Reads RESTATE_SANDBOX_PULUMI. */
export function pulumiMode(value = process.env.RESTATE_SANDBOX_PULUMI): PulumiMode {
  if (value === undefined || value === "" || value === "auto") return "auto";
  if (value === "built" || value === "official") return value;
  throw new Error(`RESTATE_SANDBOX_PULUMI must be built, official or auto, not ${value}`);
}

/** Compares versions such as `3.256.0`: negative if the first is older. A pre-release counts as its release. */
export function compareVersions(a: string, b: string): number {
  const numbers = (version: string) => version.replace(/^v/, "").split(/[-+]/)[0]?.split(".").map(Number) ?? [];
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Decides between the engine on PATH and ours. Returns the reason why an engine that is there is not used. */
export function decideEngine(mode: PulumiMode, found: OfficialEngine | undefined): { official: boolean; why: string } {
  if (mode === "built") return { official: false, why: "RESTATE_SANDBOX_PULUMI=built" };
  const unfit = !found
    ? "no pulumi on PATH"
    : compareVersions(found.version, minimumEngine) < 0
      ? `pulumi ${found.version} on PATH is older than ${minimumEngine}`
      : !found.hasLanguageHost
        ? `pulumi ${found.version} on PATH has no pulumi-language-nodejs next to it`
        : undefined;
  if (!unfit) return { official: true, why: `pulumi ${found?.version} on PATH` };
  if (mode === "auto") return { official: false, why: unfit };
  throw new Error(
    `RESTATE_SANDBOX_PULUMI=official, but ${unfit}: install Pulumi ${minimumEngine} or newer, ` +
      "or unset the variable to have it built",
  );
}

let chosen: { engine: OfficialEngine | undefined; why: string } | undefined;

/** The official engine to use, if any, and why. Asked once per process. */
export function chooseEngine(): { engine: OfficialEngine | undefined; why: string } {
  if (chosen) return chosen;
  const mode = pulumiMode();
  const found = mode === "built" ? undefined : engineOnPath();
  const decision = decideEngine(mode, found);
  chosen = { engine: decision.official ? found : undefined, why: decision.why };
  return chosen;
}

function engineOnPath(): OfficialEngine | undefined {
  const path = findOnPath("pulumi", [binDir]);
  const version = path && outputOf(path, ["version"])?.trim().replace(/^v/, "");
  if (!path || !version) return undefined;
  const hasLanguageHost = existsSync(join(dirname(realpathSync(path)), "pulumi-language-nodejs"));
  return { path, version, hasLanguageHost };
}

/** Where official plugins may be: the user's own PULUMI_HOME, and the one that this toolchain installs into. */
function officialHomes(): string[] {
  const own = process.env.PULUMI_HOME;
  const isOurs = own !== undefined && existsSync(join(own, homeMarker));
  return [own && !isOurs ? own : join(homedir(), ".pulumi"), join(cacheDir, "pulumi-home")];
}

const pluginFolder = (name: PluginName) => `resource-${name}-v${npmVersion(`@pulumi/${name}`)}`;
const pluginBinary = (name: PluginName) => `pulumi-resource-${name}`;

/** Path of an official plugin of the wanted version, where one is installed and may be used. */
export function officialPlugin(name: PluginName): string | undefined {
  if (pulumiMode() === "built") return undefined;
  return officialHomes()
    .map((home) => join(home, "plugins", pluginFolder(name), pluginBinary(name)))
    .find((path) => existsSync(path));
}

/** How long `pulumi plugin install` may take before our own plugin is used instead, in milliseconds. */
const installTimeout = 180_000;

/** How long a failure to install plugins is remembered, in milliseconds: one day. */
const failureMemory = 24 * 60 * 60 * 1000;

/**
 * With an official engine: has it install the plugins that are missing, into the user's cache. Where that fails, the
 * sandbox's own plugins are used, and it is tried again a day later. With our engine: does nothing.
 */
export async function installOfficialPlugins(progress: Progress): Promise<void> {
  const { engine } = chooseEngine();
  const home = join(cacheDir, "pulumi-home");
  const failure = join(home, "install-failed");
  const mustSucceed = pulumiMode() === "official";
  const failed = statSync(failure, { throwIfNoEntry: false });
  if (!engine || (failed && !mustSucceed && Date.now() - failed.mtimeMs < failureMemory)) return;
  const env = { ...ownEnvironment(), PULUMI_HOME: home, PULUMI_SKIP_UPDATE_CHECK: "true" };
  for (const name of pluginNames.filter((plugin) => !officialPlugin(plugin))) {
    const version = npmVersion(`@pulumi/${name}`);
    try {
      await progress.task(`installing the official plugin ${name} ${version}`, (detail) =>
        runCommand([engine.path, "plugin", "install", "resource", name, version], {
          env,
          onLine: detail,
          timeout: installTimeout,
        }),
      );
    } catch (error) {
      if (mustSucceed) throw error;
      mkdirSync(home, { recursive: true });
      writeFileSync(failure, `${error}\n`);
      progress.say("official plugins cannot be installed here: the sandbox's own are used instead");
      return;
    }
  }
  rmSync(failure, { force: true });
}

/** Marks a folder as made by {@link preparePulumiHome}. */
const homeMarker = ".restate-sandbox";

/** The stand-ins for official plugins, by name: TypeScript programs in this repository. */
const standIns = { aws: "sandbox/plugins/aws/main.ts", random: "sandbox/plugins/random/main.ts" } as const;

/**
 * Makes or refreshes a PULUMI_HOME: the language host, and the plugins in the versions that package.json names.
 * `kubernetesPlugin` is the built plugin, used where there is no official one.
 */
export async function fillPulumiHome(home: string, kubernetesPlugin: () => string): Promise<void> {
  mkdirSync(join(home, "plugins"), { recursive: true });
  writeFileSync(join(home, homeMarker), "made by the sandbox; it is made again when it is needed\n");
  const sdk = npmVersion("@pulumi/pulumi");
  const host = join(home, "plugins", `language-nodejs-v${sdk}`, "pulumi-language-nodejs");
  if (chooseEngine().engine) rmSync(dirname(host), { recursive: true, force: true });
  else await placeProgram(home, host, "sandbox/toolchain/language-host/main.ts", { SDK_VERSION: JSON.stringify(sdk) });
  for (const name of pluginNames) {
    const target = join(home, "plugins", pluginFolder(name), pluginBinary(name));
    const official = officialPlugin(name);
    if (official) placeLink(target, official);
    else if (name === "kubernetes") placeLink(target, kubernetesPlugin());
    else await placeProgram(home, target, standIns[name], {});
  }
}

/** Puts a symbolic link in place, over whatever is there, in one step. */
export function placeLink(path: string, target: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const next = `${path}.${process.pid}.new`;
  rmSync(next, { force: true });
  symlinkSync(target, next);
  renameSync(next, path);
}

/** Writes a file in one step. */
function placeFile(path: string, content: string, mode: number): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isFile() && readFileSync(path, "utf8") === content) return;
  mkdirSync(dirname(path), { recursive: true });
  const next = `${path}.${process.pid}.new`;
  writeFileSync(next, content, { mode });
  renameSync(next, path);
}

/** Bundles a TypeScript program that the engine starts, which is faster to start than its source, and puts a script that runs it. */
async function placeProgram(home: string, path: string, source: string, define: Record<string, string>): Promise<void> {
  if (!existsSync(join(projectDir, source))) {
    throw new Error(`${source} is missing: it is the program behind ${relative(home, path)}`);
  }
  const bundle = join(home, "bundles", `${source.split("/").at(-2)}.js`);
  await bundleProgram(join(projectDir, source), bundle, define);
  placeFile(path, `#!/bin/sh\nENGINE_PROCESS=$PPID exec '${process.execPath}' '${bundle}' "$@"\n`, 0o755);
}

/**
 * Bundles a program and its packages into one file. Whatever has been bundled once, in any sandbox of this clone, is taken from
 * there as long as none of its sources changed.
 */
export async function bundleProgram(source: string, bundle: string, define: Record<string, string>): Promise<boolean> {
  const name = createHash("sha256")
    .update(JSON.stringify([source, define]))
    .digest("hex");
  const kept = join(projectDir, "node_modules/.cache/bundles", `${name}.js`);
  const made = await keepBundle(source, kept, define);
  placeFile(bundle, readFileSync(kept, "utf8"), 0o644);
  return made;
}

/** Makes a bundle anew if it is not there or one of its sources changed; whether it did. */
async function keepBundle(source: string, bundle: string, define: Record<string, string>): Promise<boolean> {
  const inputsFile = `${bundle}.inputs.json`;
  const state = (files: string[]) => {
    const hash = createHash("sha256").update(JSON.stringify(define));
    for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(join(projectDir, file)));
    return hash.digest("hex");
  };
  try {
    const before: { files: string[]; state: string } = JSON.parse(readFileSync(inputsFile, "utf8"));
    if (existsSync(bundle) && before.state === state(before.files)) return false;
  } catch {}
  mkdirSync(dirname(bundle), { recursive: true });
  const result = await build({
    entryPoints: [source],
    outfile: bundle,
    absWorkingDir: projectDir,
    bundle: true,
    platform: "node",
    target: "node20",
    define,
    metafile: true,
    write: false,
    logLevel: "silent",
  });
  for (const file of result.outputFiles) placeFile(file.path, file.text, 0o644);
  const files = Object.keys(result.metafile.inputs).sort();
  placeFile(inputsFile, JSON.stringify({ files, state: state(files) }), 0o644);
  return true;
}

/** What {@link pulumiEnv} is made for. */
export interface PulumiEnvOptions {
  /** Folder of the state backend. */
  backendDir: string;
  /** A folder that `preparePulumiHome` filled. */
  home: string;
  /** Folder of the Pulumi project to work in, wherever `pulumi` is called. */
  projectFolder?: string;
}

/** Environment, on top of the user's, in which `pulumi` runs against the sandbox. */
export function pulumiEnv(options: PulumiEnvOptions): Record<string, string> {
  return {
    PATH: [binDir, process.env.PATH].join(delimiter),
    PULUMI_HOME: options.home,
    // Without files of attributes, which are not written in one step: one that a killed run left half would make the state unreadable.
    PULUMI_BACKEND_URL: `file://${options.backendDir}?metadata=skip`,
    // The state is the sandbox's own and holds no secret of anybody; a known passphrase lets it be read everywhere.
    PULUMI_CONFIG_PASSPHRASE: "restate-sandbox",
    PULUMI_SKIP_UPDATE_CHECK: "true",
    PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    PULUMI_IGNORE_AMBIENT_PLUGINS: "true",
    ...(options.projectFolder ? { PULUMI_OPTION_CWD: options.projectFolder } : {}),
  };
}
