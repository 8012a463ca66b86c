/** Rules about a stack as a whole, and about the two stacks as one cluster. */
import { statements } from "./documents";
import { type Resource, rule, type Stack } from "./rule";
import { ofType, peerOf, types } from "./types";

const regions = ["region1", "region2"];

/** AWS resources that have tags. */
const taggable = [
  ...types.bucket,
  ...types.role,
  ...types.managedPolicy,
  ...types.securityGroup,
  "aws:eks/podIdentityAssociation:PodIdentityAssociation",
  "aws:cloudwatch/metricAlarm:MetricAlarm",
  "aws:kms/key:Key",
  "aws:sns/topic:Topic",
];

const loadBalancerTags = "service.beta.kubernetes.io/aws-load-balancer-additional-resource-tags";

/** Roles that pods take: their trust names a web identity, EKS Pod Identity or another role. */
function podRoles(stack: Stack): Resource[] {
  return ofType(stack, types.role).filter((role) =>
    statements(role.props.get("assumeRolePolicy")).some(
      ({ effect, principals }) =>
        effect === "Allow" &&
        principals.some(
          ({ kind, who }) => kind === "Federated" || kind === "AWS" || who.includes("pods.eks.amazonaws.com"),
        ),
    ),
  );
}

export const stackRules = [
  rule({
    id: "stack-tags",
    title: "Everything in AWS is tagged with its cluster and region.",
    why: "Costs, alarms and clean-up go by tags, and both regions' resources may be in one account.",
    severity: "low",
    level: "mandatory",
    standards: [],
    parameters: {
      tags: {
        about: "Tags that everything must have.",
        type: "array",
        default: ["restate:cluster", "restate:region"],
      },
    },
    resource: {
      types: [...taggable, ...types.service],
      check({ type, props }, report, { tags }) {
        let present: string[];
        if ((types.service as readonly string[]).includes(type)) {
          if (props.get("spec", "type").text !== "LoadBalancer") return;
          const text = props.get("metadata", "annotations", loadBalancerTags).text ?? "";
          present = text.split(",").flatMap((one) => (/=./.test(one) ? one.split("=")[0]!.trim() : []));
        } else {
          present = props.get("tags").entries.flatMap(([key, value]) => (value.text ? [key] : []));
        }
        const lacking = (tags as string[]).filter((tag) => !present.includes(tag));
        if (lacking.length > 0) report.violation(`it lacks the tags ${lacking.join(", ")}`, "add them");
      },
    },
  }),

  rule({
    id: "stack-one-home",
    title: "Exactly one region has the nodes' role: the home region.",
    why: "Two stacks that own the same role overwrite each other's trust, and destroying one takes it from both.",
    severity: "high",
    level: "mandatory",
    standards: [],
    stack(stack, report) {
      const home = stack.outputs.get("home").text;
      const region = stack.outputs.get("region").text;
      const roles = podRoles(stack);
      if (!home || !regions.includes(home)) {
        report.violation(`the home region is ${home ?? "not set"}`, "set restate:home to region1 or region2");
        return;
      }
      if (region !== home) {
        for (const role of roles) {
          report.violation(
            `the nodes' role is made in ${region}, home is ${home}`,
            "make it in the home region alone",
            role,
          );
        }
      } else if (roles.length !== 1) {
        report.violation(`the home region has ${roles.length} roles for nodes`, "it must have one");
      }
      const peer = peerOf(stack);
      if (region === home && peer && !peer.get("role", "arn").missing) {
        report.violation(
          "the peer's stack has the nodes' role as well",
          "settle on one home in Pulumi.yaml, and bring the other stack up first",
        );
      }
    },
  }),

  rule({
    id: "stack-same-cluster",
    title: "The two stacks are the two regions of one cluster.",
    why: "Stacks that name the wrong peer replicate one cluster's snapshots into another's.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    stack(stack, report) {
      const peer = peerOf(stack);
      if (!peer) return;
      const [own, other] = [stack.outputs, peer];
      for (const key of ["cluster", "domain", "accountId"]) {
        report.part(() => {
          if (own.get(key).text !== other.get(key).text) {
            report.violation(
              `${key} is ${own.get(key).text ?? "not set"} here and ${other.get(key).text ?? "not set"} at the peer`,
              "correct restate:peer, or set it alike for both stacks",
            );
          }
        });
      }
      report.part(() => {
        const region = own.get("region").text;
        if (region === other.get("region").text) {
          report.violation(`both stacks are ${region}`, "correct restate:region or restate:peer");
        }
      });
      report.part(() => {
        const bucket = own.get("bucket", "name").text;
        if (bucket === other.get("bucket", "name").text) {
          report.violation(`both regions use the bucket ${bucket}`, "correct restate:peer: it is this stack itself");
        }
      });
      report.part(() => {
        const place = (of: typeof own) => [
          of.get("kubernetes", "cluster").text,
          of.get("kubernetes", "namespace").text,
        ];
        const [cluster, namespace] = place(own);
        const [otherCluster, otherNamespace] = place(other);
        if (cluster === otherCluster && namespace === otherNamespace) {
          report.violation(
            `both regions are in the namespace ${namespace} of ${cluster}`,
            "give each a cluster or a namespace of its own",
          );
        }
      });
    },
  }),

  rule({
    id: "stack-agrees",
    title: "Both stacks were last brought up with the same shared settings.",
    why: "Until they agree, one region works with what the other has left behind. Advice only, since a change reaches one stack first. Who serves is a handover's matter.",
    severity: "medium",
    level: "advisory",
    standards: [],
    stack(stack, report) {
      const peer = peerOf(stack);
      if (!peer) return;
      for (const key of ["home", "replicas", "contract"]) {
        report.part(() => {
          const [own, other] = [stack.outputs.get(key).text, peer.get(key).text];
          if (own !== other) {
            report.violation(
              `${key} is ${own ?? "not set"} here, the peer was last brought up with ${other ?? "none"}`,
              "bring the peer's stack up as well",
            );
          }
        });
      }
    },
  }),

  rule({
    id: "stack-handover-target",
    title: "The regions that should serve exist, and one that serves alone has enough nodes.",
    why: "A region that takes over with fewer than three nodes stops at the next failure; one that is not there cannot take over.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    parameters: {
      leastNodes: { about: "Nodes that a region must have to serve alone.", type: "integer", default: 3 },
    },
    stack(stack, report, { leastNodes }) {
      const serving = stack.outputs.get("serving").text;
      if (!serving || !["both", ...regions].includes(serving)) {
        report.violation(`serving is ${serving ?? "not set"}`, "set restate:serving to both, region1 or region2");
        return;
      }
      if (serving === "both") return;
      const peer = peerOf(stack);
      if (!peer) {
        report.violation(
          `${serving} is to serve alone, but this stack knows no peer`,
          "set restate:serving to both until both regions are up",
        );
        return;
      }
      const target = stack.outputs.get("region").text === serving ? stack.outputs : peer;
      const nodes = target.get("nodes").list.length;
      if (nodes < leastNodes) {
        report.violation(
          `${serving} is to serve alone with ${nodes} nodes`,
          `raise restate:replicas to ${leastNodes} first, or set restate:serving to both`,
        );
      }
    },
  }),

  rule({
    id: "stack-guarded",
    title: "A guard depends on everything in the stack, so that destroy asks the live cluster first.",
    why: "What the guard does not depend on is deleted before it can refuse.",
    severity: "high",
    level: "mandatory",
    standards: [],
    stack(stack, report) {
      const guard = ofType(stack, types.stash).find((one) => one.name === "destroy-guard");
      if (!guard) {
        report.violation("there is no destroy-guard", "add the Stash with the hook of guard.ts");
        return;
      }
      const reached = new Set<string>();
      const byUrn = new Map(stack.resources.map((one) => [one.urn, one]));
      const reach = (urn: string): void => {
        if (reached.has(urn)) return;
        reached.add(urn);
        for (const next of byUrn.get(urn)?.dependsOn ?? []) reach(next);
      };
      reach(guard.urn);
      for (const one of stack.resources) {
        // Components and providers are not deleted in the world; only what the AWS or Kubernetes provider makes is.
        if (!/^(aws|kubernetes):/.test(one.type) || reached.has(one.urn)) continue;
        report.violation("the guard does not depend on it", "pass its component to the guard's dependsOn", one);
      }
    },
  }),

  rule({
    id: "kubernetes-cluster-identified",
    title: "The Kubernetes provider knows its cluster by a name that lasts.",
    why: "Without clusterIdentifier a cluster that gets another address counts as another one, and everything in it is replaced.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: ["pulumi:providers:kubernetes"],
      check({ props }, report) {
        if (!props.get("clusterIdentifier").text) {
          report.violation("clusterIdentifier is not set", "set it to the EKS cluster's ARN or the context");
        }
      },
    },
  }),
];
