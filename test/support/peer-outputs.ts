/** Outputs of a region's stack, as its peer reads them. */
import { contractVersion, type PeerOutputs } from "../../outputs";
import { type RegionName, regionNodes } from "../../topology";

/** What a region that is up exports, as far as its peer reads it. */
export function peerOutputs(region: RegionName, changes: Partial<PeerOutputs> = {}): PeerOutputs {
  const awsRegion = region === "region1" ? "us-east-1" : "us-west-2";
  const domain = "restate.example.com";
  const suffix = region === "region1" ? "0a0a0a0a" : "0b0b0b0b";
  const bucket = `restate-snapshots-${region}-${suffix}`;
  return {
    contract: contractVersion,
    region,
    cluster: "restate",
    home: "region1",
    serving: "both",
    replicas: changes.replicas ?? 3,
    domain,
    awsRegion,
    accountId: "123456789012",
    kubernetes: {
      cluster: `arn:aws:eks:${awsRegion}:123456789012:cluster/production-${region}`,
      namespace: `restate-${region}`,
      serviceAccount: "restate",
    },
    identity: {
      mode: "oidc",
      oidcIssuer: `https://oidc.eks.${awsRegion}.amazonaws.com/id/${region.toUpperCase()}`,
      eksClusterArn: `arn:aws:eks:${awsRegion}:123456789012:cluster/production-${region}`,
    },
    bucket: { name: bucket, arn: `arn:aws:s3:::${bucket}` },
    ...(region === "region1" ? { role: { arn: "arn:aws:iam::123456789012:role/restate-nodes" } } : {}),
    nodes: regionNodes({ replicas: changes.replicas ?? 3, domain }, region).map(({ name, pod, address, index }) => {
      const zone = `${awsRegion}${"abc"[index % 3]}`;
      return {
        name,
        pod,
        address,
        zone,
        subnet: `subnet-0${"abc"[index % 3]}`,
        loadBalancer: {
          name: `restate-${region}-${index}`,
          hostname: `restate-${region}-${index}.elb.${awsRegion}.amazonaws.com`,
        },
      };
    }),
    ...changes,
  };
}
