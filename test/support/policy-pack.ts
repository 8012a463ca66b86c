/** The policy pack as the Pulumi engine runs it: in a process of its own, asked by gRPC about recorded resources. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { AnalyzerClient } from "@pulumi/pulumi/proto/analyzer_grpc_pb";
import * as messages from "@pulumi/pulumi/proto/analyzer_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";
import type { RecordedResource, Recording } from "./mocks";

const folder = join(__dirname, "../../policies");

/** Stands for a value that is not known, on its way from the engine to a plugin. Source: the SDK's `unknownValue`. */
const unknownValue = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** What a policy said. */
export interface Violation {
  rule: string;
  level: "mandatory" | "advisory";
  message: string;
  /** Name of the resource; empty where the whole stack is meant. */
  resource: string;
}

/** Levels, parameters and exemptions by rule, as `--policy-pack-config` takes them. */
export type PackConfig = Record<
  string,
  { enforcementLevel?: "mandatory" | "advisory" | "disabled"; [parameter: string]: unknown }
>;

const levels = { advisory: 0, mandatory: 1, disabled: 2 } as const;

/** A recording's plain data as the engine would send it. */
function sent(value: unknown): unknown {
  if (value === "[unknown]") return unknownValue;
  if (Array.isArray(value)) return value.map(sent);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) => (one === undefined ? [] : [[key, sent(one)]])),
  );
}

const struct = (value: Record<string, unknown>) =>
  Struct.fromJavaScript(sent(value) as Parameters<typeof Struct.fromJavaScript>[0]);

/** Seconds of a time-out as Pulumi writes it, e.g. `600s`. */
const seconds = (text: string | undefined) => Number(text?.replace(/s$/, "") ?? 0);

function options(resource: RecordedResource) {
  const timeouts = new messages.AnalyzerResourceOptions.CustomTimeouts();
  timeouts.setCreate(seconds(resource.customTimeouts?.create));
  const made = new messages.AnalyzerResourceOptions();
  made.setProtect(resource.protect ?? false);
  made.setCustomtimeouts(timeouts);
  made.setParent(resource.graph.parent ?? "");
  return made;
}

/** The running pack. */
export class PolicyPackProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly client: AnalyzerClient,
  ) {}

  static async start(): Promise<PolicyPackProcess> {
    const command = createRequire(__filename).resolve("@pulumi/pulumi/cmd/run-policy-pack");
    const child = spawn(process.execPath, [command, "127.0.0.1:0", folder], {
      cwd: folder,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const first = once(child.stdout!, "data").then(([data]) => String(data).trim());
    const port = await Promise.race([first, once(child, "exit").then(() => "")]);
    if (!/^\d+$/.test(port)) throw new Error(`the policy pack did not start: ${port || "it ended"}`);
    return new PolicyPackProcess(child, new AnalyzerClient(`127.0.0.1:${port}`, credentials.createInsecure()));
  }

  async stop(): Promise<void> {
    this.client.close();
    const ended = once(this.child, "exit");
    this.child.kill();
    await ended;
  }

  /** Replaces the pack's configuration. */
  async configure(config: PackConfig): Promise<void> {
    this.asked.clear();
    const request = new messages.ConfigureAnalyzerRequest();
    for (const [rule, { enforcementLevel, ...properties }] of Object.entries(config)) {
      const policy = new messages.PolicyConfig();
      const level = enforcementLevel ?? (await this.levelOf(rule));
      policy.setEnforcementlevel(levels[level] as unknown as messages.EnforcementLevel);
      policy.setProperties(struct(properties));
      request.getPolicyconfigMap().set(rule, policy);
    }
    await this.ask((done) => this.client.configure(request, done));
  }

  /** A rule's own level. */
  private async levelOf(rule: string): Promise<keyof typeof levels> {
    const info = await this.ask<messages.AnalyzerInfo>((done) => this.client.getAnalyzerInfo(new Empty(), done));
    const found = info.getPoliciesList().find((one) => one.getName() === rule);
    if (!found) throw new Error(`there is no rule ${rule}`);
    return Number(found.getEnforcementlevel()) === levels.advisory ? "advisory" : "mandatory";
  }

  /** What was said of a resource under the present configuration, by what the resource is. */
  private readonly asked = new Map<string, Promise<messages.AnalyzeResponse>>();

  /** Asks about one resource, once. */
  private about(resource: RecordedResource): Promise<messages.AnalyzeResponse> {
    const key = JSON.stringify(resource);
    const before = this.asked.get(key);
    if (before) return before;
    const request = new messages.AnalyzeRequest();
    request.setType(resource.type);
    request.setName(resource.name);
    request.setUrn(resource.graph.urn);
    request.setOptions(options(resource));
    request.setProperties(struct(resource.inputs));
    const answer = this.ask<messages.AnalyzeResponse>((done) => this.client.analyze(request, done));
    this.asked.set(key, answer);
    return answer;
  }

  /** All that the pack says of a run: of each resource's inputs, then of the whole. */
  async analyze({ resources, outputs }: Pick<Recording, "resources" | "outputs">): Promise<Violation[]> {
    const said: Violation[] = [];
    const names = new Map(resources.map((one) => [one.graph.urn, one.name]));
    const take = (response: messages.AnalyzeResponse, urn?: string) => {
      for (const one of response.getDiagnosticsList()) {
        said.push({
          rule: one.getPolicyname(),
          level: Number(one.getEnforcementlevel()) === levels.advisory ? "advisory" : "mandatory",
          message: one.getMessage(),
          resource: names.get(one.getUrn() || urn || "") ?? "",
        });
      }
    };
    const answers = await Promise.all(resources.map((resource) => this.about(resource)));
    for (const [i, answer] of answers.entries()) take(answer, resources[i]!.graph.urn);
    const request = new messages.AnalyzeStackRequest();
    const root = new messages.AnalyzerResource();
    root.setType("pulumi:pulumi:Stack");
    root.setName("restate-stack");
    root.setUrn("urn:pulumi:stack::restate::pulumi:pulumi:Stack::restate-stack");
    root.setOptions(new messages.AnalyzerResourceOptions());
    root.setProperties(struct(outputs));
    const all = resources.map((resource) => {
      const one = new messages.AnalyzerResource();
      one.setType(resource.type);
      one.setName(resource.name);
      one.setUrn(resource.graph.urn);
      one.setOptions(options(resource));
      one.setParent(resource.graph.parent ?? "");
      // What the rules about the stack read of outputs, the inputs have already.
      one.setProperties(struct(resource.inputs));
      one.setDependenciesList(resource.graph.dependencies);
      for (const [input, urns] of Object.entries(resource.graph.reads)) {
        const from = new messages.AnalyzerPropertyDependencies();
        from.setUrnsList(urns);
        one.getPropertydependenciesMap().set(input, from);
      }
      return one;
    });
    request.setResourcesList([root, ...all]);
    take(await this.ask((done) => this.client.analyzeStack(request, done)));
    return said;
  }

  private ask<T>(call: (done: (error: ServiceError | null, answer: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      call((error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }
}
