/** A sandbox of a test's own, used as an operator would: through its commands and the real pulumi, kubectl and aws. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { guardName } from "../../guard";
import { sqlCommand, sqlRows } from "../../restate/sql";
import { ownEnvironment } from "../../sandbox/toolchain";
import { typescript } from "../../sandbox/world/paths";

const projectFolder = resolve(__dirname, "../..");

/** How a command ended. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a program to its end; never rejects for an exit code. What does not end in time (milliseconds) is told to end, and fails with
 * what it has printed; what it started may go on, and is not waited for.
 */
function run(command: string[], env: NodeJS.ProcessEnv, timeout: number): Promise<Ended> {
  return new Promise((done, reject) => {
    const child = spawn(command[0]!, command.slice(1), {
      cwd: projectFolder,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    const late = setTimeout(() => {
      child.kill();
      child.stdout.destroy();
      child.stderr.destroy();
      reject(new Error(`${command.join(" ")}: no end after ${timeout / 1000} s\n${stdout}\n${stderr}`));
    }, timeout);
    child.stdout.on("data", (data) => {
      stdout += data;
    });
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    child.on("error", (error) => {
      clearTimeout(late);
      reject(error);
    });
    child.on("close", (code) => {
      clearTimeout(late);
      done({ code: code ?? -1, stdout, stderr });
    });
  });
}

/** One resource that a run of Pulumi changed. */
export interface Change {
  op: string;
  /** The resource's name in the program, e.g. `load-balancers-restate-1`. */
  name: string;
  type: string;
  /** Paths of the properties that differ, sorted; empty unless it is an update. */
  properties: string[];
}

/** An event of the engine, as `pulumi up --json` prints it; only what is read here. */
interface EngineEvent {
  resOutputsEvent?: {
    metadata: { op: string; urn: string; type: string; detailedDiff?: Record<string, unknown> | null };
  };
  diagnosticEvent?: { severity: string; message: string };
}

/** A sandbox in a folder of its own. `stop` ends it and deletes all that it wrote. */
export class Sandbox {
  readonly folder = mkdtempSync(join(tmpdir(), "restate-e2e-"));
  private environments = new Map<string, Promise<Record<string, string>>>();

  private get baseEnvironment(): NodeJS.ProcessEnv {
    return { ...ownEnvironment(), RESTATE_SANDBOX_DIR: this.folder };
  }

  /** `npm run sandbox -- …`, without npm; throws with all that it printed if it fails. */
  async command(...args: string[]): Promise<string> {
    const ended = await run(
      [process.execPath, ...typescript, "sandbox/cli.ts", ...args],
      this.baseEnvironment,
      30 * 60_000,
    );
    if (ended.code !== 0)
      throw new Error(`sandbox ${args.join(" ")}: exit code ${ended.code}\n${ended.stdout}\n${ended.stderr}`);
    return ended.stdout;
  }

  /**
   * Brings everything up with region1's pods allowed to share a zone: with three zones and three pods, a pod of a closed zone fits
   * nowhere else under DoNotSchedule, which region2 keeps.
   */
  async upWithSharedZones(): Promise<void> {
    await this.command("up", "--world-only");
    await this.must(
      "region1",
      ...["pulumi", "config", "set", "--path", "restate:scheduling.topologySpread.whenUnsatisfiable", "ScheduleAnyway"],
    );
    await this.command();
  }

  /** What `env` prints for a region. */
  async environment(region: string): Promise<NodeJS.ProcessEnv> {
    const known = this.environments.get(region);
    const own = await (known ?? this.readEnvironment(region));
    return { ...this.baseEnvironment, ...own, PATH: `${own.PATH}:${process.env.PATH}` };
  }

  private readEnvironment(region: string): Promise<Record<string, string>> {
    const read = this.command("env", region, "--json").then((text) => JSON.parse(text) as Record<string, string>);
    this.environments.set(region, read);
    read.catch(() => this.environments.delete(region));
    return read;
  }

  /** A further stack in a region's cluster: from now on its name can stand where a region's is asked for. */
  async addStack(stack: string, region: string): Promise<void> {
    const own = await (this.environments.get(region) ?? this.readEnvironment(region));
    this.environments.set(stack, Promise.resolve({ ...own, PULUMI_STACK: stack }));
  }

  /** Runs one of the operator's tools for a region. */
  async tool(region: string, ...command: string[]): Promise<Ended> {
    return run(command, await this.environment(region), 10 * 60_000);
  }

  /** The same, and throws if it fails. */
  async must(region: string, ...command: string[]): Promise<string> {
    const ended = await this.tool(region, ...command);
    if (ended.code !== 0)
      throw new Error(`${command.join(" ")}: exit code ${ended.code}\n${ended.stdout}\n${ended.stderr}`);
    return ended.stdout;
  }

  /** What kubectl gives as JSON, in the region's namespace. */
  async objects<T>(region: string, ...args: string[]): Promise<T> {
    return JSON.parse(await this.must(region, "kubectl", "-n", `restate-${region}`, "get", "-o", "json", ...args)) as T;
  }

  /** Rows of a query against the cluster, asked in a pod of the region. */
  async query<T>(region: string, sql: string): Promise<T[]> {
    const text = await this.must(
      region,
      ...["kubectl", "-n", `restate-${region}`, "exec", "restate-0", "--"],
      ...sqlCommand(sql),
    );
    return sqlRows<T>(text);
  }

  /** A stack's outputs. */
  async outputs(region: string): Promise<Record<string, unknown>> {
    return JSON.parse(await this.must(region, "pulumi", "stack", "output", "--json")) as Record<string, unknown>;
  }

  /** `pulumi up` of a stack: what it changed, resource by resource. Throws if it fails. */
  async up(region: string, ...flags: string[]): Promise<Change[]> {
    const ended = await this.tool(region, ...["pulumi", "up", "--yes", "--skip-preview", "--json", ...flags]);
    const events = ended.stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as EngineEvent);
    if (ended.code !== 0) {
      const errors = events.flatMap(({ diagnosticEvent: one }) => (one?.severity === "error" ? [one.message] : []));
      throw new Error(`pulumi up of ${region}: exit code ${ended.code}\n${errors.join("\n")}\n${ended.stderr}`);
    }
    return events.flatMap(({ resOutputsEvent }) => {
      if (!resOutputsEvent || ["same", "read", "refresh"].includes(resOutputsEvent.metadata.op)) return [];
      const { op, urn, type, detailedDiff } = resOutputsEvent.metadata;
      return [{ op, name: urn.split("::").at(-1)!, type, properties: Object.keys(detailedDiff ?? {}).sort() }];
    });
  }

  /** Takes a stack's guard away, as the refusal of a destroy says; does nothing where there is none. */
  async takeGuardAway(region: string): Promise<void> {
    const state = JSON.parse(await this.must(region, "pulumi", "stack", "export")) as {
      deployment: { resources?: { urn: string }[] };
    };
    for (const { urn } of state.deployment.resources ?? []) {
      if (urn.endsWith(`::${guardName}`)) await this.must(region, "pulumi", "state", "delete", "--yes", urn);
    }
  }

  /** Destroys a stack although the cluster needs it. */
  async giveUp(region: string): Promise<void> {
    await this.takeGuardAway(region);
    await this.must(region, "pulumi", "destroy", "--yes", "--skip-preview", "--suppress-outputs");
  }

  async stop(): Promise<void> {
    await this.command("down", "--delete-state");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Asks again and again until the answer is true; throws what was last seen after the deadline. */
export async function eventually<T>(seconds: number, ask: () => Promise<T>, right: (answer: T) => boolean): Promise<T> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (right(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`not so after ${seconds} s; last seen: ${JSON.stringify(answer)}`);
    await new Promise((done) => setTimeout(done, 1000));
  }
}
