/** The provider plugins with the real engine, against moto: what the official plugins do, done here. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CreateSubnetCommand, CreateVpcCommand, EC2Client } from "@aws-sdk/client-ec2";
import { CreateClusterCommand, EKSClient, ListPodIdentityAssociationsCommand } from "@aws-sdk/client-eks";
import * as iamSdk from "@aws-sdk/client-iam";
import * as s3Sdk from "@aws-sdk/client-s3";
import * as aws from "@pulumi/aws";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { version } from "@pulumi/random/package.json";
import { identify, isAlive } from "../../sandbox/world/processes";
import { type Outcome, PluginWorld, type TestStack } from "./plugins-world";

const world = new PluginWorld();
let s3: s3Sdk.S3Client;
let iam: iamSdk.IAMClient;
before(async () => {
  await world.start();
  s3 = new s3Sdk.S3Client(world.client());
  iam = new iamSdk.IAMClient(world.client());
  const eks = new EKSClient(world.client());
  const cluster = { name: "main", roleArn: "arn:aws:iam::123456789012:role/eks", resourcesVpcConfig: {} };
  await eks.send(new CreateClusterCommand(cluster));
});
after(() => world.stop());

/** What a step is, short enough to compare. */
const told = ({ steps }: Outcome) =>
  steps.map(({ op, resource, diff }) => {
    const paths = Object.keys(diff).sort();
    return `${op} ${resource.split(" ")[1]}${paths.length > 0 ? `: ${paths.join(", ")}` : ""}`;
  });

const policy = (action: string) => ({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Action: [action], Resource: "*" }],
});
const trust = (service: string) => ({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { Service: service }, Action: "sts:AssumeRole" }],
});

const defaults = {
  tags: { team: "a" } as Record<string, string>,
  versioning: "Enabled",
  keyEnabled: true,
  block: true,
  ownership: "BucketOwnerEnforced",
  sid: "TlsOnly",
  days: 3,
  expiration: undefined as aws.types.input.s3.BucketLifecycleConfigurationRuleExpiration | undefined,
  deleteMarkers: "Enabled",
  time: undefined as aws.types.input.s3.BucketReplicationConfigRuleDestinationReplicationTime | undefined,
  trust: trust("s3.amazonaws.com") as object,
  description: "first",
  boundary: undefined as string | undefined,
  action: "s3:GetObject",
  thumbprint: "9e99a48a9960b14926bb7f3b02e22da2b0ab7280",
  associated: "one",
  bucket: "plugins-snapshots",
  roleName: "plugins-role",
  path: "/",
  policyName: "inline",
  url: "https://oidc.eks.us-west-2.amazonaws.com/id/1",
  namespace: "region1",
  indent: undefined as number | undefined,
};

/** One resource of every type, each of its aspects changeable. */
function everything(changes: Partial<typeof defaults> = {}): pulumi.automation.PulumiFn {
  const is = { ...defaults, ...changes };
  return async () => {
    const target = new aws.s3.Bucket("target", { forceDestroy: true, region: "us-east-1" });
    const bucket = new aws.s3.Bucket("bucket", { bucket: is.bucket, forceDestroy: true, tags: is.tags });
    const on = { bucket: bucket.bucket };
    const versioning = new aws.s3.BucketVersioning("versioning", {
      ...on,
      versioningConfiguration: { status: is.versioning },
    });
    const targetVersioning = new aws.s3.BucketVersioning("targetVersioning", {
      bucket: target.bucket,
      region: "us-east-1",
      versioningConfiguration: { status: "Enabled" },
    });
    new aws.s3.BucketServerSideEncryptionConfiguration("encryption", {
      ...on,
      rules: [{ applyServerSideEncryptionByDefault: { sseAlgorithm: "AES256" }, bucketKeyEnabled: is.keyEnabled }],
    });
    new aws.s3.BucketPublicAccessBlock("block", { ...on, blockPublicAcls: is.block, blockPublicPolicy: true });
    new aws.s3.BucketOwnershipControls("ownership", { ...on, rule: { objectOwnership: is.ownership } });
    new aws.s3.BucketPolicy("policy", {
      ...on,
      policy: bucket.arn.apply((arn) =>
        JSON.stringify(
          {
            Version: "2012-10-17",
            Statement: [
              {
                Sid: is.sid,
                Effect: "Deny",
                Principal: "*",
                Action: is.indent ? ["s3:*"] : "s3:*",
                Resource: is.indent ? [`${arn}/*`, arn] : [arn, `${arn}/*`],
                Condition: { Bool: { "aws:SecureTransport": is.indent ? false : "false" } },
              },
            ],
          },
          null,
          is.indent,
        ),
      ),
    });
    new aws.s3.BucketLifecycleConfiguration("lifecycle", {
      ...on,
      rules: [
        {
          id: "old",
          status: "Enabled",
          filter: {},
          noncurrentVersionExpiration: { noncurrentDays: is.days },
          abortIncompleteMultipartUpload: { daysAfterInitiation: 7 },
          ...(is.expiration && { expiration: is.expiration }),
        },
      ],
    });
    const role = new aws.iam.Role("role", {
      name: is.roleName,
      path: is.path,
      assumeRolePolicy: JSON.stringify(is.trust, null, is.indent),
      description: is.description,
      tags: is.tags,
      ...(is.boundary && { permissionsBoundary: is.boundary }),
    });
    new aws.iam.RolePolicy("rolePolicy", {
      name: is.policyName,
      role: role.name,
      policy: JSON.stringify(policy(is.action), null, is.indent),
    });
    new aws.s3.BucketReplicationConfig(
      "replication",
      {
        ...on,
        role: role.arn,
        rules: [
          {
            id: "to-peer",
            priority: 1,
            status: "Enabled",
            filter: {},
            deleteMarkerReplication: { status: is.deleteMarkers },
            destination: {
              bucket: target.arn,
              metrics: { status: "Enabled", ...(is.time && { eventThreshold: { minutes: 15 } }) },
              ...(is.time && { replicationTime: is.time }),
            },
            sourceSelectionCriteria: { replicaModifications: { status: "Enabled" } },
          },
        ],
      },
      { dependsOn: [versioning, targetVersioning] },
    );
    new aws.iam.OpenIdConnectProvider("oidc", {
      url: is.url,
      clientIdLists: ["sts.amazonaws.com"],
      thumbprintLists: [is.thumbprint],
      tags: is.tags,
    });
    new aws.eks.PodIdentityAssociation("association", {
      clusterName: "main",
      namespace: is.namespace,
      serviceAccount: "restate",
      roleArn: `arn:aws:iam::123456789012:role/${is.associated}`,
      // The sandbox's EKS has no calls to change tags.
      tags: { team: "a" },
    });
    return { bucket: bucket.bucket, arn: bucket.arn, target: target.bucket, region: bucket.region };
  };
}

describe("a resource of every type", { concurrency: false }, () => {
  let stack: TestStack;
  const count = 14;

  test("a preview foresees everything and changes nothing", async () => {
    stack = await world.stack("every", everything());
    const start = world.seen.length;
    const foreseen = await stack.preview();
    assert.equal(foreseen.steps.length, count);
    assert.ok(foreseen.steps.every(({ op }) => op === "create"));
    assert.deepEqual(world.writesSince(start), []);
  });

  test("up creates it, a second up and a refresh change nothing", async () => {
    const made = await stack.up();
    assert.equal(made.steps.length, count, made.text);
    assert.equal(made.outputs.bucket, "plugins-snapshots");
    assert.equal(made.outputs.arn, "arn:aws:s3:::plugins-snapshots");
    assert.match(String(made.outputs.target), /^target-[0-9a-f]{7}$/);
    assert.equal(made.outputs.region, "us-west-2");
    const start = world.seen.length;
    assert.deepEqual(told(await stack.up()), []);
    assert.deepEqual(told(await stack.refresh()), []);
    assert.deepEqual(world.writesSince(start), []);
  });

  test("the region argument decides where a resource is", async () => {
    const { LocationConstraint } = await s3.send(new s3Sdk.GetBucketLocationCommand({ Bucket: "plugins-snapshots" }));
    assert.equal(LocationConstraint, "us-west-2");
    const target = String((await stack.stack.outputs()).target?.value);
    const found = await s3.send(new s3Sdk.GetBucketLocationCommand({ Bucket: target }));
    assert.equal(found.LocationConstraint ?? "us-east-1", "us-east-1");
  });

  test("policies that mean the same make no difference", async () => {
    stack.program = everything({ indent: 2 });
    assert.deepEqual(told(await stack.preview()), []);
    stack.program = everything();
  });

  test("updates are shown property by property, made, and then at rest; and so is the way back", async () => {
    stack.program = everything({
      tags: { team: "b", "cost/center": "7" },
      keyEnabled: false,
      block: false,
      ownership: "ObjectWriter",
      sid: "Other",
      days: 5,
      expiration: { expiredObjectDeleteMarker: true },
      deleteMarkers: "Disabled",
      time: { status: "Enabled", time: { minutes: 15 } },
      trust: trust("pods.eks.amazonaws.com"),
      description: "second",
      boundary: "arn:aws:iam::aws:policy/ReadOnlyAccess",
      action: "s3:PutObject",
      thumbprint: "a".repeat(40),
      associated: "two",
    });
    const expected = [
      "association: roleArn",
      "block: blockPublicAcls",
      'bucket: tags.team, tags["cost/center"]',
      "encryption: rules[0].bucketKeyEnabled",
      "lifecycle: rules[0].expiration, rules[0].noncurrentVersionExpiration.noncurrentDays",
      'oidc: tags.team, tags["cost/center"], thumbprintLists[0]',
      "ownership: rule.objectOwnership",
      "policy: policy",
      "replication: rules[0].deleteMarkerReplication.status, " +
        "rules[0].destination.metrics.eventThreshold, rules[0].destination.replicationTime",
      'role: assumeRolePolicy, description, permissionsBoundary, tags.team, tags["cost/center"]',
      "rolePolicy: policy",
    ].map((line) => `update ${line}`);
    assert.deepEqual(told(await stack.preview()).sort(), expected);
    const made = await stack.up();
    assert.deepEqual(
      made.steps.map(({ op }) => op),
      expected.map(() => "update"),
    );
    assert.deepEqual(told(await stack.refresh()), []);
    assert.deepEqual(told(await stack.preview()), []);
    stack.program = everything();
    assert.equal((await stack.up()).steps.length, expected.length);
    assert.deepEqual(told(await stack.refresh()), []);
    assert.deepEqual(told(await stack.preview()), []);
  });

  test("drift of every type is found property by property, and repaired", async () => {
    const Bucket = "plugins-snapshots";
    const outputs = await stack.stack.exportStack();
    const ids = new Map<string, string>(
      (outputs.deployment.resources as { urn: string; id: string }[]).map(({ urn, id }) => [
        urn.split("::").at(-1)!,
        id,
      ]),
    );
    const replication = await s3.send(new s3Sdk.GetBucketReplicationCommand({ Bucket }));
    const rules = replication.ReplicationConfiguration!.Rules!;
    rules[0]!.DeleteMarkerReplication = { Status: "Disabled" };
    const Role = replication.ReplicationConfiguration!.Role;
    await s3.send(new s3Sdk.PutBucketReplicationCommand({ Bucket, ReplicationConfiguration: { Role, Rules: rules } }));
    await s3.send(new s3Sdk.PutBucketTaggingCommand({ Bucket, Tagging: { TagSet: [{ Key: "team", Value: "x" }] } }));
    await s3.send(
      new s3Sdk.PutBucketVersioningCommand({
        Bucket: ids.get("targetVersioning"),
        VersioningConfiguration: { Status: "Suspended" },
      }),
    );
    await s3.send(
      new s3Sdk.PutBucketEncryptionCommand({
        Bucket,
        ServerSideEncryptionConfiguration: {
          Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: "aws:kms" }, BucketKeyEnabled: true }],
        },
      }),
    );
    await s3.send(
      new s3Sdk.PutPublicAccessBlockCommand({ Bucket, PublicAccessBlockConfiguration: { BlockPublicAcls: true } }),
    );
    await s3.send(
      new s3Sdk.PutBucketOwnershipControlsCommand({
        Bucket,
        OwnershipControls: { Rules: [{ ObjectOwnership: "ObjectWriter" }] },
      }),
    );
    await s3.send(new s3Sdk.PutBucketPolicyCommand({ Bucket, Policy: JSON.stringify({ ...policy("s3:*") }) }));
    await s3.send(
      new s3Sdk.PutBucketLifecycleConfigurationCommand({
        Bucket,
        LifecycleConfiguration: {
          Rules: [{ ID: "old", Status: "Disabled", Filter: { Prefix: "" }, Expiration: { Days: 1 } }],
        },
      }),
    );
    const RoleName = "plugins-role";
    await iam.send(
      new iamSdk.UpdateAssumeRolePolicyCommand({
        RoleName,
        PolicyDocument: JSON.stringify(trust("ec2.amazonaws.com")),
      }),
    );
    const PolicyDocument = JSON.stringify(policy("s3:*"));
    await iam.send(new iamSdk.PutRolePolicyCommand({ RoleName, PolicyName: "inline", PolicyDocument }));
    await iam.send(
      new iamSdk.UpdateOpenIDConnectProviderThumbprintCommand({
        OpenIDConnectProviderArn: ids.get("oidc"),
        ThumbprintList: ["b".repeat(40)],
      }),
    );
    const found = await stack.refresh();
    const expected = [
      "bucket: tags.team",
      "targetVersioning: versioningConfiguration.status",
      "encryption: rules[0].applyServerSideEncryptionByDefault.sseAlgorithm",
      "block: blockPublicPolicy",
      "ownership: rule.objectOwnership",
      "policy: policy",
      "lifecycle: rules[0].abortIncompleteMultipartUpload, rules[0].expiration, rules[0].noncurrentVersionExpiration, rules[0].status",
      "replication: rules[0].deleteMarkerReplication.status",
      "role: assumeRolePolicy",
      "rolePolicy: policy",
      "oidc: thumbprintLists[0]",
    ].sort();
    const shown = told(found).map((line) => line.replace(/^\w+ /, ""));
    assert.deepEqual(shown.sort(), expected, found.text);
    const repaired = (await stack.up()).steps.map(({ op, resource }) => `${op} ${resource.split(" ")[1]}`);
    assert.deepEqual(
      repaired.sort(),
      expected.map((line) => `update ${line.split(":")[0]}`),
    );
    assert.deepEqual(told(await stack.refresh()), []);
    const { Status } = await s3.send(new s3Sdk.GetBucketVersioningCommand({ Bucket: ids.get("targetVersioning") }));
    assert.equal(Status, "Enabled");
  });

  test("what is gone leaves the state with a refresh, and the next up makes it again", async () => {
    const Bucket = "plugins-snapshots";
    await s3.send(new s3Sdk.DeleteBucketReplicationCommand({ Bucket }));
    await s3.send(new s3Sdk.DeleteBucketPolicyCommand({ Bucket }));
    await s3.send(new s3Sdk.DeleteBucketLifecycleCommand({ Bucket }));
    await s3.send(new s3Sdk.DeletePublicAccessBlockCommand({ Bucket }));
    await s3.send(new s3Sdk.DeleteBucketOwnershipControlsCommand({ Bucket }));
    await s3.send(new s3Sdk.DeleteBucketEncryptionCommand({ Bucket }));
    await iam.send(new iamSdk.DeleteRolePolicyCommand({ RoleName: "plugins-role", PolicyName: "inline" }));
    const gone = ["block", "encryption", "lifecycle", "ownership", "policy", "replication", "rolePolicy"];
    await stack.refresh();
    const made = (await stack.up()).steps.map(({ op, resource }) => `${op} ${resource.split(" ")[1]}`);
    assert.deepEqual(
      made.sort(),
      gone.map((name) => `create ${name}`),
    );
    assert.deepEqual(told(await stack.up()), []);
  });

  const replaced: Partial<typeof defaults> = {
    bucket: "plugins-other",
    policyName: "renamed",
    url: "https://oidc.eks.us-west-2.amazonaws.com/id/2",
    namespace: "region2",
  };

  test("what cannot be changed is replaced, with everything that hangs on it", async () => {
    stack.program = everything(replaced);
    const { steps } = await stack.preview();
    const replaces = (name: string) => {
      const step = steps.find(({ op, resource }) => op === "replace" && resource.endsWith(` ${name}`));
      return Object.entries(step?.diff ?? {}).flatMap(([path, kind]) => (kind.endsWith("-replace") ? [path] : []));
    };
    assert.deepEqual(replaces("bucket"), ["bucket"]);
    assert.deepEqual(replaces("rolePolicy"), ["name"]);
    assert.deepEqual(replaces("oidc"), ["url"]);
    assert.deepEqual(replaces("association"), ["namespace"]);
    for (const name of ["versioning", "encryption", "block", "ownership", "policy", "lifecycle", "replication"])
      assert.deepEqual(replaces(name), ["bucket"], name);
    await stack.up();
    assert.deepEqual(told(await stack.refresh()), []);
    assert.deepEqual(told(await stack.preview()), []);
  });

  test("a replaced resource that keeps its name is deleted first, with what hangs on it", async () => {
    Object.assign(replaced, { path: "/two/" });
    stack.program = everything(replaced);
    const start = world.seen.length;
    await stack.up();
    const calls = world.writesSince(start).filter((operation) => /Role/.test(operation));
    assert.deepEqual(calls, ["DeleteRolePolicy", "DeleteRole", "CreateRole", "PutRolePolicy"]);
    assert.deepEqual(told(await stack.preview()), []);
  });

  test("every type can be imported", async () => {
    const { deployment } = await stack.stack.exportStack();
    const ids = new Map<string, string>(
      (deployment.resources as { urn: string; id: string }[]).map(({ urn, id }) => [urn.split("::").at(-1)!, id]),
    );
    ids.set("association", `main,${ids.get("association")}`);
    for (const name of ["target", "targetVersioning"]) ids.set(name, `${ids.get(name)}@us-east-1`);
    const importing = await world.stack("imports", async () => {
      pulumi.runtime.registerStackTransformation(({ name, props, opts }) => ({
        // The name that the other stack chose.
        props: name === "target" ? { ...props, bucket: ids.get("target")?.split("@")[0] } : props,
        opts: ids.has(name) && name !== "plugins-imports" ? { ...opts, import: ids.get(name)! } : opts,
      }));
      return everything(replaced)();
    });
    const start = world.seen.length;
    const imported = await importing.up();
    const ops = imported.steps.map(({ op }) => op);
    assert.equal(ops.filter((op) => op === "import").length, count, imported.text);
    assert.deepEqual(told(await importing.refresh()), []);
    assert.deepEqual(
      world.writesSince(start).filter((operation) => !operation.includes("tagging")),
      [],
    );
    await importing.stack.workspace.removeStack("imports", { force: true });
  });

  test("destroy leaves nothing behind, though buckets hold versions, delete markers and uploads", async () => {
    const Bucket = "plugins-other";
    await s3.send(new s3Sdk.PutObjectCommand({ Bucket, Key: "a", Body: "1" }));
    await s3.send(new s3Sdk.PutObjectCommand({ Bucket, Key: "a", Body: "2" }));
    await s3.send(new s3Sdk.DeleteObjectCommand({ Bucket, Key: "a" }));
    await s3.send(new s3Sdk.CreateMultipartUploadCommand({ Bucket, Key: "b" }));
    assert.equal((await stack.destroy()).steps.length, count);
    assert.deepEqual((await s3.send(new s3Sdk.ListBucketsCommand({}))).Buckets ?? [], []);
    assert.deepEqual((await iam.send(new iamSdk.ListRolesCommand({}))).Roles, []);
    assert.deepEqual((await iam.send(new iamSdk.ListOpenIDConnectProvidersCommand({}))).OpenIDConnectProviderList, []);
    const eks = new EKSClient(world.client());
    const { associations } = await eks.send(new ListPodIdentityAssociationsCommand({ clusterName: "main" }));
    assert.deepEqual(associations, []);
  });
});
describe("beyond one resource", { concurrency: false }, () => {
  test("functions, default tags, secrets and random values, though AWS throttles at first", async () => {
    const ec2 = new EC2Client(world.client());
    const { Vpc } = await ec2.send(new CreateVpcCommand({ CidrBlock: "10.9.0.0/16" }));
    const made = await ec2.send(
      new CreateSubnetCommand({
        VpcId: Vpc?.VpcId,
        CidrBlock: "10.9.1.0/24",
        AvailabilityZone: "us-west-2b",
        TagSpecifications: [{ ResourceType: "subnet", Tags: [{ Key: "use", Value: "nlb" }] }],
      }),
    );
    const program = async () => {
      const bucket = new aws.s3.Bucket("tagged", { tags: { mine: pulumi.secret("hidden-tag") }, forceDestroy: true });
      const oidc = new aws.iam.OpenIdConnectProvider("oidc", {
        url: "https://issuer.example.com",
        clientIdLists: ["a"],
      });
      const subnets = await aws.ec2.getSubnets({ filters: [{ name: "vpc-id", values: [Vpc!.VpcId!] }] });
      const password = new random.RandomPassword("password", { length: 20, special: false, minNumeric: 2 });
      const id = new random.RandomId("id", { byteLength: 4, prefix: "p-", keepers: { a: "1" } });
      const text = new random.RandomString("text", { length: 8, upper: false, special: false });
      const cluster = await aws.eks.getCluster({ name: "main" });
      return {
        tags: pulumi.unsecret(bucket.tagsAll),
        password: password.result,
        id: { id: id.id, hex: id.hex, url: id.b64Url, std: id.b64Std, dec: id.dec },
        text: text.result,
        subnets: subnets.ids,
        zone: (await aws.ec2.getSubnet({ tags: { use: "nlb" } })).availabilityZone,
        cluster: cluster.arn,
        caller: (await aws.getCallerIdentity()).accountId,
        region: (await aws.getRegion()).region,
        partition: (await aws.getPartition()).partition,
        found: oidc.url.apply(async (url) => (await aws.iam.getOpenIdConnectProvider({ url: `https://${url}` })).url),
      };
    };
    const settings = world.settings({
      "aws:defaultTags": JSON.stringify({ tags: { project: "p", mine: "overridden" } }),
    });
    const stack = await world.stack("beyond", program, settings);
    // From the first call on: how long the engine takes to come to it is the machine's matter.
    let start: number | undefined;
    let throttled = 0;
    world.intercept = () => {
      start ??= Date.now();
      if (Date.now() - start > 5000) return undefined;
      throttled++;
      return {
        status: 503,
        body: "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
      };
    };
    const { outputs } = await stack.up();
    world.intercept = undefined;
    assert.ok(throttled > 0);
    assert.deepEqual(outputs.tags, { project: "p", mine: "hidden-tag" });
    const id = outputs.id as Record<string, string>;
    const bytes = Buffer.from(id.hex!.slice(2), "hex");
    assert.equal(bytes.length, 4);
    assert.deepEqual(id, {
      id: bytes.toString("base64url"),
      hex: `p-${bytes.toString("hex")}`,
      url: `p-${bytes.toString("base64url")}`,
      std: `p-${bytes.toString("base64")}`,
      dec: `p-${bytes.readUInt32BE(0)}`,
    });
    assert.match(String(outputs.text), /^[a-z0-9]{8}$/);
    assert.match(String(outputs.password), /^[A-Za-z0-9]{20}$/);
    assert.deepEqual(outputs.subnets, [made.Subnet?.SubnetId]);
    assert.equal(outputs.zone, "us-west-2b");
    assert.match(String(outputs.cluster), /^arn:aws:eks:us-west-2:123456789012:cluster\/main$/);
    assert.equal(outputs.caller, "123456789012");
    assert.equal(outputs.region, "us-west-2");
    assert.equal(outputs.partition, "aws");
    assert.equal(outputs.found, "issuer.example.com");
    // As it lies on disk: exporting it decrypts.
    const state = readFileSync(join(world.base, "backend/.pulumi/stacks/plugins/beyond.json"), "utf8");
    assert.ok(!state.includes(String(outputs.password)), "the password is in the state as plain text");
    const { resources } = JSON.parse(state).checkpoint.latest as {
      resources: { urn: string; inputs: object; outputs: { tags: object } }[];
    };
    const tagged = resources.find(({ urn }) => urn.endsWith("::tagged"))!;
    assert.ok(!JSON.stringify(tagged.inputs).includes("hidden-tag"));
    assert.ok(!JSON.stringify(tagged.outputs.tags).includes("hidden-tag"));
    assert.deepEqual(told(await stack.preview()), []);
    assert.deepEqual(told(await stack.refresh()), []);
    await stack.stack.setConfig("aws:defaultTags", { value: JSON.stringify({ tags: { project: "q" } }) });
    assert.deepEqual(told(await stack.preview()).sort(), [
      "update oidc: tagsAll.mine, tagsAll.project",
      "update tagged: tagsAll.project",
    ]);
    await stack.destroy();
  });

  test("a bucket that exists but is incomplete stays in the state; one that is not empty is not deleted", async () => {
    const stack = await world.separateStack(
      "half",
      `const aws = require("@pulumi/aws");
       const forceDestroy = new (require("@pulumi/pulumi").Config)().getBoolean("force") ?? false;
       new aws.s3.Bucket("half", { bucket: "plugins-half", tags: { a: "b" }, forceDestroy });`,
    );
    world.intercept = ({ method, url }) =>
      method === "PUT" && url.includes("tagging")
        ? { status: 403, body: "<Error><Code>AccessDenied</Code><Message>not yet</Message></Error>" }
        : undefined;
    const failed = await stack.failing((it) => it.up());
    world.intercept = undefined;
    assert.match(failed, /setting the tags of S3 Bucket \(plugins-half\): .*403, AccessDenied: not yet/);
    const start = world.seen.length;
    await stack.up();
    assert.deepEqual(world.writesSince(start), ["PUT /plugins-half/?tagging="]);
    await s3.send(new s3Sdk.PutObjectCommand({ Bucket: "plugins-half", Key: "a", Body: "1" }));
    const full = await stack.failing((it) => it.destroy());
    assert.match(full, /deleting S3 Bucket \(plugins-half\): .*409, BucketNotEmpty/);
    await stack.stack.setConfig("plugins:force", { value: "true" });
    assert.deepEqual(told(await stack.up()), ["update half: forceDestroy"]);
    await stack.destroy();
    const { Buckets = [] } = await s3.send(new s3Sdk.ListBucketsCommand({}));
    assert.ok(!Buckets.some(({ Name }) => Name === "plugins-half"));
  });

  test("an unknown type, an unknown setting and a foreign account are refused by name", async () => {
    const stack = await world.separateStack("refused", `new (require("@pulumi/aws").sqs.Queue)("queue", {});`);
    const unknown = await stack.failing((it) => it.preview());
    assert.match(unknown, /no resource type aws:sqs\/queue:Queue; it has .*aws:s3\/bucket:Bucket/);
    assert.match(unknown, /pulumi plugin install resource aws v7\./);
    await stack.stack.setConfig("aws:allowedAccountIds", { value: '["999999999999"]' });
    assert.match(await stack.failing((it) => it.preview()), /AWS account ID not allowed: 123456789012/);
    await stack.stack.setConfig("aws:httpProxy", { value: "http://127.0.0.1:1" });
    assert.match(await stack.failing((it) => it.preview()), /does not know httpProxy/);
  });

  for (const [when, serves] of [
    ["while it serves", true],
    ["before it serves", false],
  ] as const)
    test(`a plugin ends when its engine is killed ${when}`, async (t) => {
      const plugin = join(world.base, "home/plugins", `resource-random-v${version}`, "pulumi-resource-random");
      // A shell plays the engine: it starts the plugin, says its process id, and waits.
      const engine = spawn("sh", ["-c", `'${plugin}' 127.0.0.1:1 & echo "pid $!"; wait`], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let said = "";
      engine.stdout.setEncoding("utf8").on("data", (chunk) => {
        said += chunk;
      });
      const pid = () => Number(/^pid (\d+)$/m.exec(said)?.[1]);
      // What the process runs: first its script, then the program.
      const runs = () => (existsSync(`/proc/${pid()}`) ? readFileSync(`/proc/${pid()}/cmdline`, "utf8") : "");
      const ready = () => runs().includes(".js") && (!serves || /^\d+$/m.test(said));
      for (let i = 0; i < 6000 && !ready(); i++) await sleep(10);
      assert.ok(ready(), said);
      const identity = identify(pid())!;
      const alive = () => isAlive(identity);
      t.after(() => alive() && process.kill(pid(), "SIGKILL"));
      engine.kill("SIGKILL");
      for (let i = 0; i < 600 && alive(); i++) await sleep(100);
      assert.ok(!alive(), "the plugin is still there a minute after its engine was killed");
    });
});
