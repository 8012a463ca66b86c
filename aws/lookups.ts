/** What is looked up in AWS before the first resource: the account, the EKS cluster and the subnets of each zone. */

import * as ec2 from "@pulumi/aws/ec2";
import * as eks from "@pulumi/aws/eks";
import { getCallerIdentity } from "@pulumi/aws/getCallerIdentity";
import { RunError } from "@pulumi/pulumi/errors";
import { type ClusterAccess, eksKubeconfig } from "../kubernetes/access";
import { type SubnetMap, subnetsByZone } from "../kubernetes/subnets";
import type { PeerOutputs } from "../outputs";
import type { Settings } from "../settings";

/** Refuses to go on in another account than the settings name. */
export async function checkAccount(settings: Settings): Promise<void> {
  const { accountId } = await getCallerIdentity({});
  if (accountId !== settings.accountId) {
    throw new RunError(
      `restate:accountId is ${settings.accountId}, and the credentials belong to account ${accountId}; nothing was changed. ` +
        "Use the right credentials (aws sts get-caller-identity shows whose they are), or correct restate:accountId.",
    );
  }
}

/** An EKS cluster's kubeconfig, ARN and OIDC issuer. */
export async function lookUpEksCluster(
  name: string,
  awsRegion: string,
): Promise<ClusterAccess & { arn: string; oidcIssuer?: string }> {
  const cluster = await eks.getCluster({ name });
  const kubeconfig = eksKubeconfig({
    name,
    awsRegion,
    endpoint: cluster.endpoint,
    certificateAuthority: cluster.certificateAuthorities[0]?.data ?? "",
  });
  return { kubeconfig, arn: cluster.arn, oidcIssuer: cluster.identities[0]?.oidcs?.[0]?.issuer };
}

/** How pods of this region prove who they are, as far as the role's trust needs to know. */
export function identityOf(
  settings: Settings,
  cluster: { arn?: string; oidcIssuer?: string },
): PeerOutputs["identity"] {
  const { mode, kiamNodeRoleArn } = settings.identity;
  const oidcIssuer = settings.identity.oidcIssuer ?? cluster.oidcIssuer;
  if (mode === "oidc" && !oidcIssuer) {
    throw new RunError(
      `EKS cluster ${settings.kubernetes.eksCluster} has no OIDC issuer; give restate:identity.oidcIssuer, or use ` +
        "restate:identity.mode podIdentity. Nothing was changed.",
    );
  }
  return {
    mode,
    ...(oidcIssuer ? { oidcIssuer } : {}),
    ...(cluster.arn ? { eksClusterArn: cluster.arn } : {}),
    ...(kiamNodeRoleArn ? { kiamNodeRoleArn } : {}),
  };
}

/** The subnet of each zone: as the settings give them, or discovered by VPC and tags. */
export async function lookUpSubnets(settings: Settings): Promise<SubnetMap> {
  const { byZone, discover } = settings.subnets;
  if (byZone) return { byZone, source: "restate:subnets.byZone" };
  const { vpcId, tags } = discover as NonNullable<typeof discover>;
  const { ids } = await ec2.getSubnets({
    filters: [
      { name: "vpc-id", values: [vpcId] },
      ...Object.entries(tags).map(([key, value]) => ({ name: `tag:${key}`, values: [value] })),
    ],
  });
  const found = await Promise.all(
    ids.map(async (id) => ({ id, zone: (await ec2.getSubnet({ id })).availabilityZone })),
  );
  const search = `VPC ${vpcId} with tags ${JSON.stringify(tags)}`;
  return { byZone: subnetsByZone(found, search), source: `restate:subnets.discover (${search})` };
}
