/** What moto lacks and the sandbox's AWS adds: pod identity associations, network load balancers, lifecycle rules; and the seed. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { DescribeInstancesCommand, DescribeSubnetsCommand, EC2Client } from "@aws-sdk/client-ec2";
import {
  CreatePodIdentityAssociationCommand,
  DeletePodIdentityAssociationCommand,
  DescribeClusterCommand,
  DescribePodIdentityAssociationCommand,
  EKSClient,
  ListPodIdentityAssociationsCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdatePodIdentityAssociationCommand,
} from "@aws-sdk/client-eks";
import {
  CreateLoadBalancerCommand,
  DescribeLoadBalancersCommand,
  ElasticLoadBalancingV2Client,
  SetSubnetsCommand,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import { GetOpenIDConnectProviderCommand } from "@aws-sdk/client-iam";
import {
  CreateBucketCommand,
  GetBucketLifecycleConfigurationCommand,
  type LifecycleRule,
  PutBucketLifecycleConfigurationCommand,
} from "@aws-sdk/client-s3";
import { adminCredentials } from "../../sandbox/aws/credentials";
import { accountId, regions } from "../../sandbox/world/regions";
import { AwsWorld } from "./aws-world";

let aws: AwsWorld;
const region = regions[1]!;
const client = () => ({
  endpoint: aws.endpoint,
  region: region.awsRegion,
  credentials: adminCredentials,
  maxAttempts: 1,
});

before(async () => {
  aws = await AwsWorld.start();
});
after(() => aws.stop());

test("the seed's instances, subnets, cluster and provider are those of the world's data", async () => {
  const seeded = aws.world.regions[region.name]!;
  const ec2 = aws.keep(new EC2Client(client()));
  for (const zone of region.zones) {
    const found = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [seeded.instances[zone.name]!] }));
    const instance = found.Reservations![0]!.Instances![0]!;
    assert.equal(instance.PrivateIpAddress, zone.nodeIp);
    assert.equal(instance.PrivateDnsName, zone.nodeName);
    assert.equal(instance.Placement?.AvailabilityZone, zone.name);
    assert.equal(instance.SubnetId, seeded.subnets[zone.name]);
  }
  const Filters = [
    { Name: "vpc-id", Values: [seeded.vpcId] },
    { Name: "tag:kubernetes.io/role/internal-elb", Values: ["1"] },
  ];
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ Filters }));
  assert.deepEqual(Subnets.map((s) => s.CidrBlock).sort(), region.zones.map((z) => z.subnetCidr).sort());
  const eks = aws.keep(new EKSClient(client()));
  const { cluster } = await eks.send(new DescribeClusterCommand({ name: region.eksClusterName }));
  assert.equal(cluster?.identity?.oidc?.issuer, region.oidcIssuer);
  assert.equal(cluster?.endpoint, `https://${region.apiServerIp}:6443`);
  const { ClientIDList, Url } = await aws
    .iam()
    .send(new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn: seeded.oidcProviderArn }));
  assert.deepEqual(ClientIDList, ["sts.amazonaws.com"]);
  assert.equal(`https://${Url}`, region.oidcIssuer);
});

test("pod identity associations live through their life, and survive kill -9", async () => {
  const eks = aws.keep(new EKSClient({ ...client(), maxAttempts: 5 }));
  const clusterName = region.eksClusterName;
  const roleArn = `arn:aws:iam::${accountId}:role/pods`;
  const create = new CreatePodIdentityAssociationCommand({
    clusterName,
    namespace: "restate",
    serviceAccount: "restate",
    roleArn,
    tags: { a: "1" },
  });
  const { association } = await eks.send(create);
  const associationId = association!.associationId!;
  await assert.rejects(eks.send(create), { name: "ResourceInUseException" });
  await aws.kill(aws.moto);
  await aws.startMoto();
  const describe = new DescribePodIdentityAssociationCommand({ clusterName, associationId });
  assert.equal((await eks.send(describe)).association?.roleArn, roleArn);
  await eks.send(new UpdatePodIdentityAssociationCommand({ clusterName, associationId, roleArn: `${roleArn}2` }));
  const resourceArn = association!.associationArn!;
  await eks.send(new TagResourceCommand({ resourceArn, tags: { b: "2" } }));
  await eks.send(new UntagResourceCommand({ resourceArn, tagKeys: ["a"] }));
  const changed = (await eks.send(describe)).association;
  assert.equal(changed?.roleArn, `${roleArn}2`);
  assert.deepEqual(changed?.tags, { b: "2" });
  const list = async (namespace: string) =>
    (await eks.send(new ListPodIdentityAssociationsCommand({ clusterName, namespace }))).associations?.length;
  assert.equal(await list("restate"), 1);
  assert.equal(await list("other"), 0);
  await eks.send(new DeletePodIdentityAssociationCommand({ clusterName, associationId }));
  await assert.rejects(eks.send(describe), { name: "ResourceNotFoundException" });
});

test("a network load balancer is one: in one zone, moved to another, its name taken once", async () => {
  const { subnets, securityGroupId } = aws.world.regions[region.name]!;
  const [first, second] = region.zones.map((zone) => subnets[zone.name]!);
  const elb = aws.keep(new ElasticLoadBalancingV2Client(client()));
  const make = (Subnets: string[]) =>
    elb.send(
      new CreateLoadBalancerCommand({
        Name: "node-1",
        Type: "network",
        Scheme: "internal",
        Subnets,
        SecurityGroups: [securityGroupId],
        Tags: [{ Key: "a", Value: "b" }],
      }),
    );
  const made = (await make([first!])).LoadBalancers![0]!;
  assert.match(made.LoadBalancerArn!, /:loadbalancer\/net\/node-1\/[0-9a-f]{16}$/);
  assert.match(made.DNSName!, /^node-1-[0-9a-f]{16}\.elb\.us-west-2\.amazonaws\.com$/);
  assert.equal((await make([first!])).LoadBalancers![0]!.LoadBalancerArn, made.LoadBalancerArn);
  await assert.rejects(make([second!]), { name: "DuplicateLoadBalancerNameException" });
  await elb.send(new SetSubnetsCommand({ LoadBalancerArn: made.LoadBalancerArn, Subnets: [second!] }));
  const { LoadBalancers = [] } = await elb.send(new DescribeLoadBalancersCommand({ Names: ["node-1"] }));
  const zones = LoadBalancers[0]!.AvailabilityZones?.map(({ ZoneName, SubnetId }) => ({ ZoneName, SubnetId }));
  assert.deepEqual(zones, [{ ZoneName: region.zones[1]!.name, SubnetId: second }]);
});

test("lifecycle rules are given back as they were put", async () => {
  const s3 = aws.s3(region.awsRegion);
  const Bucket = "lifecycle";
  await s3.send(
    new CreateBucketCommand({
      Bucket,
      CreateBucketConfiguration: { LocationConstraint: region.awsRegion as "us-west-2" },
    }),
  );
  const Rules: LifecycleRule[] = [
    {
      ID: "noncurrent",
      Status: "Enabled",
      Filter: { Prefix: "" },
      NoncurrentVersionExpiration: { NoncurrentDays: 7, NewerNoncurrentVersions: 2 },
    },
    {
      ID: "uploads",
      Status: "Enabled",
      Filter: { Prefix: "x/" },
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 },
    },
  ];
  await s3.send(new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration: { Rules } }));
  assert.deepEqual((await s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }))).Rules, Rules);
});
