/**
 * Runs Pulumi programs without an engine: records every resource with its exact inputs and options, and refuses every
 * type and call that it does not know. Nothing is created; outputs are those few that the program reads.
 *
 * Beyond the SDK's own mocks it records what only the request to the engine holds: parent, protection, provider,
 * dependencies, time-outs, and what components register as outputs.
 */
import * as pulumi from "@pulumi/pulumi";
import type * as proto from "@pulumi/pulumi/proto/resource_pb";

/** One registered resource. */
export interface RecordedResource {
  type: string;
  name: string;
  /** Name of the parent, `undefined` for children of the stack. */
  parent?: string;
  /** Name of the provider, where one is given. */
  provider?: string;
  /** Only where it is on. */
  protect?: boolean;
  /** Names of what the resource waits for without reading anything of it, sorted. */
  dependsOn: string[];
  customTimeouts?: { create?: string; update?: string; delete?: string };
  /** Names of the hooks that run before it is deleted. */
  beforeDelete?: string[];
  /** Inputs as the engine would get them; secrets are `[secret]`, unknown values `[unknown]`. */
  inputs: Record<string, unknown>;
  /** What a component registered. */
  outputs?: Record<string, unknown>;
  /** How it hangs together with others, by URN; the dumps leave it out. */
  graph: {
    urn: string;
    parent?: string;
    dependencies: string[];
    /** What each input is made from. */
    reads: Record<string, string[]>;
  };
}

/** What a run gave. */
export interface Recording {
  resources: RecordedResource[];
  calls: { token: string; args: Record<string, unknown> }[];
  /** The stack's outputs. */
  outputs: Record<string, unknown>;
}

/** How calls are answered: a value, or an error to throw. */
export type Calls = Record<string, (args: Record<string, unknown>) => Record<string, unknown>>;

/** What a run happens in. */
export interface RunOptions {
  stack?: string;
  preview?: boolean;
  /** Whole configuration, keys with their namespaces. */
  config?: Record<string, string>;
  calls?: Calls;
}

const accountId = "123456789012";

/** Outputs beyond the inputs, for each type that the program may make. */
const knownTypes: Record<string, (inputs: Record<string, unknown>) => Record<string, unknown>> = {
  "pulumi:index:Stash": (inputs) => ({ output: inputs.input }),
  "pulumi:providers:kubernetes": () => ({}),
  "random:index/randomId:RandomId": () => ({ hex: pulumi.getStack() === "region1" ? "0a0a0a0a" : "0b0b0b0b" }),
  "aws:s3/bucket:Bucket": (inputs) => ({ arn: `arn:aws:s3:::${inputs.bucket}` }),
  "aws:s3/bucketOwnershipControls:BucketOwnershipControls": () => ({}),
  "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": () => ({}),
  "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": () => ({}),
  "aws:s3/bucketPolicy:BucketPolicy": () => ({}),
  "aws:s3/bucketVersioning:BucketVersioning": () => ({}),
  "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": () => ({}),
  "aws:s3/bucketReplicationConfig:BucketReplicationConfig": () => ({}),
  "aws:cloudwatch/metricAlarm:MetricAlarm": () => ({}),
  "aws:iam/role:Role": (inputs) => ({ arn: `arn:aws:iam::${accountId}:role/${inputs.name}` }),
  "aws:iam/rolePolicy:RolePolicy": () => ({}),
  "aws:eks/podIdentityAssociation:PodIdentityAssociation": (inputs) => ({
    associationArn: `arn:aws:eks:us-east-1:${accountId}:podidentityassociation/${inputs.clusterName}/a-1`,
  }),
  "kubernetes:core/v1:Namespace": () => ({}),
  "kubernetes:helm.sh/v3:Release": () => ({ status: { status: "deployed" } }),
  "kubernetes:core/v1:Service": (inputs) => ({
    status: {
      loadBalancer: {
        ingress: [{ hostname: `${(inputs.metadata as { name: string }).name}-0123456789.elb.example.com` }],
      },
    },
  }),
  "kubernetes:core/v1:ConfigMap": () => ({}),
  "kubernetes:monitoring.coreos.com/v1:ServiceMonitor": () => ({}),
  "kubernetes:monitoring.coreos.com/v1:PrometheusRule": () => ({}),
  "kubernetes:batch/v1:CronJob": () => ({}),
  "kubernetes:batch/v1:Job": () => ({}),
};

/** Types of the project's own components, which have no inputs. */
const componentPrefix = "restate:index:";

const secretMark = "4dabf18193072939515e22adb298388d";

/** Plain data for comparing: secrets and unknown values as words. */
function readable(value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(readable);
  if (secretMark in value) return "[secret]";
  if ((value as { __pulumiUnknown?: boolean }).__pulumiUnknown) return "[unknown]";
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) => (one === undefined ? [] : [[key, readable(one)]])),
  );
}

/** Records one run of a program. Rejects with the program's error, or naming whatever is unknown. */
export async function record(program: () => unknown, options: RunOptions = {}): Promise<Recording> {
  const recording: Recording = { resources: [], calls: [], outputs: {} };
  const refused: string[] = [];
  const refuse = (what: string) => {
    refused.push(what);
    return new Error(`the mocks know nothing of ${what}`);
  };

  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        if (type === "pulumi:pulumi:Stack" || type.startsWith(componentPrefix)) return { id: undefined, state: {} };
        const outputs = knownTypes[type];
        if (!outputs) throw refuse(`the resource type ${type} (${name})`);
        return { id: `${name}-id`, state: { ...inputs, ...outputs(inputs) } };
      },
      call: ({ token, inputs }) => {
        const answer = options.calls?.[token];
        if (!answer) throw refuse(`the call ${token}`);
        recording.calls.push({ token, args: inputs });
        return answer(inputs);
      },
    },
    "restate",
    options.stack ?? "region1",
    options.preview ?? false,
    "organization",
  );
  pulumi.runtime.setAllConfig(options.config ?? {});
  const byUrn = observe();

  // As the real language host does, take every rejection that nobody handles for a failure of the program.
  const failures: unknown[] = [];
  const listeners = process.listeners("unhandledRejection");
  const onRejection = (error: unknown) => void failures.push(error);
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", onRejection);
  const outputs = await pulumi.runtime
    .runInPulumiStack(async () => program())
    .catch((error) => {
      failures.unshift(error);
      return {};
    });
  await callbacksReady();
  await pulumi.runtime.disconnect();
  await new Promise((done) => setImmediate(done));
  process.removeListener("unhandledRejection", onRejection);
  for (const listener of listeners) process.on("unhandledRejection", listener);
  if (refused.length > 0) throw new Error(`the mocks know nothing of ${[...new Set(refused)].join(", nor of ")}`);
  if (failures.length > 0) throw failures[0];
  recording.outputs = readable(outputs) as Record<string, unknown>;
  recording.resources = [...byUrn.values()].sort((a, b) => (label(a) < label(b) ? -1 : 1));
  return recording;
}

/** Waits until the SDK's server of hooks runs: for one that is ended sooner the SDK would ask without end. */
async function callbacksReady(): Promise<void> {
  const callbacks = pulumi.runtime.getCallbacks() as unknown as { _target: Promise<string> } | undefined;
  await callbacks?._target;
}

/** The order of a recording: children below their parents. */
function label({ parent, name, type }: RecordedResource): string {
  return type.startsWith(componentPrefix) ? `${name} ` : `${parent ?? ""} ${name} ${type}`;
}

/** Listens to what the SDK sends to the monitor that the mocks play. */
function observe(): Map<string, RecordedResource> {
  const byUrn = new Map<string, RecordedResource>();
  type Reply<T> = (error: unknown, response: T) => void;
  const monitor = pulumi.runtime.getMonitor() as unknown as {
    registerResource(request: proto.RegisterResourceRequest, reply: Reply<proto.RegisterResourceResponse>): void;
    registerResourceOutputs(request: proto.RegisterResourceOutputsRequest, reply: Reply<unknown>): void;
    registerResourceHook(request: proto.RegisterResourceHookRequest, reply: Reply<unknown>): void;
  };
  const plain = (struct: Parameters<typeof pulumi.runtime.deserializeProperties>[0] | undefined) =>
    (struct ? readable(pulumi.runtime.deserializeProperties(struct, true)) : {}) as Record<string, unknown>;
  const nameOf = (urn: string) => urn.split("::").at(-1) as string;

  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, callback) =>
    register(request, (error, response) => {
      const type = request.getType();
      if (!error && type !== "pulumi:pulumi:Stack") {
        const read = new Set(
          [...request.getPropertydependenciesMap().entries()].flatMap(([, dependencies]) => dependencies.getUrnsList()),
        );
        const parent = request.getParent();
        const provider = request.getProvider() || request.getProvidersMap().get("kubernetes") || "";
        const times = request.getCustomtimeouts()?.toObject();
        const customTimeouts = Object.fromEntries(Object.entries(times ?? {}).filter(([, time]) => time));
        const beforeDelete = request.getHooks()?.getBeforeDeleteList() ?? [];
        const waits = request.getDependenciesList().filter((urn) => !read.has(urn));
        byUrn.set(response.getUrn(), {
          type,
          name: request.getName(),
          ...(parent && !parent.includes("::pulumi:pulumi:Stack::") ? { parent: nameOf(parent) } : {}),
          ...(provider ? { provider: nameOf(provider.slice(0, provider.lastIndexOf("::"))) } : {}),
          ...(request.getProtect() ? { protect: true } : {}),
          dependsOn: [...new Set(waits.map(nameOf))].sort(),
          ...(Object.keys(customTimeouts).length > 0 ? { customTimeouts } : {}),
          ...(beforeDelete.length > 0 ? { beforeDelete } : {}),
          inputs: plain(request.getObject()),
          graph: {
            urn: response.getUrn(),
            ...(parent ? { parent } : {}),
            dependencies: request.getDependenciesList(),
            reads: Object.fromEntries(
              [...request.getPropertydependenciesMap().entries()].map(([input, from]) => [input, from.getUrnsList()]),
            ),
          },
        });
      }
      callback(error, response);
    });

  // The SDK's own mocks say that they can do this, and cannot.
  monitor.registerResourceHook = (_request, callback) => callback(null, undefined);

  const registerOutputs = monitor.registerResourceOutputs.bind(monitor);
  monitor.registerResourceOutputs = (request, callback) => {
    const resource = byUrn.get(request.getUrn());
    if (resource) resource.outputs = plain(request.getOutputs());
    return registerOutputs(request, callback);
  };
  return byUrn;
}

/** The one resource of a recording with a name and, where several share it, a type. */
export function resource(recording: Recording, name: string, type?: string): RecordedResource {
  const found = recording.resources.filter((one) => one.name === name && (!type || one.type.includes(type)));
  if (found.length !== 1) {
    const all = recording.resources.map((one) => `${one.name} (${one.type})`).join(", ");
    throw new Error(`${found.length} resources are called ${name} ${type ?? ""}; there are ${all}`);
  }
  return found[0] as RecordedResource;
}

/** Every resource whose type has the given words in it. */
export function ofType(recording: Recording, type: string): RecordedResource[] {
  return recording.resources.filter((one) => one.type.includes(type));
}
