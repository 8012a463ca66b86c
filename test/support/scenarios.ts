/** Whole runs of the program for either region, in the situations that the committed dumps show. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { generate } from "selfsigned";
import { handoverMemoryName } from "../../handover/plan";
import shipped from "../../index";
import { memoryName } from "../../peer";
import { type RegionName, regionNames } from "../../topology";
import { asConfigured } from "./configuration";
import { FakeApiServer, type FakeCluster, runningCluster } from "./fake-api-server";
import { type Calls, type Recording, record } from "./mocks";
import { receiptOf } from "./receipts";

const accountId = "123456789012";
const awsRegions: Record<RegionName, string> = { region1: "us-east-1", region2: "us-west-2" };
const zones = (region: RegionName) => ["a", "b", "c"].map((letter) => awsRegions[region] + letter);
const subnetOf = (zone: string) => `subnet-0${zone.at(-1)}${zone.startsWith("us-east") ? "1" : "2"}`;
const issuer = (region: RegionName) =>
  `https://oidc.eks.${awsRegions[region]}.amazonaws.com/id/${region.toUpperCase()}`;

/** A situation: how the configuration of both regions differs from the usual one, and how often they are brought up. */
export interface Scenario {
  /** What a reader should look for in the dumps. */
  about: string;
  settings: (region: RegionName) => Record<string, unknown>;
  /** `alone`: no peer yet. `converged` (usual): each was brought up until nothing changed any more. */
  until?: "alone" | "converged";
}

/** Way into a cluster by a kubeconfig, with what cannot be looked up then. */
const byKubeconfig = (region: RegionName) => ({
  kubernetes: { context: "here" },
  identity: { mode: "oidc", oidcIssuer: issuer(region) },
});
const eks = (region: RegionName) => ({ kubernetes: { eksCluster: `production-${awsRegions[region]}` } });

/** The situations, by the name of their folder in test/dumps. */
export const scenarios: Record<string, Scenario> = {
  "first-up": {
    about:
      "No peer yet: no replication, no trust or permission for the peer, no provisioning; pending says what waits.",
    settings: byKubeconfig,
    until: "alone",
  },
  converged: {
    about: "Both regions are up: replication both ways, one role for both, region1 provisions.",
    settings: byKubeconfig,
  },
  "one-cluster": {
    about: "Both regions are namespaces of one cluster: one OIDC provider with two subjects.",
    settings: () => ({ ...byKubeconfig("region1"), mode: "one-cluster" }),
  },
  kiam: {
    about: "The nodes' role assumes the pods' role: pod annotations instead of service account annotations.",
    settings: () => ({
      kubernetes: { context: "here" },
      identity: { mode: "kiam", kiamNodeRoleArn: `arn:aws:iam::${accountId}:role/kiam-server` },
    }),
  },
  "pod-identity": {
    about: "EKS Pod Identity: an association in each region, no annotation.",
    settings: (region) => ({ ...eks(region), identity: { mode: "podIdentity" } }),
  },
  "serving-region1": {
    about: "region2 is drained: region1 leads.",
    settings: (region) => ({ ...byKubeconfig(region), serving: "region1" }),
  },
  "serving-region2": {
    about: "region1 is drained: region2 leads; the role and what provisions stay at home.",
    settings: (region) => ({ ...byKubeconfig(region), serving: "region2" }),
  },
  "eks-discovered": {
    about: "EKS clusters and subnets are looked up; older Restate, IP targets, unprotected, own tags.",
    settings: (region) => ({
      ...eks(region),
      subnets: { discover: { vpcId: region === "region1" ? "vpc-01" : "vpc-02" } },
      restateVersion: "1.4.3",
      loadBalancers: { securityGroups: ["sg-01", "sg-02"], targetType: "ip", namePrefix: "rst" },
      protect: false,
      forceDestroy: true,
      tags: { team: "platform" },
    }),
  },
  "every-option": {
    about:
      "What is off or otherwise by default: options of chart, image, load balancers, monitoring, snapshots and replication.",
    settings: (region) => ({
      ...byKubeconfig(region),
      chart: { repository: "https://charts.example.com", name: "restate-helm", version: "1.7.10" },
      image: { repository: "registry.example.com/restate", digest: `sha256:${"0123456789abcdef".repeat(4)}` },
      loadBalancers: {
        securityGroups: ["sg-0a1"],
        scheme: "internet-facing",
        dnsAnnotationPrefixes: ["external-dns.kubernetes.io/"],
      },
      rocksdbMemory: "2GB",
      storage: { size: "128Gi", storageClass: "io2" },
      scheduling: {
        tolerations: [{ key: "restate", operator: "Exists", effect: "NoSchedule" }],
        nodeSelector: { pool: "restate" },
        podDisruptionBudget: { minAvailable: 2 },
      },
      monitoring: {
        prometheus: true,
        dashboard: true,
        labels: { release: "prometheus" },
        alarms: true,
        alarmTopicArn: `arn:aws:sns:${awsRegions[region]}:${accountId}:restate`,
      },
      env: { RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT: "5m" },
      snapshots: { interval: "1h", retained: 3, noncurrentDays: 30 },
      replication: { timeControl: true, deleteMarkers: false },
    }),
  },
  "one-replica": { about: "The smallest cluster.", settings: (region) => ({ ...byKubeconfig(region), replicas: 1 }) },
  "nine-replicas": { about: "The largest cluster.", settings: (region) => ({ ...byKubeconfig(region), replicas: 9 }) },
};

/** What the Jobs of a cluster's first handover print, by the beginning of their names. */
export const handoverJobs = (): Record<string, unknown> => ({
  "restate-handover-1-region1": receiptOf(1, "both", "region1", { askedBy: someone }),
  "restate-handover-1-region2": receiptOf(1, "both", "region2", { askedBy: someone }),
});
/** Who asked for them, outside any repository. */
const someone = { settings: "0123456789abcdef", user: "alice" };

/** An error as the engine sends it. */
export function engineError(details: string): Error {
  return Object.assign(new Error(details), { details });
}

/** A world in which the program can be run: API servers, AWS's answers, an `aws` command that gives tokens. */
export class World {
  /** What stacks export, by their names; a test may take some away. */
  readonly exported = new Map<string, Record<string, unknown>>();
  /** What the state of each stack remembers, by the names of its `Stash` resources. */
  readonly remembered = new Map<string, Record<string, unknown>>();
  /** What the Jobs of handovers printed, by the beginning of their names. */
  jobs: Record<string, unknown> = handoverJobs();
  /** Account that the credentials belong to. */
  account = accountId;
  /** Pods of the cluster; by default as many as the settings have replicas. */
  cluster?: FakeCluster;
  /** Replaces answers to calls. */
  calls: Calls = {};
  /** What is run. */
  program: () => unknown = shipped;

  private constructor(
    private readonly plain: FakeApiServer,
    private readonly secure: FakeApiServer,
    private readonly folder: string,
    private readonly path: string | undefined,
  ) {}

  static async start(): Promise<World> {
    const pems = await generate([{ name: "commonName", value: "127.0.0.1" }], {
      keyType: "ec",
      algorithm: "sha256",
      extensions: [
        { name: "basicConstraints", cA: true },
        { name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] },
      ],
    });
    const servers = [new FakeApiServer(), new FakeApiServer({ key: pems.private, cert: pems.cert })] as const;
    for (const server of servers) await server.start();
    const folder = mkdtempSync(join(tmpdir(), "restate-unit-"));
    const token = {
      apiVersion: "client.authentication.k8s.io/v1beta1",
      kind: "ExecCredential",
      status: { token: "t" },
    };
    writeFileSync(join(folder, "aws"), `#!/bin/sh\necho '${JSON.stringify(token)}'\n`);
    chmodSync(join(folder, "aws"), 0o755);
    const path = process.env.PATH;
    process.env.PATH = `${folder}${delimiter}${path}`;
    return new World(servers[0], servers[1], folder, path);
  }

  async stop(): Promise<void> {
    process.env.PATH = this.path;
    rmSync(this.folder, { recursive: true });
    await Promise.all([this.plain.stop(), this.secure.stop()]);
  }

  /** Runs the program once for a region, as `pulumi up` or as a preview. */
  async run(
    region: RegionName,
    settings: Record<string, unknown>,
    options: { preview?: boolean } = {},
  ): Promise<Recording> {
    const replicas = (settings.replicas as number | undefined) ?? 3;
    const cluster = this.cluster ?? runningCluster(awsRegions[region], replicas);
    this.plain.cluster = this.secure.cluster = cluster;
    this.plain.jobs = this.secure.jobs = this.jobs;
    const { kubernetes } = settings as { kubernetes?: { eksCluster?: string; kubeconfig?: string } };
    const byContents = kubernetes && !kubernetes.eksCluster && !kubernetes.kubeconfig;
    const own = asConfigured({
      domain: "restate.example.com",
      accountId,
      subnets: { byZone: Object.fromEntries(zones(region).map((zone) => [zone, subnetOf(zone)])) },
      loadBalancers: { securityGroups: ["sg-0a1"] },
      ...(byContents ? { kubeconfigContents: this.plain.kubeconfig } : {}),
      ...settings,
    });
    const recording = await record(this.program, {
      stack: region,
      preview: options.preview,
      config: {
        ...Object.fromEntries(Object.entries(own).map(([key, value]) => [`restate:${key}`, value])),
        "aws:region": awsRegions[region],
      },
      calls: { ...this.answers(region), ...this.calls },
    });
    if (!options.preview) this.arrive(region, recording);
    return recording;
  }

  /** Lets a run have happened: its outputs are exported and what it remembers is in its stack's state. */
  arrive(region: RegionName, recording: Recording): void {
    const stack = `organization/restate/${region}`;
    this.exported.set(stack, recording.outputs);
    const memories = recording.resources.filter(
      ({ type, name }) => type === "pulumi:index:Stash" && [memoryName, handoverMemoryName].includes(name),
    );
    this.remembered.set(stack, Object.fromEntries(memories.map(({ name, inputs }) => [name, inputs.input])));
  }

  /** Brings a scenario's regions up and returns the last run of each. */
  async play({ settings, until }: Scenario): Promise<Record<RegionName, Recording>> {
    this.exported.clear();
    this.remembered.clear();
    const region1 = await this.run("region1", settings("region1"));
    if (until === "alone") {
      this.exported.clear();
      return { region1, region2: await this.run("region2", settings("region2")) };
    }
    await this.run("region2", settings("region2"));
    let region1Again = await this.run("region1", settings("region1"));
    // A run that hands over says who asked; afterwards it is the one who asked then.
    if (region1Again.outputs.handover) region1Again = await this.run("region1", settings("region1"));
    const result = { region1: region1Again };
    return { ...result, region2: await this.run("region2", settings("region2")) };
  }

  private answers(region: RegionName): Calls {
    return {
      "aws:index/getCallerIdentity:getCallerIdentity": () => ({ accountId: this.account, arn: "", id: "", userId: "" }),
      "aws:eks/getCluster:getCluster": ({ name }) => ({
        name,
        arn: `arn:aws:eks:${awsRegions[region]}:${accountId}:cluster/${name}`,
        endpoint: this.secure.url,
        certificateAuthorities: [{ data: Buffer.from(this.secure.tls?.cert ?? "").toString("base64") }],
        identities: [{ oidcs: [{ issuer: issuer(region) }] }],
      }),
      "aws:ec2/getSubnets:getSubnets": () => ({ ids: zones(region).map(subnetOf) }),
      "aws:ec2/getSubnet:getSubnet": ({ id }) => ({
        id,
        availabilityZone: regionNames.flatMap(zones).find((zone) => subnetOf(zone) === id),
      }),
      "pulumi:pulumi:readStackOutputs": ({ name }) => {
        const outputs = this.exported.get(name as string);
        if (!outputs) throw engineError(`unknown stack "${name}"`);
        return { name, outputs };
      },
      "pulumi:pulumi:readStackResourceOutputs": ({ stackName }) => {
        const memories = Object.entries(this.remembered.get(stackName as string) ?? {});
        return {
          name: stackName,
          outputs: Object.fromEntries(
            memories.map(([name, input]) => [
              `urn:pulumi:${region}::restate::pulumi:index:Stash::${name}`,
              { type: "pulumi:index:Stash", outputs: { input, output: input } },
            ]),
          ),
        };
      },
    };
  }
}
