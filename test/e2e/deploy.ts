/** The stack in the sandbox, end to end: two regions up on real Restate nodes, unchanged on a second run, and gone again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeadObjectCommand, S3Client } from "@aws-sdk/client-s3";
import type { NodeOutputs } from "../../outputs";
import { assertNothingChangedByHand, changeByHand, trustOfRole } from "../support/mischief";
import { eventually, type Sandbox } from "../support/sandbox";

interface Labelled {
  metadata: { name: string; labels: Record<string, string> };
}

const regions = ["region1", "region2"] as const;

/** Both regions as they were deployed. */
export const deployed = (sandbox: Sandbox) => {
  const nodesOf = async (region: string) => (await sandbox.outputs(region)).nodes as NodeOutputs[];

  test("six nodes form one cluster, three in each region, all of them metadata members", async () => {
    const nodes = await eventually(
      60,
      () =>
        sandbox.query<{
          name: string;
          state: string;
          location: string;
          address: string;
          metadata_server_state: string;
        }>("region1", "select name, state, location, address, metadata_server_state from nodes"),
      (rows) => rows.length === 6 && rows.every((row) => row.state === "alive"),
    );
    const expected = regions.flatMap((region) =>
      [0, 1, 2].map((i) => ({
        name: `restate-${i}.${region}`,
        state: "alive",
        location: region,
        address: `http://restate-${i}.${region}.restate.sandbox.test:5122/`,
        metadata_server_state: "member",
      })),
    );
    assert.deepEqual(
      nodes.sort((a, b) => (a.name < b.name ? -1 : 1)),
      expected.sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
  });

  test("every log is in both regions and on three nodes, and every partition has a leader", async () => {
    const logs = await sandbox.query<{ log_id: number; replication: string }>(
      "region2",
      "select log_id, replication from logs_tail_segments",
    );
    assert.equal(logs.length, 4);
    for (const log of logs) assert.match(log.replication, /^\{(node: 3, region: 2|region: 2, node: 3)\}$/);
    const leaders = await sandbox.query<{ partition_id: number }>(
      "region2",
      "select distinct partition_id from partition_state where lower(effective_mode) = 'leader'",
    );
    assert.deepEqual(leaders.map((row) => row.partition_id).sort(), [0, 1, 2, 3]);
  });

  test("a shell in a pod's network has the pod's address, and reaches the peer's nodes", async () => {
    const pod = await sandbox.objects<{ status: { podIP: string } }>("region1", "pod", "restate-0");
    const command =
      "ip -brief address show eth0; curl --silent http://restate-2.region2.restate.sandbox.test:5122/health";
    const printed = await sandbox.command("shell", "region1/restate-0", "-c", command);
    assert.ok(printed.includes(`${pod.status.podIP}/`), printed);
    assert.match(printed, /"cluster_name":"restate"/);
  });

  test("each load balancer is in the zone of its pod's Kubernetes node, and is the one that AWS knows", async () => {
    for (const region of regions) {
      const pods = await sandbox.objects<{ items: (Labelled & { spec: { nodeName: string } })[] }>(
        region,
        "pods",
        "-l",
        "app=restate",
      );
      const kubernetesNodes = await sandbox.objects<{ items: Labelled[] }>(region, "nodes");
      const balancers = JSON.parse(await sandbox.must(region, "aws", "elbv2", "describe-load-balancers")) as {
        LoadBalancers: {
          LoadBalancerName: string;
          AvailabilityZones: { ZoneName: string; SubnetId: string }[];
          Scheme: string;
        }[];
      };
      for (const node of await nodesOf(region)) {
        const pod = pods.items.find((one) => one.metadata.name === node.pod);
        const home = kubernetesNodes.items.find((one) => one.metadata.name === pod?.spec.nodeName);
        assert.equal(node.zone, home?.metadata.labels["topology.kubernetes.io/zone"]);
        const balancer = balancers.LoadBalancers.find((one) => one.LoadBalancerName === node.loadBalancer.name);
        assert.deepEqual(
          balancer?.AvailabilityZones.map((zone) => [zone.ZoneName, zone.SubnetId]),
          [[node.zone, node.subnet]],
        );
        assert.equal(balancer?.Scheme, "internal");
      }
    }
  });

  test("nothing is pending, and each region sees the other", async () => {
    for (const region of regions) {
      const outputs = await sandbox.outputs(region);
      assert.deepEqual(outputs.pending, []);
      assert.ok(outputs.replication, `${region} replicates its snapshots`);
    }
  });

  test("a further up of either stack changes nothing, and a refresh finds no drift", async () => {
    for (const region of regions) {
      await sandbox.must(
        region,
        "pulumi",
        "up",
        "--yes",
        "--skip-preview",
        "--expect-no-changes",
        "--suppress-outputs",
      );
    }
    for (const region of regions) {
      await sandbox.must(
        region,
        "pulumi",
        "refresh",
        "--yes",
        "--skip-preview",
        "--expect-no-changes",
        "--suppress-outputs",
      );
    }
  });

  test("snapshots are written with the role that the service account gives, and reach the peer's bucket, both ways", async () => {
    const buckets = new Map<string, string>();
    for (const region of regions)
      buckets.set(region, ((await sandbox.outputs(region)).bucket as { name: string }).name);
    for (const region of regions) {
      await sandbox.must(
        region,
        ...["kubectl", "-n", `restate-${region}`, "exec", "restate-0", "--", "restatectl", "snapshots", "create"],
      );
    }
    const keys = async (region: string) => {
      const listed = await sandbox.must(
        region,
        ...[
          "aws",
          "s3api",
          "list-objects-v2",
          "--bucket",
          buckets.get(region)!,
          "--query",
          "Contents[].Key",
          "--output",
          "json",
        ],
      );
      return ((JSON.parse(listed || "null") as string[] | null) ?? []).sort();
    };
    const [one] = await eventually(
      60,
      async () => [await keys("region1"), await keys("region2")] as const,
      ([a, b]) => a.length > 0 && JSON.stringify(a) === JSON.stringify(b),
    );
    assert.ok(one.some((key) => key.endsWith("latest.json")));
    // Some of them are originals in one region and replicas in the other, and none is neither.
    const states = new Set<string>();
    for (const region of regions) {
      const { AWS_ENDPOINT_URL: endpoint, AWS_REGION, ...env } = await sandbox.environment(region);
      const credentials = { accessKeyId: env.AWS_ACCESS_KEY_ID!, secretAccessKey: env.AWS_SECRET_ACCESS_KEY! };
      const s3 = new S3Client({ endpoint, region: AWS_REGION, credentials, forcePathStyle: true });
      for (const Key of one) {
        const head = await s3.send(new HeadObjectCommand({ Bucket: buckets.get(region), Key }));
        states.add(String(head.ReplicationStatus));
      }
      s3.destroy();
    }
    assert.deepEqual([...states].sort(), ["COMPLETED", "REPLICA"]);
  });

  test("a pod with another service account is denied the role, by the same call that Restate's is allowed", async () => {
    const { role } = (await sandbox.outputs("region1")) as { role: { arn: string } };
    const namespace = ["kubectl", "-n", "restate-region1"];
    // Annotated like the stack's own, so that the webhook gives its pods the same role and a token of its own.
    await sandbox.must("region1", ...namespace, "create", "serviceaccount", "stranger");
    await sandbox.must(
      "region1",
      ...[...namespace, "annotate", "serviceaccount", "stranger", `eks.amazonaws.com/role-arn=${role.arn}`],
    );
    const call = [
      "curl --silent --show-error --max-time 20 --write-out '\\n%{http_code}' \"$AWS_ENDPOINT_URL\"",
      "--data-urlencode Action=AssumeRoleWithWebIdentity --data-urlencode Version=2011-06-15",
      '--data-urlencode RoleSessionName=e2e --data-urlencode "RoleArn=$AWS_ROLE_ARN"',
      '--data-urlencode "WebIdentityToken@$AWS_WEB_IDENTITY_TOKEN_FILE"',
    ].join(" ");
    const [restate] = (
      await sandbox.objects<{
        items: { spec: { containers: { image: string; env: { name: string; value?: string }[] }[] } }[];
      }>("region1", "pods", "-l", "app=restate")
    ).items;
    const { image, env } = restate!.spec.containers[0]!;
    const asks = async (serviceAccountName: string) => {
      const name = `asks-as-${serviceAccountName}`;
      const endpoint = env.find((one) => one.name === "AWS_ENDPOINT_URL");
      const overrides = {
        spec: {
          serviceAccountName,
          containers: [{ name, image, command: ["bash", "-c", call], env: [endpoint] }],
        },
      };
      await sandbox.must(
        "region1",
        ...[...namespace, "run", name, "--restart=Never", `--image=${image}`],
        `--overrides=${JSON.stringify(overrides)}`,
      );
      await eventually(
        60,
        () => sandbox.objects<{ status: { phase: string } }>("region1", "pod", name),
        ({ status }) => status.phase === "Succeeded",
      );
      const answer = (await sandbox.must("region1", ...namespace, "logs", name)).trimEnd();
      await sandbox.must("region1", ...namespace, "delete", "pod", name, "--wait=false");
      return answer;
    };
    const [stranger, own] = await Promise.all([asks("stranger"), asks("restate")]);
    assert.match(stranger, /<Code>AccessDenied<\/Code>/);
    assert.match(stranger, /Not authorized to perform sts:AssumeRoleWithWebIdentity/);
    assert.match(stranger, /\n403$/);
    assert.doesNotMatch(stranger, /<SecretAccessKey>/);
    assert.match(own, /<AccessKeyId>.+<SecretAccessKey>.+<SessionToken>/s);
    assert.match(own, /\n200$/);
    await sandbox.must("region1", ...namespace, "delete", "serviceaccount", "stranger");
  });

  test("out-of-band changes are found and repaired", async () => {
    const trusted = await trustOfRole(sandbox);
    await changeByHand(sandbox);
    const found = await sandbox.tool(
      "region1",
      ...["pulumi", "preview", "--refresh", "--expect-no-changes", "--suppress-outputs"],
    );
    assert.notEqual(found.code, 0, found.stdout);
    assert.match(found.stdout + found.stderr, /no changes were expected for preview but changes were proposed/);
    // Each by itself, so that none hides behind another.
    for (const name of ["restate-role", "load-balancers-restate-1", "replication"]) {
      assert.match(found.stdout, new RegExp(`[~+]\\S* .*\\b${name}\\b .*(update|create)`), name);
    }
    await sandbox.must("region1", ...["pulumi", "up", "--refresh", "--yes", "--skip-preview", "--suppress-outputs"]);
    await assertNothingChangedByHand(sandbox, trusted);
  });
};

/** The end: of the peer alone, and of both. */
export const destroyed = (sandbox: Sandbox) => {
  test("a peer that is destroyed takes nothing with it that was built for it, and is found again when it is back", async () => {
    const up = ["pulumi", "up", "--yes", "--skip-preview", "--suppress-outputs"];
    const replicatesTo = async () =>
      ((await sandbox.outputs("region1")).replication as { destination: string }).destination;
    const before = await replicatesTo();
    await sandbox.giveUp("region2");
    await sandbox.must("region1", ...up, "--expect-no-changes");
    assert.equal(await replicatesTo(), before);
    const pending = (await sandbox.outputs("region1")).pending as string[];
    assert.match(pending.join("\n"), /kept as it is.*restate:forgetPeer/s);

    await sandbox.must("region2", ...up);
    await sandbox.must("region1", ...up);
    const { bucket } = (await sandbox.outputs("region2")) as { bucket: { arn: string } };
    assert.notEqual(bucket.arn, before);
    assert.equal(await replicatesTo(), bucket.arn);
    assert.deepEqual((await sandbox.outputs("region1")).pending, []);
  });

  test("destroying both regions leaves nothing behind, in AWS or in Kubernetes", async () => {
    await Promise.all(regions.map((region) => sandbox.giveUp(region)));
    for (const region of regions) {
      const namespaces = await sandbox.must(region, ...["kubectl", "get", "namespaces", "-o", "name"]);
      assert.doesNotMatch(namespaces, /restate/);
      const balancers = await sandbox.must(
        region,
        ...["aws", "elbv2", "describe-load-balancers", "--query", "LoadBalancers[].LoadBalancerName"],
      );
      assert.deepEqual(JSON.parse(balancers), []);
    }
    assert.deepEqual(
      JSON.parse(await sandbox.must("region1", ...["aws", "s3api", "list-buckets", "--query", "Buckets[].Name"])),
      [],
    );
    const roles = JSON.parse(
      await sandbox.must("region1", ...["aws", "iam", "list-roles", "--query", "Roles[].RoleName"]),
    ) as string[];
    assert.deepEqual(
      roles.filter((name) => name.startsWith("restate")),
      [],
    );
  });
};
