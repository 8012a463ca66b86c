/** Settings: defaults, every mode, every fault with its message, and properties of any configuration. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { baseKind, fields, loadSettings, parseSettings, qualifiedStack, SettingsError } from "../../settings";
import { loadBalancerName, regionNames } from "../../topology";
import { badConfigurations, usualRemedies } from "../support/bad-configurations";
import { asConfigured, configuration, context, leastConfiguration } from "../support/configuration";

/** The error that a configuration gives; fails if it gives none or another kind. */
function faultsOf(changes: Record<string, unknown>, within: Partial<typeof context> = {}): SettingsError {
  try {
    parseSettings(configuration(changes), { ...context, ...within });
  } catch (error) {
    assert.ok(error instanceof SettingsError, String(error));
    return error;
  }
  return assert.fail(`accepted: ${JSON.stringify(changes)}`);
}

describe("good configurations", () => {
  test("the least one gets every default", () => {
    assert.deepEqual(parseSettings(configuration(), context), {
      cluster: "restate",
      serving: "both",
      home: "region1",
      replicas: 3,
      standbyReplicas: undefined,
      domain: "restate.example.com",
      restateVersion: "1.7.12",
      partitions: 24,
      region: "region1",
      peer: "organization/restate/region2",
      forgetPeer: undefined,
      accountId: "123456789012",
      mode: "two-clusters",
      kubernetes: { eksCluster: "production-east", createNamespace: true },
      kubeconfigContents: undefined,
      subnets: leastConfiguration.subnets,
      loadBalancers: {
        scheme: "internal",
        securityGroups: ["sg-0a1"],
        targetType: "instance",
        dnsAnnotationPrefixes: ["external-dns.alpha.kubernetes.io/", "external-dns.kubernetes.io/"],
        readyTimeout: 600,
      },
      identity: { mode: "oidc" },
      chart: { timeout: 300 },
      image: { repository: "docker.restate.dev/restatedev/restate", pullPolicy: "IfNotPresent" },
      resources: { requests: { cpu: "2", memory: "4Gi" }, limits: { cpu: "4", memory: "6Gi" } },
      rocksdbMemory: undefined,
      storage: { size: "64Gi" },
      scheduling: {
        topologySpread: {
          maxSkew: 1,
          topologyKey: "topology.kubernetes.io/zone",
          whenUnsatisfiable: "ScheduleAnyway",
        },
        tolerations: [],
        nodeSelector: {},
        podDisruptionBudget: { maxUnavailable: 1 },
        timeout: 300,
      },
      monitoring: { prometheus: false, dashboard: false, labels: {}, alarms: false },
      env: {},
      snapshots: { intervalRecords: 10_000, retained: 1, trimDelay: "15m", noncurrentDays: 7 },
      replication: { deleteMarkers: true, timeControl: false },
      protect: true,
      forceDestroy: false,
      provisionTimeout: 900,
      handover: { timeout: 900 },
      tags: {},
      awsRegion: "us-east-1",
      namespace: "restate-region1",
      namePrefix: "restate",
      chartVersion: "1.7.12",
    });
  });

  const oidc = { identity: { mode: "oidc", oidcIssuer: "https://oidc.example.com/id/A" } };
  const good: [string, Record<string, unknown>, Record<string, unknown>, Partial<typeof context>?][] = [
    ["a peer by its name", { peer: "west" }, { peer: "organization/restate/west" }],
    ["a peer in another project", { peer: "network/west" }, { peer: "organization/network/west" }],
    ["a peer in full", { peer: "acme/network/west" }, { peer: "acme/network/west" }],
    ["region2 by its stack", {}, { region: "region2", peer: "organization/restate/region1" }, { stack: "region2" }],
    [
      "a stack of another name",
      { region: "region2", peer: "east" },
      { region: "region2", peer: "organization/restate/east", namespace: "restate-region2" },
      { stack: "west" },
    ],
    ["the peer to forget", { forgetPeer: "region2" }, { forgetPeer: "region2" }],
    ["the peer to forget, in full", { forgetPeer: "organization/restate/region2" }, {}],
    ["a kubeconfig", { kubernetes: { kubeconfig: "~/.kube/config", context: "east" }, ...oidc }, {}],
    ["a kubeconfig's contents", { kubernetes: {}, kubeconfigContents: "apiVersion: v1", ...oidc }, {}],
    ["a namespace", { kubernetes: { eksCluster: "east", namespace: "data" } }, { namespace: "data" }],
    ["one cluster", { mode: "one-cluster" }, { mode: "one-cluster" }],
    ["Pod Identity", { identity: { mode: "podIdentity" } }, { identity: { mode: "podIdentity" } }],
    [
      "kiam",
      { identity: { mode: "kiam", kiamNodeRoleArn: "arn:aws:iam::123456789012:role/kiam" } },
      { identity: { mode: "kiam", kiamNodeRoleArn: "arn:aws:iam::123456789012:role/kiam" } },
    ],
    ["a chart in a folder", { chart: { folder: "../chart" } }, { chart: { folder: "../chart", timeout: 300 } }],
    [
      "a chart in a repository",
      { chart: { repository: "https://charts.example.com", name: "restate", version: "1.7.0" } },
      { chartVersion: "1.7.0" },
    ],
    ["an older version", { restateVersion: "1.4.3" }, { chartVersion: "1.4.3" }],
    [
      "subnets by discovery",
      { subnets: { discover: { vpcId: "vpc-0a" } } },
      { subnets: { discover: { vpcId: "vpc-0a", tags: { "kubernetes.io/role/internal-elb": "1" } } } },
    ],
    [
      "a disruption budget in per cent",
      { scheduling: { podDisruptionBudget: { minAvailable: "66%" } } },
      {
        scheduling: {
          topologySpread: {
            maxSkew: 1,
            topologyKey: "topology.kubernetes.io/zone",
            whenUnsatisfiable: "ScheduleAnyway",
          },
          tolerations: [],
          nodeSelector: {},
          podDisruptionBudget: { minAvailable: "66%" },
          timeout: 300,
        },
      },
    ],
    ["half of the resources", { resources: { limits: { memory: "8Gi" } } }, {}],
    ["an unprotected bucket to be emptied", { protect: false, forceDestroy: true }, { forceDestroy: true }],
    ["a name prefix", { loadBalancers: { securityGroups: ["sg-0a"], namePrefix: "Rst" } }, { namePrefix: "Rst" }],
    ["a local zone", { subnets: { byZone: { "us-east-1-bos-1a": "subnet-0a" } } }, {}],
    ["China", {}, { awsRegion: "cn-north-1" }, { awsRegion: "cn-north-1" }],
    ["GovCloud", {}, { awsRegion: "us-gov-west-1" }, { awsRegion: "us-gov-west-1" }],
  ];
  for (const [name, changes, expected, within] of good) {
    test(name, () => {
      const settings = parseSettings(configuration(changes), { ...context, ...within });
      for (const [key, value] of Object.entries(expected)) {
        assert.deepEqual(settings[key as keyof typeof settings], value, key);
      }
    });
  }

  test("every setting's example is right", () => {
    const examples = Object.entries(fields).map(([key, { about }]) => [key, (about as { example: unknown }).example]);
    const all: Record<string, unknown> = Object.fromEntries(examples);
    // The kubeconfig's contents are another way in, and the peer is not forgotten every time.
    delete all.kubeconfigContents;
    assert.equal(parseSettings(asConfigured(all), context).forgetPeer, "region2");
    parseSettings(configuration({ kubernetes: {}, kubeconfigContents: "apiVersion: v1 ...", ...oidc }), context);
  });

  test("only the project's own keys are read", () => {
    const own = Object.fromEntries(Object.entries(configuration()).map(([key, value]) => [`restate:${key}`, value]));
    const settings = loadSettings({ ...own, "aws:region": "eu-west-1", "other:replicas": "9" }, context);
    assert.equal(settings.replicas, 3);
  });
});

describe("bad configurations", () => {
  test("there are at least 60, with distinct names", () => {
    assert.ok(badConfigurations.length >= 60);
    assert.equal(new Set(badConfigurations.map((bad) => bad.name)).size, badConfigurations.length);
  });

  for (const { name, change, within, key, problem, remedy } of badConfigurations) {
    test(name, () => {
      const setting = key.replace(/^restate:/, "").split(".")[0] as string;
      const stack = within?.stack ?? "region1";
      assert.equal(
        faultsOf(change, within).message,
        `the configuration of stack ${stack} has a fault; nothing was changed:\n` +
          `  ${key}: ${problem}.\n      ${remedy ?? usualRemedies[setting]}`,
      );
    });
  }

  test("all faults come at once, in the order of the settings", () => {
    const { message } = faultsOf(
      {
        replica: 3,
        replicas: 12,
        domain: undefined,
        accountId: "1",
        subnets: { byZone: { here: "there" } },
        env: { "A-B": "1", POD_NAME: "a", C: 1 },
        forceDestroy: true,
      },
      { awsRegion: undefined },
    );
    assert.equal(
      message,
      [
        "the configuration of stack region1 has 10 faults; nothing was changed:",
        "  restate:replica: is no setting.",
        `      Remove it with pulumi config rm restate:replica, or use one of ${Object.keys(fields).join(", ")}`,
        "  restate:replicas: must be a whole number from 1 to 9 (Restate nodes in each region).",
        "      Set its default for both stacks in Pulumi.yaml, e.g. restate:replicas: { default: 3 }",
        "  restate:domain: is missing.",
        '      Set its default for both stacks in Pulumi.yaml, e.g. restate:domain: { default: "restate.example.com" }',
        "  restate:accountId: must be an AWS account id: 12 digits, in quotes.",
        "      pulumi config set restate:accountId 123456789012",
        "  restate:subnets.byZone.here: must be a zone's name, e.g. us-east-1a.",
        '      Set it in the stack\'s file, e.g. restate:subnets: {"byZone":{"us-east-1a":"subnet-0a1b2c3d"}}',
        "  restate:env.A-B: must be a name of letters, digits and underscores.",
        '      Set it in the stack\'s file, e.g. restate:env: {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT":"5m"}',
        "  restate:env.POD_NAME: is set by this stack; use the setting for it.",
        '      Set it in the stack\'s file, e.g. restate:env: {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT":"5m"}',
        "  restate:env.C: must be a text; put it in quotes.",
        '      Set it in the stack\'s file, e.g. restate:env: {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT":"5m"}',
        "  aws:region: is missing.",
        "      pulumi config set aws:region us-east-1",
        "  restate:forceDestroy: contradicts protect: a protected bucket cannot be deleted.",
        "      Set one of them: pulumi config set restate:protect false",
      ].join("\n"),
    );
  });

  test("an empty configuration names what has no default", () => {
    assert.throws(
      () => parseSettings({}, context),
      (error: SettingsError) => {
        assert.deepEqual(
          error.faults.map((fault) => `${fault.key} ${fault.problem}`),
          [
            "restate:domain is missing",
            "restate:accountId is missing",
            "restate:subnets is missing",
            "restate:loadBalancers is missing",
            "restate:kubernetes names neither eksCluster nor kubeconfig",
            "restate:identity.oidcIssuer is missing: it can be looked up for an eksCluster only",
          ],
        );
        return true;
      },
    );
  });

  test("no message holds a kubeconfig", () => {
    const { message } = faultsOf({ kubeconfigContents: "users: [{token: hush}]", replicas: 0 });
    assert.doesNotMatch(message, /hush/);
  });
});

describe("properties", () => {
  // Faults of one setting each, none of which hides or causes another's.
  const independent = badConfigurations.filter(
    ({ change, key, within, remedy }) =>
      !within && !remedy && Object.keys(change).join() === key.replace(/^restate:/, "").split(".")[0],
  );
  const alone = independent.filter(
    ({ key }) => !/^restate:(kubernetes|identity|restateVersion|region|peer|kubeconfigContents)\b/.test(key),
  );

  test("any set of faults is reported in full, and nothing else", () => {
    assert.ok(alone.length > 50);
    fc.assert(
      fc.property(fc.subarray(alone, { minLength: 1 }), (chosen) => {
        const bySetting = new Map(chosen.map((bad) => [Object.keys(bad.change)[0], bad]));
        const faults = [...bySetting.values()];
        const { faults: reported } = faultsOf(Object.assign({}, ...faults.map((bad) => bad.change)));
        const line = (f: { key: string; problem: string }) => `${f.key}: ${f.problem}`;
        assert.deepEqual(reported.map(line).sort(), faults.map(line).sort());
      }),
    );
  });

  test("whatever is configured, there is a complete result or a SettingsError", () => {
    const value = fc.oneof(fc.string(), fc.json(), fc.constantFrom("", "null", "{}", "[]", "0", "true"));
    const raw = fc.dictionary(fc.constantFrom(...Object.keys(fields), "unknown", "__proto__", "constructor"), value);
    fc.assert(
      fc.property(raw, fc.constantFrom("region1", "region2", "dev"), (chosen, stack) => {
        try {
          const settings = parseSettings({ ...configuration(), ...chosen }, { ...context, stack });
          assert.ok(settings.region && settings.peer && settings.namespace);
        } catch (error) {
          assert.ok(error instanceof SettingsError, String(error));
          assert.ok(error.faults.length > 0);
          for (const fault of error.faults) assert.ok(fault.problem && fault.remedy);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("configurations within the stated limits are right", () => {
    const name = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
    const good = fc.record({
      cluster: name,
      serving: fc.constantFrom("both", "region1", "region2"),
      home: fc.constantFrom(...regionNames),
      replicas: fc.integer({ min: 1, max: 9 }),
      domain: fc.domain().map((domain) => domain.toLowerCase()),
      partitions: fc.integer({ min: 1, max: 4096 }),
      accountId: fc.stringMatching(/^\d{12}$/),
      mode: fc.constantFrom("two-clusters", "one-cluster"),
      protect: fc.boolean(),
      snapshots: fc.record({
        intervalRecords: fc.integer({ min: 1, max: 1e9 }),
        retained: fc.integer({ min: 1, max: 100 }),
      }),
      resources: fc.integer({ min: 1, max: 1024 }).map((gi) => ({
        requests: { memory: `${gi}Gi` },
        limits: { memory: `${gi}Gi` },
      })),
      env: fc.dictionary(
        fc.stringMatching(/^[B-Z_][A-Z0-9_]{0,20}$/).map((one) => `X${one}`),
        fc.string(),
        { noNullPrototype: true },
      ),
    });
    fc.assert(
      fc.property(good, fc.constantFrom(...regionNames), (changes, stack) => {
        const settings = parseSettings(configuration(changes), { ...context, stack });
        assert.equal(settings.region, stack);
        assert.equal(settings.replicas, changes.replicas);
        assert.deepEqual(settings.env, changes.env);
        const longest = loadBalancerName(settings.namePrefix, settings.region, settings.replicas - 1);
        assert.ok(longest.length <= 32);
      }),
    );
  });

  test("a name prefix is right exactly if every load balancer's name fits", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 32 }), fc.integer({ min: 1, max: 9 }), (length, replicas) => {
        const namePrefix = "p".repeat(length);
        const changes = { replicas, loadBalancers: { securityGroups: ["sg-0a"], namePrefix } };
        const fits = loadBalancerName(namePrefix, "region1", replicas - 1).length <= 32;
        if (fits) parseSettings(configuration(changes), context);
        else assert.equal(faultsOf(changes).faults.length, 1);
      }),
    );
  });

  test("two stacks that derive their peers derive each other", () => {
    for (const stack of regionNames) {
      const { peer } = parseSettings(configuration(), { ...context, stack });
      const back = parseSettings(configuration(), { ...context, stack: peer.split("/")[2] as string });
      assert.equal(back.peer, qualifiedStack(stack, context));
    }
  });
});

test("every setting says whose it is, what it means, and what kind of value it takes", () => {
  for (const [key, { schema, about }] of Object.entries(fields)) {
    assert.match(about.description, /\.$/, key);
    assert.ok(["project", "stack"].includes(about.scope), key);
    assert.ok(["string", "enum", "number", "boolean", "object", "record"].includes(baseKind(schema)), key);
  }
});
