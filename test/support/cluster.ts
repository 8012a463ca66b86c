/** What tests expect of the Restate cluster of a sandbox, as its own nodes tell it. */
import assert from "node:assert/strict";
import { eventually, type Sandbox } from "./sandbox";

/** The nodes of one region, and where their pods are. */
export interface Place {
  /** Restate's location, which is part of the nodes' names. */
  location: string;
  /** The sandbox's region in whose Kubernetes cluster the pods run. */
  cluster: string;
  namespace: string;
}

/** Both regions as they are by default: a Kubernetes cluster each. */
export const twoClusters: readonly Place[] = ["region1", "region2"].map((region) => ({
  location: region,
  cluster: region,
  namespace: `restate-${region}`,
}));

/** One row of Restate's table of nodes. */
export interface NodeRow {
  plain_node_id: string;
  name: string;
  location: string;
  state: string;
  storage_state: string;
  metadata_server_state: string;
}

/** Runs restatectl in a pod; throws if it fails. */
export function restatectl(sandbox: Sandbox, place: Place, pod: string, ...words: string[]): Promise<string> {
  const { cluster, namespace } = place;
  return sandbox.must(cluster, "kubectl", "-n", namespace, "exec", pod, "--", "restatectl", ...words);
}

/** The cluster's nodes as one pod sees them, by name; none where the pod belongs to no cluster or does not answer. */
export async function nodesSeenBy(sandbox: Sandbox, place: Place, pod: string): Promise<NodeRow[]> {
  const { cluster, namespace } = place;
  const { stdout } = await sandbox.tool(
    cluster,
    ...["kubectl", "-n", namespace, "exec", pod, "--", "restatectl", "sql", "--json"],
    "select plain_node_id, name, location, state, storage_state, metadata_server_state from nodes order by name",
  );
  const begin = stdout.indexOf("[");
  return begin < 0 ? [] : (JSON.parse(stdout.slice(begin)) as NodeRow[]);
}

/**
 * All six pods belong to one and the same cluster: each sees the same six nodes, three in each region, all alive, all
 * writable, all metadata members; and one Job alone has provisioned, in the home region. Returns the nodes.
 */
export async function assertOneCluster(sandbox: Sandbox, places = twoClusters): Promise<NodeRow[]> {
  const expected = [0, 1, 2].flatMap((i) =>
    places.map(({ location }) => ({
      name: `restate-${i}.${location}`,
      location,
      state: "alive",
      storage_state: "read-write",
      metadata_server_state: "member",
    })),
  );
  const complete = (view: NodeRow[]) =>
    view.length === 6 && view.every((node) => node.state === "alive" && node.metadata_server_state === "member");
  // Asked of one node until it is so: each question starts a process.
  await eventually(120, () => nodesSeenBy(sandbox, places[0]!, "restate-0"), complete);
  const views = await eventually(
    60,
    () => Promise.all(places.flatMap((place) => [0, 1, 2].map((i) => nodesSeenBy(sandbox, place, `restate-${i}`)))),
    (all) => all.every(complete),
  );
  for (const view of views) {
    assert.deepEqual(view, views[0]);
    assert.deepEqual(
      view.map(({ plain_node_id: _, ...node }) => node),
      expected,
    );
  }
  assert.equal(new Set(views[0]!.map((node) => node.plain_node_id)).size, 6);

  // A cluster that was handed over has Jobs of handovers too.
  const provisioning = ["-l", "app.kubernetes.io/component=provisioning"];
  const jobs = await Promise.all(
    places.map(async ({ cluster, namespace }) => {
      const listed = await sandbox.must(
        cluster,
        "kubectl",
        "-n",
        namespace,
        "get",
        "jobs",
        "-o",
        "name",
        ...provisioning,
      );
      return listed.trim().split("\n").filter(Boolean);
    }),
  );
  assert.deepEqual(
    jobs.map((names) => names.length),
    places.map((_, i) => (i === 0 ? 1 : 0)),
    `Jobs: ${JSON.stringify(jobs)}`,
  );
  const { cluster, namespace } = places[0]!;
  const log = await sandbox.must(cluster, "kubectl", "-n", namespace, "logs", jobs[0]![0]!);
  assert.match(log, /provisioning: logs \{node: 3, region: 2\}/);
  assert.match(log, /done: 6 nodes in cluster restate/);
  return views[0]!;
}
