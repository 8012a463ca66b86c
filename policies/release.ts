/** Rules about Restate's Helm release: a policy sees its values, not the objects that the chart makes of them. */
import { memoryBytes, restateSizeBytes, rocksdbShareRange } from "../restate/quantity";
import { knownVersionsText, versionTraits } from "../restate/versions";
import { ownBuckets } from "./buckets";
import { type Report, type Resource, rule } from "./rule";
import { ofType, types } from "./types";
import type { Value } from "./value";

/** Environment variables as a list of `{name, value}` gives them; those that are taken from elsewhere have no value. */
export function environment(list: Value): Map<string, Value> {
  return new Map(list.list.flatMap((one) => (one.get("name").text ? [[one.get("name").text!, one.get("value")]] : [])));
}

const envOf = (release: Resource) => environment(release.props.get("values", "env"));

/** Whether a release is one of Restate: by its chart's name, its own, or the name that all its objects get. */
function isRestate({ props }: Resource): boolean {
  // Values last: a first preview does not know them.
  const paths = [["chart"], ["name"], ["values", "nameOverride"]];
  return paths.some((path) => /restate/.test(props.get(...path).text ?? ""));
}

/** Looks at each release of Restate. */
function each(look: (release: Resource, values: Value, report: Report) => void) {
  return {
    types: types.release,
    check(release: Resource, report: Report) {
      if (isRestate(release)) look(release, release.props.get("values"), report);
    },
  };
}

/** Version of Restate that a release runs. */
function restateVersion(release: Resource): string | undefined {
  const values = release.props.get("values");
  return values.get("image", "tag").text ?? values.get("version").text ?? release.props.get("version").text;
}

const exactVersion = /^v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?$/;
const digest = /^sha256:[0-9a-f]{64}$/;

/** Whether an image's reference always means the same image: an exact version or a digest. */
export function isPinned(image: string): boolean {
  const [, named] = image.split("@");
  if (named !== undefined) return digest.test(named);
  const tag = /:([^:/]+)$/.exec(image)?.[1];
  return tag !== undefined && exactVersion.test(tag);
}

/** A count or a share of `all`, as budgets write them; Kubernetes rounds shares up. */
function countOf(text: string, all: number): number | undefined {
  const percent = /^(\d+)%$/.exec(text)?.[1];
  if (percent !== undefined) return Math.ceil((Number(percent) * all) / 100);
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/** Elements of a JSON list in a text; undefined if it holds none. */
function jsonList(text: string | undefined): string[] | undefined {
  try {
    const value: unknown = JSON.parse(text ?? "");
    return Array.isArray(value) ? value.map(String) : undefined;
  } catch {
    return undefined;
  }
}

/** Dimensions of a replication property in Restate's notation, e.g. `{node: 3, region: 2}`. */
function replicationOf(text: string): { node?: number; region?: number } {
  const number = (key: string) => {
    const found = new RegExp(`\\b${key}\\s*:\\s*(\\d+)`).exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  return { node: number("node"), region: number("region") };
}

const nodeRoles = ["worker", "admin", "metadata-server", "log-server"];

export const releaseRules = [
  rule({
    id: "release-pinned",
    title: "Chart and image are exact versions or digests.",
    why: "What is deployed would change without a change of the program, on one node and not on the next.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_K8S_14", "CKV_K8S_43", "AVD-KSV-0013"],
    resource: each((release, values, report) => {
      const fromRegistry =
        release.props.get("chart").text?.startsWith("oci://") || !release.props.get("repositoryOpts", "repo").missing;
      const version = release.props.get("version").text;
      if (fromRegistry && !exactVersion.test(version ?? "")) {
        report.violation(
          `the chart's version is ${version ?? "not set"}`,
          "set restate:chart.version to an exact version",
        );
      }
      report.part(() => {
        const image = values.get("image");
        const tag = image.get("tag").text ?? values.get("version").text;
        const named = image.get("digest").text;
        if (named !== undefined && !digest.test(named)) {
          report.violation(`${named} is no digest`, "write sha256: and 64 hexadecimal digits");
        } else if (named === undefined && tag !== undefined && !exactVersion.test(tag)) {
          report.violation(`the image's tag is ${tag}`, "set restate:image.tag to an exact version, or digest");
        }
      });
    }),
  }),

  rule({
    id: "release-known-version",
    title: "Restate's version is one whose settings are known.",
    why: "Restate ignores settings that it does not know, in silence: snapshots or trimming would stop.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((release, _values, report) => {
      const version = restateVersion(release);
      if (version !== undefined && !versionTraits(version)) {
        report.violation(`the settings of Restate ${version} are not known`, `known are ${knownVersionsText()}`);
      }
    }),
  }),

  rule({
    id: "release-memory",
    title: "RocksDB has 20 to 50 % of the container's memory limit.",
    why: "With more the container is killed under load, with less reads go to the disk.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((release, values, report) => {
      const size = envOf(release).get("RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE")?.text;
      const limit = values.get("resources", "limits", "memory").text;
      const [rocksdb, container] = [restateSizeBytes(size ?? ""), memoryBytes(limit ?? "")];
      if (rocksdb === undefined || container === undefined) {
        report.violation(
          `RocksDB has ${size ?? "its default"} of ${limit ?? "an unlimited container"}`,
          "set restate:resources.limits.memory and restate:rocksdbMemory",
        );
        return;
      }
      const share = rocksdb / container;
      if (share < rocksdbShareRange.least || share > rocksdbShareRange.most) {
        report.violation(
          `RocksDB has ${Math.round(share * 100)} % of the memory limit (${size} of ${limit})`,
          `set restate:rocksdbMemory to ${rocksdbShareRange.least * 100} to ${rocksdbShareRange.most * 100} % of it`,
        );
      }
    }),
  }),

  rule({
    id: "release-resources",
    title: "Nodes have requests and limits of CPU and memory.",
    why: "Without requests they are scheduled where there is no room, without limits they starve their neighbours.",
    severity: "medium",
    level: "mandatory",
    standards: [
      "CKV_K8S_10",
      "CKV_K8S_11",
      "CKV_K8S_12",
      "CKV_K8S_13",
      "AVD-KSV-0011",
      "AVD-KSV-0015",
      "AVD-KSV-0016",
      "AVD-KSV-0018",
    ],
    resource: each((_release, values, report) => {
      for (const kind of ["requests", "limits"]) {
        for (const what of ["cpu", "memory"]) {
          report.part(() => {
            if (values.get("resources", kind, what).missing) {
              report.violation(`there are no ${kind} of ${what}`, `set restate:resources.${kind}.${what}`);
            }
          });
        }
      }
    }),
  }),

  rule({
    id: "release-replicas",
    title: "A region has at least three nodes.",
    why: "With one or two the loss of a node stops writes, and no region can take over alone.",
    severity: "medium",
    level: "advisory",
    standards: [],
    resource: each((_release, values, report) => {
      const replicas = values.get("replicaCount").number ?? 1;
      if (replicas < 3) report.violation(`it has ${replicas} nodes`, "set restate:replicas to 3 or more");
    }),
  }),

  rule({
    id: "release-zone-spread",
    title: "Nodes are spread over zones.",
    why: "Two nodes of a region in one zone are lost together.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((_release, values, report) => {
      const spread = values.get("topologySpreadConstraints").list;
      const zones = spread.filter((one) => one.get("topologyKey").text === "topology.kubernetes.io/zone");
      const skew = zones.map((one) => one.get("maxSkew").number);
      if (zones.length === 0) {
        report.violation(
          "nodes are not spread over zones",
          "set restate:scheduling.topologySpread.topologyKey to topology.kubernetes.io/zone",
        );
      } else if (!skew.includes(1)) {
        report.violation(
          `zones may differ by ${skew.join(", ")} nodes`,
          "set restate:scheduling.topologySpread.maxSkew to 1",
        );
      }
    }),
  }),

  rule({
    id: "release-zone-spread-strict",
    title: "A node rather waits than shares a zone.",
    why: "A volume keeps its node in a zone for good: what was scheduled anyway stays there.",
    severity: "low",
    level: "advisory",
    standards: [],
    resource: each((_release, values, report) => {
      for (const one of values.get("topologySpreadConstraints").list) {
        const otherwise = one.get("whenUnsatisfiable").text;
        if (otherwise !== "DoNotSchedule") {
          report.violation(
            `without room in a zone, nodes are placed with ${otherwise ?? "the default"}`,
            "set restate:scheduling.topologySpread.whenUnsatisfiable to DoNotSchedule",
          );
        }
      }
    }),
  }),

  rule({
    id: "release-disruption-budget",
    title: "Maintenance takes one node of a region at a time.",
    why: "Two nodes at once can cost logs their write quorum while the other region is away.",
    severity: "high",
    level: "mandatory",
    standards: [],
    parameters: {
      mostUnavailable: { about: "Nodes of a region that maintenance may take at a time.", type: "integer", default: 1 },
    },
    resource: {
      types: types.release,
      check(release, report, { mostUnavailable }) {
        if (!isRestate(release)) return;
        const values = release.props.get("values");
        const replicas = values.get("replicaCount").number ?? 1;
        const budget = values.get("podDisruptionBudget");
        const most = countOf(budget.get("maxUnavailable").text ?? "", replicas);
        const least = countOf(budget.get("minAvailable").text ?? "", replicas);
        const unavailable = most ?? (least === undefined ? undefined : replicas - least);
        const remedy = `set restate:scheduling.podDisruptionBudget to maxUnavailable: ${mostUnavailable}`;
        if (unavailable === undefined) report.violation("there is no disruption budget", remedy);
        else if (unavailable > mostUnavailable) {
          report.violation(`maintenance may take ${unavailable} of ${replicas} nodes at a time`, remedy);
        }
      },
    },
  }),

  rule({
    id: "release-storage-class",
    title: "The storage class is named.",
    why: "The cluster's default class may change, be slow, or not be there; a volume's class cannot be changed later.",
    severity: "low",
    level: "advisory",
    standards: [],
    resource: each((_release, values, report) => {
      if (!values.get("storage", "storageClassName").text) {
        report.violation("volumes get the cluster's default class", "set restate:storage.storageClass");
      }
    }),
  }),

  rule({
    id: "release-members",
    title: "Every node knows all nodes of both regions, and provisions nothing by itself.",
    why: "A node that lacks an address cannot join while the others are away; one that provisions itself makes a cluster of its own.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    resource: each((release, values, report) => {
      const env = envOf(release);
      const text = (name: string) => env.get(name)?.text;
      report.part(() => {
        if (text("RESTATE_AUTO_PROVISION") !== "false") {
          report.violation("nodes provision themselves", 'set RESTATE_AUTO_PROVISION to "false"');
        }
      });
      report.part(() => {
        const roles = jsonList(text("RESTATE_ROLES")) ?? [];
        const lacking = nodeRoles.filter((one) => !roles.includes(one));
        if (lacking.length > 0)
          report.violation(`nodes lack the roles ${lacking.join(", ")}`, "add them to RESTATE_ROLES");
      });
      report.part(() => {
        const addresses = jsonList(text("RESTATE_METADATA_CLIENT__ADDRESSES")) ?? [];
        const replicas = values.get("replicaCount").number ?? 1;
        const advertised = text("RESTATE_ADVERTISED_ADDRESS") ?? "";
        const own = Array.from({ length: replicas }, (_, i) => advertised.replace("$(POD_NAME)", `restate-${i}`));
        const lacking = own.filter((one) => !addresses.includes(one));
        const remedy = "RESTATE_METADATA_CLIENT__ADDRESSES must list the advertised addresses of both regions' nodes";
        if (lacking.length > 0) report.violation(`${lacking.join(", ")} is not among the metadata addresses`, remedy);
        if (new Set(addresses).size !== 2 * replicas) {
          report.violation(`${new Set(addresses).size} metadata addresses for ${2 * replicas} nodes`, remedy);
        }
      });
      report.part(() => {
        const [name, location] = [text("RESTATE_NODE_NAME"), text("RESTATE_LOCATION")];
        if (!location || !name?.endsWith(`.${location}`)) {
          report.violation(
            `nodes are called ${name ?? "nothing"} and are in ${location ?? "no region"}`,
            "set RESTATE_LOCATION to the region and RESTATE_NODE_NAME to $(POD_NAME).<region>",
          );
        }
      });
    }),
  }),

  rule({
    id: "release-replication",
    title: "Logs and partitions are provisioned in both regions, on no more nodes than there are.",
    why: "Without region: 2 an acknowledged write may live in one region alone; with too many nodes the cluster takes no writes.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    resource: {
      types: [...types.release, ...types.job],
      check(resource, report) {
        const { type, props } = resource;
        let env: Map<string, Value>;
        if ((types.release as readonly string[]).includes(type)) {
          if (!isRestate(resource)) return;
          env = envOf(resource);
        } else {
          if (props.get("metadata", "labels", "app.kubernetes.io/component").text !== "provisioning") return;
          const containers = props.get("spec", "template", "spec", "containers").list;
          env = new Map(containers.flatMap((one) => [...environment(one.get("env"))]));
        }
        for (const [name, value] of env) {
          if (!/REPLICATION$/.test(name)) continue;
          report.part(() => {
            const { node, region } = replicationOf(value.text ?? "");
            if (region !== 2) report.violation(`${name} is ${value.text ?? "not set"}`, `let ${name} have region: 2`);
            const nodes = jsonList(env.get("NODES")?.text)?.length;
            if (node !== undefined && nodes !== undefined && node > nodes) {
              report.violation(
                `${name} wants ${node} nodes of ${nodes}`,
                `lower node in ${name}, or raise restate:replicas`,
              );
            }
          });
        }
      },
    },
  }),

  rule({
    id: "release-snapshots",
    title: "Nodes write snapshots to their own region's bucket.",
    why: "Logs are trimmed after snapshots: without them, or with them elsewhere, a new node cannot catch up.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((release, _values, report) => {
      const env = envOf(release);
      report.part(() => {
        const destination = env.get("RESTATE_WORKER__SNAPSHOTS__DESTINATION")?.text;
        if (!/^s3:\/\/[^/]+\/.+/.test(destination ?? "")) {
          report.violation(
            `snapshots go to ${destination ?? "nowhere"}`,
            "set RESTATE_WORKER__SNAPSHOTS__DESTINATION to s3://<bucket>/<prefix>",
          );
        }
      });
      report.part(() => {
        const records = env.get("RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL_NUM_RECORDS")?.number;
        const interval = env.get("RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL")?.text;
        if (!records && !interval) {
          report.violation("snapshots are never taken", "set restate:snapshots.intervalRecords or interval");
        }
      });
    }),
    stack(stack, report) {
      for (const release of ofType(stack, types.release)) {
        report.part(() => {
          if (!isRestate(release)) return;
          const destination = envOf(release).get("RESTATE_WORKER__SNAPSHOTS__DESTINATION")?.text;
          const bucket = /^s3:\/\/([^/]+)/.exec(destination ?? "")?.[1];
          if (bucket !== undefined && !ownBuckets(stack).includes(bucket)) {
            report.violation(
              `snapshots go to ${bucket}, no bucket of this stack`,
              "use the region's own bucket",
              release,
            );
          }
        });
      }
    },
  }),

  rule({
    id: "release-private",
    title: "Ingress and administration are not published by the release.",
    why: "The chart gives one Service both: whoever reaches the ingress would reach the admin port and its SQL.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    resource: each((_release, values, report) => {
      const type = values.get("service", "type").text ?? "ClusterIP";
      if (type !== "ClusterIP") {
        report.violation(
          `the chart's Service is of type ${type}`,
          "set service.type to ClusterIP and publish port 8080 alone",
        );
      }
      report.part(() => {
        const published = values
          .get("service", "annotations")
          .entries.map(([key]) => key)
          .filter((key) => /hostname$/.test(key));
        if (published.length > 0) {
          report.violation(
            `the chart's Services have the annotation ${published.join(", ")}`,
            "take it out: it would be on both Services, the headless one too",
          );
        }
      });
    }),
  }),

  rule({
    id: "release-unprivileged",
    title: "Nodes run without privileges.",
    why: "The chart's defaults are safe; values that replace them must be as well.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_22", "CKV_K8S_23", "AVD-KSV-0001", "AVD-KSV-0012", "AVD-KSV-0014"],
    resource: each((_release, values, report) => {
      for (const key of ["securityContext", "podSecurityContext"]) {
        const context = values.get(key);
        const wrong = [
          ["privileged", context.get("privileged").isTrue],
          ["allowPrivilegeEscalation", context.get("allowPrivilegeEscalation").isTrue],
          ["runAsNonRoot", context.get("runAsNonRoot").text === "false"],
          ["readOnlyRootFilesystem", context.get("readOnlyRootFilesystem").text === "false"],
          ["runAsUser", context.get("runAsUser").number === 0],
        ] as const;
        for (const [field, bad] of wrong) {
          if (bad) report.violation(`${key}.${field} gives nodes privileges`, "leave it to the chart's default");
        }
      }
    }),
  }),

  rule({
    id: "release-not-awaited",
    title: "The release does not wait for its pods, and is not rolled back by itself.",
    why: "Pods become ready only once the cluster is provisioned, which needs the peer: an atomic release undoes itself.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((release, _values, report) => {
      if (release.props.get("atomic").isTrue) report.violation("it is atomic", "set atomic: false");
      report.part(() => {
        if (!release.props.get("skipAwait").isTrue) report.violation("it waits for its pods", "set skipAwait: true");
      });
    }),
  }),

  rule({
    id: "release-protected",
    title: "The release and its namespace are protected from deletion by Pulumi.",
    why: "Both take the nodes' volumes with them.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: [...types.release, ...types.namespace],
      check({ protect }, report) {
        if (!protect) report.violation("it is not protected", "set restate:protect to true");
      },
    },
  }),
];
