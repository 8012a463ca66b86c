/** The gateway's pure parts: which permissions a request needs, signatures, faults, what the copier takes next, policies. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { trustsService, trustsToken } from "../../sandbox/aws/authorize";
import { type AwsControl, awsControl, serveControl } from "../../sandbox/aws/control";
import { defaultCopierSettings, due, neededToCopy } from "../../sandbox/aws/copier";
import { type AwsError, commonError, renderError } from "../../sandbox/aws/errors";
import { Audit, Faults } from "../../sandbox/aws/faults";
import type { WaitingVersion } from "../../sandbox/aws/moto";
import { actionOf, type Incoming, s3Needs, scopeOf } from "../../sandbox/aws/request";
import { checkSignature } from "../../sandbox/aws/signature";

const incoming = (method: string, url: string, headers: Record<string, string> = {}): Incoming => ({
  method,
  url,
  headers,
});

describe("permissions that S3 requests need", () => {
  const cases: [method: string, url: string, needs: string[], headers?: Record<string, string>][] = [
    ["GET", "/", ["s3:ListAllMyBuckets *"]],
    ["GET", "/b", ["s3:ListBucket b"]],
    ["HEAD", "/b", ["s3:ListBucket b"]],
    ["GET", "/b?list-type=2&prefix=p", ["s3:ListBucket b"]],
    ["GET", "/b?versions", ["s3:ListBucketVersions b"]],
    ["GET", "/b?uploads", ["s3:ListBucketMultipartUploads b"]],
    ["PUT", "/b", ["s3:CreateBucket b"]],
    ["DELETE", "/b", ["s3:DeleteBucket b"]],
    ["GET", "/b?replication", ["s3:GetReplicationConfiguration b"]],
    ["PUT", "/b?replication", ["s3:PutReplicationConfiguration b"]],
    ["DELETE", "/b?replication", ["s3:PutReplicationConfiguration b"]],
    ["DELETE", "/b?policy", ["s3:DeleteBucketPolicy b"]],
    ["PUT", "/b?publicAccessBlock", ["s3:PutBucketPublicAccessBlock b"]],
    ["PUT", "/b?lifecycle", ["s3:PutLifecycleConfiguration b"]],
    ["GET", "/b/k", ["s3:GetObject b/k"]],
    ["HEAD", "/b/k", ["s3:GetObject b/k"]],
    ["GET", "/b/k?versionId=v", ["s3:GetObjectVersion b/k"]],
    ["GET", "/b/k?tagging", ["s3:GetObjectTagging b/k"]],
    ["PUT", "/b/k?tagging&versionId=v", ["s3:PutObjectVersionTagging b/k"]],
    ["PUT", "/b/a%20b/c%2Fd", ["s3:PutObject b/a b/c/d"]],
    ["PUT", "/b/k", ["s3:PutObject b/k", "s3:PutObjectTagging b/k"], { "x-amz-tagging": "a=b" }],
    ["PUT", "/b/k", ["s3:PutObject b/k", "s3:PutObjectAcl b/k"], { "x-amz-acl": "private" }],
    ["PUT", "/b/k", ["s3:PutObject b/k", "s3:GetObject other/x y"], { "x-amz-copy-source": "other/x%20y" }],
    ["PUT", "/b/k", ["s3:PutObject b/k", "s3:GetObjectVersion o/x"], { "x-amz-copy-source": "/o/x?versionId=1" }],
    ["POST", "/b/k?uploads", ["s3:PutObject b/k"]],
    ["PUT", "/b/k?partNumber=1&uploadId=u", ["s3:PutObject b/k"]],
    ["POST", "/b/k?uploadId=u", ["s3:PutObject b/k"]],
    ["GET", "/b/k?uploadId=u", ["s3:ListMultipartUploadParts b/k"]],
    ["DELETE", "/b/k?uploadId=u", ["s3:AbortMultipartUpload b/k"]],
    ["DELETE", "/b/k", ["s3:DeleteObject b/k"]],
    ["DELETE", "/b/k?versionId=v", ["s3:DeleteObjectVersion b/k"]],
  ];
  for (const [method, url, expected, headers] of cases) {
    test(`${method} ${url}${headers ? ` ${JSON.stringify(headers)}` : ""}`, () => {
      const needs = s3Needs(incoming(method, url, headers));
      assert.deepEqual(
        needs.map((need) => `${need.action} ${need.resource.replace("arn:aws:s3:::", "")}`),
        expected,
      );
    });
  }

  test("DeleteObjects needs a permission for each object", () => {
    const body =
      "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key><VersionId>1</VersionId></Object></Delete>";
    assert.deepEqual(
      s3Needs(incoming("POST", "/b?delete"), body).map((need) => `${need.action} ${need.resource}`),
      ["s3:DeleteObject arn:aws:s3:::b/a&b", "s3:DeleteObjectVersion arn:aws:s3:::b/c"],
    );
  });

  test("listing carries the prefix into the conditions", () => {
    assert.deepEqual(s3Needs(incoming("GET", "/b?prefix=a%2F&delimiter=/"))[0]?.context, {
      "s3:prefix": "a/",
      "s3:delimiter": "/",
    });
  });
});

describe("other services", () => {
  test("actions are found in form, target header or path", () => {
    assert.equal(actionOf("iam", incoming("POST", "/"), new URLSearchParams("Action=GetRole")), "GetRole");
    assert.equal(actionOf("x", incoming("POST", "/", { "x-amz-target": "Service_1.Describe" }), undefined), "Describe");
    assert.equal(actionOf("eks", incoming("GET", "/clusters/c"), undefined), "DescribeCluster");
    const associations = "/clusters/c/pod-identity-associations";
    assert.equal(actionOf("eks", incoming("POST", associations), undefined), "CreatePodIdentityAssociation");
    assert.equal(actionOf("eks", incoming("PATCH", "/odd"), undefined), "PATCH /odd");
  });

  test("errors are written in the service's own protocol", () => {
    const throttled = (service: string) => renderError(service, commonError(service, "throttled", "slow <down>"));
    assert.match(throttled("s3").body, /^<\?xml.*<Error><Code>SlowDown<\/Code><Message>slow &#60;down&#62;/s);
    assert.match(throttled("iam").body, /<ErrorResponse><Error><Type>Sender<\/Type><Code>Throttling<\/Code>/);
    assert.match(throttled("ec2").body, /<Response><Errors><Error><Code>RequestLimitExceeded<\/Code>/);
    assert.deepEqual(JSON.parse(throttled("eks").body), { __type: "ThrottlingException", message: "slow <down>" });
    assert.equal(throttled("eks").headers["x-amzn-errortype"], "ThrottlingException");
    assert.equal(renderError("s3", commonError("s3", "throttled", ""), true).body, "");
  });
});

describe("signatures", () => {
  // The example of AWS's documentation for S3 (GET Object).
  const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
  const example = incoming("GET", "/test.txt", {
    host: "examplebucket.s3.amazonaws.com",
    range: "bytes=0-9",
    "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "x-amz-date": "20130524T000000Z",
    authorization:
      "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  });
  const then = Date.parse("2013-05-24T00:00:00Z");

  test("the documented example holds", () => {
    const scope = scopeOf(example)!;
    assert.deepEqual(scope, {
      accessKeyId: "AKIAIOSFODNN7EXAMPLE",
      date: "20130524",
      region: "us-east-1",
      service: "s3",
    });
    checkSignature(example, scope, secret, undefined, then);
  });

  test("the documented example of a presigned URL holds, until it expires", () => {
    const url =
      "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    const presigned = incoming("GET", url, { host: "examplebucket.s3.amazonaws.com" });
    checkSignature(presigned, scopeOf(presigned)!, secret, undefined, then + 1000);
    assert.throws(() => checkSignature(presigned, scopeOf(presigned)!, secret, undefined, then + 90_000_000), {
      code: "AccessDenied",
      message: "Request has expired",
    });
  });

  test("anything else is refused", () => {
    const scope = scopeOf(example)!;
    const refusal = (given: Incoming, key = secret, now = then, body?: Buffer): string | undefined => {
      try {
        checkSignature(given, scope, key, body, now);
        return undefined;
      } catch (error) {
        return (error as AwsError).code;
      }
    };
    assert.equal(refusal(example, "other"), "SignatureDoesNotMatch");
    assert.equal(refusal({ ...example, url: "/other.txt" }), "SignatureDoesNotMatch");
    assert.equal(refusal({ ...example, method: "DELETE" }), "SignatureDoesNotMatch");
    assert.equal(
      refusal({ ...example, headers: { ...example.headers, range: "bytes=0-99" } }),
      "SignatureDoesNotMatch",
    );
    assert.equal(refusal(example, secret, then + 3_600_000), "RequestTimeTooSkewed");
    assert.equal(refusal(example, secret, then, Buffer.from("changed")), "XAmzContentSHA256Mismatch");
    const { "x-amz-date": _date, ...undated } = example.headers;
    assert.equal(refusal({ ...example, headers: undated }), "AccessDenied");
  });
});

describe("faults", () => {
  const target = {
    service: "s3",
    action: "PutObject",
    region: "us-east-1",
    caller: "arn:x:role/pod",
    resource: "arn:b/k",
  };

  test("meet what they name, with their probability", () => {
    const faults = new Faults();
    faults.add({ service: "s3", action: "GetObject", effect: "fail" });
    faults.add({ region: "us-west-2", effect: "fail" });
    faults.add({ caller: "user/sandbox", effect: "fail" });
    assert.deepEqual(faults.meet(target), []);
    const half = faults.add({ service: "s3", caller: "role/pod", effect: "throttle", probability: 0.5 });
    assert.deepEqual(
      faults.meet(target, () => 0.6),
      [],
    );
    assert.deepEqual(
      faults.meet(target, () => 0.4).map((fault) => fault.effect),
      ["throttle"],
    );
    assert.equal(faults.list().find((fault) => fault.id === half)?.hits, 1);
    faults.clear();
    assert.deepEqual(faults.list(), []);
  });

  test("the record keeps the last", () => {
    const audit = new Audit(2);
    const add = (action: string, decision: "allowed" | "denied") =>
      audit.add({ principal: "p", action, resource: "r", decision });
    add("denied", "denied");
    for (const action of ["a", "b", "c"]) add(action, "allowed");
    const names = (only?: "denied") => audit.list(only).map((entry) => entry.action);
    assert.deepEqual(names().sort(), ["b", "c", "denied"]);
    assert.deepEqual(names("denied"), ["denied"]);
  });
});

describe("the control channel", () => {
  test("an argument that is left out, or undefined, is so on the other side: all faults end", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "restate-control-"));
    const faults = new Faults();
    const served = { clearFaults: async (id?: number) => faults.clear(id) } as AwsControl;
    const server = await serveControl(served, join(folder, "socket"));
    t.after(() => {
      server.close();
      rmSync(folder, { recursive: true });
    });
    const control = awsControl(join(folder, "socket"));
    for (const clear of [() => control.clearFaults(), () => control.clearFaults(undefined)]) {
      faults.add({ effect: "hang" });
      await clear();
      assert.deepEqual(faults.list(), []);
    }
    const [first, second] = [faults.add({ effect: "hang" }), faults.add({ effect: "fail" })];
    await control.clearFaults(first);
    assert.deepEqual(
      faults.list().map(({ id }) => id),
      [second],
    );
  });
});

describe("the copier's order", () => {
  const version = (key: string, since: number): WaitingVersion => ({
    bucket: "b",
    key,
    versionId: key,
    kind: "object",
    rules: ["r"],
    since,
    size: 1,
    tagged: false,
  });
  const waiting = [version("0/metadata.json", 100), version("0/latest.json", 200)];
  const keys = (settings: Partial<typeof defaultCopierSettings>, now: number) =>
    due(waiting, { ...defaultCopierSettings, ...settings }, now).map((v) => v.key);

  test("as written, when old enough, and not held", () => {
    assert.deepEqual(keys({}, 200), ["0/metadata.json", "0/latest.json"]);
    assert.deepEqual(keys({ delayMs: 50 }, 200), ["0/metadata.json"]);
    assert.deepEqual(keys({ paused: true }, 200), []);
    assert.deepEqual(keys({ hold: ["metadata"] }, 200), ["0/latest.json"]);
  });

  test("newest first, once the oldest is due", () => {
    assert.deepEqual(keys({ order: "newestFirst", delayMs: 150 }, 200), []);
    assert.deepEqual(keys({ order: "newestFirst", delayMs: 100 }, 200), ["0/latest.json", "0/metadata.json"]);
  });

  test("the permissions that S3 asks of the role", () => {
    const names = (v: WaitingVersion) => neededToCopy(v, "peer").map((need) => need.action.slice(3));
    const base = ["GetReplicationConfiguration", "ListBucket"];
    const object = ["GetObjectVersionForReplication", "GetObjectVersionAcl"];
    assert.deepEqual(names(waiting[0]!), [...base, ...object, "ReplicateObject"]);
    assert.deepEqual(names({ ...waiting[0]!, tagged: true }), [
      ...base,
      ...object,
      "GetObjectVersionTagging",
      "ReplicateObject",
      "ReplicateTags",
    ]);
    assert.deepEqual(names({ ...waiting[0]!, kind: "deleteMarker" }), [...base, "ReplicateDelete"]);
  });
});

describe("trust policies", () => {
  const issuerName = "oidc.eks.us-east-1.amazonaws.com/id/1111";
  const provider = { arn: `arn:aws:iam::123456789012:oidc-provider/${issuerName}`, issuerName };
  const role = (Condition: unknown, Principal: unknown = { Federated: provider.arn }) => ({
    arn: "arn:aws:iam::123456789012:role/r",
    trust: JSON.stringify({
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Principal, Action: "sts:AssumeRoleWithWebIdentity", Condition }],
    }),
  });
  const claims = { aud: "sts.amazonaws.com", sub: "system:serviceaccount:a:b" };
  const aud = { [`${issuerName}:aud`]: claims.aud };
  const sub = { [`${issuerName}:sub`]: claims.sub };
  const cases: [name: string, condition: unknown, allowed: boolean, principal?: unknown][] = [
    ["audience and subject match", { StringEquals: { ...aud, ...sub } }, true],
    [
      "a pattern for the subject",
      { StringEquals: aud, StringLike: { [`${issuerName}:sub`]: "system:serviceaccount:a:*" } },
      true,
    ],
    ["another subject", { StringEquals: { ...aud, [`${issuerName}:sub`]: "system:serviceaccount:a:c" } }, false],
    ["another audience", { StringEquals: { ...sub, [`${issuerName}:aud`]: "kubernetes" } }, false],
    ["keys of another issuer", { StringEquals: { "oidc.eks.us-east-1.amazonaws.com/id/2222:sub": claims.sub } }, false],
    ["keys of a provider without a path", { StringEquals: { "accounts.google.com:sub": claims.sub } }, false],
    ["keys with the scheme", { StringEquals: { [`https://${issuerName}:sub`]: claims.sub } }, false],
    ["another provider", { StringEquals: { ...aud, ...sub } }, false, { Federated: `${provider.arn}x` }],
    ["no condition", undefined, true],
  ];
  for (const [name, condition, allowed, principal] of cases) {
    test(name, () => {
      assert.equal(trustsToken(role(condition, principal), provider, claims).allowed, allowed);
    });
  }

  test("a service, for this account only", () => {
    const trust = (account: string) => ({
      arn: "arn:aws:iam::123456789012:role/r",
      trust: JSON.stringify({
        Version: "2012-10-17",
        Statement: [
          {
            Effect: "Allow",
            Principal: { Service: "s3.amazonaws.com" },
            Action: "sts:AssumeRole",
            Condition: { StringEquals: { "aws:SourceAccount": account } },
          },
        ],
      }),
    });
    assert.equal(trustsService(trust("123456789012"), "s3.amazonaws.com").allowed, true);
    assert.equal(trustsService(trust("210987654321"), "s3.amazonaws.com").allowed, false);
    assert.equal(trustsService(trust("123456789012"), "ec2.amazonaws.com").allowed, false);
  });
});
