/** Chart values and environment of the nodes by Restate version, quantities, and the versions that are known. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { memoryBytes, restateSizeBytes, rocksdbMemory, rocksdbShareRange } from "../../restate/quantity";
import { chartValues, managedVariables, nodeEnvironment, type ValuesInput } from "../../restate/values";
import { defaultVersion, knownVersions, knownVersionsText, versionTraits } from "../../restate/versions";
import { clusterNodes, regionNames } from "../../topology";

const input: ValuesInput = {
  region: "region1",
  cluster: "restate",
  replicas: 3,
  domain: "restate.example.com",
  restateVersion: "1.7.12",
  image: { repository: "docker.restate.dev/restatedev/restate", pullPolicy: "IfNotPresent" },
  serviceAccountAnnotations: { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/restate-nodes" },
  podAnnotations: {},
  resources: { requests: { cpu: "2", memory: "4Gi" }, limits: { cpu: "4", memory: "6Gi" } },
  storage: { size: "64Gi", storageClass: "gp3" },
  topologySpread: { maxSkew: 1, topologyKey: "topology.kubernetes.io/zone", whenUnsatisfiable: "ScheduleAnyway" },
  tolerations: [{ key: "restate", operator: "Exists", effect: "NoSchedule" }],
  nodeSelector: { pool: "restate" },
  podDisruptionBudget: { maxUnavailable: 1 },
  snapshots: { bucket: "snapshots-a", intervalRecords: 10_000, interval: "1h", retained: 2, trimDelay: "15m" },
  awsRegion: "us-east-1",
  env: { RUST_BACKTRACE: "1" },
};

const addresses =
  '["http://restate-0.region1.restate.example.com:5122","http://restate-1.region1.restate.example.com:5122",' +
  '"http://restate-2.region1.restate.example.com:5122","http://restate-0.region2.restate.example.com:5122",' +
  '"http://restate-1.region2.restate.example.com:5122","http://restate-2.region2.restate.example.com:5122"]';

/** The whole environment, with what depends on the version where Restate expects it. */
const environment = (dependent: [string, string][], early: [string, string][] = []) =>
  [
    ["RESTATE_LOG_FORMAT", "json"],
    ["RESTATE_CLUSTER_NAME", "restate"],
    ["RESTATE_AUTO_PROVISION", "false"],
    ["RESTATE_ROLES", '["worker","admin","metadata-server","log-server","http-ingress"]'],
    ["RESTATE_NODE_NAME", "$(POD_NAME).region1"],
    ["RESTATE_LOCATION", "region1"],
    ["RESTATE_ADVERTISED_ADDRESS", "http://$(POD_NAME).region1.restate.example.com:5122"],
    ["RESTATE_METADATA_CLIENT__ADDRESSES", addresses],
    ...early,
    ["RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE", "2764MiB"],
    ["RESTATE_WORKER__SNAPSHOTS__DESTINATION", "s3://snapshots-a/snapshots"],
    ["RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL_NUM_RECORDS", "10000"],
    ...dependent,
    ["RESTATE_WORKER__TRIM_DELAY_INTERVAL", "15m"],
    ["AWS_REGION", "us-east-1"],
    ["RUST_BACKTRACE", "1"],
  ].map(([name, value]) => ({ name, value }));

const trimming: [string, string] = ["RESTATE_WORKER__EXPERIMENTAL_PARTITION_DRIVEN_LOG_TRIMMING", "true"];
const gossip: [string, string][] = [
  ["RESTATE_GOSSIP_EXTRAS_EXCHANGE_FREQUENCY", "1"],
  ["RESTATE_GOSSIP_NUM_PEERS", "5"],
];
const interval: [string, string] = ["RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL", "1h"];
const retained: [string, string] = ["RESTATE_WORKER__SNAPSHOTS__NUM_RETAINED", "2"];
const repository = "docker.restate.dev/restatedev/restate";
const pullPolicy = "IfNotPresent";

/** What every version's chart is given. */
const common = {
  replicaCount: 3,
  nameOverride: "restate",
  serviceAccount: {
    create: true,
    annotations: { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/restate-nodes" },
  },
  podAnnotations: {},
  nodeName: "",
  advertisedAddress: "",
  service: { type: "ClusterIP" },
  resources: { requests: { cpu: "2", memory: "4Gi" }, limits: { cpu: "4", memory: "6Gi" } },
  storage: { size: "64Gi", storageClassName: "gp3" },
  topologySpreadConstraints: {
    maxSkew: 1,
    topologyKey: "topology.kubernetes.io/zone",
    whenUnsatisfiable: "ScheduleAnyway",
  },
  podDisruptionBudget: { maxUnavailable: 1 },
  serviceMonitor: { enabled: false },
};
const nodeSelector = { pool: "restate" };
const tolerations = [{ key: "restate", operator: "Exists", effect: "NoSchedule" }];

describe("chart values by version, in full", () => {
  const byVersion: Record<string, Record<string, unknown>> = {
    "1.4.3": { version: "1.4.3", image: { repository, pullPolicy }, env: environment([trimming]) },
    "1.5.6": { version: "1.5.6", image: { repository, pullPolicy }, nodeSelector, env: environment([trimming]) },
    "1.6.1": {
      version: "1.6.1",
      image: { repository, pullPolicy },
      nodeSelector,
      env: environment([interval], gossip),
    },
    "1.6.2": { image: { repository, pullPolicy, tag: "1.6.2" }, nodeSelector, env: environment([interval], gossip) },
    "1.7.12": {
      image: { repository, pullPolicy, tag: "1.7.12" },
      nodeSelector,
      tolerations,
      env: environment([interval, retained], gossip),
    },
  };
  for (const [version, own] of Object.entries(byVersion)) {
    test(version, () => assert.deepEqual(chartValues({ ...input, restateVersion: version }), { ...common, ...own }));
  }
});

describe("what the values do with single settings", () => {
  test("a tag and a digest", () => {
    const digest = `sha256:${"0".repeat(64)}`;
    const image = { repository: "mirror.example.com/restate", tag: "mine", digest, pullPolicy: "Always" };
    assert.deepEqual(chartValues({ ...input, image }).image, image);
    const old = chartValues({ ...input, restateVersion: "1.5.6", image });
    assert.equal(old.version, "mine");
    assert.deepEqual(old.image, { repository: "mirror.example.com/restate", pullPolicy: "Always" });
  });

  test("no storage class, no budget", () => {
    const values = chartValues({ ...input, storage: { size: "1Ti" }, podDisruptionBudget: undefined });
    assert.deepEqual(values.storage, { size: "1Ti" });
    assert.ok(!("podDisruptionBudget" in values));
  });

  test("no interval", () => {
    const env = nodeEnvironment({ ...input, snapshots: { ...input.snapshots, interval: undefined } });
    assert.ok(!env.some((one) => one.name === "RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL"));
  });

  test("RocksDB's memory as set", () => {
    const env = nodeEnvironment({ ...input, rocksdbMemory: "3GB" });
    assert.equal(env.find((one) => one.name === "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE")?.value, "3GB");
  });

  for (const restateVersion of [
    "1.3.9",
    "1.4.5",
    "1.5.7",
    "1.6.3",
    "1.7.13",
    "1.8.0",
    "2.0.0",
    "1.7",
    "latest",
    "v1.7.12",
    "",
  ]) {
    test(`version ${JSON.stringify(restateVersion)} is refused with those that are known`, () => {
      const message = `the settings of Restate ${restateVersion} are not known; known are 1.4.0 to 1.4.4, 1.5.0 to 1.5.6, 1.6.0 to 1.6.2, 1.7.0 to 1.7.12`;
      assert.throws(() => chartValues({ ...input, restateVersion }), { message });
      assert.throws(() => nodeEnvironment({ ...input, restateVersion }), { message });
    });
  }
});

const version = fc.constantFrom(
  ...knownVersions.flatMap(({ minor, firstPatch, lastPatch }) =>
    Array.from({ length: lastPatch - firstPatch + 1 }, (_, i) => `${minor}.${firstPatch + i}`),
  ),
);

describe("properties of the values", () => {
  const any = fc.record({
    region: fc.constantFrom(...regionNames),
    replicas: fc.integer({ min: 1, max: 9 }),
    domain: fc.domain(),
    restateVersion: version,
  });

  test("every region's nodes are given all metadata addresses, in the same order", () => {
    fc.assert(
      fc.property(any, (some) => {
        const env = Object.fromEntries(nodeEnvironment({ ...input, ...some }).map((one) => [one.name, one.value]));
        assert.deepEqual(
          JSON.parse(env.RESTATE_METADATA_CLIENT__ADDRESSES as string),
          clusterNodes(some).map((node) => node.address),
        );
        assert.equal(chartValues({ ...input, ...some }).replicaCount, some.replicas);
      }),
    );
  });

  test("once the pod's name is filled in, name and address are those that the others expect", () => {
    fc.assert(
      fc.property(any, (some) => {
        const env = Object.fromEntries(nodeEnvironment({ ...input, ...some }).map((one) => [one.name, one.value]));
        for (const node of clusterNodes(some).filter((one) => one.region === some.region)) {
          assert.equal(env.RESTATE_NODE_NAME?.replace("$(POD_NAME)", node.pod), node.name);
          assert.equal(env.RESTATE_ADVERTISED_ADDRESS?.replace("$(POD_NAME)", node.pod), node.address);
        }
      }),
    );
  });

  test("no variable twice, and each that is set is refused as extra environment", () => {
    fc.assert(
      fc.property(any, (some) => {
        const names = nodeEnvironment({ ...input, ...some, env: {} }).map((one) => one.name);
        assert.equal(new Set(names).size, names.length);
        for (const name of names) assert.ok(managedVariables.has(name), name);
      }),
    );
  });
});

describe("versions", () => {
  test("the default is known", () => assert.ok(versionTraits(defaultVersion)));
  test("the text", () =>
    assert.equal(knownVersionsText(), "1.4.0 to 1.4.4, 1.5.0 to 1.5.6, 1.6.0 to 1.6.2, 1.7.0 to 1.7.12"));

  const traits = (on: string[]) =>
    Object.fromEntries(
      [
        "partitionDrivenTrimmingSwitch",
        "snapshotInterval",
        "snapshotRetention",
        "gossipSettings",
        "metricsByNode",
        "chartPodLabels",
        "chartImageTag",
        "chartNodeSelector",
        "chartTolerations",
      ].map((name) => [name, on.includes(name)]),
    );
  for (const [one, on] of [
    ["1.4.4", ["partitionDrivenTrimmingSwitch"]],
    ["1.5.0", ["partitionDrivenTrimmingSwitch", "chartNodeSelector"]],
    ["1.6.1", ["snapshotInterval", "gossipSettings", "chartPodLabels", "chartNodeSelector"]],
    ["1.6.2", ["snapshotInterval", "gossipSettings", "chartPodLabels", "chartImageTag", "chartNodeSelector"]],
    [
      "1.7.9",
      [
        "snapshotInterval",
        "snapshotRetention",
        "gossipSettings",
        "chartPodLabels",
        "chartImageTag",
        "chartNodeSelector",
        "chartTolerations",
      ],
    ],
    [
      "1.7.10",
      [
        "snapshotInterval",
        "snapshotRetention",
        "gossipSettings",
        "metricsByNode",
        "chartPodLabels",
        "chartImageTag",
        "chartNodeSelector",
        "chartTolerations",
      ],
    ],
  ] as const) {
    test(`traits of ${one}`, () => assert.deepEqual(versionTraits(one), traits([...on])));
  }

  test("what a version can do, the next can too, but for the switch that became the rule", () => {
    const order = (one: string) => one.split(".").reduce((sum, part) => sum * 1000 + Number(part), 0);
    fc.assert(
      fc.property(version, version, (a, b) => {
        const [older, newer] = order(a) <= order(b) ? [a, b] : [b, a];
        const [before, after] = [versionTraits(older), versionTraits(newer)];
        for (const [trait, on] of Object.entries(before ?? {})) {
          if (trait === "partitionDrivenTrimmingSwitch") assert.ok(on || !after?.partitionDrivenTrimmingSwitch);
          else assert.ok(!on || after?.[trait as keyof typeof after], `${trait} of ${older}, not of ${newer}`);
        }
      }),
    );
  });
});

describe("quantities", () => {
  const kubernetes: [string, number | undefined][] = [
    ["6Gi", 6 * 2 ** 30],
    ["500M", 500e6],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["128974848", 128974848],
    ["4k", 4000],
    ["2Ti", 2 * 2 ** 40],
    [" 1Ki ", 1024],
    ["6gi", undefined],
    ["6GB", undefined],
    ["-1Gi", undefined],
    ["", undefined],
    ["Gi", undefined],
  ];
  for (const [quantity, bytes] of kubernetes) {
    test(`Kubernetes: ${JSON.stringify(quantity)}`, () => assert.equal(memoryBytes(quantity), bytes));
  }

  const restate: [string, number | undefined][] = [
    ["3GB", 3e9],
    ["2764MiB", 2764 * 2 ** 20],
    ["512 MB", 512e6],
    ["1KB", 1000],
    ["1kB", 1000],
    ["1KiB", 1024],
    ["1.5 GiB", 1.5 * 2 ** 30],
    ["100", 100],
    ["100B", 100],
    ["3gb", undefined],
    ["much", undefined],
    ["", undefined],
  ];
  for (const [size, bytes] of restate) {
    test(`Restate: ${JSON.stringify(size)}`, () => assert.equal(restateSizeBytes(size), bytes));
  }

  test("RocksDB gets 20 to 50 % of any limit", () => {
    const limit = fc
      .tuple(fc.integer({ min: 64, max: 1_000_000 }), fc.constantFrom("Mi", "Gi", "M", "G"))
      .map(([amount, unit]) => `${amount}${unit}`);
    fc.assert(
      fc.property(limit, (one) => {
        const share = (restateSizeBytes(rocksdbMemory(one)) as number) / (memoryBytes(one) as number);
        assert.ok(share >= rocksdbShareRange.least && share <= rocksdbShareRange.most, `${share}`);
      }),
    );
  });

  test("a limit that is none", () => {
    assert.throws(() => rocksdbMemory("lots"), { message: "not a memory quantity: lots; write e.g. 6Gi" });
  });
});
