/** What a Restate cluster would lose with one region's nodes. Pure. */

/** One row of Restate's table `nodes`. */
interface RemovalNode {
  /** Restate's number of the node, e.g. `N4`. */
  plain_node_id: string;
  state: string;
  location: string;
  metadata_server_state: string;
}

/** The cluster, as far as a removal depends on it. */
export interface RemovalFacts {
  nodes: RemovalNode[];
  /**
   * The newest segment of each log, and the nodes that hold its records, printed as a list: `[N4, N5]`. restatectl leaves
   * out what is null, as the nodeset of a sealed log is.
   */
  logs: { log_id: number; nodeset?: string | null }[];
  /** Every segment of every log that is not trimmed yet, with its nodes. */
  segments: { log_id: number; nodeset?: string | null }[];
  /** One row for each partition and each node that has a processor of it. */
  partitions: {
    partition_id: number;
    plain_node_id: string;
    replay_status: string | null;
  }[];
}

/** The queries that give the facts. */
export const removalQueries: { [K in keyof RemovalFacts]: string } = {
  nodes: "select plain_node_id, state, location, metadata_server_state from nodes",
  logs: "select log_id, nodeset from logs_tail_segments order by log_id",
  segments: "select log_id, nodeset from logs order by log_id",
  partitions: "select partition_id, plain_node_id, replay_status from partition_state",
};

/** `partition 1`, `partitions 1, 2`. */
function listed(word: string, numbers: Iterable<number>): string {
  const all = [...new Set(numbers)].sort((a, b) => a - b);
  return `${word}${all.length === 1 ? "" : "s"} ${all.join(", ")}`;
}

/** Restate's numbers of the nodes in a list that it printed. */
const numbersIn = (nodeset: string | null | undefined): string[] => nodeset?.match(/N\d+/g) ?? [];

/** Whether nodes of the region hold records of any log, old or new. Without those nodes no log that has some can be trimmed. */
export function holdsRecords(region: string, { nodes, segments }: Pick<RemovalFacts, "nodes" | "segments">): boolean {
  const holding = new Set(segments.flatMap(({ nodeset }) => numbersIn(nodeset)));
  return nodes.some((node) => node.location === region && holding.has(node.plain_node_id));
}

/**
 * Everything that the cluster needs of a region's nodes, one sentence each; empty if the region can go.
 *
 * - A majority of the metadata members must remain, or the cluster cannot change anything ever again.
 * - No log may write to nodes of the region: writes would stop, or their only copies would go.
 * - No older segment may name nodes of the region: without them its log cannot be trimmed, and nodes that come back later as new
 *   ones find records of theirs lost.
 * - Every partition must have a caught-up processor on a live node elsewhere.
 */
export function neededOf(region: string, facts: RemovalFacts): string[] {
  const needs: string[] = [];
  const own = new Set(facts.nodes.filter((node) => node.location === region).map((node) => node.plain_node_id));
  if (own.size === 0) return needs;

  const members = facts.nodes.filter((node) => node.metadata_server_state === "member");
  const elsewhere = members.filter((node) => !own.has(node.plain_node_id));
  const alive = new Set(facts.nodes.filter((node) => node.state === "alive").map((node) => node.plain_node_id));
  const left = elsewhere.filter((node) => alive.has(node.plain_node_id)).length;
  const majority = Math.floor(members.length / 2) + 1;
  if (elsewhere.length < members.length && left < majority) {
    needs.push(
      `${members.length - elsewhere.length} of the ${members.length} metadata members are in ${region}: ${left} would be left alive, and a majority is ${majority}`,
    );
  }

  const here = ({ nodeset }: { nodeset?: string | null }) => numbersIn(nodeset).some((node) => own.has(node));
  const logs = facts.logs.filter(here);
  if (logs.length > 0) {
    const ids = logs.map((log) => log.log_id);
    needs.push(`${listed("log", ids)}: new records are written to nodes of ${region}`);
  }

  const written = new Set(logs.map((log) => log.log_id));
  const older = facts.segments.filter((segment) => here(segment) && !written.has(segment.log_id));
  if (older.length > 0) {
    const ids = older.map((segment) => segment.log_id);
    needs.push(
      `${listed("log", ids)}: older records are on nodes of ${region}, and cannot be trimmed without them; in a pod, until none is left: restatectl snapshots create --trim-log --yes`,
    );
  }

  const undecided = facts.logs.filter(({ nodeset }) => !nodeset).map((log) => log.log_id);
  if (undecided.length > 0) {
    needs.push(`${listed("log", undecided)}: sealed, and where the next records go is not decided yet`);
  }

  const carried = new Set(
    facts.partitions
      .filter((row) => !own.has(row.plain_node_id) && alive.has(row.plain_node_id) && row.replay_status === "active")
      .map((row) => row.partition_id),
  );
  const alone = facts.partitions.map((row) => row.partition_id).filter((id) => !carried.has(id));
  if (alone.length > 0) {
    needs.push(`${listed("partition", alone)}: no caught-up processor on a live node outside ${region}`);
  }
  return needs;
}
