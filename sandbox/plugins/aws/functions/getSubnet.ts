/** `aws.ec2.getSubnet`: exactly one subnet. Not done: search by IPv6 block. */
import type { ec2, types } from "@pulumi/aws";
import { boolean, list, object, refused, set, text, texts } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";
import { tagMap } from "../tags";
import { ec2Filters } from "./getSubnets";

/** The one subnet that matches; none or several are errors. */
export const getSubnet = invokable<ec2.GetSubnetArgs, ec2.GetSubnetResult, AwsContext>({
  token: "aws:ec2/getSubnet:getSubnet",
  inputs: {
    availabilityZone: text(),
    availabilityZoneId: text(),
    cidrBlock: text(),
    defaultForAz: boolean(),
    filters: list(
      object<types.input.ec2.GetSubnetFilter>({
        name: text({ required: true }),
        values: set(text(), { required: true }),
      }),
    ),
    id: text(),
    ipv6CidrBlock: refused("give another criterion"),
    region: text(),
    state: text(),
    tags: texts(),
    vpcId: text(),
  },
  async call(context, args, signal) {
    const { DescribeSubnetsCommand } = await import("@aws-sdk/client-ec2");
    const region = args.region ?? context.region;
    const client = await context.ec2(region);
    const criteria = {
      "availability-zone": args.availabilityZone,
      "availability-zone-id": args.availabilityZoneId,
      "cidr-block": args.cidrBlock,
      "default-for-az": args.defaultForAz === undefined ? undefined : String(args.defaultForAz),
      state: args.state,
      "vpc-id": args.vpcId,
    };
    const Filters = [
      ...Object.entries(criteria).flatMap(([Name, value]) => (value ? [{ Name, Values: [value] }] : [])),
      ...ec2Filters(args.filters, args.tags),
    ];
    const command = new DescribeSubnetsCommand({
      ...(args.id && { SubnetIds: [args.id] }),
      ...(Filters.length > 0 && { Filters }),
    });
    const { Subnets = [] } = await call({ context, signal }, "reading EC2 Subnet", (options) =>
      client.send(command, options),
    );
    const [subnet] = Subnets;
    if (!subnet) throw new Error("no matching EC2 Subnet found");
    if (Subnets.length > 1)
      throw new Error(
        "multiple EC2 Subnets matched; use additional constraints to reduce matches to a single EC2 Subnet",
      );
    const ipv6 = subnet.Ipv6CidrBlockAssociationSet?.[0];
    const names = subnet.PrivateDnsNameOptionsOnLaunch;
    return {
      id: subnet.SubnetId ?? "",
      region,
      arn: subnet.SubnetArn ?? "",
      assignIpv6AddressOnCreation: subnet.AssignIpv6AddressOnCreation ?? false,
      availabilityZone: subnet.AvailabilityZone ?? "",
      availabilityZoneId: subnet.AvailabilityZoneId ?? "",
      availableIpAddressCount: subnet.AvailableIpAddressCount ?? 0,
      cidrBlock: subnet.CidrBlock ?? "",
      customerOwnedIpv4Pool: subnet.CustomerOwnedIpv4Pool ?? "",
      defaultForAz: subnet.DefaultForAz ?? false,
      enableDns64: subnet.EnableDns64 ?? false,
      enableLniAtDeviceIndex: subnet.EnableLniAtDeviceIndex ?? 0,
      enableResourceNameDnsARecordOnLaunch: names?.EnableResourceNameDnsARecord ?? false,
      enableResourceNameDnsAaaaRecordOnLaunch: names?.EnableResourceNameDnsAAAARecord ?? false,
      ipv6CidrBlock: ipv6?.Ipv6CidrBlock ?? "",
      ipv6CidrBlockAssociationId: ipv6?.AssociationId ?? "",
      ipv6Native: subnet.Ipv6Native ?? false,
      mapCustomerOwnedIpOnLaunch: subnet.MapCustomerOwnedIpOnLaunch ?? false,
      mapPublicIpOnLaunch: subnet.MapPublicIpOnLaunch ?? false,
      outpostArn: subnet.OutpostArn ?? "",
      ownerId: subnet.OwnerId ?? "",
      privateDnsHostnameTypeOnLaunch: names?.HostnameType ?? "",
      state: subnet.State ?? "",
      tags: tagMap(subnet.Tags),
      vpcId: subnet.VpcId ?? "",
      ...(args.filters && { filters: args.filters }),
    };
  },
});
