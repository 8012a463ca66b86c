/**
 * `aws.eks.getCluster`.
 * Not filled in (empty lists): Outposts, remote networks, storage, zonal shift, scaling tier, component flags.
 */
import type { eks } from "@pulumi/aws";
import { text, texts } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";

/** The cluster of this name in the region. */
export const getCluster = invokable<eks.GetClusterArgs, eks.GetClusterResult, AwsContext>({
  token: "aws:eks/getCluster:getCluster",
  inputs: { name: text({ required: true }), region: text(), tags: texts() },
  async call(context, { name, region = context.region }, signal) {
    const { DescribeClusterCommand } = await import("@aws-sdk/client-eks");
    const client = await context.eks(region);
    const { cluster = {} } = await call({ context, signal }, `reading EKS Cluster (${name})`, (options) =>
      client.send(new DescribeClusterCommand({ name }), options),
    );
    const { accessConfig, kubernetesNetworkConfig: network, resourcesVpcConfig: vpc, upgradePolicy } = cluster;
    return {
      id: name,
      name: cluster.name ?? name,
      region,
      arn: cluster.arn ?? "",
      clusterId: cluster.id ?? "",
      createdAt: cluster.createdAt?.toISOString() ?? "",
      deletionProtection: cluster.deletionProtection ?? false,
      endpoint: cluster.endpoint ?? "",
      platformVersion: cluster.platformVersion ?? "",
      roleArn: cluster.roleArn ?? "",
      status: cluster.status ?? "",
      tags: cluster.tags ?? {},
      version: cluster.version ?? "",
      accessConfigs: accessConfig
        ? [
            {
              authenticationMode: accessConfig.authenticationMode ?? "",
              bootstrapClusterCreatorAdminPermissions: accessConfig.bootstrapClusterCreatorAdminPermissions ?? false,
            },
          ]
        : [],
      certificateAuthorities: [{ data: cluster.certificateAuthority?.data ?? "" }],
      computeConfigs: [],
      controlPlaneScalingConfigs: [],
      enabledClusterLogTypes: (cluster.logging?.clusterLogging ?? [])
        .filter(({ enabled }) => enabled)
        .flatMap(({ types = [] }) => types),
      identities: cluster.identity?.oidc ? [{ oidcs: [{ issuer: cluster.identity.oidc.issuer ?? "" }] }] : [],
      kubeApiServerConfigs: [],
      kubeControllerManagerConfigs: [],
      kubeSchedulerConfigs: [],
      kubernetesNetworkConfigs: network
        ? [
            {
              elasticLoadBalancings: [{ enabled: network.elasticLoadBalancing?.enabled ?? false }],
              ipFamily: network.ipFamily ?? "ipv4",
              serviceIpv4Cidr: network.serviceIpv4Cidr ?? "",
              serviceIpv6Cidr: network.serviceIpv6Cidr ?? "",
            },
          ]
        : [],
      outpostConfigs: [],
      remoteNetworkConfigs: [],
      storageConfigs: [],
      upgradePolicies: upgradePolicy ? [{ supportType: upgradePolicy.supportType ?? "" }] : [],
      vpcConfig: {
        clusterSecurityGroupId: vpc?.clusterSecurityGroupId ?? "",
        controlPlaneEgressMode: "",
        endpointPrivateAccess: vpc?.endpointPrivateAccess ?? false,
        endpointPublicAccess: vpc?.endpointPublicAccess ?? false,
        publicAccessCidrs: vpc?.publicAccessCidrs ?? [],
        securityGroupIds: vpc?.securityGroupIds ?? [],
        subnetIds: vpc?.subnetIds ?? [],
        vpcId: vpc?.vpcId ?? "",
      },
      zonalShiftConfigs: [],
    };
  },
});
