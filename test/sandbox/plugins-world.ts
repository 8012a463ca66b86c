/** What the tests of the provider plugins run on: the real engine, moto, and a gate before it that counts and fails requests. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ConfigMap, type EngineEvent, LocalWorkspace, type PulumiFn, Stack } from "@pulumi/pulumi/automation";
import { ensureToolchain, noProgress, preparePulumiHome, pulumiEnv, toolPath } from "../../sandbox/toolchain";
import { projectDir } from "../../sandbox/world/paths";

/** A request as the gate sees it. */
export interface Seen {
  method: string;
  /** Path and query. */
  url: string;
  /** The operation: of query and JSON protocols its name, of S3 method, path and query. */
  operation: string;
}

/** An answer that the gate gives in place of moto. */
export interface Answer {
  status: number;
  body: string;
}

const reads = /^(GET|HEAD) |^(Get|List|Describe|Head)/;

/** One step that the engine took or foresaw for a resource. */
export interface Step {
  op: string;
  /** Type and name, e.g. `aws:s3/bucket:Bucket snap`. */
  resource: string;
  /** Paths of the properties that differ, with the kind of difference. */
  diff: Record<string, string>;
}

/** What an operation of the engine did. */
export interface Outcome {
  /** All steps but those that change nothing. */
  steps: Step[];
  outputs: Record<string, unknown>;
  /** What the engine printed. */
  text: string;
}

/** Moto, the gate before it, and a PULUMI_HOME with the plugins. */
export class PluginWorld {
  readonly base = mkdtempSync(join(tmpdir(), "sandbox-plugins-"));
  /** All requests since the start. */
  readonly seen: Seen[] = [];
  /** Asked for each request; an answer keeps it from moto. */
  intercept: ((seen: Seen) => Answer | undefined) | undefined;
  private moto: ChildProcess | undefined;
  private gate: Server | undefined;
  private motoPort = 0;

  /** Where the gate answers. */
  get endpoint(): string {
    const address = this.gate?.address() as AddressInfo | undefined;
    return `http://127.0.0.1:${address?.port}`;
  }

  /** The requests since a moment that could have changed something. */
  writesSince(start: number): string[] {
    return this.seen
      .slice(start)
      .map(({ operation }) => operation)
      .filter((operation) => !reads.test(operation));
  }

  async start(): Promise<void> {
    await ensureToolchain(["pulumi", "python", "kubernetes-plugin"], noProgress);
    await preparePulumiHome(join(this.base, "home"));
    // The engine itself, not the sandbox's link to it: `sandbox down` may come in between.
    process.env.PATH = [dirname(toolPath("pulumi")), process.env.PATH].join(delimiter);
    mkdirSync(join(this.base, "backend"));
    this.motoPort = await freePort();
    const script = join(projectDir, "sandbox/aws/moto/server.py");
    const args = ["-B", script, "--port", String(this.motoPort), "--state", join(this.base, "moto")];
    this.moto = spawn(toolPath("python"), args, { stdio: ["ignore", "ignore", "inherit"] });
    this.gate = createServer((incoming, outgoing) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => {
        const body = Buffer.concat(chunks);
        const method = incoming.method ?? "";
        const url = incoming.url ?? "";
        const named = /(?:^|&)Action=(\w+)/.exec(body.subarray(0, 4096).toString())?.[1];
        const seen: Seen = { method, url, operation: named ?? `${method} ${url}` };
        this.seen.push(seen);
        const answer = this.intercept?.(seen);
        if (answer) {
          outgoing.writeHead(answer.status, { "content-type": "application/xml" }).end(answer.body);
          return;
        }
        const onward = request(
          { host: "127.0.0.1", port: this.motoPort, method, path: url, headers: incoming.headers },
          (response) => {
            outgoing.writeHead(response.statusCode ?? 500, response.headers);
            response.pipe(outgoing);
          },
        );
        onward.on("error", () => outgoing.writeHead(502).end());
        onward.end(body);
      });
    });
    await new Promise<void>((resolve) => this.gate?.listen(0, "127.0.0.1", resolve));
    for (let i = 0; i < 300; i++) {
      try {
        if ((await fetch(`http://127.0.0.1:${this.motoPort}/_sandbox/health`)).ok) return;
      } catch {
        await sleep(100);
      }
    }
    throw new Error("moto did not start within 30 s");
  }

  async stop(): Promise<void> {
    this.gate?.closeAllConnections();
    this.gate?.close();
    if (this.moto) {
      const ended = new Promise((resolve) => this.moto?.once("exit", resolve));
      this.moto.kill();
      await ended;
    }
    rmSync(this.base, { recursive: true, force: true });
  }

  /** The official provider's settings for this world. */
  settings(more: Record<string, string> = {}): ConfigMap {
    const endpoint = this.endpoint;
    const endpoints = JSON.stringify([{ s3: endpoint, iam: endpoint, sts: endpoint, ec2: endpoint, eks: endpoint }]);
    const all: Record<string, string> = {
      "aws:region": "us-west-2",
      "aws:accessKey": "test",
      "aws:secretKey": "test-secret",
      "aws:s3UsePathStyle": "true",
      "aws:endpoints": endpoints,
      ...more,
    };
    return Object.fromEntries(Object.entries(all).map(([key, value]) => [key, { value }]));
  }

  /** Settings for the AWS SDK. */
  client(region = "us-west-2") {
    const credentials = { accessKeyId: "test", secretAccessKey: "test-secret" };
    return { region, endpoint: this.endpoint, credentials, forcePathStyle: true };
  }

  /**
   * A new stack whose program runs in a process of its own, as plain JavaScript: for operations that fail. (The SDK leaves
   * rejections behind when an inline program's engine gives up, and the test runner takes them for failures.)
   */
  async separateStack(name: string, source: string): Promise<TestStack> {
    const workDir = join(this.base, name);
    mkdirSync(workDir);
    symlinkSync(join(projectDir, "node_modules"), join(workDir, "node_modules"));
    writeFileSync(join(workDir, "package.json"), "{}");
    writeFileSync(
      join(workDir, "Pulumi.yaml"),
      `name: plugins\nruntime: { name: nodejs, options: { typescript: false } }\n`,
    );
    writeFileSync(join(workDir, "index.js"), source);
    const environment = pulumiEnv({ home: join(this.base, "home"), backendDir: join(this.base, "backend") });
    const envVars = { ...environment, PATH: process.env.PATH ?? "" };
    const stack = await Stack.createOrSelect(name, await LocalWorkspace.create({ workDir, envVars }));
    await stack.setAllConfig(this.settings());
    return new TestStack(stack);
  }

  /** A new stack with an inline program. */
  async stack(name: string, program: PulumiFn, settings: ConfigMap = this.settings()): Promise<TestStack> {
    const environment = pulumiEnv({ home: join(this.base, "home"), backendDir: join(this.base, "backend") });
    const stack = await Stack.createOrSelect(
      name,
      await LocalWorkspace.create({
        program,
        envVars: { ...environment, PATH: process.env.PATH ?? "" },
        projectSettings: { name: "plugins", runtime: "nodejs", main: projectDir },
      }),
    );
    await stack.setAllConfig(settings);
    return new TestStack(stack);
  }
}

/** A stack and what can be done with it. */
export class TestStack {
  constructor(readonly stack: Stack) {}

  set program(program: PulumiFn) {
    this.stack.workspace.program = program;
  }

  async up(): Promise<Outcome> {
    return this.collect(async (options) => {
      const { outputs, stdout } = await this.stack.up(options);
      return { stdout, outputs: Object.fromEntries(Object.entries(outputs).map(([key, { value }]) => [key, value])) };
    });
  }

  async preview(): Promise<Outcome> {
    return this.collect((options) => this.stack.preview(options));
  }

  async refresh(): Promise<Outcome> {
    return this.collect((options) => this.stack.refresh(options));
  }

  async destroy(): Promise<Outcome> {
    return this.collect((options) => this.stack.destroy(options));
  }

  /** Runs an operation that is to fail, and gives all that the engine printed. */
  async failing(run: (stack: TestStack) => Promise<Outcome>): Promise<string> {
    try {
      await run(this);
    } catch (error) {
      return String((error as Error).message);
    }
    throw new Error("the operation succeeded");
  }

  private async collect(
    run: (options: { onEvent: (event: EngineEvent) => void }) => Promise<{ stdout: string; outputs?: object }>,
  ): Promise<Outcome> {
    const steps: Step[] = [];
    const onEvent = (event: EngineEvent) => {
      const metadata = event.resourcePreEvent?.metadata ?? event.resOutputsEvent?.metadata;
      if (!metadata || metadata.op === "same" || metadata.type === "pulumi:pulumi:Stack") return;
      if (metadata.type.startsWith("pulumi:providers:")) return;
      const resource = `${metadata.type} ${metadata.urn.split("::").at(-1)}`;
      const detailed = metadata.detailedDiff ?? {};
      const diff = Object.fromEntries(Object.entries(detailed).map(([path, { diffKind }]) => [path, String(diffKind)]));
      const same = steps.find((step) => step.resource === resource && step.op === metadata.op);
      if (same) Object.assign(same.diff, diff);
      else steps.push({ op: metadata.op, resource, diff });
    };
    const { stdout, outputs = {} } = await run({ onEvent });
    // A refresh names every resource; what it found is in the differences.
    const found = steps.filter(({ op, diff }) => op !== "refresh" || Object.keys(diff).length > 0);
    return { steps: found, outputs: { ...outputs }, text: stdout };
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createTcpServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
