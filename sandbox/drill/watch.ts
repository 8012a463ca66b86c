/**
 * Looks at the cluster about twice a second: one loop in a pod, which asks its own node and is held over one exec, so that
 * looking costs the cluster one small query each time and nothing else.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { sqlRows } from "../../restate/sql";
import { toolPath } from "../toolchain";
import { hostKubeconfig } from "../world/access";
import type { Sample } from "./record";

/** Where a region's nodes are. */
export interface Place {
  region: string;
  namespace: string;
}

/** Everything that a sample holds, as rows of one shape: a statement for each part would be a program start for each. */
const statement = `
  select 'partition' as kind, cast(p.partition_id as varchar) as id, p.leader_plain_node_id as a, l.replication as b, l.nodeset as c, '' as d, '' as e
  from partitions p left join logs_tail_segments l on l.log_id = p.log_id
  union all
  select 'node', plain_node_id, name, location, storage_state, worker_state, metadata_server_state from nodes`;

interface Row {
  kind: "partition" | "node";
  id: string;
  a: string | null;
  b: string | null;
  c: string | null;
  d: string;
  e: string;
}

/** A line of the loop: seconds since 1970 and what restatectl printed. Undefined where it printed no rows. Pure. */
export function readSample(line: string): Sample | undefined {
  const [, seconds, printed] = /^(\d+[.,]\d+) (.*)$/.exec(line) ?? [];
  if (!seconds || !printed) return undefined;
  let rows: Row[];
  try {
    rows = sqlRows<Row>(printed);
  } catch {
    return undefined;
  }
  const partitions = rows
    .filter(({ kind }) => kind === "partition")
    .map(({ id, a, b, c }) => ({
      id: Number(id),
      leader: a,
      replication: b,
      nodeset: c?.match(/N\d+/g)?.sort((one, other) => Number(one.slice(1)) - Number(other.slice(1))) ?? [],
    }))
    .sort((one, other) => one.id - other.id);
  const nodes = rows
    .filter(({ kind }) => kind === "node")
    .map(({ id, a, b, c, d, e }) => ({ id, name: a!, region: b!, storage: c!, worker: d, metadata: e }))
    .sort((one, other) => one.region.localeCompare(other.region) || one.name.localeCompare(other.name));
  if (partitions.length === 0 || nodes.length === 0) return undefined;
  return { at: 1000 * Number(seconds.replace(",", ".")), partitions, nodes };
}

/** The loop: it waits by reading, and so ends with whoever holds the other end of its input. */
const loop = (interval: number) => `
  while :; do
    printf '%s %s\\n' "$EPOCHREALTIME" "$(timeout 5 restatectl sql --json "$1" 2>/dev/null | tr -d '\\n')"
    read -r -t ${interval / 1000} _ || [ $? -gt 128 ] || exit 0
  done`;

/** Someone who looks. */
export interface Watch {
  readonly samples: readonly Sample[];
  stop(): Promise<void>;
}

/**
 * Begins to look, every `interval` milliseconds. Where the pod goes away, one of the next region is asked; what cannot be
 * seen is missing from the samples.
 */
export function startWatch(places: readonly Place[], interval: number): Watch {
  const samples: Sample[] = [];
  let child: ChildProcess | undefined;
  let stopped = false;
  let turn = 0;
  const follow = async (): Promise<void> => {
    while (!stopped) {
      const { region, namespace } = places[turn++ % places.length]!;
      child = spawn(
        toolPath("kubectl"),
        [
          ...[
            "--kubeconfig",
            hostKubeconfig(region),
            "-n",
            namespace,
            "exec",
            "-i",
            "restate-0",
            "-c",
            "restate",
            "--",
          ],
          ...["bash", "-c", loop(interval), "bash", statement],
        ],
        { stdio: ["pipe", "pipe", "ignore"] },
      );
      const ended = new Promise((done) => child!.once("close", done).once("error", done));
      // Closing it is how the loop is told to end; it may have ended by itself.
      child.stdin!.on("error", () => {});
      for await (const line of createInterface({ input: child.stdout! })) {
        const sample = readSample(line);
        if (sample) samples.push(sample);
      }
      await ended;
      if (!stopped) await new Promise((done) => setTimeout(done, interval));
    }
  };
  const followed = follow();
  return {
    samples,
    async stop() {
      stopped = true;
      child?.stdin?.end();
      const late = setTimeout(() => child?.kill(), 5_000);
      await followed;
      clearTimeout(late);
    },
  };
}
