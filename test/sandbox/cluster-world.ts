/** A sandbox of its own for the cluster tests: starts and stops it, and runs kubectl against its clusters. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

// Before anything reads it: RESTATE_SANDBOX_DIR decides where the modules of the sandbox keep their files.
const own = mkdtempSync(join(tmpdir(), "sandbox-cluster-"));
process.env.RESTATE_SANDBOX_DIR = own;

const modules = async () => ({
  access: require("../../sandbox/world/access") as typeof import("../../sandbox/world/access"),
  control: require("../../sandbox/world/control") as typeof import("../../sandbox/world/control"),
  regions: require("../../sandbox/world/regions") as typeof import("../../sandbox/world/regions"),
  toolchain: require("../../sandbox/toolchain") as typeof import("../../sandbox/toolchain"),
  world: require("../../sandbox/world/world") as typeof import("../../sandbox/world/world"),
});

/** What a command came to. */
export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Asks until the answer is truthy, and gives it; after the deadline, throws with the last failure. */
export async function eventually<T>(what: string, ask: () => Promise<T | undefined | false>, seconds = 60): Promise<T> {
  const end = Date.now() + seconds * 1_000;
  let last: unknown = "the answer was no";
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      last = error instanceof Error ? error.message : error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what} (${last})`);
    await sleep(100);
  }
}

/** The two clusters, up and running. */
export class ClusterWorld {
  private constructor(
    readonly kubectlPath: string,
    private readonly loaded: Awaited<ReturnType<typeof modules>>,
  ) {}

  /** Brings everything up, building what is missing. */
  static async start(): Promise<ClusterWorld> {
    const loaded = await modules();
    const { toolchain } = loaded;
    await toolchain.ensureToolchain(["cluster", "kubectl"], toolchain.noProgress);
    const world = new ClusterWorld(toolchain.toolPath("kubectl"), loaded);
    await world.up();
    return world;
  }

  /** Brings up what is not up. */
  async up(): Promise<void> {
    const { access, regions, toolchain, world } = this.loaded;
    const { hostPorts } = await world.whileLocked(undefined, () =>
      world.startWorld({
        planModule: join(__dirname, "cluster-plan.ts"),
        init: [toolchain.toolPath("cluster"), "init", "--"],
      }),
    );
    access.writeKubeconfigs(regions.regions, hostPorts);
  }

  /** Stops everything and deletes all files. */
  async stop(): Promise<void> {
    await this.loaded.world.whileLocked(undefined, () => this.loaded.world.stopWorld({ deleteState: true }));
    rmSync(own, { recursive: true, force: true });
  }

  /** Does something to a part, such as `kill`. */
  part(name: string, action: "kill" | "stop" | "start"): Promise<void> {
    return this.loaded.control.partControl(name, action);
  }

  /** Runs a command inside the namespaces. */
  inside(...command: string[]): Promise<Outcome> {
    return this.loaded.control.execInside({ command });
  }

  private arguments(region: string, args: string[]): string[] {
    return [`--kubeconfig=${join(own, `${region}.kubeconfig`)}`, ...args];
  }

  /** Runs kubectl on the host. */
  kubectl(region: string, args: string[], input?: string): Outcome {
    const result = spawnSync(this.kubectlPath, this.arguments(region, args), {
      input: input ?? "",
      encoding: "utf8",
      timeout: 60_000,
    });
    return { code: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  /** Starts kubectl and leaves it running. */
  startKubectl(region: string, args: string[]): ChildProcess {
    return spawn(this.kubectlPath, this.arguments(region, args), { stdio: ["ignore", "pipe", "pipe"] });
  }

  /** What kubectl prints; it must succeed. */
  text(region: string, ...args: string[]): string {
    const { code, stdout, stderr } = this.kubectl(region, args);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Objects as kubectl prints them. */
  get<T>(region: string, ...args: string[]): T {
    return JSON.parse(this.text(region, "get", "--output=json", ...args)) as T;
  }

  /** Creates or changes objects. */
  apply(region: string, ...objects: object[]): void {
    const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    const { code, stderr } = this.kubectl(region, ["apply", "--filename=-"], list);
    if (code !== 0) throw new Error(`kubectl apply: ${stderr}`);
  }
}
