/** The AWS clients of the controllers, and what they look up with them. */
import {
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  EC2Client,
} from "@aws-sdk/client-ec2";
import {
  DescribeListenersCommand,
  DescribeLoadBalancersCommand,
  DescribeTagsCommand,
  DescribeTargetGroupsCommand,
  ElasticLoadBalancingV2Client,
  type Listener,
  type LoadBalancer,
  type TargetGroup,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import { adminCredentials } from "../aws/credentials";
import { awsEndpoint, type WorldRegion } from "../world/regions";
import type { VpcFacts } from "./nlb-model";

/** The clients of one region. */
export interface AwsClients {
  ec2: EC2Client;
  elb: ElasticLoadBalancingV2Client;
}

/** Clients for a region's APIs, at the sandbox's gateway unless `AWS_ENDPOINT_URL` says otherwise. */
export function awsClients(region: WorldRegion): AwsClients {
  const common = {
    region: region.awsRegion,
    endpoint: process.env.AWS_ENDPOINT_URL ?? `http://${awsEndpoint.ip}:${awsEndpoint.port}`,
    credentials: adminCredentials,
    maxAttempts: 3,
  };
  return { ec2: new EC2Client(common), elb: new ElasticLoadBalancingV2Client(common) };
}

/** AWS tags as a record. */
function tagRecord(tags: { Key?: string; Value?: string }[] | undefined): Record<string, string> {
  return Object.fromEntries((tags ?? []).map((tag) => [tag.Key ?? "", tag.Value ?? ""]));
}

/** A record as AWS tags. */
export function tagList(tags: Record<string, string>): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

/** An AWS error as one line that begins with its code. */
export function awsMessage(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === "Error" || error.message.startsWith(error.name)
    ? error.message
    : `${error.name}: ${error.message}`;
}

/** Says whether an error is AWS's answer with this code, with or without the suffix `Exception`. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && error.name.replace(/Exception$/, "") === code;
}

/** The region's VPC (the one with the world's address range), and all subnets and security groups. */
export async function readVpcFacts(region: WorldRegion, ec2: EC2Client): Promise<VpcFacts> {
  const [vpcs, subnets, groups] = await Promise.all([
    ec2.send(new DescribeVpcsCommand({ Filters: [{ Name: "cidr", Values: [region.vpcCidr] }] })),
    ec2.send(new DescribeSubnetsCommand({})),
    ec2.send(new DescribeSecurityGroupsCommand({})),
  ]);
  const vpcId = vpcs.Vpcs?.[0]?.VpcId;
  if (!vpcId) throw new Error(`${region.awsRegion} has no VPC with the address range ${region.vpcCidr}`);
  return {
    vpcId,
    subnets: (subnets.Subnets ?? []).map((s) => ({
      id: s.SubnetId!,
      zone: s.AvailabilityZone!,
      vpcId: s.VpcId!,
      tags: tagRecord(s.Tags),
    })),
    securityGroups: (groups.SecurityGroups ?? []).map((g) => ({
      id: g.GroupId!,
      vpcId: g.VpcId ?? "",
      name: g.GroupName ?? "",
      tags: tagRecord(g.Tags),
    })),
  };
}

/** All load balancers of a region. */
export async function allLoadBalancers(elb: ElasticLoadBalancingV2Client): Promise<LoadBalancer[]> {
  const all: LoadBalancer[] = [];
  let Marker: string | undefined;
  do {
    const page = await elb.send(new DescribeLoadBalancersCommand({ Marker }));
    all.push(...(page.LoadBalancers ?? []));
    Marker = page.NextMarker;
  } while (Marker);
  return all;
}

/** All target groups of a region. */
export async function allTargetGroups(elb: ElasticLoadBalancingV2Client): Promise<TargetGroup[]> {
  const all: TargetGroup[] = [];
  let Marker: string | undefined;
  do {
    const page = await elb.send(new DescribeTargetGroupsCommand({ Marker }));
    all.push(...(page.TargetGroups ?? []));
    Marker = page.NextMarker;
  } while (Marker);
  return all;
}

/** All listeners of a load balancer. */
export async function allListeners(elb: ElasticLoadBalancingV2Client, arn: string): Promise<Listener[]> {
  return (await elb.send(new DescribeListenersCommand({ LoadBalancerArn: arn }))).Listeners ?? [];
}

/** Tags of the resources with these ARNs; AWS answers for at most 20 at once. */
export async function tagsOf(
  elb: ElasticLoadBalancingV2Client,
  arns: string[],
): Promise<Map<string, Record<string, string>>> {
  const result = new Map<string, Record<string, string>>();
  for (let i = 0; i < arns.length; i += 20) {
    const answer = await elb.send(new DescribeTagsCommand({ ResourceArns: arns.slice(i, i + 20) }));
    for (const entry of answer.TagDescriptions ?? []) result.set(entry.ResourceArn!, tagRecord(entry.Tags));
  }
  return result;
}
