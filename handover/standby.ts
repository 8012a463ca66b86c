/**
 * How many nodes a drained region runs where fewer are asked for (`standbyReplicas`).
 *
 * Its nodes hold records of older segments until those are trimmed, and to trim a segment enough of its nodes have to agree. If
 * they were stopped before, the logs could not be trimmed any more, not even in the region that serves: its volumes would fill.
 */
import { type Asking, said } from "../guard";
import { holdsRecords, type RemovalFacts, removalQueries } from "../restate/removal";
import { sqlCommand, sqlRows } from "../restate/sql";

/** What a region runs, and what it waits for if that is more than was asked for. */
export interface Running {
  replicas: number;
  pending?: string;
}

/** The drained region, and the numbers of its nodes: all of them, and as many as stand by. */
export interface Standby {
  region: string;
  stack: string;
  namespace: string;
  replicas: number;
  standbyReplicas: number;
}

/**
 * Asks the region's cluster whether its nodes still hold records: as many as stand by if not, or if no more than that are there
 * anyway, and else all. What cannot be found out stops no node. Never rejects.
 */
export async function standbyNow(asking: Asking, standby: Standby): Promise<Running> {
  const { region, stack, namespace, replicas, standbyReplicas } = standby;
  const stay = (why: string): Running => ({
    replicas,
    pending: `${region} keeps running all its nodes, not ${standbyReplicas}: ${why}. Next: pulumi up --stack ${stack}`,
  });
  try {
    const { pods, all } = await asking.look();
    if (all <= standbyReplicas) return { replicas: standbyReplicas };
    const failures: string[] = [];
    for (const pod of pods.sort()) {
      try {
        const [nodes, segments] = await Promise.all(
          (["nodes", "segments"] as const).map(async (key) =>
            sqlRows(await asking.run(pod, sqlCommand(removalQueries[key]))),
          ),
        );
        if (!holdsRecords(region, { nodes, segments } as Pick<RemovalFacts, "nodes" | "segments">))
          return { replicas: standbyReplicas };
        return stay(
          "they hold older records, and without them the logs could not be trimmed. Restate trims by itself, snapshots.trimDelay after " +
            `a snapshot; at once: kubectl -n ${namespace} exec ${pod} -- restatectl snapshots create --trim-log --yes`,
        );
      } catch (error) {
        failures.push(`${pod}: ${said(error)}`);
      }
    }
    return stay(
      `whether they hold records cannot be told, since no pod answers (${failures.join("; ") || "none is running"})`,
    );
  } catch (error) {
    return stay(`whether they hold records cannot be told (${said(error)})`);
  }
}
