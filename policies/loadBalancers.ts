/** Rules about the nodes' network load balancers: Services whose annotations the AWS Load Balancer Controller reads. */
import { type Report, type Resource, rule } from "./rule";
import { ofType, types } from "./types";
import type { Value } from "./value";

const annotationPrefix = "service.beta.kubernetes.io/aws-load-balancer-";
const dnsSuffix = "external-dns.kubernetes.io/hostname";
const oldDnsSuffix = "external-dns.alpha.kubernetes.io/hostname";
const zoneLabel = "topology.kubernetes.io/zone";

/** Port between Restate nodes; it carries cluster control without authentication. */
const nodePort = 5122;

/** One of the controller's annotations, by its last part. */
function annotation(service: Resource, name: string): string | undefined {
  return service.props.get("metadata", "annotations", annotationPrefix + name).text;
}

function isLoadBalancer(service: Resource): boolean {
  return service.props.get("spec", "type").text === "LoadBalancer";
}

/** Parts of a list in an annotation. */
function listed(text: string | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean);
}

/** Looks at each load balancer. */
function each(look: (service: Resource, report: Report) => void) {
  return {
    types: types.service,
    check(service: Resource, report: Report) {
      if (isLoadBalancer(service)) look(service, report);
    },
  };
}

/** Whether an address range is the whole of IPv4 or IPv6. */
const everywhere = (range: string | undefined) => range === "0.0.0.0/0" || range === "::/0";

/** The zone that a load balancer's targets are limited to; undefined if they are in no or in several. */
function targetZone(service: Resource): string | undefined {
  const labels = listed(annotation(service, "target-node-labels")).map((one) => one.split("="));
  const zones = labels.flatMap(([key, zone]) => (key === zoneLabel && zone ? [zone] : []));
  return zones.length === 1 ? zones[0] : undefined;
}

/** Ranges that a rule of a security group admits to the nodes' port; none if it is about other ports. */
function admitted(one: Value): string[] {
  const protocol = one.get("protocol").text ?? one.get("ipProtocol").text;
  const all = protocol === "-1" || protocol === "all";
  const from = one.get("fromPort").number ?? 0;
  const to = one.get("toPort").number ?? 65535;
  if (!all && (from > nodePort || to < nodePort)) return [];
  const lists = [one.get("cidrBlocks"), one.get("ipv6CidrBlocks"), one.get("cidrIpv4"), one.get("cidrIpv6")];
  return lists.flatMap((list) => list.texts);
}

export const loadBalancerRules = [
  rule({
    id: "lb-internal",
    title: "Load balancers of nodes are internal.",
    why: "Port 5122 takes commands from anyone who reaches it: provisioning, metadata, trimming of logs.",
    severity: "critical",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const scheme = annotation(service, "scheme");
      if (scheme !== "internal") {
        report.violation(
          `its scheme is ${scheme ?? "not set"}`,
          "set restate:loadBalancers.scheme to internal and connect the regions by peering or a transit gateway",
        );
      }
    }),
  }),

  rule({
    id: "lb-class",
    title: "Load balancers say that the AWS Load Balancer Controller is to make them, as NLBs.",
    why: "Without class and type the cloud provider built into Kubernetes may make a Classic Load Balancer, which cannot be changed later.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const lbClass = service.props.get("spec", "loadBalancerClass").text;
      if (lbClass !== "service.k8s.aws/nlb") {
        report.violation(`loadBalancerClass is ${lbClass ?? "not set"}`, "set it to service.k8s.aws/nlb");
      }
      report.part(() => {
        const type = annotation(service, "type");
        if (type !== "external") {
          report.violation(`the annotation type is ${type ?? "not set"}`, "set it to external");
        }
        const target = annotation(service, "nlb-target-type");
        if (target !== "instance" && target !== "ip") {
          report.violation(`the annotation nlb-target-type is ${target ?? "not set"}`, "set it to instance or ip");
        }
      });
    }),
  }),

  rule({
    id: "lb-one-subnet",
    title: "A node's load balancer is in one subnet.",
    why: "Each further subnet costs an address and a path through a zone where the node is not.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const subnets = listed(annotation(service, "subnets"));
      if (subnets.length !== 1) {
        report.violation(
          `it has ${subnets.length === 0 ? "no subnet" : `the subnets ${subnets.join(", ")}`}`,
          "name the one subnet of the zone where the node's pod runs",
        );
      }
    }),
  }),

  rule({
    id: "lb-zone",
    title: "A node's load balancer is in the zone of its targets, and that is the node's own.",
    why: "A load balancer without cross-zone balancing that is in another zone than its targets reaches nothing.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      if (annotation(service, "nlb-target-type") === "ip") return;
      if (targetZone(service) === undefined) {
        report.violation(
          `its targets are limited to ${annotation(service, "target-node-labels") ?? "no zone"}`,
          `set target-node-labels to ${zoneLabel}=<zone>`,
        );
      }
    }),
    stack(stack, report) {
      const nodes = stack.outputs.get("nodes").list;
      const zones = new Map<string, string>();
      for (const service of ofType(stack, types.service)) {
        report.part(() => {
          if (!isLoadBalancer(service)) return;
          const [subnet] = listed(annotation(service, "subnets"));
          const zone = targetZone(service);
          const pod = service.props.get("metadata", "name").text;
          const node = nodes.find((one) => one.get("pod").text === pod);
          if (node && zone && node.get("zone").text !== zone) {
            report.violation(
              `its targets are in ${zone}, ${pod} runs in ${node.get("zone").text}`,
              "take the zone from where the pod runs",
              service,
            );
          }
          if (node && subnet && node.get("subnet").text !== subnet) {
            report.violation(
              `it is in ${subnet}, the stack's outputs say ${node.get("subnet").text}`,
              "take the subnet from where the pod runs",
              service,
            );
          }
          if (!subnet || !zone) return;
          const before = zones.get(subnet);
          if (before && before !== zone) {
            report.violation(
              `${subnet} is taken for ${before} and for ${zone}`,
              "correct restate:subnets: a subnet is in one zone",
              service,
            );
          }
          zones.set(subnet, zone);
        });
      }
    },
  }),

  rule({
    id: "lb-name",
    title: "Load balancers have names that AWS takes, each its own.",
    why: "A name that is refused or taken leaves the Service waiting for ever, and a name cannot be changed later.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const name = annotation(service, "name");
      const remedy = "shorten or correct restate:loadBalancers.namePrefix";
      if (name === undefined) report.violation("it has no name", "set the annotation name");
      else if (name.length > 32) report.violation(`${name} has ${name.length} characters, AWS takes 32`, remedy);
      else if (!/^[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?$/.test(name)) {
        report.violation(`${name} is no name: letters, digits and hyphens, no hyphen at an end`, remedy);
      } else if (name.startsWith("internal-"))
        report.violation(`${name} begins with internal-, which AWS keeps to itself`, remedy);
    }),
    stack(stack, report) {
      const seen = new Map<string, Resource>();
      for (const service of ofType(stack, types.service)) {
        report.part(() => {
          const name = isLoadBalancer(service) ? annotation(service, "name") : undefined;
          const other = name === undefined ? undefined : seen.get(name);
          if (other)
            report.violation(
              `${name} is also the name of ${other.name}`,
              "give each load balancer its own name",
              service,
            );
          if (name !== undefined) seen.set(name, service);
        });
      }
    },
  }),

  rule({
    id: "lb-security-groups",
    title: "Load balancers are made with the given security groups.",
    why: "A load balancer made without can never gain any, and then admits whatever reaches it.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const groups = listed(annotation(service, "security-groups"));
      const wrong = groups.filter((one) => !/^sg-[0-9a-f]+$/.test(one));
      if (groups.length === 0)
        report.violation("it has no security groups", "set restate:loadBalancers.securityGroups");
      else if (wrong.length > 0) report.violation(`${wrong.join(", ")} is no security group's id`, "write sg-…");
      if (annotation(service, "manage-backend-security-group-rules") === "true") {
        report.violation(
          "the controller would change the nodes' security groups",
          'set manage-backend-security-group-rules to "false"',
        );
      }
    }),
  }),

  rule({
    id: "lb-not-open",
    title: "Nothing opens the nodes' port to the world.",
    why: "Port 5122 takes commands from anyone who reaches it.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_AWS_277"],
    resource: {
      types: [...types.service, ...types.securityGroup, ...types.ingressRule],
      check(resource, report) {
        const { type, props } = resource;
        const remedy = "admit only the nodes of both regions";
        if ((types.service as readonly string[]).includes(type)) {
          if (!isLoadBalancer(resource)) return;
          report.part(() => {
            const ranges = props.get("spec", "loadBalancerSourceRanges").texts.filter(everywhere);
            if (ranges.length > 0) report.violation(`it admits ${ranges.join(", ")}`, remedy);
          });
          report.part(() => {
            const old = props.get(
              "metadata",
              "annotations",
              "service.beta.kubernetes.io/load-balancer-source-ranges",
            ).text;
            const ranges = listed(old).filter(everywhere);
            if (ranges.length > 0) report.violation(`its annotations admit ${ranges.join(", ")}`, remedy);
          });
          return;
        }
        if (props.get("type").text === "egress") return;
        const rules = (types.securityGroup as readonly string[]).includes(type) ? props.get("ingress").list : [props];
        for (const one of rules) {
          report.part(() => {
            const ranges = admitted(one).filter(everywhere);
            if (ranges.length > 0) report.violation(`it admits ${ranges.join(", ")} to port ${nodePort}`, remedy);
          });
        }
      },
    },
  }),

  rule({
    id: "lb-health-check",
    title: "Load balancers check the nodes' port by TCP, often enough to notice a failure.",
    why: "An HTTP check fails on a node that is not provisioned yet, and slow checks keep sending traffic to a dead node.",
    severity: "low",
    level: "mandatory",
    standards: [],
    parameters: {
      mostSecondsToNotice: {
        about: "Longest until a dead node is noticed: interval times unhealthy threshold, in seconds.",
        type: "integer",
        default: 30,
      },
    },
    resource: {
      types: types.service,
      check(service, report, { mostSecondsToNotice }) {
        if (!isLoadBalancer(service)) return;
        const protocol = annotation(service, "healthcheck-protocol");
        if (protocol?.toUpperCase() !== "TCP") {
          report.violation(`its health check is ${protocol ?? "not set"}`, "set healthcheck-protocol to TCP");
        }
        const port = annotation(service, "healthcheck-port");
        if (port !== "traffic-port" && port !== String(nodePort)) {
          report.violation(
            `its health check asks port ${port ?? "of the default"}`,
            "set healthcheck-port to traffic-port",
          );
        }
        const interval = Number(annotation(service, "healthcheck-interval") ?? 30);
        const threshold = Number(annotation(service, "healthcheck-unhealthy-threshold") ?? 3);
        if (!(interval * threshold <= mostSecondsToNotice)) {
          report.violation(
            `a dead node is noticed after ${interval * threshold} s`,
            `lower healthcheck-interval or healthcheck-unhealthy-threshold: at most ${mostSecondsToNotice} s`,
          );
        }
      },
    },
  }),

  rule({
    id: "lb-node-port-only",
    title: "Load balancers of nodes carry the nodes' port and no other.",
    why: "Ingress and administration have no business at the address that the regions use between them.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const ports = service.props.get("spec", "ports").list;
      const numbers = ports.map((one) => `${one.get("port").text}/${one.get("protocol").text ?? "TCP"}`);
      if (numbers.length !== 1 || numbers[0] !== `${nodePort}/TCP`) {
        report.violation(`it carries ${numbers.join(", ") || "no port"}`, `let it carry ${nodePort}/TCP alone`);
      }
    }),
  }),

  rule({
    id: "lb-one-pod",
    title: "A node's load balancer leads to that node alone, ready or not.",
    why: "A node that is reached as another breaks the cluster; one that is reached only when ready never becomes ready.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const selector = service.props.get("spec", "selector");
      const one = ["apps.kubernetes.io/pod-index", "statefulset.kubernetes.io/pod-name"];
      if (one.every((label) => selector.get(label).missing)) {
        report.violation("its selector does not name one pod", `select by ${one.join(" or ")}`);
      }
      report.part(() => {
        if (!service.props.get("spec", "publishNotReadyAddresses").isTrue) {
          report.violation("it leads to ready pods only", "set publishNotReadyAddresses: true");
        }
      });
    }),
  }),

  rule({
    id: "lb-client-address",
    title: "Load balancers do not keep the client's address.",
    why: "With kept addresses a node that calls itself or a pod on its own machine gets no answer.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const attributes = listed(annotation(service, "target-group-attributes"));
      if (!attributes.includes("preserve_client_ip.enabled=false")) {
        report.violation(
          `its target group has ${attributes.join(", ") || "the default attributes"}`,
          "set target-group-attributes to preserve_client_ip.enabled=false",
        );
      }
    }),
  }),

  rule({
    id: "lb-host-name",
    title: "A load balancer has the DNS name that its node advertises.",
    why: "The other nodes dial what a node advertises: a name that leads nowhere cuts it off.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: each((service, report) => {
      const annotations = service.props.get("metadata", "annotations");
      if (annotations.get(dnsSuffix).missing && annotations.get(oldDnsSuffix).missing) {
        report.violation("it has no DNS name", `set the annotation ${dnsSuffix}`);
      }
    }),
    stack(stack, report) {
      const nodes = stack.outputs.get("nodes").list;
      for (const service of ofType(stack, types.service)) {
        report.part(() => {
          if (!isLoadBalancer(service)) return;
          const node = nodes.find((one) => one.get("pod").text === service.props.get("metadata", "name").text);
          const advertised = /^https?:\/\/([^:/]+)/.exec(node?.get("address").text ?? "")?.[1];
          if (!advertised) return;
          const annotations = service.props.get("metadata", "annotations");
          for (const name of [dnsSuffix, oldDnsSuffix].flatMap((key) => listed(annotations.get(key).text))) {
            if (name !== advertised) {
              report.violation(
                `it is called ${name}, its node advertises ${advertised}`,
                "give it the advertised name",
                service,
              );
            }
          }
        });
      }
    },
  }),
];
