/** How long `npm run sandbox` takes until the cluster is provisioned, and how long an operator waits for a preview. */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { projectDir } from "../world/paths";
import { regions } from "../world/regions";
import { BenchSandbox, timed } from "./bench-sandbox";
import { type Figure, previewFigures, type Times } from "./figures";

/** Seconds that a warm `npm run sandbox` should stay under, on two cores. */
const provisionedTarget = 60;

/** How many times an empty program's preview that of a region may take. */
const previewTarget = 1.5;

/** What to measure. */
export interface StackBench {
  /** Folder for the sandbox. */
  base: string;
  /** Restate nodes in each region. */
  replicas: number;
  /** Previews of each region and as many of the empty program; 0 for none. */
  previews: number;
}

/** Brings up a sandbox without any state, with both stacks, and previews each region against an empty program. */
export function benchStacks({ base, replicas, previews }: StackBench): Figure[] {
  const sandbox = new BenchSandbox(base);
  const title = `${replicas} nodes a region`;
  try {
    sandbox.setInBothStacks("restate:replicas", replicas);
    const begun = process.hrtime.bigint();
    const report = JSON.parse(sandbox.command("up", "--json")) as { runs: { stack: string; seconds: number }[] };
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    const stacks = report.runs.reduce((sum, run) => sum + run.seconds, 0);
    const figures: Figure[] = [
      { what: `${title}: npm run sandbox until provisioned`, value: seconds, unit: "s", target: provisionedTarget },
      { what: `${title}:   the world, and all between the stacks`, value: seconds - stacks, unit: "s" },
      ...report.runs.map(
        (run, i): Figure => ({ what: `${title}:   up ${i + 1}, ${run.stack}`, value: run.seconds, unit: "s" }),
      ),
    ];
    if (previews > 0) figures.push(...benchPreviews(sandbox, title, previews));
    return figures;
  } finally {
    sandbox.remove();
  }
}

/** Previews of both regions and of the empty programs, by turns, so that whatever else the machine does meets all. */
function benchPreviews(sandbox: BenchSandbox, title: string, previews: number): Figure[] {
  const programs = [
    { name: "empty", env: emptyProject(sandbox), times: [] as Times[] },
    { name: "usual", env: usualProject(sandbox), times: [] as Times[] },
    ...regions.map(({ name }) => ({ name, env: sandbox.operatorEnvironment(name), times: [] as Times[] })),
  ] as const;
  const command = ["pulumi", "preview", "--non-interactive", "--expect-no-changes"];
  // The first run of each is not counted: it reads from the disk what later ones find in memory.
  for (let run = 0; run <= previews; run++) {
    for (const { env, times } of programs) {
      const one = timed(command, env, projectDir);
      if (run > 0) times.push(one);
    }
  }
  const [empty, usual, ...own] = programs;
  return own.flatMap(({ name, times }) =>
    previewFigures(`${title}: ${name}`, times, empty.times, usual.times, previewTarget),
  );
}

/** A project with the runtime options of this one and a program that makes nothing; returns the environment for it. */
function emptyProject(sandbox: BenchSandbox): NodeJS.ProcessEnv {
  const { runtime } = parse(readFileSync(join(projectDir, "Pulumi.yaml"), "utf8")) as { runtime: unknown };
  return referenceProject(sandbox, "empty", ["package.json", "tools"], {
    "Pulumi.yaml": stringify({ name: "empty", main: "index.ts", runtime }),
    "index.ts": "export {};\n",
  });
}

/** A project as `pulumi new typescript` makes it, which the SDK compiles and whose types it checks. */
function usualProject(sandbox: BenchSandbox): NodeJS.ProcessEnv {
  const compilerOptions = {
    strict: true,
    target: "es2020",
    module: "commonjs",
    moduleResolution: "node",
    // The SDK's TypeScript is older than the one that is installed here, which warns of what it expects.
    ignoreDeprecations: "6.0",
  };
  return referenceProject(sandbox, "usual", [], {
    "Pulumi.yaml": stringify({ name: "usual", runtime: { name: "nodejs", options: { packagemanager: "npm" } } }),
    "package.json": JSON.stringify({ name: "usual", main: "index.ts" }),
    "tsconfig.json": JSON.stringify({ compilerOptions, files: ["index.ts"] }),
    "index.ts": 'import * as pulumi from "@pulumi/pulumi";\n',
  });
}

/** Makes a project of these files and of links to this one's, and brings its stack up; returns the environment for it. */
function referenceProject(
  sandbox: BenchSandbox,
  name: string,
  links: readonly string[],
  files: Readonly<Record<string, string>>,
): NodeJS.ProcessEnv {
  const folder = join(sandbox.folder, name);
  mkdirSync(folder);
  for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content);
  for (const link of ["node_modules", ...links]) symlinkSync(join(projectDir, link), join(folder, link));
  const env = {
    ...sandbox.operatorEnvironment(regions[0]!.name),
    PULUMI_OPTION_CWD: folder,
    PULUMI_STACK: name,
  };
  timed(["pulumi", "stack", "init", name, "--non-interactive"], env, projectDir);
  timed(["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"], env, projectDir);
  return env;
}
