/** What the sandbox's world consists of: its regions, zones, networks and fixed addresses. Pure data. */

/** One availability zone: a subnet of the region's VPC, one Kubernetes node (an EC2 instance) in it. */
export interface Zone {
  /** AWS zone name, e.g. `us-east-1a`. */
  name: string;
  /** The one subnet in this zone; pods, nodes and load balancers take their addresses from it, as on EKS. */
  subnetCidr: string;
  /** Name of the Kubernetes node in this zone, as EKS names it: the private DNS name of its instance. */
  nodeName: string;
  /** The node's address. */
  nodeIp: string;
  /** First and last address that the node gives to its pods. */
  podIps: [first: string, last: string];
  /** First and last address that network load balancers in this zone's subnet can have. */
  loadBalancerIps: [first: string, last: string];
}

/** One region: an AWS region with a VPC and a Kubernetes cluster of its own. */
export interface WorldRegion {
  /** Name in the stack's words: also the name of the Pulumi stack. */
  name: string;
  awsRegion: string;
  vpcCidr: string;
  /** Name of the bridge in the sandbox's network namespace that stands for the VPC. */
  bridge: string;
  /** The bridge's own address: the gateway of every pod of the region. */
  gatewayIp: string;
  /** Where kube-apiserver listens, on port 6443, in the sandbox's namespace. */
  apiServerIp: string;
  /** The range of ClusterIPs. There is no kube-proxy: the traffic process listens on each and forwards. */
  serviceCidr: string;
  /** Name of the EKS cluster that the Kubernetes cluster plays. */
  eksClusterName: string;
  /** The cluster's OIDC issuer, as IAM knows it. Its keys are fetched from the API server. */
  oidcIssuer: string;
  zones: Zone[];
}

/** Builds a region from its number; every address is derived from it, so that no two regions overlap. */
function region(index: number, name: string, awsRegion: string, zoneLetters: string[]): WorldRegion {
  const net = `10.${index}`;
  return {
    name,
    awsRegion,
    vpcCidr: `${net}.0.0/16`,
    bridge: `vpc${index}`,
    gatewayIp: `${net}.0.1`,
    apiServerIp: `${net}.0.2`,
    serviceCidr: `172.20.${index}.0/24`,
    eksClusterName: `sandbox-${name}`,
    oidcIssuer: `https://oidc.eks.${awsRegion}.amazonaws.com/id/${String(index).repeat(32)}`,
    zones: zoneLetters.map((letter, i) => {
      const third = 16 * (i + 1);
      return {
        name: `${awsRegion}${letter}`,
        subnetCidr: `${net}.${third}.0/20`,
        nodeName: `ip-10-${index}-${third}-10.${awsRegion}.compute.internal`,
        nodeIp: `${net}.${third}.10`,
        podIps: [`${net}.${third + 1}.1`, `${net}.${third + 1}.250`],
        loadBalancerIps: [`${net}.${third + 2}.1`, `${net}.${third + 2}.250`],
      };
    }),
  };
}

/** The two regions that the cluster runs in. */
export const regions: readonly WorldRegion[] = [
  region(1, "region1", "us-east-1", ["a", "b", "c"]),
  region(2, "region2", "us-west-2", ["a", "b", "c"]),
];

/** A third, small region with one node, started on demand: a place for a witness. */
export const witnessRegion: WorldRegion = region(3, "witness", "us-east-2", ["a"]);

/** The AWS account that everything belongs to. */
export const accountId = "123456789012";

/** Where the AWS gateway answers, for all services and regions alike, in the sandbox's namespace. */
export const awsEndpoint = { ip: "10.0.0.10", port: 4566 } as const;

/** The DNS server that every pod asks (port 53, UDP and TCP), in the sandbox's namespace. */
export const dnsServerIp = "10.0.0.53";

/** Finds a region by name, the witness included; throws with the names that exist. */
export function regionNamed(name: string): WorldRegion {
  const all = [...regions, witnessRegion];
  const found = all.find((r) => r.name === name);
  if (!found) throw new Error(`no region ${name}: the sandbox has ${all.map((r) => r.name).join(", ")}`);
  return found;
}
