/** The provider plugins without engine or AWS: tables, checks, differences, policies, configuration, trying again. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { s3 } from "@pulumi/aws";
import fc from "fast-check";
import { trying } from "../../sandbox/plugins/aws/errors";
import { normalizePolicy } from "../../sandbox/plugins/aws/policy";
import { provider as awsProvider } from "../../sandbox/plugins/aws/provider";
import { tagChanges } from "../../sandbox/plugins/aws/tags";
import { Driver } from "../../sandbox/plugins/provider/driver";
import {
  type AnyFields,
  boolean,
  checkInputs,
  differences,
  type Fields,
  foresee,
  inputsOf,
  json,
  list,
  number,
  object,
  set,
  settle,
  text,
  texts,
} from "../../sandbox/plugins/provider/fields";
import { schemaOf } from "../../sandbox/plugins/provider/schema";
import { canonical, type Properties, unknown, type Value } from "../../sandbox/plugins/provider/values";
import { provider as randomProvider } from "../../sandbox/plugins/random/provider";

const urn = (type: string, name = "thing") => `urn:pulumi:dev::project::${type}::${name}`;
const seed = new Uint8Array([1, 2, 3]);

/** A driver whose provider needs no credentials. */
async function awsDriver(settings: Properties = {}) {
  const driver = new Driver(awsProvider);
  await driver.configure({ region: "us-west-2", skipCredentialsValidation: "true", ...settings });
  return driver;
}

describe("the tables follow the official SDK's types", () => {
  test("an invented argument, a forgotten one and one of the wrong type do not compile", () => {
    const good: Fields<s3.BucketPublicAccessBlockArgs> = {
      blockPublicAcls: boolean(),
      blockPublicPolicy: boolean(),
      bucket: text(),
      ignorePublicAcls: boolean(),
      region: text(),
      restrictPublicBuckets: boolean(),
      skipDestroy: boolean(),
    };
    // @ts-expect-error: there is no such argument.
    const invented: Fields<s3.BucketPublicAccessBlockArgs> = { ...good, nothing: text(), x: { nothing: text() } };
    const { bucket: _, ...rest } = good;
    // @ts-expect-error: bucket is missing.
    const forgotten: Fields<s3.BucketPublicAccessBlockArgs> = rest;
    // @ts-expect-error: bucket is a text.
    const wrong: Fields<s3.BucketPublicAccessBlockArgs> = { ...good, bucket: number() };
    assert.ok(invented && forgotten && wrong);
  });

  test("what replaces each type", () => {
    const rules = Object.fromEntries(
      [...awsProvider.resources, ...randomProvider.resources].map(({ token, inputs }) => [
        token.split(":").at(-1),
        Object.keys(inputs)
          .filter((key) => inputs[key]?.replaces)
          .join(" "),
      ]),
    );
    assert.deepEqual(rules, {
      Bucket: "bucket bucketPrefix objectLockEnabled region",
      BucketLifecycleConfiguration: "bucket expectedBucketOwner region",
      BucketOwnershipControls: "bucket region",
      BucketPolicy: "bucket region",
      BucketPublicAccessBlock: "bucket region",
      BucketReplicationConfig: "bucket region",
      BucketServerSideEncryptionConfiguration: "bucket expectedBucketOwner region",
      BucketVersioning: "bucket expectedBucketOwner region",
      OpenIdConnectProvider: "url",
      PodIdentityAssociation: "clusterName namespace region serviceAccount",
      Role: "name namePrefix path",
      RolePolicy: "name namePrefix role",
      RandomId: "byteLength keepers prefix",
      RandomString:
        "keepers length lower minLower minNumeric minSpecial minUpper number numeric overrideSpecial special upper",
      RandomPassword:
        "keepers length lower minLower minNumeric minSpecial minUpper number numeric overrideSpecial special upper",
    });
  });
});

describe("check", () => {
  const bad: [string, Properties, RegExp][] = [
    ["aws:s3/bucket:Bucket", { nope: 1 }, /^nope: aws:s3\/bucket:Bucket has no nope; it has bucket, bucketPrefix, /],
    [
      "aws:s3/bucket:Bucket",
      { versioning: { enabled: true } },
      /versioning of .*: use the resource aws\.s3\.BucketVersioning/,
    ],
    ["aws:s3/bucket:Bucket", { bucket: "a", bucketPrefix: "b" }, /conflicts with bucketPrefix/],
    ["aws:s3/bucket:Bucket", { bucket: "Upper" }, /Upper is no bucket name: 3 to 63 lower-case/],
    ["aws:s3/bucket:Bucket", { tags: ["a"] }, /tags must be a map, not \["a"\]/],
    ["aws:s3/bucket:Bucket", { forceDestroy: "yes" }, /forceDestroy must be true or false, not "yes"/],
    ["aws:s3/bucketVersioning:BucketVersioning", { bucket: "abc" }, /versioningConfiguration: is required/],
    [
      "aws:s3/bucketVersioning:BucketVersioning",
      { bucket: "abc", versioningConfiguration: { status: "On" } },
      /versioningConfiguration\.status must be one of Enabled, Suspended, Disabled, not "On"/,
    ],
    [
      "aws:s3/bucketReplicationConfig:BucketReplicationConfig",
      { bucket: "abc", role: "r", rules: [{ status: "Enabled", destination: { bucket: "b", typo: 1 } }] },
      /rules\[0\]\.destination\.typo: .* has no rules\[0\]\.destination\.typo; it has accessControlTranslation/,
    ],
    ["aws:s3/bucketPolicy:BucketPolicy", { bucket: "abc", policy: "{" }, /policy must be valid JSON/],
    ["aws:iam/role:Role", { assumeRolePolicy: "{}", maxSessionDuration: 60 }, /3600 to 43200 seconds, not 60/],
    ["aws:iam/role:Role", { assumeRolePolicy: "{}", inlinePolicies: [] }, /use the resource aws\.iam\.RolePolicy/],
    [
      "aws:iam/openIdConnectProvider:OpenIdConnectProvider",
      { clientIdLists: ["a"], url: "http://x" },
      /url must begin with https:\/\//,
    ],
  ];
  for (const [type, inputs, message] of bad)
    test(`${type.split(":").at(-1)} refuses ${JSON.stringify(inputs)}`, async () => {
      const { failures } = await (await awsDriver()).check(urn(type), {}, inputs, seed);
      assert.match(failures.map(({ property, reason }) => `${property}: ${reason}`).join("\n"), message);
    });

  test("unknown values pass, and are not taken for missing", async () => {
    const type = "aws:s3/bucketVersioning:BucketVersioning";
    const inputs = { bucket: unknown, versioningConfiguration: unknown };
    const checked = await (await awsDriver()).check(urn(type), {}, inputs, seed);
    assert.deepEqual(checked.failures, []);
    assert.equal(checked.inputs.bucket, unknown);
  });

  test("names are made from the resource's, once: the old one stays", async () => {
    const driver = await awsDriver();
    const type = urn("aws:s3/bucket:Bucket", "SnapShots");
    const first = await driver.check(type, {}, {}, seed);
    assert.match(String(first.inputs.bucket), /^snapshots-[0-9a-f]{7}$/);
    assert.deepEqual(await driver.check(type, {}, {}, seed), first);
    const again = await driver.check(type, first.inputs, {}, new Uint8Array([9]));
    assert.equal(again.inputs.bucket, first.inputs.bucket);
    const fresh = await driver.check(type, {}, {}, new Uint8Array([9]));
    assert.notEqual(fresh.inputs.bucket, first.inputs.bucket);
    const long = await driver.check(urn("aws:iam/role:Role", "x".repeat(90)), {}, { assumeRolePolicy: "{}" }, seed);
    assert.equal(String(long.inputs.name).length, 64);
  });

  test("the stack's own autonaming settings are honoured", async () => {
    const driver = await awsDriver();
    const type = urn("aws:s3/bucket:Bucket");
    const enforced = await driver.check(type, {}, {}, seed, { proposedName: "exactly", mode: "enforce" });
    assert.equal(enforced.inputs.bucket, "exactly");
    const disabled = await driver.check(type, {}, {}, seed, { proposedName: "", mode: "disable" });
    assert.match(disabled.failures[0]?.reason ?? "", /autonaming is disabled for this stack, so give bucket/);
  });

  test("policies given as objects become text", async () => {
    const inputs = { assumeRolePolicy: { Version: "2012-10-17", Statement: [] } };
    const checked = await (await awsDriver()).check(urn("aws:iam/role:Role"), {}, inputs, seed);
    assert.equal(checked.inputs.assumeRolePolicy, '{"Version":"2012-10-17","Statement":[]}');
  });
});

describe("differences", () => {
  const table: AnyFields = {
    bucket: text({ replaces: true }),
    count: number({ computed: true }),
    flag: boolean(),
    tags: texts(),
    ids: set(text()),
    policy: json({ normalize: normalizePolicy }),
    rules: list(object<{ id?: string; days?: number }>({ id: text({ computed: true }), days: number() })),
  } as AnyFields;
  const root = object<never>(table as never);
  const diff = (before: Value, after: Value) =>
    differences(root, before, after, "").map(
      ({ path, kind, replaces }) => `${kind}${replaces ? "-replace" : ""} ${path}`,
    );

  const cases: [string, Value, Value, string[]][] = [
    ["nothing", { flag: false, tags: {} }, {}, []],
    ["a name", { bucket: "a" }, { bucket: "b" }, ["update-replace bucket"]],
    ["what AWS chose", { count: 3 }, {}, []],
    ["a removed argument", { flag: true }, {}, ["delete flag"]],
    [
      "tags",
      { tags: { a: "1", b: "2" } },
      { tags: { b: "3", "c.d": "4" } },
      ["delete tags.a", "update tags.b", 'add tags["c.d"]'],
    ],
    ["sets in another order", { ids: ["a", "b"] }, { ids: ["b", "a"] }, []],
    ["sets", { ids: ["a"] }, { ids: ["b"] }, ["update ids"]],
    [
      "a longer list",
      { rules: [{ days: 1 }] },
      { rules: [{ days: 2 }, { days: 3 }] },
      ["update rules[0].days", "add rules[1]"],
    ],
    ["an id that AWS gave", { rules: [{ id: "x", days: 1 }] }, { rules: [{ days: 1 }] }, []],
    [
      "an unknown",
      { bucket: "a", flag: true },
      { bucket: unknown, flag: unknown },
      ["update-replace bucket", "update flag"],
    ],
    [
      "policies in other words",
      { policy: '{"Statement":{"Action":"a"}}' },
      { policy: '{ "Statement": [{"Action":["a"]}] }' },
      [],
    ],
  ];
  for (const [name, before, after, expected] of cases)
    test(name, () => assert.deepEqual(diff(before, after).sort(), [...expected].sort()));

  const values = fc.record(
    {
      bucket: fc.string(),
      count: fc.integer(),
      flag: fc.boolean(),
      tags: fc.dictionary(fc.string(), fc.string()),
      ids: fc.uniqueArray(fc.string()),
      rules: fc.array(fc.record({ id: fc.string(), days: fc.nat() }, { requiredKeys: [] })),
    },
    { requiredKeys: [] },
  ) as unknown as fc.Arbitrary<Properties>;

  test("a state never differs from itself, nor from the arguments read from it", () => {
    fc.assert(
      fc.property(values, (state) => {
        assert.deepEqual(diff(state, state), []);
        assert.deepEqual(diff(state, inputsOf(table, state, undefined, {})), []);
        assert.deepEqual(diff(settle(table, state, state), state), []);
      }),
    );
  });

  test("what differs is named, and removing the named differences leaves none", () => {
    fc.assert(
      fc.property(values, values, (before, after) => {
        const named = new Set(differences(root, before, after, "").map(({ path }) => path.split(/[.[]/)[0]));
        for (const key of Object.keys(table))
          if (!named.has(key))
            assert.deepEqual(diff({ [key]: before[key] ?? null }, { [key]: after[key] ?? null }), []);
      }),
    );
  });

  test("a preview leaves open what only AWS can tell, and keeps it in updates", () => {
    const outputs = { arn: text(), all: texts(), token: text({ volatile: true }) } as AnyFields;
    const news = { bucket: "b", __defaults: ["bucket"] };
    const created = foresee(table, outputs, news, { all: { a: "1" } }, undefined);
    assert.deepEqual(created, { bucket: "b", all: { a: "1" }, count: unknown, arn: unknown, token: unknown });
    const updated = foresee(table, outputs, news, {}, { arn: "x", count: 2, token: "t", flag: true });
    assert.deepEqual(updated, { bucket: "b", count: 2, arn: "x", token: unknown });
    const url = { url: text({ compareAs: (value) => value.replace("https://", "") }) } as AnyFields;
    assert.deepEqual(foresee(url, {}, { url: "https://a" }, {}, { url: "a" }), { url: "a" });
    assert.deepEqual(foresee(url, {}, { url: "https://b" }, {}, { url: "a" }), { url: "https://b" });
  });

  test("a check leaves checked inputs as they are", () => {
    fc.assert(
      fc.property(values, (state) => {
        const context = { name: "n", randomDigits: "0", subject: "s" };
        const once = checkInputs(table, state, {}, context);
        assert.deepEqual(checkInputs(table, once.inputs, {}, context).inputs, once.inputs);
      }),
    );
  });
});

describe("policies", () => {
  const statement = {
    Sid: "A",
    Effect: "Allow",
    Principal: { AWS: "123456789012" },
    Action: ["s3:Get*", "s3:List*"],
    Resource: "*",
    Condition: { Bool: { "aws:SecureTransport": "true" } },
  };
  const other = { Effect: "Deny", Principal: "*", Action: "s3:*", Resource: ["a", "b"] };
  const norm = (document: Value) => canonical(normalizePolicy(document));

  test("order, single values and account ids make no difference", () => {
    const a = { Version: "2012-10-17", Statement: [statement, other] };
    const b = {
      Statement: [
        { ...other, Action: ["s3:*"], Resource: ["b", "a"], Sid: "" },
        {
          ...statement,
          Action: ["s3:List*", "s3:Get*"],
          Principal: { AWS: ["arn:aws:iam::123456789012:root"] },
          Condition: { Bool: { "aws:SecureTransport": [true] } },
        },
      ],
      Version: "2012-10-17",
    };
    assert.equal(norm(a), norm(b));
  });

  test("everything else does", () => {
    const base = { Version: "2012-10-17", Statement: [statement] };
    for (const changed of [
      { ...base, Version: "2008-10-17" },
      { ...base, Statement: [{ ...statement, Effect: "Deny" }] },
      { ...base, Statement: [{ ...statement, Sid: "B" }] },
      { ...base, Statement: [{ ...statement, Action: ["s3:Get*"] }] },
      { ...base, Statement: [{ ...statement, Principal: { Service: "123456789012" } }] },
      { ...base, Statement: [{ ...statement, Condition: {} }] },
    ])
      assert.notEqual(norm(base), norm(changed), JSON.stringify(changed));
  });
});

describe("the aws provider's configuration", () => {
  const bad: [Properties, RegExp][] = [
    [{ nope: "1" }, /settings aws:\.\.\.\) has no nope/],
    [{ assumeRoles: "[]" }, /does not know assumeRoles .*give aws:accessKey/],
    [{ accessKey: "a" }, /aws:accessKey and aws:secretKey must be given together/],
    [{ endpoints: '[{"s33":"http://x"}]' }, /knows no service s33; it knows s3, iam, sts, ec2, eks/],
    [{ endpoints: '[{"s3":"127.0.0.1:1"}]' }, /s3 must be a URL such as http/],
    [{ maxRetries: "many" }, /maxRetries must be a number/],
    [{ allowedAccountIds: '["1"]', forbiddenAccountIds: '["2"]' }, /conflicts with/],
    [{ retryMode: "wild" }, /retryMode must be one of standard, adaptive/],
  ];
  for (const [settings, message] of bad)
    test(`${JSON.stringify(settings)} is refused`, () => {
      const { failures } = new Driver(awsProvider).checkConfig({ region: "us-east-1", ...settings });
      assert.match(failures.map(({ reason }) => reason).join("\n"), message);
    });

  test("what the SDK and a stack's settings send is accepted", () => {
    const settings = {
      version: "7.48.0",
      region: "us-east-1",
      skipCredentialsValidation: "true",
      maxRetries: "3",
      s3UsePathStyle: true,
      defaultTags: '{"tags":{"a":"b"}}',
      endpoints: [{ s3: unknown }],
    };
    assert.deepEqual(new Driver(awsProvider).checkConfig(settings).failures, []);
  });

  test("a change of the provider's region replaces, of its default tags updates", async () => {
    const type = urn("aws:s3/bucket:Bucket");
    const state = { bucket: "abc", region: "us-west-2", tagsAll: {}, forceDestroy: false };
    const inputs = { bucket: "abc", forceDestroy: false };
    const moved = await (await awsDriver({ region: "us-east-1" })).diff(type, state, inputs, []);
    assert.deepEqual(moved.differences, [{ path: "region", kind: "update", replaces: true }]);
    assert.equal(moved.deleteBeforeReplace, true);
    const tagged = await awsDriver({ defaultTags: '{"tags":{"a":"b"}}' });
    assert.deepEqual((await tagged.diff(type, state, inputs, [])).differences, [
      { path: "tagsAll.a", kind: "add", replaces: false },
    ]);
    assert.deepEqual((await tagged.diff(type, state, inputs, ["tagsAll"])).differences, []);
  });
});

test("unknown functions are refused by name", async () => {
  const driver = await awsDriver();
  await assert.rejects(
    driver.invoke("aws:ec2/getVpc:getVpc", {}),
    /no function aws:ec2\/getVpc:getVpc; it has aws:ec2\/getSubnet:getSubnet, .*pulumi plugin install resource aws v7/,
  );
});

test("tags that change are set, those that go are removed", () => {
  assert.deepEqual(tagChanges({ a: "1", b: "2", c: "3" }, { a: "1", b: "4", d: "5" }), {
    set: { b: "4", d: "5" },
    remove: ["c"],
  });
});

describe("trying again", () => {
  const failure = (name: string) => Object.assign(new Error("said AWS"), { name });
  const failing = (times: number, error: Error) => {
    let left = times;
    return async () => {
      if (left-- > 0) throw error;
      return "done";
    };
  };

  test("throttling passes, and so does what this call says may", async () => {
    const signal = AbortSignal.timeout(10_000);
    assert.equal(await trying("x", { signal }, failing(2, failure("SlowDown"))), "done");
    const settling = (error: unknown) => (error as Error).name === "NoSuchBucket";
    assert.equal(await trying("x", { signal, settling }, failing(2, failure("NoSuchBucket"))), "done");
  });

  test("anything else fails at once, saying what was being done", async () => {
    const signal = AbortSignal.timeout(10_000);
    await assert.rejects(trying("making it", { signal }, failing(1, failure("AccessDenied"))), {
      message: "making it: AccessDenied: said AWS",
    });
  });

  test("when the time is over, the last failure is told", async () => {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(
      trying("making it", { signal }, failing(99, failure("SlowDown"))),
      /^Error: making it: the time for this operation is over; last failure: SlowDown: said AWS$/,
    );
  });
});

test("the schema has what an import needs to write code", () => {
  const schema = JSON.parse(schemaOf(awsProvider));
  const { inputProperties, requiredInputs } =
    schema.resources["aws:s3/bucketReplicationConfig:BucketReplicationConfig"];
  assert.deepEqual(requiredInputs, ["bucket", "role", "rules"]);
  const { $ref } = inputProperties.rules.items;
  assert.deepEqual(schema.types[$ref.replace("#/types/", "")].required, ["destination", "status"]);
  assert.deepEqual(inputProperties.token, { type: "string", secret: true });
});

describe("random values", () => {
  const driver = new Driver(randomProvider);
  const create = async (type: string, inputs: Properties) => {
    await driver.configure({});
    const checked = await driver.check(urn(type), {}, inputs, seed);
    assert.deepEqual(checked.failures, []);
    return driver.create(urn(type), checked.inputs, false, 0);
  };

  test("texts have the classes and minima that were asked for", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          minLower: fc.nat(3),
          minUpper: fc.nat(3),
          minNumeric: fc.nat(3),
          minSpecial: fc.nat(3),
          extra: fc.nat(9),
        }),
        async ({ extra, ...minima }) => {
          const length = Object.values(minima).reduce((a, b) => a + b, 0) + extra + 1;
          const { state } = await create("random:index/randomString:RandomString", {
            length,
            overrideSpecial: "!?",
            ...minima,
          });
          const result = String(state.result);
          assert.equal(result.length, length);
          const count = (class_: RegExp) => result.match(class_)?.length ?? 0;
          assert.ok(count(/[a-z]/g) >= minima.minLower && count(/[A-Z]/g) >= minima.minUpper);
          assert.ok(count(/[0-9]/g) >= minima.minNumeric && count(/[!?]/g) >= minima.minSpecial);
          assert.match(result, /^[a-zA-Z0-9!?]+$/);
        },
      ),
    );
  });

  test("an id can be imported, with and without a prefix", async () => {
    const type = "random:index/randomId:RandomId";
    const made = await create(type, { byteLength: 6, prefix: "a,b" });
    const read = await driver.read(urn(type), `a,b,${made.id}`, {}, undefined, 0);
    assert.deepEqual(read?.state, made.state);
    assert.equal(read?.id, made.id);
    assert.deepEqual(read?.inputs, { byteLength: 6, prefix: "a,b" });
  });

  test("a password and its hash are marked as secrets, and it has the id none", async () => {
    const type = "random:index/randomPassword:RandomPassword";
    const { id, state } = await create(type, { length: 12 });
    assert.equal(id, "none");
    const marked = driver.markSecrets(urn(type), state);
    assert.ok(typeof marked.result === "object" && typeof marked.bcryptHash === "object");
    assert.match(String(state.bcryptHash), /^\$2[ab]\$10\$/);
  });
});
