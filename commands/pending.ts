/**
 * What an interrupted run of Pulumi leaves in a stack's state: operations that were begun and of which nobody knows
 * whether they took effect. What each type of resource needs then, so that the next `up` finishes. Pure.
 */
import { specialSecretSig, specialSigKey } from "@pulumi/pulumi/runtime/rpc";

/** A resource in an exported state, as far as recovery needs it. */
export interface StateResource {
  urn: string;
  type: string;
  /** Whether it is something out there, which a provider makes; a component and the stack itself are not. */
  custom?: boolean;
  id?: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
  parent?: string;
  /** URN of its provider, `::`, and that provider's id. */
  provider?: string;
  protect?: boolean;
  /** Replaced already, and still to be deleted. */
  delete?: boolean;
  /** Deleted already, so that it can be replaced. */
  pendingReplacement?: boolean;
}

/** An operation that was begun and not ended. */
interface PendingOperation {
  resource: StateResource;
  type: "creating" | "updating" | "deleting" | "reading" | "importing";
}

/** An exported state. */
export interface StackState {
  resources?: StateResource[];
  pending_operations?: PendingOperation[];
  /** `time`: when it was last written, at the end of every operation of a run. */
  manifest?: { time?: string };
}

/** A service account's association in EKS, whose id only EKS knows. */
export interface AssociationQuery {
  clusterName: string;
  namespace: string;
  serviceAccount: string;
}

/** What an object that may or may not have been created needs. */
export type Remedy =
  /** Nothing: it exists in the state alone, or creating it once more brings the same object to the same content. */
  | "create again"
  /** The same, but a Job that has failed by now stays so when it is applied once more: it is deleted before. */
  | "create again unless it failed"
  /** Creating it once more fails if it exists: it is taken into the state by this id if it does. */
  | { id: string }
  /** The same, and the id has to be asked for. */
  | { association: AssociationQuery };

type Inputs = Record<string, unknown>;

const again = (): Remedy => "create again";

/**
 * What to do by type. S3's configurations, IAM's inline policies and alarms are put, which overwrites. Kubernetes objects are
 * applied on the server's side, always under the same field manager, which changes nothing where they are there already.
 */
const remedies: Readonly<Record<string, (inputs: Inputs) => Remedy>> = {
  "aws:cloudwatch/metricAlarm:MetricAlarm": again,
  "aws:eks/podIdentityAssociation:PodIdentityAssociation": ({ clusterName, namespace, serviceAccount }) => ({
    association: { clusterName, namespace, serviceAccount } as AssociationQuery,
  }),
  "aws:iam/role:Role": ({ name }) => ({ id: name as string }),
  "aws:iam/rolePolicy:RolePolicy": again,
  "aws:s3/bucket:Bucket": ({ bucket }) => ({ id: bucket as string }),
  "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": again,
  "aws:s3/bucketOwnershipControls:BucketOwnershipControls": again,
  "aws:s3/bucketPolicy:BucketPolicy": again,
  "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": again,
  "aws:s3/bucketReplicationConfig:BucketReplicationConfig": again,
  "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": again,
  "aws:s3/bucketVersioning:BucketVersioning": again,
  "kubernetes:batch/v1:CronJob": again,
  "kubernetes:batch/v1:Job": () => "create again unless it failed",
  "kubernetes:core/v1:ConfigMap": again,
  "kubernetes:core/v1:Namespace": again,
  "kubernetes:core/v1:Service": again,
  "kubernetes:helm.sh/v3:Release": ({ namespace, name }) => ({ id: `${namespace}/${name}` }),
  "kubernetes:monitoring.coreos.com/v1:PrometheusRule": again,
  "kubernetes:monitoring.coreos.com/v1:ServiceMonitor": again,
  "pulumi:index:Stash": again,
  "random:index/randomId:RandomId": again,
};

/** What a resource needs whose creation was interrupted; undefined for a type that has no rule. */
export function remedyOf({
  type,
  custom,
  inputs = {},
}: Pick<StateResource, "type" | "custom" | "inputs">): Remedy | undefined {
  if (custom === false || type.startsWith("pulumi:providers:")) return "create again";
  return remedies[type]?.(inputs);
}

/** The resources whose creation was interrupted, each once. */
export function interruptedCreations({ pending_operations: operations = [] }: StackState): StateResource[] {
  return interrupted(operations, "creating");
}

/** The resources whose deletion was interrupted, each once. */
export function interruptedDeletions({ pending_operations: operations = [] }: StackState): StateResource[] {
  return interrupted(operations, "deleting");
}

function interrupted(operations: readonly PendingOperation[], type: PendingOperation["type"]): StateResource[] {
  const found = operations.filter((operation) => operation.type === type).map(({ resource }) => resource);
  return [...new Map(found.map((resource) => [resource.urn, resource])).values()];
}

/** Name and short type of a resource, as progress and errors show it. */
export function resourceLabel(urn: string): string {
  const [, , type = "", name = ""] = urn.split("::");
  return `${name} (${type
    .split("$")
    .at(-1)
    ?.replace(/^kubernetes:|^aws:/, "")})`;
}

/** A value of an exported state without the wrapping of a secret. */
export function plainValue(value: unknown): unknown {
  const secret = value as { [specialSigKey]?: string; plaintext?: string } | null | undefined;
  if (secret?.[specialSigKey] !== specialSecretSig) return value;
  return secret.plaintext === undefined ? undefined : JSON.parse(secret.plaintext);
}

/** URN of a resource's provider. */
export function providerOf({ provider }: StateResource): string | undefined {
  return provider?.split("::").slice(0, 4).join("::");
}

/** How the Kubernetes cluster of a state's resource is reached, by its provider; undefined if that cannot be told. */
export function clusterOf(
  { resources = [] }: StackState,
  resource: StateResource,
): { kubeconfig: string; context?: string } | undefined {
  const urn = providerOf(resource);
  const inputs = resources.find((one) => one.urn === urn)?.inputs;
  const kubeconfig = plainValue(inputs?.kubeconfig);
  if (typeof kubeconfig !== "string") return undefined;
  return { kubeconfig, ...(inputs?.context ? { context: String(plainValue(inputs.context)) } : {}) };
}
