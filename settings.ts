/** Configuration of a stack: every setting with its type, meaning and default, and every check that needs no cloud. */
import { RunError } from "@pulumi/pulumi/errors";
import { z } from "zod";
import { memoryBytes, restateSizeBytes, rocksdbShareRange } from "./restate/quantity";
import { managedVariables, unknownVersion } from "./restate/values";
import { defaultVersion, versionTraits } from "./restate/versions";
import {
  loadBalancerName,
  maxLoadBalancerName,
  otherRegion,
  type RegionName,
  regionNames,
  servingValues,
} from "./topology";

/** The Pulumi project's name, which is also the namespace of its settings. */
export const projectName = "restate";

/** Settings that make two regions one cluster: the same in both stacks, as is `serving`, which a handover changes. */
export const clusterSettings = ["cluster", "home", "replicas", "domain"] as const;

/** A setting that both stacks share belongs into Pulumi.yaml, one of a region into its stack's file. */
export type Scope = "project" | "stack";

/** What is said of a setting in Pulumi.yaml, in docs/settings.md and in error messages. */
interface About {
  scope: Scope;
  description: string;
  /** A value that is right; shown as the remedy of a fault. */
  example: unknown;
  secret?: boolean;
}

const text = (message: string) => z.string({ error: message }).min(1, message);
const pattern = (regex: RegExp, message: string) => z.string({ error: message }).regex(regex, message);
const whole = (least: number, most: number, unit: string) => {
  const message = `must be a whole number from ${least} to ${most}${unit ? ` (${unit})` : ""}`;
  return z.number({ error: message }).int(message).min(least, message).max(most, message);
};
const flag = () => z.boolean({ error: "must be true or false" });
const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `must be one of ${values.join(", ")}` });
const strings = () =>
  z.record(z.string(), z.string({ error: "must be a text; put it in quotes" }), {
    error: "must be a map of texts",
  });
const group = <T extends z.ZodRawShape>(shape: T) =>
  z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `has no setting ${issue.keys.join(", ")}; it has ${Object.keys(shape).join(", ")}`
        : `must be a map of ${Object.keys(shape).join(", ")}`,
  });

const dnsLabel = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const dnsName = /^(?=.{1,200}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$/;
const sized = (message: string, bytes: (v: string) => number | undefined) =>
  z.string({ error: message }).refine((v) => bytes(v) !== undefined, { error: message });
const memory = () => sized('must be a Kubernetes quantity of memory in quotes, e.g. "6Gi"', memoryBytes);
const cpu = () =>
  pattern(/^(\d+m|\d+(\.\d+)?)$/, 'must be a Kubernetes quantity of CPU in quotes, e.g. "2" or "1500m"');
const podCount = () => {
  const message = "must be 0 to 9 pods, or a percentage in quotes";
  return z.union([whole(0, 9, "pods"), pattern(/^(100|\d{1,2})%$/, message)], { error: message });
};
const duration = () => pattern(/^(\d+(ms|s|m|h|d))+$/, "must be a duration with its unit, e.g. 15m or 1h30m");
const roleArn = () => pattern(/^arn:aws[a-z-]*:iam::\d{12}:role\/.+/, "must be the ARN of an IAM role");

/**
 * Every setting. The order is that of docs/settings.md. A default of `undefined` means: derived, or none (the
 * description says which).
 */
export const fields = {
  cluster: {
    schema: pattern(
      /^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$/,
      "must be 1 to 20 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
    ).default("restate"),
    about: {
      scope: "project",
      description: "Name of the Restate cluster; the IAM roles and buckets are named after it.",
      example: "restate",
    },
  },
  serving: {
    schema: oneOf(servingValues).default("both"),
    about: {
      scope: "project",
      description:
        "Regions that should take work: both, region1 or region2. A change hands the cluster over; the region that serves alone leads, or home if both do.",
      example: "both",
    },
  },
  home: {
    schema: oneOf(regionNames).default("region1"),
    about: {
      scope: "project",
      description: "Region that owns what exists once: the IAM role, and provisioning while both regions serve.",
      example: "region1",
    },
  },
  replicas: {
    schema: whole(1, 9, "Restate nodes in each region").default(3),
    about: {
      scope: "project",
      description: "Restate nodes in each region, 1 to 9. With 1 or 2 the loss of a node stops writes.",
      example: 3,
    },
  },
  standbyReplicas: {
    schema: whole(0, 9, "Restate nodes").optional(),
    about: {
      scope: "project",
      description:
        "Restate nodes that a drained region keeps running once they hold no records, from 0 to replicas. Default: all. They run again before the region is restored.",
      example: 1,
    },
  },
  domain: {
    schema: pattern(dnsName, "must be a DNS name of at least two labels, in lower case"),
    about: {
      scope: "project",
      description:
        "DNS domain of the nodes: node 0 of region1 is reached at restate-0.region1.<domain>. external-dns must be allowed to write its zone.",
      example: "restate.example.com",
    },
  },
  restateVersion: {
    schema: z
      .string({ error: "must be a version in quotes" })
      .superRefine((v, ctx) => {
        if (!versionTraits(v)) ctx.addIssue({ code: "custom", message: unknownVersion(v) });
      })
      .default(defaultVersion),
    about: {
      scope: "project",
      description: "Restate version. Never skip a minor version when upgrading.",
      example: defaultVersion,
    },
  },
  partitions: {
    schema: whole(1, 4096, "partitions").default(24),
    about: {
      scope: "project",
      description: "Partitions of the cluster. Takes effect when the cluster is provisioned, and never afterwards.",
      example: 24,
    },
  },
  region: {
    schema: oneOf(regionNames).optional(),
    about: {
      scope: "stack",
      description: "Which of the two regions this stack is. Default: the stack's name.",
      example: "region1",
    },
  },
  peer: {
    schema: pattern(
      /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+){0,2}$/,
      "must be a stack's name, or organization/project/stack",
    ).optional(),
    about: {
      scope: "stack",
      description:
        "Stack of the other region. Default: region2 for region1 and region1 for region2, in the same project.",
      example: "region2",
    },
  },
  forgetPeer: {
    schema: text("must be the peer stack's name").optional(),
    about: {
      scope: "stack",
      description:
        "Confirms that what was built for a peer which is gone (replication, permissions, trust) may be removed. Must equal the peer stack's name; take it out again afterwards.",
      example: "region2",
    },
  },
  accountId: {
    schema: pattern(/^\d{12}$/, "must be an AWS account id: 12 digits, in quotes"),
    about: {
      scope: "stack",
      description: "AWS account that this stack may touch; any other is refused before anything is changed.",
      example: "123456789012",
    },
  },
  mode: {
    schema: oneOf(["two-clusters", "one-cluster"]).default("two-clusters"),
    about: {
      scope: "stack",
      description:
        "two-clusters: each region has a Kubernetes cluster of its own. one-cluster: both regions are namespaces of one cluster, to try the set-up.",
      example: "two-clusters",
    },
  },
  kubernetes: {
    schema: group({
      eksCluster: pattern(/^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$/, "must be an EKS cluster's name").optional(),
      kubeconfig: text("must be the path of a kubeconfig").optional(),
      context: text("must be a context's name").optional(),
      namespace: pattern(dnsLabel, "must be a Kubernetes namespace: lower-case letters, digits, hyphens").optional(),
      createNamespace: flag().default(true),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "How to reach the Kubernetes cluster: eksCluster (its name in EKS), or kubeconfig (a path; ~ and relative paths work) with context; namespace (default restate-<region>) and createNamespace.",
      example: { eksCluster: "production-east", namespace: "restate-region1" },
    },
  },
  kubeconfigContents: {
    schema: text("must be the contents of a kubeconfig").optional(),
    about: {
      scope: "stack",
      description:
        "Contents of a kubeconfig, instead of a path, for runs where there is no file, such as previews in CI. Set it with pulumi config set --secret.",
      example: "apiVersion: v1 ...",
      secret: true,
    },
  },
  subnets: {
    schema: group({
      byZone: z
        .record(
          pattern(/^[a-z]{2}(-[a-z]+)+-\d[a-z]$|^[a-z]{2}(-[a-z0-9]+)+$/, "must be a zone's name, e.g. us-east-1a"),
          pattern(/^subnet-[0-9a-f]+$/, "must be a subnet's id, e.g. subnet-0a1b2c3d"),
          { error: "must be a map from zone to subnet id" },
        )
        .optional(),
      discover: group({
        vpcId: pattern(/^vpc-[0-9a-f]+$/, "must be a VPC's id, e.g. vpc-0a1b2c3d"),
        tags: strings().default({ "kubernetes.io/role/internal-elb": "1" }),
      }).optional(),
    }),
    about: {
      scope: "stack",
      description:
        "Subnets of the load balancers: byZone (zone to subnet id), or discover (vpcId and tags; exactly one subnet a zone must match).",
      example: { byZone: { "us-east-1a": "subnet-0a1b2c3d" } },
    },
  },
  loadBalancers: {
    schema: group({
      scheme: oneOf(["internal", "internet-facing"]).default("internal"),
      securityGroups: z
        .array(pattern(/^sg-[0-9a-f]+$/, "must be a security group's id, e.g. sg-0a1b2c3d"), {
          error: "must be a list of security group ids",
        })
        .min(1, "must name at least one security group: an NLB created without any can never gain one"),
      namePrefix: pattern(
        /^(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/,
        "must be letters, digits and hyphens, with no hyphen at either end, and must not begin with internal-",
      ).optional(),
      targetType: oneOf(["instance", "ip"]).default("instance"),
      dnsAnnotationPrefixes: z
        .array(pattern(/^[a-z0-9.-]+\/$/, "must end with a slash, e.g. external-dns.kubernetes.io/"), {
          error: "must be a list of annotation prefixes",
        })
        .min(1, "must name at least one annotation prefix")
        .default(["external-dns.alpha.kubernetes.io/", "external-dns.kubernetes.io/"]),
      readyTimeout: whole(30, 3600, "seconds").default(600),
    }),
    about: {
      scope: "stack",
      description:
        "The nodes' network load balancers: scheme, securityGroups (must admit 5122 from both regions' nodes only), namePrefix (default: cluster), targetType (instance or ip), dnsAnnotationPrefixes of external-dns, readyTimeout in seconds.",
      example: { securityGroups: ["sg-0a1b2c3d"] },
    },
  },
  identity: {
    schema: group({
      mode: oneOf(["oidc", "podIdentity", "kiam"]).default("oidc"),
      oidcIssuer: pattern(
        /^https:\/\/[a-z0-9.-]+(\/[A-Za-z0-9._/-]+)?$/,
        "must be the https URL of the cluster's OIDC issuer",
      ).optional(),
      kiamNodeRoleArn: roleArn().optional(),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "How pods get the IAM role: mode oidc (service account tokens), podIdentity (EKS Pod Identity) or kiam (the nodes' role assumes it). oidcIssuer is looked up for an EKS cluster; kiam needs kiamNodeRoleArn.",
      example: { mode: "oidc", oidcIssuer: "https://oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF" },
    },
  },
  chart: {
    schema: group({
      oci: pattern(/^oci:\/\/.+/, "must begin with oci://").optional(),
      repository: pattern(/^https:\/\/.+/, "must be the https URL of a chart repository").optional(),
      name: text("must be the chart's name in the repository").optional(),
      folder: text("must be the path of a folder with a chart").optional(),
      version: pattern(/^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/, "must be a version such as 1.7.12").optional(),
      timeout: whole(30, 3600, "seconds").default(300),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "Where Restate's Helm chart comes from: oci (default oci://ghcr.io/restatedev/restate-helm), repository with name, or folder; version (default: restateVersion); timeout in seconds.",
      example: { oci: "oci://ghcr.io/restatedev/restate-helm" },
    },
  },
  image: {
    schema: group({
      repository: text("must be an image repository").default("docker.restate.dev/restatedev/restate"),
      tag: text("must be an image's tag").optional(),
      digest: pattern(/^sha256:[0-9a-f]{64}$/, "must be sha256: and 64 hexadecimal digits").optional(),
      pullPolicy: oneOf(["IfNotPresent", "Always", "Never"]).default("IfNotPresent"),
    }).prefault({}),
    about: {
      scope: "stack",
      description: "Restate's container image: repository, tag (default: restateVersion), digest, pullPolicy.",
      example: { repository: "docker.restate.dev/restatedev/restate" },
    },
  },
  resources: {
    schema: group({
      requests: group({ cpu: cpu().default("2"), memory: memory().default("4Gi") }).prefault({}),
      limits: group({ cpu: cpu().default("4"), memory: memory().default("6Gi") }).prefault({}),
    }).prefault({}),
    about: {
      scope: "stack",
      description: "CPU and memory of a node: requests (default 2 CPU, 4Gi) and limits (default 4 CPU, 6Gi).",
      example: { requests: { cpu: "2", memory: "4Gi" }, limits: { cpu: "4", memory: "6Gi" } },
    },
  },
  rocksdbMemory: {
    schema: sized("must be a size, e.g. 3GB", restateSizeBytes).optional(),
    about: {
      scope: "stack",
      description: "Memory of RocksDB, 20 to 50 % of the memory limit. Default: 45 % of it.",
      example: "2700MiB",
    },
  },
  storage: {
    schema: group({
      size: sized('must be a Kubernetes quantity of storage in quotes, e.g. "64Gi"', memoryBytes).default("64Gi"),
      storageClass: text("must be a storage class's name").optional(),
    }).prefault({}),
    about: {
      scope: "stack",
      description: "Volume of a node: size, storageClass (default: the cluster's default class).",
      example: { size: "64Gi", storageClass: "gp3" },
    },
  },
  scheduling: {
    schema: group({
      topologySpread: group({
        maxSkew: whole(1, 9, "pods").default(1),
        topologyKey: text("must be a node label").default("topology.kubernetes.io/zone"),
        whenUnsatisfiable: oneOf(["ScheduleAnyway", "DoNotSchedule"]).default("ScheduleAnyway"),
      }).prefault({}),
      tolerations: z
        .array(
          group({
            key: text("must be a taint's key").optional(),
            operator: oneOf(["Exists", "Equal"]).optional(),
            value: z.string({ error: "must be a text" }).optional(),
            effect: oneOf(["NoSchedule", "PreferNoSchedule", "NoExecute"]).optional(),
            tolerationSeconds: whole(0, 86400, "seconds").optional(),
          }),
          { error: "must be a list of tolerations" },
        )
        .default([]),
      nodeSelector: strings().default({}),
      podDisruptionBudget: group({
        maxUnavailable: podCount().optional(),
        minAvailable: podCount().optional(),
      }).default({ maxUnavailable: 1 }),
      timeout: whole(10, 3600, "seconds").default(300),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "Where pods run: topologySpread, tolerations (Restate 1.7 and newer), nodeSelector (1.5 and newer), podDisruptionBudget (default maxUnavailable 1), timeout in seconds for all pods to be scheduled.",
      example: { nodeSelector: { "karpenter.sh/nodepool": "restate" } },
    },
  },
  monitoring: {
    schema: group({
      prometheus: flag().default(false),
      bothRegions: flag().optional(),
      dashboard: flag().default(false),
      labels: strings().default({}),
      alarms: flag().default(false),
      alarmTopicArn: pattern(
        /^arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+$/,
        "must be the ARN of an SNS topic",
      ).optional(),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "What watches the region, all of it off by default: prometheus (ServiceMonitor and PrometheusRule of the Prometheus operator, whose CRDs must be installed) with labels that it selects by, and bothRegions if it has the metrics of both regions (default: in one-cluster mode); dashboard (ConfigMap for Grafana's sidecar); alarms (CloudWatch, on the replication of snapshots) with alarmTopicArn, an SNS topic of this region.",
      example: { prometheus: true, labels: { release: "kube-prometheus-stack" } },
    },
  },
  env: {
    schema: z
      .record(
        pattern(/^[A-Za-z_][A-Za-z0-9_]*$/, "must be a name of letters, digits and underscores").refine(
          (name) => !managedVariables.has(name),
          { error: "is set by this stack; use the setting for it" },
        ),
        z.string({ error: "must be a text; put it in quotes" }),
        { error: "must be a map from variable to text" },
      )
      .default({}),
    about: {
      scope: "stack",
      description: "Further environment of the Restate nodes. Variables that the stack itself sets are refused.",
      example: { RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT: "5m" },
    },
  },
  snapshots: {
    schema: group({
      intervalRecords: whole(1, 1_000_000_000, "records").default(10_000),
      interval: duration().optional(),
      retained: whole(1, 100, "snapshots").default(1),
      trimDelay: duration().default("15m"),
      noncurrentDays: whole(1, 3650, "days").default(7),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "Snapshots: intervalRecords (records between two), interval (time between two, Restate 1.6 and newer; with both, both must have passed), retained (kept by Restate, 1.7 and newer), trimDelay (must exceed the replication's lag), noncurrentDays (how long S3 keeps replaced objects).",
      example: { intervalRecords: 10000, retained: 2 },
    },
  },
  replication: {
    schema: group({
      deleteMarkers: flag().default(true),
      timeControl: flag().default(false),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "Replication of this region's snapshots to the peer's bucket: deleteMarkers (replicate deletions), timeControl (S3 Replication Time Control: 15 minutes, at extra cost).",
      example: { timeControl: true },
    },
  },
  protect: {
    schema: flag().default(true),
    about: {
      scope: "stack",
      description: "Protect what holds data (bucket, release, namespace) from deletion by Pulumi.",
      example: true,
    },
  },
  forceDestroy: {
    schema: flag().default(false),
    about: {
      scope: "stack",
      description: "Delete the bucket with its snapshots when the stack is destroyed; needs protect: false.",
      example: false,
    },
  },
  provisionTimeout: {
    schema: whole(30, 3600, "seconds").default(900),
    about: {
      scope: "stack",
      description: "How long, in seconds, provisioning waits for all nodes of both regions to answer.",
      example: 900,
    },
  },
  handover: {
    schema: group({
      timeout: whole(60, 7200, "seconds").default(900),
      maxUnsavedRecords: whole(1, 1_000_000_000, "records").optional(),
    }).prefault({}),
    about: {
      scope: "stack",
      description:
        "Handing the cluster over: timeout in seconds of a whole run; maxUnsavedRecords that a partition may have since its last snapshot when one begins (default: three times snapshots.intervalRecords).",
      example: { timeout: 900 },
    },
  },
  tags: {
    schema: strings().default({}),
    about: {
      scope: "stack",
      description: "Tags of every AWS resource, in addition to the stack's own.",
      example: { team: "platform" },
    },
  },
} satisfies Record<string, { schema: z.ZodType; about: About }>;

type Fields = typeof fields;
type Key = keyof Fields;
type Parsed = { [K in Key]: z.output<Fields[K]["schema"]> };

/** The settings of one stack, complete: defaults applied, derived values filled in. */
export type Settings = Omit<Parsed, "region" | "peer"> & {
  region: RegionName;
  /** Name of the peer's stack, as a stack reference takes it. */
  peer: string;
  awsRegion: string;
  namespace: string;
  namePrefix: string;
  chartVersion: string;
};

/** One thing that is wrong with the configuration. */
export interface Fault {
  /** Full key with its path, e.g. `restate:storage.size`. */
  key: string;
  problem: string;
  remedy: string;
}

/** All that is wrong with a stack's configuration, in one error; thrown before any resource is made. */
export class SettingsError extends RunError {
  constructor(
    readonly stackName: string,
    readonly faults: Fault[],
  ) {
    const lines = faults.map((f) => `  ${f.key}: ${f.problem}.\n      ${f.remedy}`);
    super(
      `the configuration of stack ${stackName} has ${faults.length === 1 ? "a fault" : `${faults.length} faults`}; nothing was changed:\n${lines.join("\n")}`,
    );
    this.name = "SettingsError";
  }
}

/** What the checks need beside the project's own settings. */
export interface SettingsContext {
  stack: string;
  organization: string;
  project: string;
  /** Value of `aws:region`. */
  awsRegion?: string;
}

/** The command or the edit that mends a setting. */
function remedyFor(key: Key): string {
  const { about } = fields[key] as { about: About };
  if (about.scope === "project") {
    return `Set its default for both stacks in Pulumi.yaml, e.g. ${projectName}:${key}: { default: ${JSON.stringify(about.example)} }`;
  }
  if (typeof about.example === "object") {
    return `Set it in the stack's file, e.g. ${projectName}:${key}: ${JSON.stringify(about.example)}`;
  }
  if (about.secret) return `pulumi config set --secret ${projectName}:${key} < file`;
  return `pulumi config set ${projectName}:${key} ${about.example}`;
}

/** Reads a raw configuration value: Pulumi hands everything over as text, structures as JSON. */
function rawValue(schema: z.ZodType, raw: string | undefined): unknown {
  if (raw === undefined) return undefined;
  const kind = baseKind(schema);
  if (kind === "string" || kind === "enum") return raw;
  try {
    return JSON.parse(raw);
  } catch {
    return raw;
  }
}

/** Name of the kind of value that a schema takes, below its default and optionality. */
export function baseKind(schema: z.ZodType): string {
  let current = schema as unknown as { def: { type: string; innerType?: z.ZodType; in?: z.ZodType } };
  while (current.def.innerType ?? current.def.in) {
    current = (current.def.innerType ?? current.def.in) as unknown as typeof current;
  }
  return current.def.type;
}

/**
 * Parses and checks the whole configuration of a stack.
 *
 * `raw` holds every key of the project's namespace without its prefix, as Pulumi gives it (texts; structures as JSON).
 * Throws a `SettingsError` that lists every fault, unknown keys included.
 */
export function parseSettings(raw: Record<string, string>, context: SettingsContext): Settings {
  const faults: Fault[] = [];
  const fault = (key: Key, path: PropertyKey[], problem: string, remedy = remedyFor(key)) => {
    faults.push({ key: `${projectName}:${[key, ...path.map(String)].join(".")}`, problem, remedy });
  };

  for (const key of Object.keys(raw)) {
    if (!Object.hasOwn(fields, key)) {
      faults.push({
        key: `${projectName}:${key}`,
        problem: "is no setting",
        remedy: `Remove it with pulumi config rm ${projectName}:${key}, or use one of ${Object.keys(fields).join(", ")}`,
      });
    }
  }

  const values: Partial<Parsed> = {};
  for (const key of Object.keys(fields) as Key[]) {
    const { schema } = fields[key];
    const result = (schema as z.ZodType).safeParse(rawValue(schema, raw[key]));
    if (result.success) {
      Object.assign(values, { [key]: result.data });
    } else if (raw[key] === undefined) {
      fault(key, [], "is missing");
    } else {
      for (const issue of flatten(result.error.issues)) fault(key, issue.path, issue.message);
    }
  }

  const derived = deriveAndCheck(values, context, fault, faults);
  if (faults.length > 0) throw new SettingsError(context.stack, faults);
  return { ...(values as Parsed), ...(derived as Required<typeof derived>) };
}

/** Issues with those of record keys and unions brought to the top, so that each names its own place. */
function flatten(issues: readonly z.core.$ZodIssue[]): { path: PropertyKey[]; message: string }[] {
  return issues.flatMap((issue) => {
    if (issue.code === "invalid_key") {
      return issue.issues.map((inner) => ({ path: issue.path, message: inner.message }));
    }
    if (issue.code === "invalid_union") {
      const last = issue.errors.at(-1)?.[0];
      return [{ path: issue.path, message: last ? last.message : issue.message }];
    }
    return [{ path: issue.path, message: issue.message }];
  });
}

type Derived = Pick<Settings, "region" | "peer" | "awsRegion" | "namespace" | "namePrefix" | "chartVersion">;

/** What follows from several settings together: derived values, and the checks across settings. */
function deriveAndCheck(
  values: Partial<Parsed>,
  context: SettingsContext,
  fault: (key: Key, path: PropertyKey[], problem: string, remedy?: string) => void,
  faults: Fault[],
): Partial<Derived> {
  const derived: Partial<Derived> = {};

  if (context.awsRegion && /^[a-z]{2}(-[a-z]+)+-\d$/.test(context.awsRegion)) {
    derived.awsRegion = context.awsRegion;
  } else {
    faults.push({
      key: "aws:region",
      problem: context.awsRegion ? `${context.awsRegion} is no AWS region` : "is missing",
      remedy: "pulumi config set aws:region us-east-1",
    });
  }

  const region = values.region ?? regionNames.find((name) => name === context.stack);
  if (region) {
    derived.region = region;
  } else {
    fault("region", [], `is missing, and the stack's name ${context.stack} is neither ${regionNames.join(" nor ")}`);
  }

  if (values.peer) {
    derived.peer = qualifiedStack(values.peer, context);
  } else if (region && region === context.stack) {
    derived.peer = qualifiedStack(otherRegion(region), context);
  } else if (region) {
    fault("peer", [], `is missing: it follows from the stack's name only where that is ${regionNames.join(" or ")}`);
  }
  if (derived.peer === qualifiedStack(context.stack, context)) fault("peer", [], "is this stack itself");
  if (values.forgetPeer && derived.peer && qualifiedStack(values.forgetPeer, context) !== derived.peer) {
    fault(
      "forgetPeer",
      [],
      `${values.forgetPeer} is not the peer, which is ${derived.peer}`,
      `Confirm with pulumi config set ${projectName}:forgetPeer ${derived.peer}, or remove it with pulumi config rm ${projectName}:forgetPeer`,
    );
  }

  checkKubernetes(values, region, derived, fault);
  checkSubnets(values, fault);
  checkLoadBalancers(values, region, derived, fault);
  checkChart(values, derived, fault);
  checkMemory(values, fault);
  checkVersion(values, fault);
  checkMonitoring(values, derived, fault);
  if (values.replicas && (values.standbyReplicas ?? 0) > values.replicas) {
    fault("standbyReplicas", [], `${values.standbyReplicas} is more than replicas, ${values.replicas}`);
  }

  const budget = values.scheduling?.podDisruptionBudget;
  if (budget && (budget.maxUnavailable === undefined) === (budget.minAvailable === undefined)) {
    fault("scheduling", ["podDisruptionBudget"], "needs exactly one of maxUnavailable and minAvailable");
  }
  if (values.forceDestroy && values.protect) {
    fault(
      "forceDestroy",
      [],
      "contradicts protect: a protected bucket cannot be deleted",
      `Set one of them: pulumi config set ${projectName}:protect false`,
    );
  }
  for (const [key, value] of Object.entries(values.tags ?? {})) {
    if (/^aws:/i.test(key)) fault("tags", [key], "begins with aws:, which AWS reserves");
    if (/[,=]/.test(key + value)) {
      fault("tags", [key], "has a comma or an equals sign, which the load balancers' tags cannot hold");
    }
  }
  return derived;
}

type ReportFault = (key: Key, path: PropertyKey[], problem: string, remedy?: string) => void;

function checkKubernetes(
  values: Partial<Parsed>,
  region: RegionName | undefined,
  derived: Partial<Derived>,
  fault: ReportFault,
): void {
  const { kubernetes, identity } = values;
  if (!kubernetes) return;
  if (region) derived.namespace = kubernetes.namespace ?? `restate-${region}`;
  const ways = [
    kubernetes.eksCluster && "kubernetes.eksCluster",
    kubernetes.kubeconfig && "kubernetes.kubeconfig",
    values.kubeconfigContents && "kubeconfigContents",
  ].filter((way) => way !== undefined);
  if (ways.length > 1) fault("kubernetes", [], `has more than one way in: ${ways.join(" and ")}; give one of them`);
  if (ways.length === 0) fault("kubernetes", [], "names neither eksCluster nor kubeconfig");
  if (kubernetes.context && kubernetes.eksCluster) {
    fault("kubernetes", ["context"], "belongs to a kubeconfig, and eksCluster is given");
  }
  if (!identity) return;
  if (identity.mode === "oidc" && !identity.oidcIssuer && !kubernetes.eksCluster) {
    fault("identity", ["oidcIssuer"], "is missing: it can be looked up for an eksCluster only");
  }
  if (identity.mode === "podIdentity" && !kubernetes.eksCluster) {
    fault("identity", ["mode"], "podIdentity needs kubernetes.eksCluster: associations belong to an EKS cluster");
  }
  if (identity.mode === "kiam" && !identity.kiamNodeRoleArn) {
    fault(
      "identity",
      ["kiamNodeRoleArn"],
      "is missing: with kiam the nodes' role assumes the pods' role",
      `Set it in the stack's file, e.g. ${projectName}:identity: {"mode":"kiam","kiamNodeRoleArn":"arn:aws:iam::123456789012:role/kiam-server"}`,
    );
  }
}

function checkSubnets(values: Partial<Parsed>, fault: ReportFault): void {
  const { subnets } = values;
  if (!subnets) return;
  if (!!subnets.byZone === !!subnets.discover) {
    fault("subnets", [], `needs exactly one of byZone and discover, and has ${subnets.byZone ? "both" : "neither"}`);
  }
  if (subnets.byZone && Object.keys(subnets.byZone).length === 0) fault("subnets", ["byZone"], "names no zone");
  const ids = Object.values(subnets.byZone ?? {});
  for (const id of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) {
    fault("subnets", ["byZone"], `names ${id} for two zones; a subnet is in one zone`);
  }
}

function checkLoadBalancers(
  values: Partial<Parsed>,
  region: RegionName | undefined,
  derived: Partial<Derived>,
  fault: ReportFault,
): void {
  const prefix = values.loadBalancers?.namePrefix ?? values.cluster;
  if (!prefix) return;
  derived.namePrefix = prefix;
  if (!region || !values.replicas) return;
  const longest = loadBalancerName(prefix, region, values.replicas - 1);
  if (longest.length > maxLoadBalancerName) {
    fault(
      "loadBalancers",
      ["namePrefix"],
      `makes load balancer names such as ${longest}, ${longest.length} characters, and AWS allows ${maxLoadBalancerName}`,
      `Shorten it by ${longest.length - maxLoadBalancerName}: set loadBalancers.namePrefix in the stack's file`,
    );
  }
}

function checkChart(values: Partial<Parsed>, derived: Partial<Derived>, fault: ReportFault): void {
  const { chart } = values;
  if (!chart) return;
  derived.chartVersion = chart.version ?? values.restateVersion;
  const sources = (["oci", "repository", "folder"] as const).filter((source) => chart[source]);
  if (sources.length > 1) fault("chart", [], `has ${sources.join(" and ")}; give one source`);
  if (chart.repository && !chart.name) {
    fault("chart", ["name"], "is missing: which chart of the repository");
  }
  if (chart.name && !chart.repository) fault("chart", ["name"], "belongs to a repository, and none is given");
}

/** Bytes below which a memory limit is surely a slip. */
const leastMemory = 64 * 2 ** 20;

function checkMemory(values: Partial<Parsed>, fault: ReportFault): void {
  const { resources } = values;
  if (!resources) return;
  const limit = memoryBytes(resources.limits.memory) as number;
  if (limit < leastMemory) {
    fault(
      "resources",
      ["limits", "memory"],
      `${resources.limits.memory} is ${limit} bytes, with which no node starts; a quantity without a unit is in bytes`,
    );
    return;
  }
  if ((memoryBytes(resources.requests.memory) as number) > limit) {
    fault(
      "resources",
      ["requests", "memory"],
      `${resources.requests.memory} is more than the limit, ${resources.limits.memory}`,
    );
  }
  const cpus = (v: string) => (v.endsWith("m") ? Number(v.slice(0, -1)) / 1000 : Number(v));
  if (cpus(resources.requests.cpu) > cpus(resources.limits.cpu)) {
    fault(
      "resources",
      ["requests", "cpu"],
      `${resources.requests.cpu} is more than the limit, ${resources.limits.cpu}`,
    );
  }
  if (values.rocksdbMemory) {
    const share = (restateSizeBytes(values.rocksdbMemory) as number) / limit;
    if (share < rocksdbShareRange.least || share > rocksdbShareRange.most) {
      fault(
        "rocksdbMemory",
        [],
        `${values.rocksdbMemory} is ${Math.round(share * 100)} % of the memory limit ${resources.limits.memory}; Restate's guidance is 20 to 50 %`,
        `Remove it to have it derived: pulumi config rm ${projectName}:rocksdbMemory`,
      );
    }
  }
}

function checkVersion(values: Partial<Parsed>, fault: ReportFault): void {
  const traits = values.restateVersion ? versionTraits(values.restateVersion) : undefined;
  if (!traits) return;
  const since = (key: Key, path: string[], minor: string) =>
    fault(
      key,
      path,
      `has no effect before Restate ${minor}, and restateVersion is ${values.restateVersion}`,
      `Remove it, or raise ${projectName}:restateVersion`,
    );
  if (values.snapshots?.interval && !traits.snapshotInterval) since("snapshots", ["interval"], "1.6");
  if (values.snapshots && values.snapshots.retained !== 1 && !traits.snapshotRetention) {
    since("snapshots", ["retained"], "1.7");
  }
  if (values.scheduling?.tolerations.length && !traits.chartTolerations) since("scheduling", ["tolerations"], "1.7");
  if (values.scheduling && Object.keys(values.scheduling.nodeSelector).length > 0 && !traits.chartNodeSelector) {
    since("scheduling", ["nodeSelector"], "1.5");
  }
  if (values.image?.digest && !traits.chartImageTag) since("image", ["digest"], "1.6.2");
  if (!traits.metricsByNode) {
    for (const part of ["prometheus", "dashboard"] as const) {
      if (values.monitoring?.[part]) since("monitoring", [part], "1.7.10");
    }
  }
}

function checkMonitoring(values: Partial<Parsed>, { awsRegion }: Partial<Derived>, fault: ReportFault): void {
  const { monitoring } = values;
  if (!monitoring) return;
  const { prometheus, bothRegions, labels, alarms, alarmTopicArn } = monitoring;
  if (!prometheus && bothRegions !== undefined)
    fault("monitoring", ["bothRegions"], "belongs to prometheus, which is off");
  if (!prometheus && Object.keys(labels).length > 0)
    fault("monitoring", ["labels"], "belong to prometheus, which is off");
  if (!alarmTopicArn) return;
  if (!alarms) fault("monitoring", ["alarmTopicArn"], "belongs to alarms, which are off");
  const [, , , topicRegion] = alarmTopicArn.split(":");
  if (awsRegion && topicRegion !== awsRegion) {
    fault(
      "monitoring",
      ["alarmTopicArn"],
      `is in ${topicRegion}, and an alarm can only use a topic of its own region, ${awsRegion}`,
    );
  }
}

/** Picks this project's settings out of the whole configuration and parses them; errors as `parseSettings`. */
export function loadSettings(config: Record<string, string>, context: SettingsContext): Settings {
  const prefix = `${projectName}:`;
  const own = Object.entries(config).flatMap(([key, value]) =>
    key.startsWith(prefix) ? [[key.slice(prefix.length), value]] : [],
  );
  return parseSettings(Object.fromEntries(own), context);
}

/** A stack's name as stack references take it: organization/project/stack. */
export function qualifiedStack(name: string, context: Pick<SettingsContext, "organization" | "project">): string {
  const parts = name.split("/");
  if (parts.length === 1) return `${context.organization}/${context.project}/${name}`;
  if (parts.length === 2) return `${context.organization}/${name}`;
  return name;
}
