/** `aws.getRegion`. Not done: finding a region by its endpoint. `description` is known for the usual regions, else the name. */
import type { GetRegionArgs, GetRegionResult } from "@pulumi/aws";
import { refused, text } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { type AwsContext, partitionOf } from "../context";

/** As AWS's own list of regions describes them. */
const descriptions: Record<string, string> = {
  "ap-northeast-1": "Asia Pacific (Tokyo)",
  "ap-southeast-1": "Asia Pacific (Singapore)",
  "ap-southeast-2": "Asia Pacific (Sydney)",
  "eu-central-1": "Europe (Frankfurt)",
  "eu-north-1": "Europe (Stockholm)",
  "eu-west-1": "Europe (Ireland)",
  "eu-west-2": "Europe (London)",
  "us-east-1": "US East (N. Virginia)",
  "us-east-2": "US East (Ohio)",
  "us-west-1": "US West (N. California)",
  "us-west-2": "US West (Oregon)",
};

/** The provider's region, or the one named. */
export const getRegion = invokable<GetRegionArgs, GetRegionResult, AwsContext>({
  token: "aws:index/getRegion:getRegion",
  inputs: { endpoint: refused("give region"), id: text(), name: text(), region: text() },
  async call(context, args) {
    const region = args.region ?? args.name ?? context.region;
    const description = descriptions[region] ?? region;
    return {
      id: region,
      name: region,
      region,
      description,
      endpoint: `ec2.${region}.${partitionOf(region).dnsSuffix}`,
    };
  },
});
