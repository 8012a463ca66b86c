/** A node that loses its zone and its volume: what the next `up` does for it, and what an operator has to. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { NodeOutputs } from "../../outputs";
import { assertOneCluster, nodesSeenBy, restatectl, twoClusters } from "../support/cluster";
import { eventually, type Sandbox } from "../support/sandbox";

const annotation = (name: string) => `metadata.annotations["service.beta.kubernetes.io/aws-load-balancer-${name}"]`;

/** For a region where a pod may be in the same zone as another. */
export const podMoved = (sandbox: Sandbox) => {
  const [home] = twoClusters;
  const region = ["kubectl", "-n", "restate-region1"];
  const moved = "restate-1";
  const nodes = async () => (await sandbox.outputs("region1")).nodes as NodeOutputs[];
  /** What `up` does for the pod, and all that it does. */
  const movedBalancer = {
    op: "update",
    name: `load-balancers-${moved}`,
    type: "kubernetes:core/v1:Service",
    properties: [
      "metadata.annotations.restate-two-regions/version",
      'metadata.annotations["pulumi.com/waitFor"]',
      annotation("subnets"),
      annotation("target-node-labels"),
    ],
  };
  /** Node numbers by name, as the cluster was made. */
  let numbers: Map<string, string>;

  /** The pod starts again with a new, empty volume, wherever it fits. */
  const emptyVolume = async () => {
    await sandbox.must("region1", ...region, "delete", "pvc", `storage-${moved}`, "--wait=false");
    await sandbox.must("region1", ...region, "delete", "pod", moved);
  };
  const zoneOf = async (pod: string) => {
    const node = await eventually(
      60,
      () =>
        sandbox.must("region1", ...region, "get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.spec.nodeName}"),
      (name) => name !== "",
    );
    const { metadata } = JSON.parse(await sandbox.must("region1", "kubectl", "get", "node", node, "-o", "json")) as {
      metadata: { labels: Record<string, string> };
    };
    return metadata.labels["topology.kubernetes.io/zone"]!;
  };

  before(async () => {
    numbers = new Map((await assertOneCluster(sandbox)).map((node) => [node.name, node.plain_node_id]));
  });
  after(async () => {
    await sandbox.must("region1", "kubectl", "uncordon", "-l", "topology.kubernetes.io/zone");
  });

  test("the next up moves its load balancer into the pod's zone, and changes nothing else", async () => {
    const before = await nodes();
    const { zone: closed } = before.find((node) => node.pod === moved)!;
    await sandbox.must("region1", "kubectl", "cordon", "-l", `topology.kubernetes.io/zone=${closed}`);
    await emptyVolume();

    assert.deepEqual(await sandbox.up("region1"), [movedBalancer]);

    const zone = await zoneOf(moved);
    assert.notEqual(zone, closed);
    const now = await nodes();
    for (const node of now) {
      const was = before.find((one) => one.pod === node.pod)!;
      if (node.pod !== moved) assert.deepEqual(node, was);
      else {
        assert.equal(node.zone, zone);
        assert.notEqual(node.subnet, was.subnet);
        assert.deepEqual(node.loadBalancer, was.loadBalancer, "the load balancer is the same one");
      }
    }
    const { subnet, loadBalancer } = now.find((node) => node.pod === moved)!;
    const inAws = JSON.parse(
      await sandbox.must("region1", ...["aws", "elbv2", "describe-load-balancers", "--names", loadBalancer.name]),
    ) as { LoadBalancers: { AvailabilityZones: { ZoneName: string; SubnetId: string }[] }[] };
    assert.deepEqual(
      inAws.LoadBalancers.map((one) => one.AvailabilityZones.map((at) => [at.ZoneName, at.SubnetId])),
      [[[zone, subnet]]],
    );
    assert.deepEqual(await sandbox.up("region1"), []);
  });

  test("Restate refuses the node its old number, since its log is lost; without that number it joins again", async () => {
    const name = `${moved}.region1`;
    const number = numbers.get(name)!;
    const lost = await eventually(
      60,
      async () => (await nodesSeenBy(sandbox, home!, "restate-0")).find((node) => node.name === name),
      (node) => node?.storage_state === "data-loss",
    );
    assert.equal(lost?.plain_node_id, number);

    // Nothing may point at the lost disk any more: new segments are begun, and snapshots take the place of old ones.
    await restatectl(sandbox, home!, "restate-0", "logs", "reconfigure", "--log-id", "0-3", "--yes");
    await eventually(
      120,
      async () => {
        await restatectl(sandbox, home!, "restate-0", "snapshots", "create", "--trim-log", "--yes");
        const logs = [0, 1, 2, 3].map((log) =>
          restatectl(sandbox, home!, "restate-0", "logs", "describe", String(log)),
        );
        return (await Promise.all(logs)).join("\n");
      },
      (segments) => !segments.includes(`${number}]`) && !segments.includes(`${number},`),
    );
    // The pod, which starts again and again, makes itself a metadata member each time: out with it, and at once removed.
    await eventually(
      120,
      async () => {
        await restatectl(sandbox, home!, "restate-0", "metadata-server", "remove-node", number, "--yes").catch(
          () => "",
        );
        await restatectl(sandbox, home!, "restate-0", "nodes", "remove", "--nodes", number, "--yes").catch(() => "");
        return (await nodesSeenBy(sandbox, home!, "restate-0")).map((node) => node.plain_node_id);
      },
      (left) => left.length >= 5 && !left.includes(number),
    );
    // The new volume has the old number on it by now, with which the node would ask in vain to be a metadata member.
    await emptyVolume();

    // Where the scheduler has put the pod this time, and its load balancer with it.
    const here = await zoneOf(moved);
    const was = (await nodes()).find((node) => node.pod === moved)!.zone;
    assert.deepEqual(await sandbox.up("region1"), here === was ? [] : [movedBalancer]);
    const all = new Map((await assertOneCluster(sandbox)).map((node) => [node.name, node.plain_node_id]));
    assert.notEqual(all.get(name), number);
    for (const [other, was] of numbers) if (other !== name) assert.equal(all.get(other), was);
    assert.deepEqual(await sandbox.up("region1"), []);
  });
};
