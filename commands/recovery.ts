/**
 * Makes a stack whose last run was killed ready for the next one. Pulumi remembers what it had begun, and cannot know
 * what became of it: this finds out, takes into the state what exists, and forgets what does not.
 */
import type { V1Job } from "@kubernetes/client-node";
import { ConcurrentUpdateError, type Stack } from "@pulumi/pulumi/automation";
import type { ClusterAccess } from "../kubernetes/access";
import { configOf } from "../kubernetes/client";
import { within } from "../kubernetes/deadline";
import { type HelmRecord, type ReleaseName, readRecords, removeRecords, unfinished } from "./helm";
import { breakStaleLocks } from "./locks";
import {
  type AssociationQuery,
  clusterOf,
  interruptedCreations,
  interruptedDeletions,
  plainValue,
  providerOf,
  remedyOf,
  resourceLabel,
  type StackState,
  type StateResource,
} from "./pending";
import { errorsIn, reasonOf } from "./stacks";

/** Longest that objects which are being deleted may take until they are gone, in milliseconds. */
const deletionPatience = 300_000;

/** Longest that a cluster may take for an answer without which there is no going on, in milliseconds. */
const clusterPatience = 60_000;

/** Longest that a cluster may take for an answer that can be done without, in milliseconds. */
const shortPatience = 10_000;

/** Seconds that a Helm operation may take where the release's own settings do not say so. */
const defaultHelmTimeout = 300;

const releaseType = "kubernetes:helm.sh/v3:Release";
const namespaceType = "kubernetes:core/v1:Namespace";

/** Tells what recovery does, in one line. */
export type Say = (text: string) => void;

/** What recovery works with. */
interface Recovery {
  stack: Stack;
  state: StackState;
  say: Say;
}

/**
 * Recovers a stack; does nothing, after one look at its state, where the last run ended by itself. Refuses, with what
 * to do, while another run is going on. Can itself be killed and run again.
 */
export async function recover(stack: Stack, say: Say): Promise<void> {
  const { deployment } = await stack.exportStack();
  const recovery = { stack, state: (deployment ?? {}) as StackState, say };
  const created = interruptedCreations(recovery.state);
  const deleted = interruptedDeletions(recovery.state);
  refuseUnknown(stack, created);
  const halfway = await findHalfway(recovery, created, deleted);
  if (created.length + deleted.length + halfway.length === 0) return;

  say("the last run was interrupted; finding out what became of it");
  for (const resource of deleted) await untilGone(recovery, resource);
  const removed = await endHalfway(recovery, halfway);
  // What is gone by now would otherwise be believed to be there.
  const doubtful = [...deleted, ...removed].map(({ urn }) => urn).filter((urn) => inState(recovery.state, urn));
  if (doubtful.length > 0) await refresh(recovery, doubtful);
  for (const resource of created) await adopt(recovery, resource);
  if (created.length > 0) await refresh(recovery, [], { clearPendingCreates: true });
}

/** Another run has the stack. */
class LockedError extends Error {}

/** Runs what needs the stack's lock; a lock whose holder was killed is removed first. */
export async function withLock<T>(stack: string, say: Say, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof ConcurrentUpdateError)) throw error;
    const broken = breakStaleLocks(error.message);
    if (!broken) throw new LockedError(lockedMessage(stack));
    say(`removed the lock of a run that was killed (process ${broken.join(", ")})`);
    return run();
  }
}

/**
 * Makes sure that the next run gets the stack's lock, by taking it once for something that changes nothing: one whose holder was
 * killed is removed. Throws, with what to do, while another run has it.
 */
export async function freeLock(stack: Stack, say: Say): Promise<void> {
  const { deployment } = await stack.exportStack();
  await refresh({ stack, state: (deployment ?? {}) as StackState, say }, []);
}

/** What to do while another run has a stack. */
export function lockedMessage(stack: string): string {
  return `Another update of ${stack} is in progress. Wait for it, or, if nothing runs any more: pulumi cancel --stack ${stack}`;
}

const inState = ({ resources = [] }: StackState, urn: string) => resources.some((resource) => resource.urn === urn);

/** Refreshes these resources, and the stack's own entry, which costs nothing: Pulumi takes no empty list. */
function refresh({ stack, state, say }: Recovery, urns: string[], options = {}): Promise<unknown> {
  const root = state.resources?.find(({ type }) => type === "pulumi:pulumi:Stack");
  const target = [...(root ? [root.urn] : []), ...urns];
  return withLock(stack.name, say, () => stack.refresh({ ...options, target, suppressProgress: true }));
}

/** Throws if something was interrupted of which nothing is known here. */
function refuseUnknown(stack: Stack, created: readonly StateResource[]): void {
  const unknown = created.filter((resource) => remedyOf(resource) === undefined);
  if (unknown.length === 0) return;
  const lines = unknown.map(
    ({ urn, type }) =>
      `${resourceLabel(urn)}: if it exists, pulumi import --stack ${stack.name} ${type} ${urn.split("::").at(-1)} <id>`,
  );
  throw new Error(
    `the last run of ${stack.name} was interrupted while it created what is not known here. Find out whether it exists:\n` +
      `  ${lines.join("\n  ")}\nThen: pulumi refresh --clear-pending-creates --stack ${stack.name}`,
  );
}

/** A release whose newest revision is unfinished. */
interface Halfway {
  /** Absent where the state does not know of the release: its installation failed before Pulumi could learn what there is. */
  resource?: StateResource;
  access: ClusterAccess;
  release: ReleaseName;
  records: HelmRecord[];
}

/** What a resource was asked to be, without marks of secrets. */
const inputsOf = ({ inputs = {} }: StateResource): Record<string, unknown> =>
  Object.fromEntries(Object.entries(inputs).map(([key, value]) => [key, plainValue(value)]));

/** The stack's releases of which nobody finishes the last operation, and those in its namespaces that its state has lost. */
async function findHalfway(
  { state }: Recovery,
  created: readonly StateResource[],
  deleted: readonly StateResource[],
): Promise<Halfway[]> {
  const ofState = (state.resources ?? []).filter((resource) => !resource.delete);
  const begun = (state.pending_operations ?? []).map(({ resource }) => resource.urn);
  const all = new Map([...ofState, ...created, ...deleted].map((one) => [one.urn, one]));
  const releases = [...all.values()].filter(({ type }) => type === releaseType);
  const found: Halfway[] = [];
  for (const resource of releases) {
    const access = clusterOf(state, resource);
    if (!access) continue;
    const { namespace, name, timeout } = inputsOf(resource) as unknown as ReleaseName & { timeout?: number };
    const known = begun.includes(resource.urn);
    let records: HelmRecord[];
    try {
      const there = await within(known ? clusterPatience : shortPatience, readRecords(access, namespace));
      records = unfinished(there.filter(({ release }) => release === name));
    } catch (error) {
      // Whether the cluster answers matters only if something was interrupted: else the run itself finds out.
      if (!known) continue;
      throw new Error(`what became of Helm release ${namespace}/${name} cannot be read: ${reasonOf(error)}`);
    }
    if (records.length === 0) continue;
    if (!known) refuseAtWork(state, { namespace, name }, records, timeout);
    found.push({ resource, access, release: { namespace, name }, records });
  }

  for (const resource of all.values()) {
    if (resource.type !== namespaceType) continue;
    const access = clusterOf(state, resource);
    const namespace = (inputsOf(resource).metadata as { name?: string } | undefined)?.name;
    if (!access || !namespace || releases.some((one) => inputsOf(one).namespace === namespace)) continue;
    const there = await within(shortPatience, readRecords(access, namespace)).catch(() => []);
    for (const name of new Set(there.map(({ release }) => release))) {
      const records = unfinished(there.filter(({ release }) => release === name));
      if (records.length === 0) continue;
      refuseAtWork(state, { namespace, name }, records);
      found.push({ access, release: { namespace, name }, records });
    }
  }
  return found;
}

/**
 * Throws if somebody may be at work on a release of which no operation was interrupted. Nobody is if its records are older than the
 * state, since a run writes that last, or older than any operation may take.
 */
export function refuseAtWork(
  { manifest }: StackState,
  { namespace, name }: ReleaseName,
  records: readonly HelmRecord[],
  timeout = defaultHelmTimeout,
): void {
  const writtenAt = Math.max(...records.map((record) => record.writtenAt));
  const seconds = Math.round((Date.now() - writtenAt) / 1000);
  if (seconds > timeout || writtenAt <= new Date(manifest?.time ?? 0).getTime()) return;
  throw new Error(
    `Helm release ${namespace}/${name} is ${records[0]!.status} since ${seconds} s. Wait for it, or, if nothing runs any ` +
      `more: kubectl -n ${namespace} delete secret ${records.map(({ secret }) => secret).join(" ")}`,
  );
}

/** Lets Helm begin anew where it was killed; returns the resources concerned. */
async function endHalfway(recovery: Recovery, halfway: readonly Halfway[]): Promise<StateResource[]> {
  if (halfway.length === 0) return [];
  // Takes the lock: whoever wrote these records before now is not at work any more.
  await refresh(recovery, []);
  for (const { access, release, records } of halfway) {
    await removeRecords(access, release, records);
    const { status, revision } = records[0]!;
    recovery.say(
      `Helm release ${release.namespace}/${release.name}: ${status} (revision ${revision}) and nobody at work on it; it begins anew`,
    );
  }
  return halfway.flatMap(({ resource }) => resource ?? []);
}

/** A Kubernetes object of the state in its cluster; undefined where the resource is none, or its cluster is not known. */
async function liveObject(state: StackState, resource: StateResource) {
  const access = clusterOf(state, resource);
  const { apiVersion, kind, metadata } = { ...resource.outputs, ...resource.inputs } as {
    apiVersion?: string;
    kind?: string;
    metadata?: { name?: string; namespace?: string };
  };
  if (!access || !apiVersion || !kind || !metadata?.name) return undefined;
  const { KubernetesObjectApi } = await import("@kubernetes/client-node");
  const api = KubernetesObjectApi.makeApiClient(await configOf(access));
  const { name, namespace } = metadata;
  const header = { apiVersion, kind, metadata: { name, ...(namespace ? { namespace } : {}) } };
  return {
    kind,
    name,
    namespace,
    /** The object as it is now; undefined if there is none. */
    async read() {
      try {
        return await within(clusterPatience, api.read(header));
      } catch (error) {
        if ((error as { code?: number }).code === 404) return undefined;
        throw new Error(`whether ${resourceLabel(resource.urn)} is there cannot be read: ${reasonOf(error)}`);
      }
    },
    /** Deletes it, with what it has started. */
    remove: () => within(clusterPatience, api.delete(header, undefined, undefined, undefined, undefined, "Background")),
  };
}

/** Deletes a Job that has failed: what is created in its name would be the failed one. */
async function removeFailedJob({ state, say }: Recovery, resource: StateResource): Promise<void> {
  const object = await liveObject(state, resource);
  const job = (await object?.read()) as V1Job | undefined;
  if (!job?.status?.conditions?.some(({ type, status }) => type === "Failed" && status === "True")) return;
  await object!.remove();
  say(`${resourceLabel(resource.urn)}: has failed; deleted`);
}

/** Waits until a Kubernetes object that is being deleted is gone: Pulumi would see it as being there. */
async function untilGone({ state, say }: Recovery, resource: StateResource): Promise<void> {
  const object = await liveObject(state, resource);
  if (!object) return;
  const { read, kind, name, namespace } = object;
  const deadline = Date.now() + deletionPatience;
  for (let told = false; ; told = true) {
    const seen = await read();
    if (!seen?.metadata?.deletionTimestamp) return;
    if (Date.now() > deadline) {
      throw new Error(
        `${resourceLabel(resource.urn)} is being deleted and not gone after ${deletionPatience / 1000} s. See what holds it: ` +
          `kubectl get ${kind.toLowerCase()} ${name}${namespace ? ` -n ${namespace}` : ""} -o yaml`,
      );
    }
    if (!told) say(`${resourceLabel(resource.urn)} is being deleted; waiting until it is gone`);
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** Takes an object into the state if it exists and cannot be created again. */
async function adopt(recovery: Recovery, resource: StateResource): Promise<void> {
  const { stack, state, say } = recovery;
  const label = resourceLabel(resource.urn);
  const remedy = remedyOf(resource);
  if (remedy === "create again unless it failed") await removeFailedJob(recovery, resource);
  if (remedy === undefined || typeof remedy === "string") {
    say(`${label}: is created again, whether it exists or not`);
    return;
  }
  const before = state.resources?.find((one) => one.urn === resource.urn && !one.delete);
  if (before && !before.pendingReplacement) {
    say(`${label}: is in the state already`);
    return;
  }
  const id = "id" in remedy ? remedy.id : await findAssociation(stack, remedy.association);
  const found = id !== undefined && (await importById(recovery, resource, id));
  say(found ? `${label}: exists as ${id}; taken into the state` : `${label}: was not created; will be`);
}

/** Imports one object; false if it does not exist. */
async function importById({ stack, say }: Recovery, resource: StateResource, id: string): Promise<boolean> {
  const { urn, type, parent, protect } = resource;
  const provider = providerOf(resource);
  const options = {
    resources: [
      {
        type,
        name: urn.split("::").slice(3).join("::"),
        id,
        ...(parent ? { parent: "parent" } : {}),
        ...(provider ? { provider: "provider" } : {}),
      },
    ],
    nameTable: { ...(parent ? { parent } : {}), ...(provider ? { provider } : {}) },
    protect: protect === true,
    generateCode: false,
  };
  try {
    await withLock(stack.name, say, () => stack.import(options));
    return true;
  } catch (error) {
    if (error instanceof LockedError) throw error;
    const errors = errorsIn(error);
    if (errors.some((text) => /resource '.*' does not exist/.test(text))) return false;
    throw new Error(
      `whether ${resourceLabel(urn)} exists as ${id} cannot be found out: ${errors[0] ?? reasonOf(error)}`,
    );
  }
}

/** Id of a service account's association, as an import takes it; undefined if there is none. */
async function findAssociation(stack: Stack, query: AssociationQuery): Promise<string | undefined> {
  const { value: region } = await stack.getConfig("aws:region");
  // Loaded only here, since few need it.
  const { EKSClient, ListPodIdentityAssociationsCommand } = await import("@aws-sdk/client-eks");
  const { associations } = await new EKSClient({ region }).send(new ListPodIdentityAssociationsCommand({ ...query }));
  const id = associations?.[0]?.associationId;
  return id === undefined ? undefined : `${query.clusterName},${id}`;
}
