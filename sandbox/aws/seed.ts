/**
 * Puts into AWS what an account has before the stack is deployed: for each region a VPC with a subnet per zone, a security group for load
 * balancers, the nodes' instances, the EKS cluster and its OIDC provider; and the operator's user. Safe to run again.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  CreateSubnetCommand,
  CreateVpcCommand,
  DescribeInstancesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVpcsCommand,
  EC2Client,
  RunInstancesCommand,
  type Tag,
} from "@aws-sdk/client-ec2";
import { CreateClusterCommand, EKSClient, ListClustersCommand } from "@aws-sdk/client-eks";
import {
  CreateOpenIDConnectProviderCommand,
  CreateRoleCommand,
  CreateUserCommand,
  IAMClient,
  ListOpenIDConnectProvidersCommand,
  PutUserPolicyCommand,
} from "@aws-sdk/client-iam";
import { stateDir } from "../world/paths";
import { accountId, awsEndpoint, regions, type WorldRegion, witnessRegion, type Zone } from "../world/regions";
import { adminCredentials, adminUser } from "./credentials";
import { Moto } from "./moto";
import { awsStateDir, motoPort } from "./places";

/** What was made in one region. */
export interface SeededRegion {
  vpcId: string;
  /** Subnet ids by zone name. */
  subnets: Record<string, string>;
  /** The group that the load balancers get, `sandbox-restate-nlb`. */
  securityGroupId: string;
  /** Instance ids by zone name. */
  instances: Record<string, string>;
  oidcProviderArn: string;
}

/** What was made, by region name; also in `aws/world.json` of the state folder. */
export interface SeededWorld {
  regions: Record<string, SeededRegion>;
}

/** Where to seed; the defaults are the sandbox's own. */
export interface SeedOptions {
  /** Of the gateway. */
  endpoint?: string;
  motoPort?: number;
  /** Receives `world.json`. */
  folder?: string;
  /** URL of a region's API server, as EKS is to describe it. Default: its address in the sandbox's namespace. */
  clusterEndpoint?: (region: WorldRegion) => string;
  /** PEM of a region's certificate authority; undefined when there is none yet. */
  clusterCa?: (region: WorldRegion) => string | undefined;
  regions?: readonly WorldRegion[];
}

const nlbSecurityGroup = "sandbox-restate-nlb";

/** Where `seedAws` writes what it made. */
const worldFile = join(awsStateDir, "world.json");

/** What the last seed made. Throws when there was none. */
export function seededWorld(file = worldFile): SeededWorld {
  if (!existsSync(file))
    throw new Error(`${file} does not exist: AWS has not been seeded; run the sandbox's \`up\` first`);
  return JSON.parse(readFileSync(file, "utf8")) as SeededWorld;
}

function caOfRegion(region: WorldRegion): string | undefined {
  const file = join(stateDir, "pki", region.name, "ca.crt");
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** An error's code is among those that say that a thing exists already. */
function ignoreExisting(...names: string[]): (error: unknown) => undefined {
  return (error) => {
    if (names.includes((error as Error).name)) return undefined;
    throw error;
  };
}

async function seedOperator(moto: Moto, iam: IAMClient): Promise<void> {
  // Before there is a user there is no key that the gateway knows: moto itself is asked, which checks none.
  await iam
    .send(new CreateUserCommand({ UserName: adminUser }))
    .catch(ignoreExisting("EntityAlreadyExistsException", "EntityAlreadyExists"));
  const document = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] };
  await iam.send(
    new PutUserPolicyCommand({
      UserName: adminUser,
      PolicyName: "administrator",
      PolicyDocument: JSON.stringify(document),
    }),
  );
  await moto.putAccessKey({ userName: adminUser, ...adminCredentials });
}

/** Makes one region's things. */
class RegionSeed {
  private readonly ec2: EC2Client;
  private readonly eks: EKSClient;
  private readonly iam: IAMClient;

  constructor(
    private readonly region: WorldRegion,
    private readonly moto: Moto,
    private readonly options: Required<SeedOptions>,
  ) {
    const client = { endpoint: options.endpoint, region: region.awsRegion, credentials: adminCredentials };
    this.ec2 = new EC2Client(client);
    this.eks = new EKSClient(client);
    this.iam = new IAMClient(client);
  }

  async run(): Promise<SeededRegion> {
    const { region } = this;
    const vpcId = await this.vpc();
    const subnets: Record<string, string> = {};
    const instances: Record<string, string> = {};
    for (const zone of region.zones) subnets[zone.name] = await this.subnet(vpcId, zone);
    const securityGroupId = await this.securityGroup(vpcId);
    for (const zone of region.zones) instances[zone.name] = await this.instance(zone, subnets[zone.name]!);
    await this.cluster(Object.values(subnets), securityGroupId);
    const oidcProviderArn = await this.provider();
    for (const client of [this.ec2, this.eks, this.iam]) client.destroy();
    return { vpcId, subnets, securityGroupId, instances, oidcProviderArn };
  }

  private tags(name: string, more: Record<string, string> = {}): Tag[] {
    const all = { Name: name, [`kubernetes.io/cluster/${this.region.eksClusterName}`]: "shared", ...more };
    return Object.entries(all).map(([Key, Value]) => ({ Key, Value }));
  }

  private async vpc(): Promise<string> {
    const { vpcCidr, name } = this.region;
    const found = await this.ec2.send(new DescribeVpcsCommand({ Filters: [{ Name: "cidr", Values: [vpcCidr] }] }));
    const existing = found.Vpcs?.[0]?.VpcId;
    if (existing) return existing;
    const TagSpecifications = [{ ResourceType: "vpc" as const, Tags: this.tags(`sandbox-${name}`) }];
    const made = await this.ec2.send(new CreateVpcCommand({ CidrBlock: vpcCidr, TagSpecifications }));
    return made.Vpc!.VpcId!;
  }

  private async subnet(vpcId: string, zone: Zone): Promise<string> {
    const Filters = [
      { Name: "vpc-id", Values: [vpcId] },
      { Name: "availability-zone", Values: [zone.name] },
    ];
    const found = await this.ec2.send(new DescribeSubnetsCommand({ Filters }));
    const existing = found.Subnets?.[0]?.SubnetId;
    if (existing) return existing;
    const made = await this.ec2.send(
      new CreateSubnetCommand({
        VpcId: vpcId,
        CidrBlock: zone.subnetCidr,
        AvailabilityZone: zone.name,
        TagSpecifications: [
          {
            ResourceType: "subnet",
            Tags: this.tags(`sandbox-${zone.name}`, { "kubernetes.io/role/internal-elb": "1" }),
          },
        ],
      }),
    );
    return made.Subnet!.SubnetId!;
  }

  private async securityGroup(vpcId: string): Promise<string> {
    const Filters = [
      { Name: "vpc-id", Values: [vpcId] },
      { Name: "group-name", Values: [nlbSecurityGroup] },
    ];
    const found = await this.ec2.send(new DescribeSecurityGroupsCommand({ Filters }));
    const existing = found.SecurityGroups?.[0]?.GroupId;
    if (existing) return existing;
    const made = await this.ec2.send(
      new CreateSecurityGroupCommand({
        VpcId: vpcId,
        GroupName: nlbSecurityGroup,
        Description: "Load balancers of Restate nodes",
        TagSpecifications: [{ ResourceType: "security-group", Tags: this.tags(nlbSecurityGroup) }],
      }),
    );
    await this.ec2.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: made.GroupId,
        IpPermissions: [{ IpProtocol: "tcp", FromPort: 5122, ToPort: 5122, IpRanges: [{ CidrIp: "10.0.0.0/8" }] }],
      }),
    );
    return made.GroupId!;
  }

  private async instance(zone: Zone, subnetId: string): Promise<string> {
    const found = await this.ec2.send(
      new DescribeInstancesCommand({ Filters: [{ Name: "private-ip-address", Values: [zone.nodeIp] }] }),
    );
    const existing = found.Reservations?.[0]?.Instances?.[0];
    if (existing?.PrivateDnsName === zone.nodeName) return existing.InstanceId!;
    let id = existing?.InstanceId;
    if (!id) {
      const made = await this.ec2.send(
        new RunInstancesCommand({
          // Nothing boots from it, so it need not exist.
          ImageId: "ami-12c6146b",
          InstanceType: "m5.xlarge",
          MinCount: 1,
          MaxCount: 1,
          SubnetId: subnetId,
          PrivateIpAddress: zone.nodeIp,
          TagSpecifications: [{ ResourceType: "instance", Tags: this.tags(zone.nodeName) }],
        }),
      );
      id = made.Instances![0]!.InstanceId!;
    }
    const name = { region: this.region.awsRegion, instanceId: id, privateDnsName: zone.nodeName };
    await this.moto.putInstanceName(name);
    return id;
  }

  private async cluster(subnetIds: string[], securityGroupId: string): Promise<void> {
    const { eksClusterName, oidcIssuer, awsRegion, serviceCidr } = this.region;
    const roleName = `${eksClusterName}-cluster`;
    const trust = {
      Version: "2012-10-17",
      Statement: [{ Effect: "Allow", Principal: { Service: "eks.amazonaws.com" }, Action: "sts:AssumeRole" }],
    };
    await this.iam
      .send(new CreateRoleCommand({ RoleName: roleName, AssumeRolePolicyDocument: JSON.stringify(trust) }))
      .catch(ignoreExisting("EntityAlreadyExistsException", "EntityAlreadyExists"));
    const { clusters = [] } = await this.eks.send(new ListClustersCommand({}));
    if (!clusters.includes(eksClusterName)) {
      await this.eks.send(
        new CreateClusterCommand({
          name: eksClusterName,
          roleArn: `arn:aws:iam::${accountId}:role/${roleName}`,
          resourcesVpcConfig: { subnetIds, securityGroupIds: [securityGroupId] },
          kubernetesNetworkConfig: { serviceIpv4Cidr: serviceCidr },
        }),
      );
    }
    await this.moto.putCluster({
      region: awsRegion,
      name: eksClusterName,
      issuer: oidcIssuer,
      endpoint: this.options.clusterEndpoint(this.region),
      certificateAuthority: Buffer.from(this.options.clusterCa(this.region) ?? "").toString("base64"),
    });
  }

  private async provider(): Promise<string> {
    const { oidcIssuer } = this.region;
    const arn = `arn:aws:iam::${accountId}:oidc-provider/${oidcIssuer.replace("https://", "")}`;
    const { OpenIDConnectProviderList: list = [] } = await this.iam.send(new ListOpenIDConnectProvidersCommand({}));
    if (list.some((provider) => provider.Arn === arn)) return arn;
    await this.iam.send(
      new CreateOpenIDConnectProviderCommand({
        Url: oidcIssuer,
        ClientIDList: ["sts.amazonaws.com"],
        // AWS no longer looks at it for EKS's issuers, but the API wants one.
        ThumbprintList: ["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"],
      }),
    );
    return arn;
  }
}

/** Makes what is missing, and returns all of it. Needs moto and the gateway to run. */
export async function seedAws(given: SeedOptions = {}): Promise<SeededWorld> {
  const options: Required<SeedOptions> = {
    endpoint: `http://${awsEndpoint.ip}:${awsEndpoint.port}`,
    motoPort,
    folder: awsStateDir,
    clusterEndpoint: (region) => `https://${region.apiServerIp}:6443`,
    clusterCa: caOfRegion,
    regions: [...regions, witnessRegion],
    ...given,
  };
  const moto = new Moto(options.motoPort);
  const direct = new IAMClient({
    endpoint: `http://127.0.0.1:${options.motoPort}`,
    region: "us-east-1",
    credentials: adminCredentials,
  });
  await seedOperator(moto, direct);
  direct.destroy();
  const world: SeededWorld = { regions: {} };
  const made = await Promise.all(options.regions.map((region) => new RegionSeed(region, moto, options).run()));
  options.regions.forEach((region, i) => {
    world.regions[region.name] = made[i]!;
  });
  moto.agent.destroy();
  mkdirSync(options.folder, { recursive: true });
  const file = join(options.folder, "world.json");
  writeFileSync(`${file}.new`, JSON.stringify(world, undefined, 2));
  renameSync(`${file}.new`, file);
  return world;
}
