/** The evaluation of IAM policies in the sandbox: what is allowed, what is denied, and what is refused since it is not known. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import { nodeTrust, replicationAccess, replicationTrust, snapshotAccess, tlsOnly } from "../../aws/documents";
import { authorize, type Decision, type Principal, trustsPrincipal, trustsService } from "../../sandbox/aws/authorize";
import { evaluate, matches, type PolicyKind, type PolicyRequest, UnknownPolicyError } from "../../sandbox/aws/evaluate";
import type { Need } from "../../sandbox/aws/request";
import { accountId } from "../../sandbox/world/regions";
import { dumpsFolder } from "../support/dumps";

type Statement = Record<string, unknown>;
const document = (...Statement: Statement[]): string => JSON.stringify({ Version: "2012-10-17", Statement });
/** A policy variable. */
const variable = ["$", "{aws:username}"].join("");
const role = `arn:aws:iam::${accountId}:role/pod`;
const session = `arn:aws:sts::${accountId}:assumed-role/pod/restate-0`;
const need = (action: string, resource: string, context: Record<string, string> = {}): Need => ({
  action,
  resource,
  context,
});
const reading = need("s3:GetObject", "arn:aws:s3:::b/a/k");
const pod = (policies: string[], more: Partial<Principal> = {}): Principal => ({
  arn: session,
  role,
  policies,
  ...more,
});

const allowed = { allowed: true };
const denied = { allowed: false, reason: "with an explicit deny in a policy" };
const notGiven = (action: string) => ({
  allowed: false,
  reason: `because no identity-based policy allows the ${action} action`,
});
const notTrusted = (action: string) => ({
  allowed: false,
  reason: `because no role trust policy allows the ${action} action`,
});

describe("a statement applies by its action, resource and condition", () => {
  const all = { Action: "*", Resource: "*" };
  const listing = need("s3:ListBucket", "arn:aws:s3:::b", { "s3:prefix": "a/b" });
  const cases: [name: string, statement: Statement, need: Need, applies: boolean][] = [
    ["everything", all, reading, true],
    ["an action", { ...all, Action: "s3:GetObject" }, reading, true],
    ["an action in other case", { ...all, Action: "S3:getobject" }, reading, true],
    ["one of several actions", { ...all, Action: ["s3:PutObject", "s3:GetObject"] }, reading, true],
    ["another action", { ...all, Action: "s3:PutObject" }, reading, false],
    ["the start of an action", { ...all, Action: "s3:Get" }, reading, false],
    ["actions by *", { ...all, Action: "s3:Get*" }, reading, true],
    ["actions by ?", { ...all, Action: "s3:?etObject" }, reading, true],
    ["actions of another service", { ...all, Action: "sts:*" }, reading, false],
    ["a resource", { ...all, Resource: "arn:aws:s3:::b/a/k" }, reading, true],
    ["resources by *, over slashes", { ...all, Resource: "arn:aws:s3:::b/*" }, reading, true],
    ["one of several resources", { ...all, Resource: ["arn:aws:s3:::c/*", "arn:aws:s3:::*k"] }, reading, true],
    ["a resource in other case", { ...all, Resource: "arn:aws:s3:::B/a/k" }, reading, false],
    ["the bucket itself", { ...all, Resource: "arn:aws:s3:::b" }, reading, false],
    ["a resource that is longer", { ...all, Resource: "arn:aws:s3:::b/a/k?" }, reading, false],
    ["* does not reach into the ARN's next part", { ...all, Resource: "arn:aws:*:b/a/k:::" }, reading, false],
    ["one resource, asked on all", { ...all, Resource: `${role}*` }, need("iam:GetRole", "*"), false],
    ["StringEquals", { ...all, Condition: { StringEquals: { "s3:prefix": "a/b" } } }, listing, true],
    [
      "StringEquals, one of several",
      { ...all, Condition: { StringEquals: { "s3:prefix": ["x", "a/b"] } } },
      listing,
      true,
    ],
    ["StringEquals is no pattern", { ...all, Condition: { StringEquals: { "s3:prefix": "a/*" } } }, listing, false],
    ["StringEquals, in other case", { ...all, Condition: { StringEquals: { "s3:prefix": "A/b" } } }, listing, false],
    ["StringLike", { ...all, Condition: { StringLike: { "s3:prefix": "a/*" } } }, listing, true],
    ["StringLike, another", { ...all, Condition: { StringLike: { "s3:prefix": "b/*" } } }, listing, false],
    ["a key in other case", { ...all, Condition: { StringEquals: { "S3:Prefix": "a/b" } } }, listing, true],
    ["a key that the request lacks", { ...all, Condition: { StringLike: { "s3:delimiter": "*" } } }, listing, false],
    ["Bool", { ...all, Condition: { Bool: { "aws:SecureTransport": "true" } } }, listing, true],
    ["Bool, as JSON has it", { ...all, Condition: { Bool: { "aws:SecureTransport": true } } }, listing, true],
    ["Bool, the other one", { ...all, Condition: { Bool: { "aws:SecureTransport": "false" } } }, listing, false],
    [
      "two keys, one of which does not hold",
      { ...all, Condition: { StringEquals: { "s3:prefix": "a/b", "aws:PrincipalAccount": "210987654321" } } },
      listing,
      false,
    ],
    [
      "two operators, one of which does not hold",
      { ...all, Condition: { StringEquals: { "s3:prefix": "a/b" }, Bool: { "aws:SecureTransport": false } } },
      listing,
      false,
    ],
  ];
  for (const [name, statement, asked, applies] of cases) {
    test(name, () => {
      const allow = document({ Effect: "Allow", ...statement });
      assert.deepEqual(authorize(pod([allow]), asked, null), applies ? allowed : notGiven(asked.action));
      const everything = document({ Effect: "Allow", ...all });
      const deny = document({ Effect: "Deny", ...statement });
      assert.deepEqual(authorize(pod([everything, deny]), asked, null), applies ? denied : allowed);
    });
  }
});

describe("who a policy names", () => {
  const user = `arn:aws:iam::${accountId}:user/u`;
  const give = (Principal: unknown) =>
    document({ Effect: "Allow", Principal, Action: "s3:GetObject", Resource: "arn:aws:s3:::b/*" });
  const nothingMore = document({ Effect: "Allow", Action: "s3:PutObject", Resource: "*" });
  const cases: [name: string, principal: unknown, plain: boolean, limited: boolean][] = [
    ["the session", { AWS: session }, true, true],
    ["its role", { AWS: role }, true, false],
    ["anyone", "*", true, false],
    ["any AWS principal", { AWS: "*" }, true, false],
    ["one of several", { AWS: [user, role] }, true, false],
    [
      "the account, which leaves it to the account's own policies",
      { AWS: `arn:aws:iam::${accountId}:root` },
      false,
      false,
    ],
    ["the account by its number", { AWS: accountId }, false, false],
    ["another session", { AWS: `${session}1` }, false, false],
    ["another role", { AWS: `${role}s` }, false, false],
    ["another account", { AWS: "210987654321" }, false, false],
    ["a service", { Service: "s3.amazonaws.com" }, false, false],
  ];
  for (const [name, principal, plain, limited] of cases) {
    test(`a bucket's policy: ${name}`, () => {
      const is = (right: boolean) => (right ? allowed : notGiven("s3:GetObject"));
      assert.deepEqual(authorize(pod([]), reading, give(principal)), is(plain));
      for (const limit of [{ boundary: nothingMore }, { sessionPolicy: nothingMore }]) {
        assert.deepEqual(authorize(pod([], limit), reading, give(principal)), is(limited), JSON.stringify(limit));
      }
    });
  }

  test("a bucket's policy: the user", () => {
    assert.deepEqual(authorize({ arn: user, policies: [] }, reading, give({ AWS: user })), allowed);
    assert.deepEqual(authorize({ arn: user, policies: [] }, reading, give({ AWS: role })), notGiven("s3:GetObject"));
  });

  test("a denial reaches those whom it names in any way, and no other", () => {
    const all = document({ Effect: "Allow", Action: "*", Resource: "*" });
    const deny = (Principal: unknown) => document({ Effect: "Deny", Principal, Action: "s3:*", Resource: "*" });
    for (const who of ["*", { AWS: "*" }, { AWS: role }, { AWS: session }, { AWS: accountId }]) {
      assert.deepEqual(authorize(pod([all]), reading, deny(who)), denied, JSON.stringify(who));
    }
    for (const who of [{ AWS: user }, { AWS: "210987654321" }, { Service: "s3.amazonaws.com" }]) {
      assert.deepEqual(authorize(pod([all]), reading, deny(who)), allowed, JSON.stringify(who));
    }
  });
});

describe("boundary and session policy", () => {
  const all = document({ Effect: "Allow", Action: "*", Resource: "*" });
  const other = document({ Effect: "Allow", Action: "s3:PutObject", Resource: "*" });
  const none = document({ Effect: "Deny", Action: "*", Resource: "*" });
  for (const limit of ["boundary", "sessionPolicy"] as const) {
    test(`${limit}: takes away, and gives nothing`, () => {
      assert.deepEqual(authorize(pod([all], { [limit]: all }), reading, null), allowed);
      assert.deepEqual(authorize(pod([all], { [limit]: other }), reading, null), notGiven("s3:GetObject"));
      assert.deepEqual(authorize(pod([all], { [limit]: none }), reading, null), denied);
      assert.deepEqual(authorize(pod([], { [limit]: all }), reading, null), notGiven("s3:GetObject"));
    });
  }
});

describe("trust policies for principals of the account", () => {
  const target = (Principal: unknown, Condition?: unknown) => ({
    arn: `arn:aws:iam::${accountId}:role/target`,
    trust: document({ Effect: "Allow", Principal, Action: "sts:AssumeRole", ...(Condition ? { Condition } : {}) }),
  });
  const mayAssume = document({ Effect: "Allow", Action: "sts:AssumeRole", Resource: "*" });
  const is = (right: boolean) => (right ? allowed : notTrusted("sts:AssumeRole"));

  test("the role that is named may; in the account's name one needs the permission besides", () => {
    assert.deepEqual(trustsPrincipal(target({ AWS: role }), pod([]), {}), allowed);
    assert.deepEqual(trustsPrincipal(target({ AWS: accountId }), pod([]), {}), is(false));
    assert.deepEqual(trustsPrincipal(target({ AWS: accountId }), pod([mayAssume]), {}), allowed);
    assert.deepEqual(trustsPrincipal(target({ AWS: `${role}s` }), pod([mayAssume]), {}), is(false));
    assert.deepEqual(trustsPrincipal(target({ Service: "s3.amazonaws.com" }), pod([mayAssume]), {}), is(false));
  });

  test("the external id", () => {
    const guarded = target({ AWS: role }, { StringEquals: { "sts:ExternalId": "x" } });
    for (const [id, right] of [["x", true] as const, ["y", false] as const]) {
      assert.deepEqual(trustsPrincipal(guarded, pod([]), { "sts:ExternalId": id }), is(right));
    }
    assert.deepEqual(trustsPrincipal(guarded, pod([]), {}), is(false));
  });
});

describe("what the stack writes can be evaluated, and says what it should", () => {
  const [own, peer] = ["arn:aws:s3:::own", "arn:aws:s3:::peer"];

  test("snapshots", () => {
    const policies = [snapshotAccess([own, peer])];
    for (const asked of [
      need("s3:ListBucket", peer, { "s3:prefix": "snapshots/" }),
      ...["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"].map((a) => need(`s3:${a}`, `${own}/a/b`)),
    ]) {
      assert.deepEqual(authorize(pod(policies), asked, tlsOnly(own)), allowed, asked.action);
    }
    for (const asked of [need("s3:DeleteObjectVersion", `${own}/a`), need("s3:GetObject", "arn:aws:s3:::other/a")]) {
      assert.deepEqual(authorize(pod(policies), asked, tlsOnly(own)), notGiven(asked.action));
    }
  });

  test("TLS only", () => {
    const request: PolicyRequest = { principal: { kind: "AWS", own: session, role }, ...reading };
    const answer = (secure: string) =>
      evaluate("resource", tlsOnly("arn:aws:s3:::b"), { ...request, context: { "aws:SecureTransport": secure } });
    assert.deepEqual([answer("true").denies, answer("false").denies], [false, true]);
  });

  test("replication", () => {
    const trust = { arn: role, trust: replicationTrust(accountId) };
    assert.deepEqual(trustsService(trust, "s3.amazonaws.com"), allowed);
    const elsewhere = { arn: role, trust: replicationTrust("210987654321") };
    assert.deepEqual(trustsService(elsewhere, "s3.amazonaws.com"), notTrusted("sts:AssumeRole"));
    const policies = [replicationAccess(own, peer)];
    assert.deepEqual(authorize(pod(policies), need("s3:ReplicateDelete", `${peer}/a`), null), allowed);
    assert.deepEqual(
      authorize(pod(policies), need("s3:ReplicateDelete", `${own}/a`), null),
      notGiven("s3:ReplicateDelete"),
    );
  });

  test("the nodes' trust, in each identity mode", () => {
    const region = { accountId, awsRegion: "us-east-1", namespace: "n", serviceAccount: "s" };
    const trust = (identity: Parameters<typeof nodeTrust>[0][number]["identity"]) => ({
      arn: role,
      trust: nodeTrust([{ ...region, identity }]),
    });
    const kiam = trust({ mode: "kiam", kiamNodeRoleArn: `arn:aws:iam::${accountId}:role/node` });
    const node = {
      arn: `arn:aws:sts::${accountId}:assumed-role/node/i-1`,
      role: `arn:aws:iam::${accountId}:role/node`,
    };
    assert.deepEqual(trustsPrincipal(kiam, { ...node, policies: [] }, {}), allowed);
    assert.deepEqual(trustsPrincipal(kiam, pod([]), {}), notTrusted("sts:AssumeRole"));
    const eksClusterArn = `arn:aws:eks:us-east-1:${accountId}:cluster/c`;
    // Nobody passes the tags that it asks for.
    assert.deepEqual(
      trustsService(trust({ mode: "podIdentity", eksClusterArn }), "pods.eks.amazonaws.com"),
      notTrusted("sts:AssumeRole"),
    );
  });
});

test("every policy document in the dumps can be evaluated", () => {
  const kinds: Record<string, [input: string, kind: PolicyKind]> = {
    "aws:iam/role:Role": ["assumeRolePolicy", "trust"],
    "aws:iam/rolePolicy:RolePolicy": ["policy", "identity"],
    "aws:s3/bucketPolicy:BucketPolicy": ["policy", "resource"],
  };
  const request: PolicyRequest = { principal: { kind: "AWS", own: session, role }, ...reading };
  const seen = new Set<string>();
  for (const path of readdirSync(dumpsFolder, { recursive: true, encoding: "utf8" })) {
    if (!path.endsWith(".yaml")) continue;
    const text = readFileSync(join(dumpsFolder, path), "utf8");
    const { resources } = parse(text) as { resources: { type: string; inputs?: Statement }[] };
    let found = 0;
    for (const { type, inputs } of resources) {
      const [input, kind] = kinds[type] ?? [];
      if (!input || !kind) continue;
      seen.add(type);
      found++;
      assert.doesNotThrow(() => evaluate(kind, JSON.stringify(inputs?.[input]), request), `${path}: ${type}`);
    }
    assert.equal(found, text.split("Version: 2012-10-17").length - 1, `${path}: a document that is not looked at`);
  }
  assert.deepEqual([...seen].sort(), Object.keys(kinds).sort());
});

describe("what is not known is refused, whatever else allows it", () => {
  const all = document({ Effect: "Allow", Action: "*", Resource: "*" });
  const own = { Effect: "Allow", Action: "s3:GetObject", Resource: "*" };
  const attached = { ...own, Principal: "*" };
  const trust = { Effect: "Allow", Action: "sts:AssumeRole", Principal: "*" };
  const cases: [kind: PolicyKind, statement: Statement, said: RegExp][] = [
    ["identity", { Effect: "Allow", NotAction: "s3:*", Resource: "*" }, /Unrecognized key: "NotAction"/],
    ["identity", { Effect: "Deny", Action: "s3:*", NotResource: "*" }, /Unrecognized key: "NotResource"/],
    ["identity", { ...own, Principal: "*" }, /Statement: 0: Unrecognized key: "Principal"/],
    ["identity", { ...own, Effect: "allow" }, /Statement: 0: Effect/],
    ["identity", { Effect: "Allow", Action: "s3:*" }, /Statement: 0: Resource/],
    ["identity", { ...own, Action: "GetObject" }, /Action: 0: must be \* or <service>:<action>/],
    ["identity", { ...own, Action: [] }, /Statement: 0: Action/],
    ["identity", { ...own, Resource: "b" }, /Resource: 0: must be \* or an ARN of six parts/],
    ["identity", { ...own, Resource: `arn:aws:s3:::b/${variable}/*` }, /Resource: 0: policy variables are not known/],
    [
      "identity",
      { ...own, Condition: { NumericLessThan: { "s3:max-keys": "5" } } },
      /Unrecognized key: "NumericLessThan"/,
    ],
    ["identity", { ...own, Condition: { StringEqualsIfExists: { "s3:prefix": "a" } } }, /"StringEqualsIfExists"/],
    [
      "identity",
      { ...own, Condition: { "ForAnyValue:StringEquals": { "s3:prefix": "a" } } },
      /"ForAnyValue:StringEquals"/,
    ],
    [
      "identity",
      { ...own, Condition: { StringEquals: { "aws:SourceIp": "1.2.3.4" } } },
      /aws:SourceIp: condition key is not known/,
    ],
    [
      "identity",
      { ...own, Condition: { StringEquals: { "s3:prefix": variable } } },
      /s3:prefix: 0: policy variables are not known/,
    ],
    ["resource", { ...own }, /Statement: 0: Principal/],
    ["resource", { ...own, NotPrincipal: { AWS: role } }, /Unrecognized key: "NotPrincipal"/],
    ["resource", { ...attached, Principal: { CanonicalUser: "79a5" } }, /Unrecognized key: "CanonicalUser"/],
    [
      "resource",
      { ...attached, Principal: { AWS: `${role}/*` } },
      /must be \*, an account or an ARN without wildcards/,
    ],
    ["resource", { ...attached, Principal: { AWS: "AROAEXAMPLE" } }, /must be \*, an account or an ARN/],
    ["resource", { ...attached, Principal: { Service: "*" } }, /must be a name without wildcards/],
    ["resource", { ...attached, Principal: role }, /Statement: 0: Principal/],
    ["trust", { ...trust, Resource: "*" }, /Unrecognized key: "Resource"/],
    [
      "trust",
      { ...trust, Condition: { StringEquals: { "token.example.com:email": "a" } } },
      /condition key is not known/,
    ],
  ];
  const decisions = (kind: PolicyKind, policy: string): Decision[] => {
    if (kind === "trust") return [trustsPrincipal({ arn: role, trust: policy }, pod([all]), {})];
    if (kind === "resource") return [authorize(pod([all]), reading, policy)];
    return [
      authorize(pod([all, policy]), reading, null),
      authorize(pod([all], { boundary: policy }), reading, null),
      authorize(pod([all], { sessionPolicy: policy }), reading, null),
    ];
  };
  for (const [kind, statement, said] of cases) {
    test(`${kind}: ${JSON.stringify(statement)}`, () => {
      const proper = { identity: own, resource: attached, trust }[kind];
      for (const decision of decisions(kind, document(proper, statement))) {
        assert.equal(decision.allowed, false);
        assert.match("unknown" in decision ? decision.unknown! : "", /^because the sandbox cannot evaluate /);
        // The statement that is at fault is the second one.
        assert.match(decision.reason, new RegExp(said.source.replace("Statement: 0", "Statement: 1")));
      }
      for (const decision of decisions(kind, document(proper))) assert.deepEqual(decision, allowed);
    });
  }

  test("all that is not known is named at once, policy by policy", () => {
    const one = document({ Effect: "Allow", NotAction: "s3:*", Resource: "b" });
    const decision = authorize(pod([one, "{"], { boundary: '{"Version":"2020-01-01"}' }), reading, null);
    assert.equal(decision.allowed, false);
    const { reason } = decision as { reason: string };
    for (const part of ["NotAction", "ARN of six parts", "policy: it is no JSON", "permissions boundary: Version: "]) {
      assert.ok(reason.includes(part), `${part} is missing in: ${reason}`);
    }
  });

  test("a context key that no policy could use is an error in the sandbox itself", () => {
    const request: PolicyRequest = { principal: { kind: "AWS", own: session }, ...reading };
    assert.throws(
      () => evaluate("identity", all, { ...request, context: { "aws:SourceIp": "1.2.3.4" } }),
      /condition keys that no policy could use: aws:SourceIp/,
    );
  });
});

describe("properties", () => {
  const actions = ["s3:GetObject", "s3:PutObject", "s3:Get*", "s3:*", "*", "s3:ListBucket"];
  const resources = [
    "*",
    "arn:aws:s3:::b/*",
    "arn:aws:s3:::b/a/k",
    "arn:aws:s3:::b",
    "arn:aws:s3:::c/*",
    "arn:aws:s3:::?/a*",
  ];
  const some = (values: string[]) =>
    fc.oneof(fc.constantFrom(...values), fc.subarray(values, { minLength: 1, maxLength: 3 }));
  const condition = fc.oneof(
    { weight: 3, arbitrary: fc.constant({}) },
    fc.constantFrom("true", "false").map((value) => ({ Bool: { "aws:SecureTransport": value } })),
    some(["a/", "b/", "*"]).map((value) => ({ StringLike: { "s3:prefix": value } })),
  );
  const statement = (effect: fc.Arbitrary<string>) =>
    fc.record({ Effect: effect, Action: some(actions), Resource: some(resources), Condition: condition });
  const any = statement(fc.constantFrom("Allow", "Allow", "Deny"));
  const asked = fc.constantFrom(
    reading,
    need("s3:PutObject", "arn:aws:s3:::c/x"),
    need("s3:ListBucket", "arn:aws:s3:::b", { "s3:prefix": "a/" }),
  );
  const policy = fc.array(any, { minLength: 1, maxLength: 4 });
  const decide = (statements: Statement[], what: Need, more: Partial<Principal> = {}) =>
    authorize(pod([document(...statements)], more), what, null);

  test("the order of statements, and how they are spread over policies, does not matter", () => {
    fc.assert(
      fc.property(policy, asked, fc.nat(), (statements, what, at) => {
        const turned = [...statements].reverse();
        assert.deepEqual(decide(turned, what), decide(statements, what));
        const [one, two] = [statements.slice(0, at % statements.length), statements.slice(at % statements.length)];
        const spread = [one, two].filter((part) => part.length > 0).map((part) => document(...part));
        assert.deepEqual(authorize(pod(spread), what, null), decide(statements, what));
      }),
    );
  });

  test("a denial more never allows, an allowance more never denies, and a denial that applies wins", () => {
    const deny = statement(fc.constant("Deny"));
    const allow = statement(fc.constant("Allow"));
    fc.assert(
      fc.property(policy, deny, allow, asked, (statements, no, yes, what) => {
        const before = decide(statements, what);
        const after = decide([...statements, no], what);
        if (!before.allowed) assert.equal(after.allowed, false);
        if (before.allowed) assert.ok(decide([...statements, yes], what).allowed);
        // Turned into an allowance, a statement shows whether it applies.
        const applies = decide([{ ...no, Effect: "Allow" }], what).allowed;
        assert.deepEqual(after, applies ? denied : before);
      }),
    );
  });

  test("a boundary or a session policy never gives", () => {
    fc.assert(
      fc.property(policy, policy, asked, (statements, limit, what) => {
        for (const key of ["boundary", "sessionPolicy"]) {
          const limited = decide(statements, what, { [key]: document(...limit) });
          assert.equal(limited.allowed, decide(statements, what).allowed && decide(limit, what).allowed);
        }
      }),
    );
  });

  test("one thing that is not known, anywhere, refuses all", () => {
    const strange = fc.constantFrom<(statement: Statement) => Statement>(
      (one) => ({ ...one, NotAction: "*" }),
      (one) => ({ ...one, Effect: "Maybe" }),
      (one) => ({ ...one, Resource: `arn:aws:s3:::${variable}` }),
      (one) => ({ ...one, Condition: { IpAddress: { "aws:SourceIp": "10.0.0.0/8" } } }),
    );
    fc.assert(
      fc.property(policy, strange, fc.nat(), asked, (statements, spoil, at, what) => {
        const spoilt = statements.map((one, i) => (i === at % statements.length ? spoil(one) : one));
        assert.throws(
          () => evaluate("identity", document(...spoilt), { principal: { kind: "AWS", own: session }, ...what }),
          UnknownPolicyError,
        );
        assert.equal(decide(spoilt, what).allowed, false);
      }),
    );
  });

  test("patterns match as the definition of * and ? has it", () => {
    const byDefinition = (pattern: string, value: string): boolean => {
      if (pattern === "") return value === "";
      const [first, rest] = [pattern[0], pattern.slice(1)];
      if (first === "*") return byDefinition(rest, value) || (value !== "" && byDefinition(pattern, value.slice(1)));
      return value !== "" && (first === "?" || first === value[0]) && byDefinition(rest, value.slice(1));
    };
    const text = (letters: string) => fc.string({ unit: fc.constantFrom(...letters), maxLength: 8 });
    fc.assert(
      fc.property(text("ab*?"), text("ab*?"), (pattern, value) => {
        assert.equal(matches(pattern, value), byDefinition(pattern, value));
      }),
      { numRuns: 3000 },
    );
    assert.equal(matches(`${"*a".repeat(40)}b`, "a".repeat(4000)), false, "and soon, also where much is to be tried");
  });
});
