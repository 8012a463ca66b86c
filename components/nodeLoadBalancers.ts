/** One network load balancer per Restate node, in the one subnet of the zone where its pod runs. */
import { Service } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { appliedByStack } from "../kubernetes/applied";
import type { Placement } from "../kubernetes/placement";
import { chooseSubnets, type SubnetMap } from "../kubernetes/subnets";
import type { NodeOutputs } from "../outputs";
import { loadBalancerName, type NodeIdentity, nodePort } from "../topology";
import { fingerprint } from "./clusterJob";

/** Class of load balancers that the AWS Load Balancer Controller takes care of. */
const loadBalancerClass = "service.k8s.aws/nlb";

const annotationPrefix = "service.beta.kubernetes.io/aws-load-balancer-";

/** Annotation that tells one version of a Service's annotations from another. */
const versionAnnotation = "restate-two-regions/version";

export interface NodeLoadBalancersArgs {
  namespace: string;
  nodes: readonly NodeIdentity[];
  /** Zones of the nodes' pods; unknown in previews before the release exists. */
  placements: pulumi.Input<readonly Placement[]>;
  subnets: SubnetMap;
  namePrefix: string;
  scheme: "internal" | "internet-facing";
  securityGroups: readonly string[];
  targetType: "instance" | "ip";
  /** Prefixes under which external-dns looks for its annotations, each with its slash. */
  dnsAnnotationPrefixes: readonly string[];
  /** Seconds to wait for AWS to give a load balancer its name. */
  readyTimeout: number;
  tags: Record<string, string>;
}

/** What the annotations of one node's Service are made of. */
interface AnnotationInput extends Omit<NodeLoadBalancersArgs, "namespace" | "nodes" | "placements" | "subnets"> {
  node: NodeIdentity;
  zone: string;
  subnet: string;
}

/** Annotations of one node's Service. Pure. */
function serviceAnnotations(input: AnnotationInput): Record<string, string> {
  const { node } = input;
  const lb: Record<string, string> = {
    name: loadBalancerName(input.namePrefix, node.region, node.index),
    type: "external",
    scheme: input.scheme,
    "nlb-target-type": input.targetType,
    subnets: input.subnet,
    "security-groups": input.securityGroups.join(","),
    "manage-backend-security-group-rules": "false",
    "target-group-attributes": "preserve_client_ip.enabled=false",
    "healthcheck-protocol": "TCP",
    "healthcheck-port": "traffic-port",
    "healthcheck-interval": "5",
    "healthcheck-timeout": "5",
    "healthcheck-healthy-threshold": "2",
    "healthcheck-unhealthy-threshold": "2",
  };
  if (input.targetType === "instance") lb["target-node-labels"] = `topology.kubernetes.io/zone=${input.zone}`;
  const tags = Object.entries(input.tags);
  if (tags.length > 0) lb["additional-resource-tags"] = tags.map(([key, value]) => `${key}=${value}`).join(",");
  const asked = {
    ...Object.fromEntries(Object.entries(lb).map(([key, value]) => [annotationPrefix + key, value])),
    ...Object.fromEntries(input.dnsAnnotationPrefixes.map((prefix) => [`${prefix}hostname`, node.hostname])),
  };
  const version = fingerprint(asked);
  return {
    ...asked,
    // An annotation that someone has edited is taken back; without this, a preview fails on the conflict.
    "pulumi.com/patchForce": "true",
    ...appliedByStack,
    // Pulumi keeps what it saw when the wait was over. After an update that may be the Service as it was before, which has a host
    // name as well (Services have no generation to tell): the next update would then find a change that is none.
    [versionAnnotation]: version,
    "pulumi.com/waitFor": JSON.stringify([
      "jsonpath={.status.loadBalancer.ingress[0].hostname}",
      `jsonpath={.metadata.annotations['${versionAnnotation}']}=${version}`,
    ]),
  };
}

/** A Service of type LoadBalancer per node; the AWS Load Balancer Controller makes the load balancers from them. */
export class NodeLoadBalancers extends pulumi.ComponentResource {
  /** The nodes with their zones, subnets and load balancers. */
  readonly nodes: pulumi.Output<NodeOutputs[]>;

  constructor(name: string, args: NodeLoadBalancersArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:NodeLoadBalancers", name, {}, opts);

    const sites = pulumi.output(args.placements).apply((placements) => {
      const subnets = chooseSubnets(placements, args.subnets);
      return args.nodes.map((node) => {
        const position = placements.findIndex((placement) => placement.pod === node.pod);
        return { zone: placements[position]!.zone, subnet: subnets[position]! };
      });
    });

    const nodes = args.nodes.map((node, i) => {
      const site = sites.apply((all) => all[i]!);
      const service = new Service(
        `${name}-${node.pod}`,
        {
          metadata: {
            name: node.pod,
            namespace: args.namespace,
            labels: { "app.kubernetes.io/name": "restate", "app.kubernetes.io/component": "node-load-balancer" },
            annotations: site.apply(({ zone, subnet }) => serviceAnnotations({ ...args, node, zone, subnet })),
          },
          spec: {
            type: "LoadBalancer",
            loadBalancerClass,
            // A node must be reachable before it is ready: it becomes ready by talking to the others.
            publishNotReadyAddresses: true,
            selector: { app: "restate", "apps.kubernetes.io/pod-index": String(node.index) },
            ports: [{ name: "node", port: nodePort, targetPort: nodePort, protocol: "TCP" }],
          },
        },
        {
          parent: this,
          customTimeouts: { create: `${args.readyTimeout}s`, update: `${args.readyTimeout}s` },
        },
      );
      return pulumi
        .all([site, service.status.loadBalancer.ingress[0]!.hostname])
        .apply(([{ zone, subnet }, hostname]) => ({
          name: node.name,
          pod: node.pod,
          address: node.address,
          zone,
          subnet,
          loadBalancer: { name: loadBalancerName(args.namePrefix, node.region, node.index), hostname },
        }));
    });

    this.nodes = pulumi.all(nodes);
    this.registerOutputs({ nodes: this.nodes });
  }
}
