/** What hands and accidents do, in AWS and Kubernetes, to what the stacks of a sandbox have made. */
import assert from "node:assert/strict";
import type { RegionName } from "../../topology";
import type { Sandbox } from "./sandbox";

/** The name of a region's bucket of snapshots. */
export async function bucketOf(sandbox: Sandbox, region: RegionName): Promise<string> {
  return ((await sandbox.outputs(region)).bucket as { name: string }).name;
}

/** A region's bucket is deleted, with every version of all that is in it. */
export async function deleteBucket(sandbox: Sandbox, region: RegionName): Promise<void> {
  const bucket = ["--bucket", await bucketOf(sandbox, region)];
  const listed = await sandbox.must(
    region,
    ...["aws", "s3api", "list-object-versions", ...bucket, "--output", "json"],
    ...["--query", "[Versions, DeleteMarkers][][].{Key: Key, VersionId: VersionId}"],
  );
  const Objects = (JSON.parse(listed) ?? []) as object[];
  if (Objects.length > 0)
    await sandbox.must(
      region,
      ...["aws", "s3api", "delete-objects", ...bucket, "--delete", JSON.stringify({ Objects, Quiet: true })],
    );
  await sandbox.must(region, "aws", "s3api", "delete-bucket", ...bucket);
}

/** S3 may not copy a region's snapshots any more: the role that it does it with has no permissions. */
export async function denyReplication(sandbox: Sandbox, region: RegionName): Promise<void> {
  const { ReplicationConfiguration } = JSON.parse(
    await sandbox.must(
      region,
      ...["aws", "s3api", "get-bucket-replication", "--bucket", await bucketOf(sandbox, region)],
    ),
  ) as { ReplicationConfiguration: { Role: string } };
  const role = ReplicationConfiguration.Role.split("/").at(-1)!;
  await sandbox.must(
    region,
    ...["aws", "iam", "delete-role-policy", "--role-name", role, "--policy-name", "replicate-snapshots"],
  );
}

/** What a role's trust policy says, as far as it matters here. */
interface Trust {
  Statement: { Condition: Record<string, unknown> }[];
}

/** The name of the role of Restate's nodes. */
export async function nodesRole(sandbox: Sandbox): Promise<string> {
  return ((await sandbox.outputs("region1")).role as { arn: string }).arn.split("/").at(-1)!;
}

/** Who may take the role of Restate's nodes. */
export async function trustOfRole(sandbox: Sandbox): Promise<Trust> {
  const query = ["--query", "Role.AssumeRolePolicyDocument"];
  return JSON.parse(
    await sandbox.must("region1", ...["aws", "iam", "get-role", "--role-name", await nodesRole(sandbox), ...query]),
  ) as Trust;
}

/**
 * Three things of region1 are changed, as by hands that mean well: its bucket's replication is gone, a Service leads to
 * another host name, and whoever has a token of the clusters may take the nodes' role.
 */
export async function changeByHand(sandbox: Sandbox): Promise<void> {
  const trusted = await trustOfRole(sandbox);
  const loosened = { ...trusted, Statement: trusted.Statement.map(({ Condition: _, ...rest }) => rest) };
  assert.notDeepEqual(loosened, trusted);
  await sandbox.must(
    "region1",
    ...["aws", "s3api", "delete-bucket-replication", "--bucket", await bucketOf(sandbox, "region1")],
  );
  await sandbox.must(
    "region1",
    ...["kubectl", "-n", "restate-region1", "annotate", "--overwrite", "service", "restate-1"],
    "external-dns.kubernetes.io/hostname=wrong.example.com",
  );
  await sandbox.must(
    "region1",
    ...["aws", "iam", "update-assume-role-policy", "--role-name", await nodesRole(sandbox)],
    ...["--policy-document", JSON.stringify(loosened)],
  );
}

/** What `changeByHand` changed is as the stack wants it again; `trusted` is what the trust was before. */
export async function assertNothingChangedByHand(sandbox: Sandbox, trusted: Trust): Promise<void> {
  await sandbox.must(
    "region1",
    ...["aws", "s3api", "get-bucket-replication", "--bucket", await bucketOf(sandbox, "region1")],
  );
  assert.deepEqual(await trustOfRole(sandbox), trusted);
  const service = await sandbox.objects<{ metadata: { annotations: Record<string, string> } }>(
    "region1",
    "service",
    "restate-1",
  );
  assert.equal(
    service.metadata.annotations["external-dns.kubernetes.io/hostname"],
    "restate-1.region1.restate.sandbox.test",
  );
}
