/** What a Job's pods print: followed while it runs, and the last line of one that has succeeded. */
import { setTimeout as sleep } from "node:timers/promises";
import type { V1PodList } from "@kubernetes/client-node";
import type { ClusterAccess } from "./access";
import { type Read, reader } from "./reader";

/** Longest that one question may take, in milliseconds. */
const patience = 15_000;

/** How long a Job may take before anybody asks what it does, and how often it is asked then, in milliseconds. */
const firstLook = 1_500;
const interval = 500;

const podsOf = (read: Read, namespace: string, job: string) =>
  read<V1PodList>(
    `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(`job-name=${job}`)}`,
    AbortSignal.timeout(patience),
  );

/**
 * The last line that the newest pod of a Job printed, which is JSON. Rejects where there is no such pod any more, or its
 * log is gone.
 */
export async function lastLineOfJob(access: ClusterAccess, namespace: string, job: string): Promise<unknown> {
  const read = await reader(access);
  const { items } = await podsOf(read, namespace, job);
  const pod = items
    .filter(({ status }) => status?.phase === "Succeeded")
    .sort((a, b) => String(b.metadata?.creationTimestamp).localeCompare(String(a.metadata?.creationTimestamp)))[0];
  if (!pod) throw new Error(`no pod of Job ${job} is left that succeeded`);
  const path = `/api/v1/namespaces/${namespace}/pods/${pod.metadata?.name}/log?tailLines=1`;
  return read(path, AbortSignal.timeout(patience));
}

/**
 * Tells what the pods of a Job print from now on, line by line, without lines of JSON, until the returned function is
 * called; that one resolves when the last lines have been told. Pods that have ended by now are of an earlier run. A Job that is
 * done at once is never asked. What cannot be read is left out: the Job's own end tells whether it worked.
 */
export function followJob(
  access: ClusterAccess,
  namespace: string,
  job: string,
  tell: (line: string) => void,
): () => Promise<void> {
  const stopping = new AbortController();
  const told = new Map<string, number>();
  let earlier: Set<string> | undefined;

  async function look(read: Read): Promise<void> {
    const { items } = await podsOf(read, namespace, job);
    const names = items.flatMap(({ metadata }) => metadata?.name ?? []);
    earlier ??= new Set(
      items.flatMap(({ metadata, status }) =>
        metadata?.name && ["Succeeded", "Failed"].includes(status?.phase ?? "") ? [metadata.name] : [],
      ),
    );
    for (const name of names.filter((one) => !earlier?.has(one))) {
      const path = `/api/v1/namespaces/${namespace}/pods/${name}/log`;
      const log = await read(path, AbortSignal.timeout(patience), (text) => text).catch(() => "");
      const lines = log
        .slice(0, log.lastIndexOf("\n") + 1)
        .split("\n")
        .slice(0, -1);
      for (const line of lines.slice(told.get(name) ?? 0)) if (!line.startsWith("{")) tell(line);
      told.set(name, lines.length);
    }
  }

  const following = (async () => {
    // Neither keeps the process: it is for as long as somebody waits for the Job.
    const pause = (milliseconds: number) =>
      sleep(milliseconds, undefined, { signal: stopping.signal, ref: false }).catch(() => {});
    await pause(firstLook);
    if (stopping.signal.aborted) return;
    const read = await reader(access);
    while (!stopping.signal.aborted) {
      await look(read).catch(() => {});
      await pause(interval);
    }
    await look(read).catch(() => {});
  })().catch(() => {});
  return () => {
    stopping.abort();
    return following;
  };
}
