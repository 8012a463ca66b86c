/** The sandbox's AWS: callers, permissions, credentials, replication, survival, faults; with the real SDK against the real moto. */
import assert from "node:assert/strict";
import { PassThrough, Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AttachRolePolicyCommand,
  CreatePolicyCommand,
  CreatePolicyVersionCommand,
  CreateRoleCommand,
  DeleteRoleCommand,
  DeleteRolePolicyCommand,
  PutRolePermissionsBoundaryCommand,
  PutRolePolicyCommand,
  UpdateAssumeRolePolicyCommand,
} from "@aws-sdk/client-iam";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketReplicationCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketReplicationCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutBucketReplicationCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type ReplicationRule,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { AssumeRoleCommand, GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { generateKeyPair } from "jose";
import { adminCredentials } from "../../sandbox/aws/credentials";
import { accountId, regions } from "../../sandbox/world/regions";
import { AwsWorld, until } from "./aws-world";

const [east, west] = regions.map((region) => region.awsRegion) as [string, string];
const issuer = regions[0]!.oidcIssuer.replace("https://", "");
const providerArn = `arn:aws:iam::${accountId}:oidc-provider/${issuer}`;

let aws: AwsWorld;
let s3East: S3Client;
let s3West: S3Client;

before(async () => {
  aws = await AwsWorld.start();
  s3East = aws.s3(east);
  s3West = aws.s3(west);
});
after(() => aws.stop());

/** An error of the SDK, by its code and HTTP status. */
function failure(name: string, status: number, message?: RegExp) {
  return (error: Error & { $metadata?: { httpStatusCode?: number } }): boolean => {
    assert.equal(error.name, name, error.message);
    assert.equal(error.$metadata?.httpStatusCode, status);
    if (message) assert.match(error.message, message);
    return true;
  };
}

type Statement = Record<string, unknown>;
const document = (...Statement: Statement[]): string => JSON.stringify({ Version: "2012-10-17", Statement });

const podTrust = document({
  Effect: "Allow",
  Principal: { Federated: providerArn },
  Action: "sts:AssumeRoleWithWebIdentity",
  Condition: {
    StringEquals: {
      [`${issuer}:aud`]: "sts.amazonaws.com",
      [`${issuer}:sub`]: "system:serviceaccount:restate:restate",
    },
  },
});

const replicationTrust = document({
  Effect: "Allow",
  Principal: { Service: "s3.amazonaws.com" },
  Action: "sts:AssumeRole",
  Condition: { StringEquals: { "aws:SourceAccount": accountId } },
});

async function makeRole(RoleName: string, AssumeRolePolicyDocument: string, policy?: string): Promise<string> {
  const iam = aws.iam();
  const { Role } = await iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument }));
  if (policy) await iam.send(new PutRolePolicyCommand({ RoleName, PolicyName: "own", PolicyDocument: policy }));
  return Role!.Arn!;
}

async function makeBucket(s3: S3Client, region: string, Bucket: string, versioned = true): Promise<void> {
  const location =
    region === "us-east-1" ? {} : { CreateBucketConfiguration: { LocationConstraint: region as "us-west-2" } };
  await s3.send(new CreateBucketCommand({ Bucket, ...location }));
  if (versioned) {
    await s3.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: "Enabled" } }));
  }
}

const put = (s3: S3Client, Bucket: string, Key: string, Body: string | Buffer = Key) =>
  s3.send(new PutObjectCommand({ Bucket, Key, Body }));

async function read(s3: S3Client, Bucket: string, Key: string): Promise<string> {
  return (await s3.send(new GetObjectCommand({ Bucket, Key }))).Body!.transformToString();
}

async function status(s3: S3Client, Bucket: string, Key: string): Promise<string | undefined> {
  return (await s3.send(new HeadObjectCommand({ Bucket, Key }))).ReplicationStatus;
}

const replicated = (s3: S3Client, bucket: string, key: string) =>
  until(`${bucket}/${key} has been replicated`, async () => (await status(s3, bucket, key)) === "COMPLETED");

/** A rule as the stack writes it. */
function rule(destination: string, more: Partial<ReplicationRule> = {}): ReplicationRule {
  return {
    ID: "to-peer",
    Priority: 1,
    Status: "Enabled",
    Filter: { Prefix: "" },
    DeleteMarkerReplication: { Status: "Enabled" },
    SourceSelectionCriteria: { ReplicaModifications: { Status: "Enabled" } },
    Destination: {
      Bucket: `arn:aws:s3:::${destination}`,
      Metrics: { Status: "Enabled", EventThreshold: { Minutes: 15 } },
      ReplicationTime: { Status: "Enabled", Time: { Minutes: 15 } },
    },
    ...more,
  };
}

const replicate = (s3: S3Client, Bucket: string, Role: string, ...Rules: ReplicationRule[]) =>
  s3.send(new PutBucketReplicationCommand({ Bucket, ReplicationConfiguration: { Role, Rules } }));

const replicationPolicy = (source: string, destination: string): string =>
  document(
    {
      Effect: "Allow",
      Action: ["s3:GetReplicationConfiguration", "s3:ListBucket"],
      Resource: `arn:aws:s3:::${source}`,
    },
    {
      Effect: "Allow",
      Action: ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"],
      Resource: `arn:aws:s3:::${source}/*`,
    },
    {
      Effect: "Allow",
      Action: ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
      Resource: `arn:aws:s3:::${destination}/*`,
    },
  );

let pairs = 0;
/** A bucket in each region, replicated from east to west, and back if `both`. */
async function makePair(both = false, more: Partial<ReplicationRule> = {}) {
  const number = ++pairs;
  const [from, to] = [`pair-${number}-east`, `pair-${number}-west`];
  await makeBucket(s3East, east, from);
  await makeBucket(s3West, west, to);
  const roleName = `pair-${number}`;
  const role = await makeRole(roleName, replicationTrust, replicationPolicy(from, to));
  await replicate(s3East, from, role, rule(to, more));
  if (both) {
    const back = await makeRole(`${roleName}-back`, replicationTrust, replicationPolicy(to, from));
    await replicate(s3West, to, back, rule(from, more));
  }
  return { from, to, role, roleName };
}

async function versions(s3: S3Client, Bucket: string) {
  const { Versions = [], DeleteMarkers = [] } = await s3.send(new ListObjectVersionsCommand({ Bucket }));
  return {
    objects: Versions.map((v) => `${v.Key}@${v.VersionId}`),
    markers: DeleteMarkers.map((m) => `${m.Key}@${m.VersionId}`),
  };
}

const ruleMetrics = async (bucket: string) =>
  (await aws.control.copier()).rules.find((metrics) => metrics.sourceBucket === bucket)!;

describe("callers", () => {
  test("the operator is known by the fixed keys", async () => {
    const me = await aws.sts().send(new GetCallerIdentityCommand({}));
    assert.equal(me.Arn, `arn:aws:iam::${accountId}:user/sandbox`);
    assert.equal(me.Account, accountId);
  });

  test("an unknown access key is refused, in each service's own words", async () => {
    const stranger = { accessKeyId: "AKIANOBODYNOBODY0000", secretAccessKey: "x" };
    await assert.rejects(
      aws.s3(east, stranger).send(new ListObjectsV2Command({ Bucket: "any" })),
      failure("InvalidAccessKeyId", 403),
    );
    await assert.rejects(
      aws.sts(east, stranger).send(new GetCallerIdentityCommand({})),
      failure("InvalidClientTokenId", 403),
    );
  });

  test("a wrong secret is refused", async () => {
    const forged = { ...adminCredentials, secretAccessKey: "wrong" };
    await assert.rejects(
      aws.s3(east, forged).send(new ListObjectsV2Command({ Bucket: "any" })),
      failure("SignatureDoesNotMatch", 403),
    );
    await assert.rejects(
      aws.sts(east, forged).send(new GetCallerIdentityCommand({})),
      failure("SignatureDoesNotMatch", 403),
    );
  });

  test("requests that are not signed are refused, and the gateway's own paths cannot be reached", async () => {
    assert.equal((await fetch(`${aws.endpoint}/some-bucket/key`)).status, 403);
    assert.equal((await fetch(`${aws.endpoint}/_sandbox/identities`)).status, 403);
    assert.equal((await fetch(`${aws.endpoint}//_sandbox/identities`)).status, 403);
  });

  test("keys with characters of every kind are signed and stored as they are", async () => {
    await makeBucket(s3East, east, "odd-keys");
    for (const key of ["a b/c+d", "ü/%41", "x=y&z?q#r", "(paren)'s!*~", "a//b"]) {
      await put(s3East, "odd-keys", key, "1");
      assert.equal(await read(s3East, "odd-keys", key), "1", key);
    }
    const { Contents = [] } = await s3East.send(new ListObjectsV2Command({ Bucket: "odd-keys" }));
    assert.deepEqual(
      Contents.map((o) => o.Key).sort(),
      ["(paren)'s!*~", "a b/c+d", "a//b", "x=y&z?q#r", "ü/%41"].sort(),
    );
  });
});

describe("uploads", () => {
  test("a stream, sent in chunks with a checksum at its end", async () => {
    await makeBucket(s3East, east, "streams");
    const chunks = Array.from({ length: 20 }, (_, i) => Buffer.alloc(10_000, i));
    const ContentLength = 200_000;
    const Body = Readable.from(chunks);
    await s3East.send(new PutObjectCommand({ Bucket: "streams", Key: "k", Body, ContentLength }));
    const { Body: stored } = await s3East.send(new GetObjectCommand({ Bucket: "streams", Key: "k" }));
    assert.deepEqual(Buffer.from(await stored!.transformToByteArray()), Buffer.concat(chunks));
  });

  test("one that breaks off leaves no object", async () => {
    const Body = new PassThrough();
    Body.write(Buffer.alloc(100_000));
    const giveUp = new AbortController();
    const upload = new PutObjectCommand({ Bucket: "streams", Key: "broken", Body, ContentLength: 200_000 });
    const refused = assert.rejects(s3East.send(upload, { abortSignal: giveUp.signal }), { name: "AbortError" });
    await sleep(1000);
    giveUp.abort();
    await refused;
    Body.destroy();
    await sleep(200);
    await assert.rejects(read(s3East, "streams", "broken"), failure("NoSuchKey", 404));
    await put(s3East, "streams", "next");
  });
});

describe("web identities", () => {
  let role: string;
  before(async () => {
    await makeBucket(s3East, east, "pods");
    const Resource = ["arn:aws:s3:::pods", "arn:aws:s3:::pods/*"];
    role = await makeRole("pod", podTrust, document({ Effect: "Allow", Action: "s3:*", Resource }));
  });

  test("the right token opens what the role may do", async () => {
    const credentials = await aws.assume(role);
    const me = await aws.sts(east, credentials).send(new GetCallerIdentityCommand({}));
    assert.equal(me.Arn, `arn:aws:sts::${accountId}:assumed-role/pod/restate-0`);
    const s3 = aws.s3(east, credentials);
    await put(s3, "pods", "hello", "world");
    assert.equal(await read(s3, "pods", "hello"), "world");
  });

  test("a token for another audience is refused", async () => {
    const token = await aws.token({ aud: "kubernetes" });
    await assert.rejects(
      aws.assume(role, token),
      failure("InvalidIdentityTokenException", 400, /Incorrect token audience/),
    );
  });

  test("another service account is refused", async () => {
    const token = await aws.token({ sub: "system:serviceaccount:restate:other" });
    await assert.rejects(
      aws.assume(role, token),
      failure("AccessDenied", 403, /^Not authorized to perform sts:AssumeRoleWithWebIdentity$/),
    );
  });

  test("an issuer without a provider is refused", async () => {
    const token = await aws.token({ iss: "https://oidc.eks.us-east-1.amazonaws.com/id/UNKNOWN" });
    await assert.rejects(
      aws.assume(role, token),
      failure("InvalidIdentityTokenException", 400, /No OpenIDConnect provider found in your account for https:/),
    );
  });

  test("the other region's issuer is refused while the trust does not name it, and accepted when it does", async () => {
    const token = await aws.token({ iss: regions[1]!.oidcIssuer });
    await assert.rejects(aws.assume(role, token), failure("AccessDenied", 403));
    const other = regions[1]!.oidcIssuer.replace("https://", "");
    const both = await makeRole(
      "pod-both",
      JSON.stringify({
        Version: "2012-10-17",
        Statement: [...JSON.parse(podTrust).Statement, ...JSON.parse(podTrust.replaceAll(issuer, other)).Statement],
      }),
    );
    await aws.assume(both, token);
    await aws.assume(both);
  });

  test("a trust that names the issuer's keys wrongly is refused", async () => {
    const wrong = await makeRole("pod-wrong", podTrust.replace(`${issuer}:sub`, `https://${issuer}:sub`));
    await assert.rejects(aws.assume(wrong), failure("AccessDenied", 403));
  });

  test("an expired token is refused", async () => {
    const token = await aws.token({ expires: Math.floor(Date.now() / 1000) - 60 });
    await assert.rejects(aws.assume(role, token), failure("ExpiredTokenException", 400, /Token expired/));
  });

  test("a token that someone else signed is refused", async () => {
    const { privateKey } = await generateKeyPair("RS256");
    await assert.rejects(
      aws.assume(role, await aws.token({ key: privateKey })),
      failure("InvalidIdentityTokenException", 400),
    );
    await assert.rejects(
      aws.assume(role, await aws.token({ kid: "two" })),
      failure("InvalidIdentityTokenException", 400),
    );
    await assert.rejects(
      aws.assume(role, "no token"),
      failure("InvalidIdentityTokenException", 400, /not a valid JWT/),
    );
  });

  test("a role that does not exist is refused as one that may not be assumed", async () => {
    await assert.rejects(aws.assume(`arn:aws:iam::${accountId}:role/none`), failure("AccessDenied", 403));
  });

  test("too long or too short a session is refused", async () => {
    await assert.rejects(aws.assume(role, undefined, 7200), failure("ValidationError", 400, /MaxSessionDuration/));
    await assert.rejects(aws.assume(role, undefined, 60), failure("ValidationError", 400));
  });

  test("a session ends when its role is deleted, even if it is made again", async () => {
    const iam = aws.iam();
    const short = await makeRole("short", podTrust);
    const credentials = await aws.assume(short);
    await iam.send(new DeleteRoleCommand({ RoleName: "short" }));
    await makeRole("short", podTrust);
    await assert.rejects(
      aws.sts(east, credentials).send(new GetCallerIdentityCommand({})),
      failure("InvalidClientTokenId", 403),
    );
  });

  test("a session policy only takes away", async () => {
    const credentials = await aws.assume(role);
    const principal = `arn:aws:iam::${accountId}:role/pod`;
    const chained = await makeRole(
      "chained",
      document({ Effect: "Allow", Principal: { AWS: principal }, Action: "sts:AssumeRole" }),
      document({ Effect: "Allow", Action: "s3:*", Resource: "*" }),
    );
    const { Credentials } = await aws.sts(east, credentials).send(
      new AssumeRoleCommand({
        RoleArn: chained,
        RoleSessionName: "x",
        Policy: document({ Effect: "Allow", Action: "s3:GetObject", Resource: "*" }),
      }),
    );
    const s3 = aws.s3(east, {
      accessKeyId: Credentials!.AccessKeyId!,
      secretAccessKey: Credentials!.SecretAccessKey!,
      sessionToken: Credentials!.SessionToken!,
    });
    await put(s3East, "pods", "chained");
    assert.equal(await read(s3, "pods", "chained"), "chained");
    await assert.rejects(put(s3, "pods", "chained"), failure("AccessDenied", 403));
  });

  test("a changed trust holds at once", async () => {
    const edited = await makeRole("edited", podTrust);
    await aws.assume(edited);
    const PolicyDocument = podTrust.replace("restate:restate", "restate:nobody");
    await aws.iam().send(new UpdateAssumeRolePolicyCommand({ RoleName: "edited", PolicyDocument }));
    await assert.rejects(aws.assume(edited), failure("AccessDenied", 403));
  });
});

describe("permissions of a role on S3", () => {
  const bucket = "guarded";
  let s3: S3Client;
  const allow = (...Action: string[]) =>
    aws.iam().send(
      new PutRolePolicyCommand({
        RoleName: "guard",
        PolicyName: "own",
        PolicyDocument: document({
          Effect: "Allow",
          Action,
          Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
        }),
      }),
    );
  before(async () => {
    await makeBucket(s3East, east, bucket);
    await put(s3East, bucket, "there");
    s3 = aws.s3(east, await aws.assume(await makeRole("guard", podTrust)));
  });

  test("nothing is allowed without a policy", async () => {
    await assert.rejects(read(s3, bucket, "there"), failure("AccessDenied", 403, /s3:GetObject on resource/));
    await assert.rejects(put(s3, bucket, "new"), failure("AccessDenied", 403, /s3:PutObject on resource/));
    await assert.rejects(
      s3.send(new ListObjectsV2Command({ Bucket: bucket })),
      failure("AccessDenied", 403, /s3:ListBucket on resource/),
    );
    await assert.rejects(
      s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: "there" })),
      failure("AccessDenied", 403, /s3:DeleteObject on resource/),
    );
    // HEAD has no body, so there is no code to read.
    await assert.rejects(
      s3.send(new HeadObjectCommand({ Bucket: bucket, Key: "there" })),
      (error: Error & { $metadata: { httpStatusCode: number } }) => {
        assert.equal(error.$metadata.httpStatusCode, 403);
        return true;
      },
    );
  });

  test("each action needs its own permission", async () => {
    await allow("s3:PutObject");
    await put(s3, bucket, "new");
    await assert.rejects(read(s3, bucket, "new"), failure("AccessDenied", 403));
    await allow("s3:GetObject");
    assert.equal(await read(s3, bucket, "new"), "new");
    await assert.rejects(put(s3, bucket, "new"), failure("AccessDenied", 403));
    await allow("s3:DeleteObject");
    await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: "new" }));
    await assert.rejects(
      s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: "new", VersionId: "x" })),
      failure("AccessDenied", 403, /s3:DeleteObjectVersion/),
    );
    const Objects = [{ Key: "there" }, { Key: "other" }];
    await allow("s3:GetObject");
    await assert.rejects(
      s3.send(new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects } })),
      failure("AccessDenied", 403),
    );
    await allow("s3:ListBucket");
    await s3.send(new ListObjectsV2Command({ Bucket: bucket }));
  });

  test("a missing key is told only to those who may list", async () => {
    await allow("s3:GetObject");
    await assert.rejects(read(s3, bucket, "missing"), failure("AccessDenied", 403));
    const head = new HeadObjectCommand({ Bucket: bucket, Key: "missing" });
    await assert.rejects(
      s3.send(head),
      (error: Error & { $metadata: { httpStatusCode: number } }) => error.$metadata.httpStatusCode === 403,
    );
    await allow("s3:GetObject", "s3:ListBucket");
    await assert.rejects(read(s3, bucket, "missing"), failure("NoSuchKey", 404));
    await assert.rejects(s3.send(head), failure("NotFound", 404));
  });

  test("the bucket's policy denies too; plain HTTP counts as TLS", async () => {
    await allow("s3:GetObject", "s3:PutObject");
    const deny = (more: Statement) =>
      s3East.send(
        new PutBucketPolicyCommand({
          Bucket: bucket,
          Policy: document({
            Effect: "Deny",
            Principal: "*",
            Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
            ...more,
          }),
        }),
      );
    await deny({ Action: "s3:*", Condition: { Bool: { "aws:SecureTransport": "false" } } });
    await put(s3, bucket, "tls");
    await deny({ Action: "s3:PutObject" });
    await assert.rejects(put(s3, bucket, "tls"), failure("AccessDenied", 403, /explicit deny/));
    assert.equal(await read(s3, bucket, "tls"), "tls");
  });

  test("a permissions boundary limits what the policies give", async () => {
    const iam = aws.iam();
    const boundary = document({ Effect: "Allow", Action: "s3:GetObject", Resource: "*" });
    const { Policy } = await iam.send(new CreatePolicyCommand({ PolicyName: "boundary", PolicyDocument: boundary }));
    const bound = await makeRole("bound", podTrust, document({ Effect: "Allow", Action: "s3:*", Resource: "*" }));
    const PermissionsBoundary = Policy!.Arn!;
    await iam.send(new PutRolePermissionsBoundaryCommand({ RoleName: "bound", PermissionsBoundary }));
    const limited = aws.s3(east, await aws.assume(bound));
    assert.equal(await read(limited, bucket, "there"), "there");
    await assert.rejects(
      limited.send(new ListObjectsV2Command({ Bucket: bucket })),
      failure("AccessDenied", 403, /s3:ListBucket/),
    );
  });

  test("an attached policy counts as an inline one does, in its default version", async () => {
    const iam = aws.iam();
    const allowing = (Action: string) => document({ Effect: "Allow", Action, Resource: "*" });
    const role = await makeRole("attached", podTrust);
    const { Policy } = await iam.send(
      new CreatePolicyCommand({ PolicyName: "attached", PolicyDocument: allowing("s3:GetObject") }),
    );
    const PolicyArn = Policy!.Arn!;
    await iam.send(new AttachRolePolicyCommand({ RoleName: "attached", PolicyArn }));
    const holder = aws.s3(east, await aws.assume(role));
    assert.equal(await read(holder, bucket, "there"), "there");
    const PolicyDocument = allowing("s3:ListBucket");
    await iam.send(new CreatePolicyVersionCommand({ PolicyArn, PolicyDocument, SetAsDefault: true }));
    await assert.rejects(read(holder, bucket, "there"), failure("AccessDenied", 403));
    await holder.send(new ListObjectsV2Command({ Bucket: bucket }));
  });

  test("other services are closed to a role that was not given them", async () => {
    const credentials = await aws.assume(`arn:aws:iam::${accountId}:role/guard`);
    const { IAMClient, ListRolesCommand } = await import("@aws-sdk/client-iam");
    const iam = aws.keep(new IAMClient({ endpoint: aws.endpoint, region: east, credentials, maxAttempts: 1 }));
    await assert.rejects(iam.send(new ListRolesCommand({})), failure("AccessDenied", 403, /iam:ListRoles/));
  });

  test("denials are on record", async () => {
    const denied = await aws.control.audit("denied");
    const last = denied.findLast((entry) => entry.action === "s3:PutObject");
    assert.equal(last?.resource, `arn:aws:s3:::${bucket}/tls`);
    assert.equal(last?.principal, `arn:aws:sts::${accountId}:assumed-role/guard/restate-0`);
    assert.ok((await aws.control.audit("allowed")).every((entry) => entry.decision === "allowed"));
  });
});

describe("replication", () => {
  test("both ways, without loops, with the same versions", async () => {
    const { from, to } = await makePair(true);
    const there = (await put(s3East, from, "e")).VersionId;
    const back = (await put(s3West, to, "w")).VersionId;
    await replicated(s3East, from, "e");
    await replicated(s3West, to, "w");
    assert.equal(await status(s3West, to, "e"), "REPLICA");
    assert.equal(await status(s3East, from, "w"), "REPLICA");
    assert.equal(await read(s3West, to, "e"), "e");
    const [atEast, atWest] = [await versions(s3East, from), await versions(s3West, to)];
    assert.deepEqual(atEast.objects.sort(), [`e@${there}`, `w@${back}`].sort());
    assert.deepEqual(atWest, atEast);
    // A loop would show as further copies.
    await sleep(300);
    assert.equal((await ruleMetrics(from)).operationsReplicated, 1);
    assert.equal((await ruleMetrics(to)).operationsReplicated, 1);
  });

  test("the later write of one key wins in both regions", async () => {
    const { from, to } = await makePair(true);
    await aws.control.setCopier({ paused: true });
    await put(s3East, from, "latest.json", "older");
    await sleep(5);
    await put(s3West, to, "latest.json", "newer");
    await aws.control.setCopier({ paused: false });
    await until(
      "both are copied",
      async () =>
        (await versions(s3West, to)).objects.length === 2 && (await versions(s3East, from)).objects.length === 2,
    );
    assert.equal(await read(s3East, from, "latest.json"), "newer");
    assert.equal(await read(s3West, to, "latest.json"), "newer");
    assert.deepEqual(await versions(s3East, from), await versions(s3West, to));
  });

  test("delete markers, when the rule says so", async () => {
    for (const replicatesMarkers of [true, false]) {
      const { from, to } = await makePair(true, {
        DeleteMarkerReplication: { Status: replicatesMarkers ? "Enabled" : "Disabled" },
      });
      await put(s3East, from, "gone");
      await replicated(s3East, from, "gone");
      await s3East.send(new DeleteObjectCommand({ Bucket: from, Key: "gone" }));
      await put(s3East, from, "after");
      await replicated(s3East, from, "after");
      assert.deepEqual(
        (await versions(s3West, to)).markers,
        replicatesMarkers ? (await versions(s3East, from)).markers : [],
      );
      if (replicatesMarkers) await assert.rejects(read(s3West, to, "gone"), failure("NoSuchKey", 404));
      else assert.equal(await read(s3West, to, "gone"), "gone");
    }
  });

  test("the deletion of a version stays where it was made", async () => {
    const { from, to } = await makePair();
    const { VersionId } = await put(s3East, from, "kept");
    await replicated(s3East, from, "kept");
    await s3East.send(new DeleteObjectCommand({ Bucket: from, Key: "kept", VersionId }));
    await put(s3East, from, "after");
    await replicated(s3East, from, "after");
    assert.equal(await read(s3West, to, "kept"), "kept");
  });

  test("only what the filter takes: prefix, tag, both", async () => {
    const tag = { Key: "copy", Value: "yes" };
    const off = { DeleteMarkerReplication: { Status: "Disabled" as const } };
    const put3 = async (bucket: string) => {
      await put(s3East, bucket, "in/plain");
      await s3East.send(new PutObjectCommand({ Bucket: bucket, Key: "in/tagged", Body: "x", Tagging: "copy=yes" }));
      await s3East.send(new PutObjectCommand({ Bucket: bucket, Key: "out/tagged", Body: "x", Tagging: "copy=yes" }));
      await put(s3East, bucket, "out/plain");
    };
    const cases: [Partial<ReplicationRule>, string[]][] = [
      [{ Filter: { Prefix: "in/" } }, ["in/plain", "in/tagged"]],
      [{ Filter: { Tag: tag }, ...off }, ["in/tagged", "out/tagged"]],
      [{ Filter: { And: { Prefix: "in/", Tags: [tag] } }, ...off }, ["in/tagged"]],
      [{ Status: "Disabled" }, []],
    ];
    for (const [more, expected] of cases) {
      const { from, to } = await makePair(false, more);
      await put3(from);
      for (const key of expected) await replicated(s3East, from, key);
      const found = (await versions(s3West, to)).objects.map((name) => name.split("@")[0]);
      assert.deepEqual(found, expected, JSON.stringify(more));
      if (!expected.includes("out/plain")) assert.equal(await status(s3East, from, "out/plain"), undefined);
    }
  });

  test("what existed before the configuration is not copied", async () => {
    const { from, to, role } = await makePair();
    await s3East.send(new DeleteBucketReplicationCommand({ Bucket: from }));
    await put(s3East, from, "before");
    await replicate(s3East, from, role, rule(to));
    await put(s3East, from, "after");
    await replicated(s3East, from, "after");
    assert.deepEqual(
      (await versions(s3West, to)).objects.map((name) => name.split("@")[0]),
      ["after"],
    );
    assert.equal(await status(s3East, from, "before"), undefined);
  });

  test("tags that change later follow, in both directions", async () => {
    const { from, to } = await makePair(true);
    await put(s3East, from, "tagged");
    await replicated(s3East, from, "tagged");
    const tags = async (s3: S3Client, Bucket: string) =>
      (await s3.send(new GetObjectTaggingCommand({ Bucket, Key: "tagged" }))).TagSet?.map(
        (t) => `${t.Key}=${t.Value}`,
      ).join();
    const tag = (s3: S3Client, Bucket: string, Value: string) =>
      s3.send(new PutObjectTaggingCommand({ Bucket, Key: "tagged", Tagging: { TagSet: [{ Key: "n", Value }] } }));
    await tag(s3East, from, "1");
    await until("the tag arrives", async () => (await tags(s3West, to)) === "n=1");
    await tag(s3West, to, "2");
    await until("the replica's change arrives", async () => (await tags(s3East, from)) === "n=2");
    assert.equal((await versions(s3West, to)).objects.length, 1);
  });

  test("a missing permission or trust fails the object, with the reason on record; granted and retried it arrives", async () => {
    const { from, to, role, roleName } = await makePair();
    const iam = aws.iam();
    const broken: [string, () => Promise<unknown>, RegExp][] = [
      [
        "no-replicate",
        () =>
          iam.send(
            new PutRolePolicyCommand({
              RoleName: roleName,
              PolicyName: "own",
              PolicyDocument: replicationPolicy(from, to).replace("s3:ReplicateObject", "s3:PutObject"),
            }),
          ),
        /may not s3:ReplicateObject/,
      ],
      [
        "no-read",
        () =>
          iam.send(
            new PutRolePolicyCommand({
              RoleName: roleName,
              PolicyName: "own",
              PolicyDocument: replicationPolicy(from, to).replace("s3:GetObjectVersionForReplication", "s3:GetObject"),
            }),
          ),
        /may not s3:GetObjectVersionForReplication/,
      ],
      [
        "no-policy",
        () => iam.send(new DeleteRolePolicyCommand({ RoleName: roleName, PolicyName: "own" })),
        /may not s3:GetReplicationConfiguration/,
      ],
      [
        "other-account",
        () =>
          iam.send(
            new UpdateAssumeRolePolicyCommand({
              RoleName: roleName,
              PolicyDocument: replicationTrust.replace(accountId, "210987654321"),
            }),
          ),
        /does not trust s3.amazonaws.com/,
      ],
    ];
    for (const [key, breakIt, reason] of broken) {
      await breakIt();
      await put(s3East, from, key);
      await until(`${key} fails`, async () => (await status(s3East, from, key)) === "FAILED");
      assert.match((await aws.control.copier()).failures.findLast((f) => f.key === key)!.reason, reason);
      await assert.rejects(read(s3West, to, key), failure("NoSuchKey", 404));
    }
    assert.ok(
      (await aws.control.audit("denied")).some((e) => e.principal === role && e.action === "s3:ReplicateObject"),
    );
    assert.equal((await ruleMetrics(from)).operationsFailedReplication, broken.length);
    await iam.send(new UpdateAssumeRolePolicyCommand({ RoleName: roleName, PolicyDocument: replicationTrust }));
    await iam.send(
      new PutRolePolicyCommand({ RoleName: roleName, PolicyName: "own", PolicyDocument: replicationPolicy(from, to) }),
    );
    assert.equal(await aws.control.retryFailed(), broken.length);
    for (const [key] of broken) await replicated(s3East, from, key);
    assert.equal((await versions(s3West, to)).objects.length, broken.length);
  });

  test("configurations that S3 would refuse are refused", async () => {
    await makeBucket(s3East, east, "plain", false);
    await makeBucket(s3West, west, "plain-target", false);
    const { from, to, role } = await makePair();
    const refused = (bucket: string, ...rules: ReplicationRule[]) => replicate(s3East, bucket, role, ...rules);
    await assert.rejects(
      refused("plain", rule(to)),
      failure("InvalidRequest", 400, /Versioning must be 'Enabled' on the bucket/),
    );
    await assert.rejects(
      refused(from, rule("plain-target")),
      failure("InvalidRequest", 400, /Destination bucket must have versioning enabled/),
    );
    await assert.rejects(
      refused(from, rule("nowhere")),
      failure("InvalidRequest", 400, /Destination bucket must exist/),
    );
    await assert.rejects(
      refused(from, rule(to, { Priority: undefined })),
      failure("InvalidRequest", 400, /Priority must be specified/),
    );
    await assert.rejects(
      refused(from, rule(to, { DeleteMarkerReplication: undefined })),
      failure("InvalidRequest", 400, /DeleteMarkerReplication must be specified/),
    );
    await assert.rejects(
      refused(from, rule(to), rule(to, { ID: "other" })),
      failure("InvalidRequest", 400, /duplicate priority 1/),
    );
    await assert.rejects(
      refused(from, rule(to), rule(to, { Priority: 2 })),
      failure("InvalidArgument", 400, /Rule Id must be unique/),
    );
    await assert.rejects(
      refused(from, rule(to, { Filter: { Tag: { Key: "a", Value: "b" } } })),
      failure("InvalidRequest", 400, /Delete marker replication is not supported if any Tag filter is specified/),
    );
    await assert.rejects(
      replicate(s3East, from, `arn:aws:iam::${accountId}:role/none`, rule(to)),
      failure("InvalidArgument", 400, /role\/none/),
    );
    await assert.rejects(
      s3East.send(new PutBucketVersioningCommand({ Bucket: from, VersioningConfiguration: { Status: "Suspended" } })),
      failure("InvalidBucketState", 409),
    );
  });

  test("a configuration is given back as it was put", async () => {
    const { from, to, role } = await makePair();
    const rules = [
      rule(to),
      rule(to, {
        ID: "second",
        Priority: 7,
        Filter: {
          And: {
            Prefix: "p",
            Tags: [
              { Key: "a", Value: "b" },
              { Key: "c", Value: "" },
            ],
          },
        },
        DeleteMarkerReplication: { Status: "Disabled" },
        Destination: { Bucket: `arn:aws:s3:::${to}`, StorageClass: "STANDARD_IA" },
      }),
    ];
    await replicate(s3East, from, role, ...rules);
    const { ReplicationConfiguration } = await s3East.send(new GetBucketReplicationCommand({ Bucket: from }));
    assert.deepEqual(ReplicationConfiguration, { Role: role, Rules: rules });
  });

  test("paused and resumed, delayed, held back and out of order: nothing is lost", async () => {
    const { from, to } = await makePair();
    await aws.control.setCopier({ paused: true });
    for (let i = 0; i < 20; i++) await put(s3East, from, `n/${i}`, "12345");
    const waiting = await ruleMetrics(from);
    assert.equal(waiting.operationsPendingReplication, 20);
    assert.equal(waiting.bytesPendingReplication, 100);
    assert.equal(await status(s3East, from, "n/0"), "PENDING");
    await sleep(1100);
    assert.ok((await ruleMetrics(from)).replicationLatency >= 1);
    assert.equal((await versions(s3West, to)).objects.length, 0);
    await aws.control.setCopier({ paused: false });
    for (let i = 0; i < 20; i++) await replicated(s3East, from, `n/${i}`);
    assert.equal((await ruleMetrics(from)).operationsPendingReplication, 0);

    await aws.control.setCopier({ hold: ["metadata.json"] });
    await put(s3East, from, "metadata.json");
    await put(s3East, from, "latest.json");
    await replicated(s3East, from, "latest.json");
    await assert.rejects(read(s3West, to, "metadata.json"), failure("NoSuchKey", 404));
    await aws.control.setCopier({ hold: [] });
    await replicated(s3East, from, "metadata.json");

    await aws.control.setCopier({ delayMs: 700 });
    const written = Date.now();
    await put(s3East, from, "slow");
    await replicated(s3East, from, "slow");
    assert.ok(Date.now() - written >= 700);
    await aws.control.setCopier({ delayMs: 0 });
    await assert.rejects(aws.control.setCopier({ delayMs: -1 }), /write milliseconds, 0 or more/);
  });

  test("the metrics reach CloudWatch", { timeout: 90_000 }, async () => {
    const { from, to } = await makePair();
    // The first values are sent when the gateway starts, then each minute.
    await aws.kill(aws.gateway);
    await aws.startGateway();
    await until("the metrics are there", async () => {
      const answer = await fetch(`http://127.0.0.1:${aws.motoPort}/`, {
        method: "POST",
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          authorization: `AWS4-HMAC-SHA256 Credential=x/20000101/${east}/monitoring/aws4_request, SignedHeaders=host, Signature=0`,
        },
        body: new URLSearchParams({ Action: "ListMetrics", Version: "2010-08-01", Namespace: "AWS/S3" }),
      });
      const text = await answer.text();
      return ["ReplicationLatency", "BytesPendingReplication", from, to, "to-peer"].every((word) =>
        text.includes(word),
      );
    });
  });
});

describe("snapshots as Restate writes them", () => {
  test("multipart upload by a pod's role, replicated, removed and read in the other region", async () => {
    const { from, to } = await makePair(true);
    const buckets = [from, to];
    const role = await makeRole(
      "snapshots",
      podTrust,
      document(
        { Effect: "Allow", Action: "s3:ListBucket", Resource: buckets.map((b) => `arn:aws:s3:::${b}`) },
        {
          Effect: "Allow",
          Action: ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
          Resource: buckets.map((b) => `arn:aws:s3:::${b}/*`),
        },
      ),
    );
    const credentials = await aws.assume(role);
    const [s3, peer] = [aws.s3(east, credentials), aws.s3(west, credentials)];
    const Key = "0/lsn_00000000000000000010-snap_1/000.sst";
    const { UploadId } = await s3.send(new CreateMultipartUploadCommand({ Bucket: from, Key }));
    const parts = [Buffer.alloc(5 * 1024 * 1024, "a"), Buffer.alloc(300_000, "b")];
    const Parts = [];
    for (const [i, Body] of parts.entries()) {
      const part = { Bucket: from, Key, UploadId, PartNumber: i + 1, Body };
      Parts.push({ PartNumber: i + 1, ETag: (await s3.send(new UploadPartCommand(part))).ETag });
    }
    await s3.send(new CompleteMultipartUploadCommand({ Bucket: from, Key, UploadId, MultipartUpload: { Parts } }));
    await put(s3, from, "0/lsn_00000000000000000010-snap_1/metadata.json", "{}");
    await put(s3, from, "0/latest.json", "{}");
    const aborted = await s3.send(new CreateMultipartUploadCommand({ Bucket: from, Key: "aborted" }));
    await s3.send(new AbortMultipartUploadCommand({ Bucket: from, Key: "aborted", UploadId: aborted.UploadId }));
    await replicated(s3East, from, Key);
    await replicated(s3East, from, "0/latest.json");
    const copy = await peer.send(new GetObjectCommand({ Bucket: to, Key }));
    assert.deepEqual(Buffer.from(await copy.Body!.transformToByteArray()), Buffer.concat(parts));
    assert.equal(copy.ETag, (await s3.send(new HeadObjectCommand({ Bucket: from, Key }))).ETag);
    const range = await peer.send(new GetObjectCommand({ Bucket: to, Key, Range: "bytes=5242878-5242881" }));
    assert.equal(await range.Body!.transformToString(), "aabb");
    await peer.send(new DeleteObjectCommand({ Bucket: to, Key }));
    await until("the delete marker comes back", async () => (await versions(s3East, from)).markers.length === 1);
    await assert.rejects(
      peer.send(new GetObjectCommand({ Bucket: to, Key: "1/latest.json" })),
      failure("NoSuchKey", 404),
    );
  });
});

describe("faults", () => {
  after(() => aws.control.clearFaults());

  test("throttling, errors and delays, for one service or action, for a time", async () => {
    await makeBucket(s3East, east, "faulty");
    const throttle = await aws.control.addFault({ service: "s3", action: "PutObject", effect: "throttle" });
    await assert.rejects(put(s3East, "faulty", "a"), failure("SlowDown", 503));
    await s3East.send(new ListObjectsV2Command({ Bucket: "faulty" }));
    await aws.control.clearFaults(throttle);
    await put(s3East, "faulty", "a");

    await aws.control.addFault({ service: "sts", effect: "fail", seconds: 0.5 });
    await assert.rejects(aws.sts().send(new GetCallerIdentityCommand({})), failure("InternalFailure", 500));
    await sleep(600);
    await aws.sts().send(new GetCallerIdentityCommand({}));
    assert.deepEqual(await aws.control.faults(), []);

    await aws.control.addFault({ region: west, effect: "delay", delayMs: 3000 });
    const start = Date.now();
    await aws.sts(east).send(new GetCallerIdentityCommand({}));
    const near = Date.now();
    await aws.sts(west).send(new GetCallerIdentityCommand({}));
    assert.ok(Date.now() - near >= 3000);
    assert.ok(near - start < 3000);
    await aws.control.clearFaults();
  });

  test("the SDK's own retries get through a fault that meets half of the calls", async () => {
    await aws.control.addFault({ service: "s3", effect: "throttle", probability: 0.5 });
    const patient = aws.s3(east, adminCredentials, 20);
    const hits = async () => (await aws.control.faults())[0]!.hits;
    // Half of the calls: that fifty in a row are spared does not happen.
    for (let i = 0; i < 50 && (await hits()) === 0; i++) await put(patient, "faulty", `retried/${i}`);
    assert.ok((await hits()) > 0);
    await aws.control.clearFaults();
  });

  test("a fault can be for one caller or resource, and may never answer", async () => {
    await aws.control.addFault({ effect: "hang", resource: "faulty/dead" });
    const giveUp = AbortSignal.timeout(500);
    await assert.rejects(
      s3East.send(new PutObjectCommand({ Bucket: "faulty", Key: "dead", Body: "x" }), { abortSignal: giveUp }),
      /abort/i,
    );
    await put(s3East, "faulty", "alive");
    await aws.control.clearFaults();
    await aws.control.addFault({ effect: "fail", caller: "assumed-role" });
    await put(s3East, "faulty", "alive");
    await aws.control.clearFaults();
  });

  test("impossible faults are refused with the way to write them", async () => {
    await assert.rejects(
      aws.control.addFault({ effect: "explode" as "fail" }),
      /write one of fail, throttle, delay, hang/,
    );
    await assert.rejects(aws.control.addFault({ effect: "delay" }), /needs delayMs/);
    await assert.rejects(aws.control.addFault({ effect: "fail", probability: 2 }), /write 0 to 1/);
  });
});

describe("after kill -9", () => {
  test("moto: every acknowledged write is there, and replication goes on", { timeout: 120_000 }, async () => {
    const { from, to } = await makePair(true);
    const before = (await s3East.send(new GetBucketReplicationCommand({ Bucket: from }))).ReplicationConfiguration;
    const acknowledged: string[] = [];
    const patient = aws.s3(east, adminCredentials, 1);
    let writing = true;
    const writers = [0, 1, 2].map(async (writer) => {
      for (let i = 0; writing; i++) {
        const key = `k/${writer}/${i}`;
        // Sizes on both sides of what is kept in the database itself.
        const body = Buffer.alloc(i % 5 === 0 ? 200_000 : 1000, writer);
        await put(patient, from, key, body).then(
          () => acknowledged.push(key),
          () => sleep(50),
        );
      }
    });
    await sleep(1000);
    for (let round = 0; round < 2; round++) {
      await aws.kill(aws.moto);
      await sleep(200);
      await aws.startMoto();
      await sleep(500);
    }
    writing = false;
    await Promise.all(writers);
    assert.ok(acknowledged.length > 20, `${acknowledged.length} writes`);
    for (const key of acknowledged) {
      const { ContentLength } = await s3East.send(new HeadObjectCommand({ Bucket: from, Key: key }));
      assert.ok(ContentLength === 200_000 || ContentLength === 1000);
    }
    await until("all is replicated", async () => (await ruleMetrics(from)).operationsPendingReplication === 0, 60);
    const atWest = (await versions(s3West, to)).objects.map((name) => name.split("@")[0]);
    for (const key of acknowledged.slice(0, 900)) assert.ok(atWest.includes(key), key);
    assert.deepEqual(
      (await s3East.send(new GetBucketReplicationCommand({ Bucket: from }))).ReplicationConfiguration,
      before,
    );
  });

  test("the gateway: sessions, the copier's settings and its queue are still there", async () => {
    const { from, to } = await makePair();
    const Resource = "*";
    const role = await makeRole("survivor", podTrust, document({ Effect: "Allow", Action: "s3:*", Resource }));
    const credentials = await aws.assume(role);
    await aws.control.setCopier({ paused: true });
    await put(aws.s3(east, credentials), from, "survives");
    await aws.kill(aws.gateway);
    await aws.startGateway();
    assert.equal((await aws.control.copier()).settings.paused, true);
    assert.equal(await status(aws.s3(east, credentials), from, "survives"), "PENDING");
    await aws.control.setCopier({ paused: false });
    await replicated(s3East, from, "survives");
    assert.equal(await read(s3West, to, "survives"), "survives");
  });

  test("while moto is away, callers get an error that they retry", async () => {
    await makeBucket(s3East, east, "away");
    await aws.kill(aws.moto);
    await assert.rejects(put(s3East, "away", "a"), failure("ServiceUnavailable", 503));
    const retried = put(aws.s3(east, adminCredentials, 30), "away", "a");
    await aws.startMoto();
    await retried;
    assert.equal(await read(s3East, "away", "a"), "a");
  });

  test("seeding again finds what is there", async () => {
    const before = structuredClone(aws.world);
    await aws.seed();
    assert.deepEqual(aws.world, before);
  });
});
