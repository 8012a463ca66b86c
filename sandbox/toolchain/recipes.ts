/** How entries of the tool cache are made: Go modules are built, npm and Python packages are installed from lock files. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { z } from "zod";
import { projectDir } from "../world/paths";
import { type EntryId, type EntryRecipe, hashOf } from "./cache";
import { cleanEnvironment, runCommand } from "./command";

/** One kind of cache entry: its identity is known without any tool; the recipe asks what there is to make it with. */
export interface Source extends EntryId {
  /** Files that it provides, relative to the entry's folder. */
  files: string[];
  /** What the recipe needs on this machine. */
  needs: "go" | "npm" | "python";
  recipe(): EntryRecipe;
}

const platform = `${process.platform}-${process.arch}`;

/** build.json of a Go module's folder: how its binary is built. */
const buildFile = z.strictObject({
  /** The package to build, e.g. `.`. */
  package: z.string(),
  /** Flags for the linker; `{{name}}` stands for the version of that npm package in this project. */
  ldflags: z.string(),
  /** Build tags, with commas between them. */
  tags: z.string().default(""),
  /** Environment of the build, in addition to the user's. */
  env: z.record(z.string(), z.string()).default({}),
  /** Files that the code embeds and that other modules ship: target → module and file in it. */
  embed: z.record(z.string(), z.strictObject({ module: z.string(), file: z.string() })).default({}),
});

/** A Go module of this repository that is built to one binary. */
export function goSource(name: string, folder: string, binary: string): Source {
  const files = goFiles(folder);
  const build = buildFile.parse(JSON.parse(readFileSync(join(folder, "build.json"), "utf8")));
  const ldflags = withVersions(build.ldflags);
  const id: EntryId = {
    name,
    hash: hashOf({
      ...Object.fromEntries(files.map((file) => [`file ${file}`, readFileSync(join(folder, file))])),
      ldflags,
      platform,
    }),
  };
  return {
    ...id,
    files: [binary],
    needs: "go",
    recipe: () => ({
      ...id,
      variant: goVersion(),
      files: [binary],
      title: `building ${name}`,
      async make(target, detail) {
        // Built in a copy, so that embedded files need no place in the clone, and a clone can be read-only.
        const copy = join(target, "source");
        for (const file of files) {
          mkdirSync(dirname(join(copy, file)), { recursive: true });
          copyFileSync(join(folder, file), join(copy, file));
        }
        const env = {
          ...process.env,
          ...build.env,
          GOTOOLCHAIN: "local",
          GOWORK: "off",
          GOFLAGS: "-mod=readonly -buildvcs=false",
        };
        const options = { cwd: copy, env, onLine: detail };
        for (const [file, from] of Object.entries(build.embed)) {
          const module = JSON.parse(await runCommand(["go", "mod", "download", "-json", from.module], options));
          writeFileSync(join(copy, file), readFileSync(join(module.Dir, from.file)));
        }
        const flags = ["-v", "-trimpath", "-tags", build.tags, "-ldflags", ldflags, "-o", join(target, binary)];
        await runCommand(["go", "build", ...flags, build.package], options);
        rmSync(copy, { recursive: true });
      },
    }),
  };
}

/** The files of a module's folder that a build reads, in a fixed order. */
function goFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((file) => !/(^|\/)[._]|(_test\.go|\.ts|\.md)$/.test(file))
    .sort();
}

/** Puts the versions of this project's npm packages in place of `{{name}}`. */
function withVersions(text: string): string {
  return text.replace(/\{\{(.+?)\}\}/g, (_, name) => npmVersion(name));
}

/** The exact version of an npm package in this project's package.json. */
export function npmVersion(name: string): string {
  const manifest = JSON.parse(readFileSync(join(projectDir, "package.json"), "utf8"));
  const version = manifest.dependencies?.[name] ?? manifest.devDependencies?.[name];
  if (!/^\d+\.\d+\.\d+/.test(version ?? "")) {
    throw new Error(`package.json: ${name} must have an exact version, such as 1.2.3, not ${version}`);
  }
  return version;
}

let knownGoVersion: string | undefined;

/** Version of the Go that builds, e.g. `go1.26.8`. */
function goVersion(): string {
  knownGoVersion ??= answerOf("go", ["env", "GOVERSION"]);
  return knownGoVersion;
}

let knownPython: string | undefined;

/** Version of the Python that makes virtual environments, e.g. `python3.11.7`. */
function pythonVersion(): string {
  knownPython ??= answerOf("python3", ["-c", "import platform; print('python' + platform.python_version())"]);
  return knownPython;
}

function answerOf(command: string, args: string[]): string {
  const result = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, GOTOOLCHAIN: "local" } });
  if (result.status === 0) return result.stdout.trim();
  throw new Error(`${command} ${args.join(" ")} failed: ${result.error?.message ?? result.stderr.trim()}`);
}

/** What is done with npm packages after they are installed in a folder. */
type AfterInstall = (folder: string) => Promise<void>;

/** npm packages with binaries, installed from a committed lock file; their scripts do not run. */
export function npmSource(folder: string, name: string, files: string[], after: AfterInstall = async () => {}): Source {
  const inputs = ["package.json", "package-lock.json", ".npmrc"];
  const contents = Object.fromEntries(inputs.map((file) => [file, readFileSync(join(folder, file))]));
  const id: EntryId = { name, hash: hashOf({ ...contents, platform, files: files.join("\n") }) };
  return {
    ...id,
    files,
    needs: "npm",
    recipe: () => ({
      ...id,
      variant: "npm",
      files,
      title: `installing ${name}`,
      async make(target, detail) {
        for (const file of inputs) copyFileSync(join(folder, file), join(target, file));
        const options = { cwd: target, env: cleanEnvironment(), onLine: detail };
        await runCommand(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], options);
        await after(target);
      },
    }),
  };
}

/** Unpacks a zip archive; its programs become executable. */
export async function unzip(archive: string, target: string, programs: string[]): Promise<void> {
  await runCommand(["python3", "-m", "zipfile", "-e", archive, target]);
  for (const program of programs) chmodSync(join(target, program), 0o755);
}

/**
 * A Python virtual environment, installed from exact versions with hashes. Only its interpreter can be relied on:
 * the scripts that pip makes hold the path of the folder before it was renamed.
 */
export function pythonSource(
  folder: string,
  name: string,
  files: string[],
  extra: Record<string, string> = {},
): Source {
  const requirements = join(folder, "requirements.txt");
  const id: EntryId = { name, hash: hashOf({ requirements: readFileSync(requirements), platform, ...extra }) };
  return {
    ...id,
    files,
    needs: "python",
    recipe: () => ({
      ...id,
      variant: pythonVersion(),
      files,
      title: `installing ${name}`,
      async make(target, detail) {
        const options = { env: cleanEnvironment(), onLine: detail };
        await runCommand(["python3", "-m", "venv", target], options);
        const install = ["install", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"];
        await runCommand([join(target, "bin/python"), "-m", "pip", ...install, "-r", requirements], options);
        for (const [file, content] of Object.entries(extra))
          writeFileSync(join(target, file), content, { mode: 0o755 });
      },
    }),
  };
}
