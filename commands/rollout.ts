/**
 * The restart of a region's pods, one after the other, after a change of what they run. `npm run up` touches the other region when it is
 * over: otherwise a node of each region would be away at the same time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { V1StatefulSet } from "@kubernetes/client-node";
import { reasonOf } from "./stacks";

/** Type of the resource whose update may restart pods. */
export const releaseType = "kubernetes:helm.sh/v3:Release";

/** What of a rollout is left, in words; undefined if it is complete, or there is no StatefulSet whose pods could restart. Pure. */
export function rolloutLeft(set: V1StatefulSet | undefined): string | undefined {
  if (!set) return undefined;
  const { metadata, spec, status } = set;
  if ((status?.observedGeneration ?? 0) < (metadata?.generation ?? 0)) return "Kubernetes has not seen the change yet";
  if (status?.currentRevision === status?.updateRevision) return undefined;
  return `${status?.updatedReplicas ?? 0} of ${spec?.replicas ?? 0} have restarted, ${status?.readyReplicas ?? 0} are ready`;
}

/** How a rollout is waited for. Times in milliseconds. */
export interface RolloutWait {
  /** Reads the StatefulSet, undefined if there is none; may reject, and is asked again then. */
  read: () => Promise<V1StatefulSet | undefined>;
  stack: string;
  namespace: string;
  /** Told of each change of what is left. */
  say: (text: string) => void;
  /** Whether the command was told to end. */
  interrupted: () => boolean;
  /** How long nothing may change before it is given up. Default: five minutes. */
  patience?: number;
  /** Time between two looks. Default: one second. */
  pause?: number;
}

/** Waits until all pods have restarted. Throws, with the next command, if it is interrupted or they get no further. */
export async function awaitRollout(how: RolloutWait): Promise<void> {
  const { read, stack, namespace, say, interrupted, patience = 300_000, pause = 1_000 } = how;
  const watch = `kubectl -n ${namespace} rollout status statefulset/restate`;
  let last = "";
  let since = Date.now();
  for (;;) {
    const left = await read().then(rolloutLeft, reasonOf);
    if (left === undefined) {
      if (last) say("all pods have restarted");
      return;
    }
    if (left !== last) {
      say(`pods restart: ${left}`);
      last = left;
      since = Date.now();
    }
    if (interrupted()) throw new Error(`interrupted while pods restart: ${left}. Next: ${watch}, then npm run up`);
    if (Date.now() - since >= patience) {
      throw new Error(
        `pods restart no further: ${left}, for ${patience / 1000} s. The other region was left as it is. ` +
          `Next: kubectl -n ${namespace} get pods; when they are well, npm run up; ` +
          `to change what they run, pulumi up --stack ${stack}`,
      );
    }
    await sleep(pause);
  }
}
