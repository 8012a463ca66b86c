/** What a Job's pod printed last. */
import type { V1PodList } from "@kubernetes/client-node";
import type { ClusterAccess } from "./access";
import { reader } from "./reader";

/** Longest that one question may take, in milliseconds. */
const patience = 15_000;

/**
 * The last line that the newest pod of a Job printed, which is JSON. Rejects where there is no such pod any more, or its
 * log is gone.
 */
export async function lastLineOfJob(access: ClusterAccess, namespace: string, job: string): Promise<unknown> {
  const read = await reader(access);
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const { items } = await read<V1PodList>(
    `${path}?labelSelector=${encodeURIComponent(`job-name=${job}`)}`,
    AbortSignal.timeout(patience),
  );
  const pod = items
    .filter(({ status }) => status?.phase === "Succeeded")
    .sort((a, b) => String(b.metadata?.creationTimestamp).localeCompare(String(a.metadata?.creationTimestamp)))[0];
  if (!pod) throw new Error(`no pod of Job ${job} is left that succeeded`);
  return read(`${path}/${pod.metadata?.name}/log?tailLines=1`, AbortSignal.timeout(patience));
}
