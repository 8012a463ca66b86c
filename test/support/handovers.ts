/** What tests expect of a cluster that was handed over, as its own tables tell it. */
import assert from "node:assert/strict";
import { type RegionName, regionNames, type Serving } from "../../topology";
import { eventually, type Sandbox } from "./sandbox";

/** Chooses the Jobs of handovers, and their pods. */
export const handoverJobs = ["-l", "app.kubernetes.io/component=handover"];

/** All that a handover decides about, as the cluster tells it. */
export async function clusterState(sandbox: Sandbox) {
  const [nodes, logs, leaders, replicas] = await Promise.all([
    sandbox.query<Record<string, string>>(
      "region2",
      "select plain_node_id as id, location, state, storage_state, worker_state, metadata_server_state from nodes order by name",
    ),
    sandbox.query<Record<string, string>>(
      "region2",
      "select log_id, segment_index, replication, nodeset from logs_tail_segments order by log_id",
    ),
    sandbox.query<{ location: RegionName }>(
      "region2",
      "select n.location from partitions p join nodes n on p.leader_plain_node_id = n.plain_node_id order by p.partition_id",
    ),
    sandbox.query<{ location: RegionName }>(
      "region2",
      "select distinct n.location from partition_replica_set r join nodes n on r.plain_node_id = n.plain_node_id order by 1",
    ),
  ]);
  return { nodes, logs, leaders: leaders.map((one) => one.location), lives: replicas.map((one) => one.location) };
}

/** The cluster is where `serving` wants it, as its own tables tell; leaders spread over the regions that serve if that can be asked for. */
export async function assertClusterServedBy(sandbox: Sandbox, serving: Serving, spread = true): Promise<void> {
  const { nodes, logs, leaders, lives } = await clusterState(sandbox);
  const serves = (location: string) => serving === "both" || serving === location;
  for (const { id, location, ...states } of nodes) {
    const expected = serves(location!)
      ? { state: "alive", storage_state: "read-write", worker_state: "active", metadata_server_state: "member" }
      : {
          state: states.state,
          storage_state: "read-only",
          worker_state: "draining",
          metadata_server_state: "standby",
        };
    assert.deepEqual(states, expected, `${id} in ${location}`);
  }
  const places = serving === "both" ? regionNames : [serving];
  const placeOf = new Map(nodes.map(({ id, location }) => [id, location]));
  assert.equal(logs.length, 4);
  for (const log of logs) {
    // The cluster may choose fewer nodes than there are.
    const found = new Set(log.nodeset!.match(/N\d+/g)!.map((id) => placeOf.get(id)));
    assert.deepEqual([...found].sort(), places, JSON.stringify(log));
    assert.equal(log.replication, serving === "both" ? "{node: 3, region: 2}" : "{node: 2}");
  }
  assert.deepEqual(lives, places);
  assert.equal(leaders.length, 4);
  if (!spread)
    assert.deepEqual(
      leaders.filter((one) => !serves(one)),
      [],
    );
  else for (const place of places) assert.equal(leaders.filter((one) => one === place).length, 4 / places.length);
}

/** The same, and both stacks say so. */
export async function assertServedBy(sandbox: Sandbox, serving: Serving): Promise<void> {
  await assertClusterServedBy(sandbox, serving);
  for (const region of regionNames) {
    // Nodes that may stand by go on until logs are trimmed, which may be later.
    const pending = ((await sandbox.outputs(region)).pending as string[]).filter(
      (one) => !one.startsWith(`${region} keeps running all its nodes, not `),
    );
    assert.deepEqual(pending, [], region);
  }
}

/** Waits until a handover's Job in a region says in its log that it has come to a step; what the log was then. */
export const comesTo = (sandbox: Sandbox, region: RegionName, step: string, over = () => false): Promise<string> =>
  eventually(
    120,
    async () =>
      (await sandbox.tool(region, "kubectl", "-n", `restate-${region}`, "logs", "--tail=-1", ...handoverJobs)).stdout,
    (log) => log.includes(step) || over(),
  );

/** Kills the pod of the handover that runs in a region. */
export const killHandover = (sandbox: Sandbox, region: RegionName): Promise<string> =>
  sandbox.must(
    region,
    ...["kubectl", "-n", `restate-${region}`, "delete", "pod", ...handoverJobs],
    ...["--field-selector=status.phase=Running", "--grace-period=0", "--force"],
  );

/** How many segments of all logs are on one of these nodes, given by their ids. */
export async function segmentsOn(sandbox: Sandbox, ids: readonly string[]): Promise<number> {
  const segments = await sandbox.query<{ nodeset?: string }>("region1", "select nodeset from logs");
  return segments.filter(({ nodeset }) => ids.some((id) => nodeset?.match(new RegExp(`${id}\\b`)))).length;
}
