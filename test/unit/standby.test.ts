/** When a drained region may run fewer nodes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Asking } from "../../guard";
import { type Standby, standbyNow } from "../../handover/standby";
import { removalQueries } from "../../restate/removal";

const standby: Standby = {
  region: "region1",
  stack: "region1",
  namespace: "restate-region1",
  replicas: 3,
  standbyReplicas: 1,
};

/** Six nodes, three in each region, and the nodes of every segment there is. */
function cluster(nodesets: (string | null)[], more: { all?: number; dead?: string[] } = {}): Asking {
  const pods = ["restate-1", "restate-0", "restate-2"];
  return {
    look: async () => ({ pods, all: more.all ?? 3, claims: 3 }),
    run: async (pod, command) => {
      if (more.dead?.includes(pod)) throw new Error("connection refused\nand more");
      const query = command.at(-1);
      if (query === removalQueries.nodes)
        return JSON.stringify(
          [1, 2, 3, 4, 5, 12].map((n, i) => ({ plain_node_id: `N${n}`, location: i < 3 ? "region1" : "region2" })),
        );
      if (query === removalQueries.segments)
        return JSON.stringify(nodesets.map((nodeset, log_id) => ({ log_id, nodeset })));
      return assert.fail(`an unknown query: ${query}`);
    },
  };
}

const clear = ["[N4, N5, N12]", null, "[N12]"];
const kept = (why: string) => ({
  replicas: 3,
  pending: `region1 keeps running all its nodes, not 1: ${why}. Next: pulumi up --stack region1`,
});
const holding = (pod: string) =>
  kept(
    "they hold older records, and without them the logs could not be trimmed. Restate trims by itself, snapshots.trimDelay after " +
      `a snapshot; at once: kubectl -n restate-region1 exec ${pod} -- restatectl snapshots create --trim-log --yes`,
  );

describe("fewer nodes in a drained region", () => {
  test("once no segment is on one of its nodes", async () => {
    assert.deepEqual(await standbyNow(cluster(clear), standby), { replicas: 1 });
    assert.deepEqual(await standbyNow(cluster(clear), { ...standby, standbyReplicas: 0 }), { replicas: 0 });
  });
  test("not while one is", async () => {
    for (const nodeset of ["[N1]", "[N4, N2]", "[N3, N5]"])
      assert.deepEqual(await standbyNow(cluster([...clear, nodeset]), standby), holding("restate-0"));
  });
  test("those that were stopped already stay so", async () => {
    assert.deepEqual(await standbyNow(cluster(["[N1]"], { all: 1 }), standby), { replicas: 1 });
    assert.deepEqual(await standbyNow(cluster(["[N1]"], { all: 2 }), standby), holding("restate-0"));
  });
  test("what cannot be found out stops no node", async () => {
    assert.deepEqual(await standbyNow(cluster(["[N1]"], { dead: ["restate-0"] }), standby), holding("restate-1"));
    assert.deepEqual(
      await standbyNow(cluster(clear, { dead: ["restate-0", "restate-1", "restate-2"] }), standby),
      kept(
        "whether they hold records cannot be told, since no pod answers (restate-0: connection refused; restate-1: connection refused; " +
          "restate-2: connection refused)",
      ),
    );
    const silent: Asking = {
      look: () => Promise.reject(new Error("timed out")),
      run: async () => assert.fail("asked"),
    };
    assert.deepEqual(await standbyNow(silent, standby), kept("whether they hold records cannot be told (timed out)"));
  });
});
