/** Both regions as two namespaces of one Kubernetes cluster, with the stack files that the documentation shows. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse, stringify } from "yaml";
import type { NodeOutputs } from "../../outputs";
import { assertOneCluster, type Place } from "../support/cluster";
import { eventually, Sandbox } from "../support/sandbox";

type Config = Record<string, unknown>;

/** The example's content as an operator would edit it: `second` applies what its marks say. */
function exampleConfig(second: boolean): Config {
  const text = readFileSync(resolve(__dirname, "../../docs/Pulumi.one-cluster.example.yaml"), "utf8");
  const edited = second ? text.replace(/: \S+ # \(2\) (\S+)/g, ": $1") : text;
  return (parse(edited) as { config: Config }).config;
}

describe("both regions in one Kubernetes cluster", () => {
  const sandbox = new Sandbox();
  const stacks = ["try1", "try2"] as const;
  const places: Place[] = ["region1", "region2"].map((location) => ({
    location,
    cluster: "region1",
    namespace: `restate-${location}`,
  }));

  before(async () => {
    await sandbox.command("up", "--world-only");
    const project = join(sandbox.folder, "project");
    const { config: world } = parse(readFileSync(join(project, "Pulumi.region1.yaml"), "utf8")) as { config: Config };
    const subnet = Object.values((world["restate:subnets"] as { byZone: Record<string, string> }).byZone)[0]!;
    const vpcId = await sandbox.must(
      "region1",
      ...["aws", "ec2", "describe-subnets", "--subnet-ids", subnet, "--query", "Subnets[0].VpcId", "--output", "text"],
    );
    for (const [i, stack] of stacks.entries()) {
      await sandbox.addStack(stack, "region1");
      await sandbox.must(stack, "pulumi", "stack", "init", stack, "--no-select");
      const example = exampleConfig(i === 1);
      const { discover } = example["restate:subnets"] as { discover: Config };
      const { namespace } = example["restate:kubernetes"] as { namespace: string };
      // Of the sandbox is only where things are, and how small; all that makes it one cluster is the example's.
      const config = {
        ...world,
        ...example,
        ...Object.fromEntries(
          ["restate:accountId", "restate:identity", "restate:loadBalancers", "restate:resources"].map((key) => [
            key,
            world[key],
          ]),
        ),
        "restate:kubernetes": { ...(world["restate:kubernetes"] as Config), namespace },
        "restate:subnets": { discover: { ...discover, vpcId: vpcId.trim() } },
      };
      const file = join(project, `Pulumi.${stack}.yaml`);
      const initial = existsSync(file) ? (parse(readFileSync(file, "utf8")) as Config) : {};
      writeFileSync(file, stringify({ ...initial, config }));
    }
  });
  after(() => sandbox.stop());

  test("six nodes in two namespaces form one cluster of two locations", async () => {
    const report = JSON.parse(
      await sandbox.must("try1", ...["npm", "run", "-s", "up", "--", "--yes", "--json", "--stacks", stacks.join(",")]),
    ) as { settled: boolean; pending: Record<string, string[]> };
    assert.equal(report.settled, true);
    assert.deepEqual(report.pending, { try1: [], try2: [] });
    await assertOneCluster(sandbox, places);
  });

  test("each node has a load balancer of its own, in the zone of its pod", async () => {
    const balancers = JSON.parse(await sandbox.must("try1", "aws", "elbv2", "describe-load-balancers")) as {
      LoadBalancers: { LoadBalancerName: string; AvailabilityZones: { ZoneName: string; SubnetId: string }[] }[];
    };
    assert.deepEqual(
      balancers.LoadBalancers.map((one) => one.LoadBalancerName).sort(),
      ["region1", "region2"].flatMap((region) => [0, 1, 2].map((i) => `restate-${region}-${i}`)),
    );
    for (const stack of stacks) {
      for (const node of (await sandbox.outputs(stack)).nodes as NodeOutputs[]) {
        const found = balancers.LoadBalancers.find((one) => one.LoadBalancerName === node.loadBalancer.name);
        assert.deepEqual(
          found?.AvailabilityZones.map((zone) => [zone.ZoneName, zone.SubnetId]),
          [[node.zone, node.subnet]],
        );
      }
    }
  });

  test("the role trusts the service accounts of both namespaces and no other", async () => {
    const { role } = (await sandbox.outputs("try1")) as { role: { arn: string } };
    const name = role.arn.split("/").at(-1)!;
    const trust = JSON.parse(
      await sandbox.must(
        "try1",
        ...["aws", "iam", "get-role", "--role-name", name, "--query", "Role.AssumeRolePolicyDocument"],
      ),
    ) as { Statement: { Condition: { StringEquals: Record<string, string | string[]> } }[] };
    const subjects = trust.Statement.flatMap(({ Condition }) =>
      Object.entries(Condition.StringEquals).flatMap(([key, value]) => (key.endsWith(":sub") ? value : [])),
    );
    assert.deepEqual(subjects.sort(), [
      "system:serviceaccount:restate-region1:restate",
      "system:serviceaccount:restate-region2:restate",
    ]);
  });

  test("snapshots of both namespaces reach both buckets", async () => {
    const buckets = await Promise.all(
      stacks.map(async (stack) => ((await sandbox.outputs(stack)).bucket as { name: string }).name),
    );
    await sandbox.must(
      "try1",
      ...["kubectl", "-n", "restate-region2", "exec", "restate-0", "--", "restatectl", "snapshots", "create"],
    );
    const keys = async (bucket: string) => {
      const listed = await sandbox.must(
        "try1",
        ...["aws", "s3api", "list-objects-v2", "--bucket", bucket, "--query", "Contents[].Key"],
      );
      return ((JSON.parse(listed || "null") as string[] | null) ?? []).sort();
    };
    const [one] = await eventually(
      60,
      () => Promise.all(buckets.map(keys)),
      ([a, b]) => a!.length > 0 && JSON.stringify(a) === JSON.stringify(b),
    );
    assert.ok(one!.some((key) => key.endsWith("latest.json")));
  });

  test("a further up of either stack changes nothing", async () => {
    for (const stack of stacks) assert.deepEqual(await sandbox.up(stack), []);
  });

  test("destroying both leaves nothing behind", async () => {
    await Promise.all(stacks.map((stack) => sandbox.giveUp(stack)));
    assert.doesNotMatch(await sandbox.must("region1", "kubectl", "get", "namespaces", "-o", "name"), /restate/);
    const left = async (...command: string[]) =>
      JSON.parse((await sandbox.must("region1", "aws", ...command)) || "null") as string[] | null;
    assert.deepEqual(await left("elbv2", "describe-load-balancers", "--query", "LoadBalancers[].LoadBalancerName"), []);
    assert.deepEqual(await left("s3api", "list-buckets", "--query", "Buckets[].Name"), []);
    assert.deepEqual(
      (await left("iam", "list-roles", "--query", "Roles[].RoleName"))?.filter((name) => name.startsWith("restate")),
      [],
    );
  });
});
