/** `aws.ec2.getSubnets`. */
import type { ec2, types } from "@pulumi/aws";
import { list, object, set, text, texts } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";

/** The filters of an EC2 call: those given, and one for each tag. */
export function ec2Filters(
  filters: readonly { name: string; values: readonly string[] }[] = [],
  tags: Record<string, string> = {},
): { Name: string; Values: string[] }[] {
  return [
    ...filters.map(({ name, values }) => ({ Name: name, Values: [...values] })),
    ...Object.entries(tags).map(([key, value]) => ({ Name: `tag:${key}`, Values: [value] })),
  ];
}

/** The ids of all subnets that match; none is no error. */
export const getSubnets = invokable<ec2.GetSubnetsArgs, ec2.GetSubnetsResult, AwsContext>({
  token: "aws:ec2/getSubnets:getSubnets",
  inputs: {
    filters: list(
      object<types.input.ec2.GetSubnetsFilter>({
        name: text({ required: true }),
        values: set(text(), { required: true }),
      }),
    ),
    region: text(),
    tags: texts(),
  },
  async call(context, { filters, region = context.region, tags = {} }, signal) {
    const { paginateDescribeSubnets } = await import("@aws-sdk/client-ec2");
    const client = await context.ec2(region);
    const Filters = ec2Filters(filters, tags);
    const ids = await call({ context, signal }, "reading EC2 Subnets", async (options) => {
      const found: string[] = [];
      const pages = paginateDescribeSubnets({ client }, { ...(Filters.length > 0 && { Filters }) }, options);
      for await (const page of pages) found.push(...(page.Subnets ?? []).map((subnet) => subnet.SubnetId ?? ""));
      return found;
    });
    return { id: region, ids, region, tags, ...(filters && { filters }) };
  },
});
