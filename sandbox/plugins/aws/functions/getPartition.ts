/** `aws.getPartition`. */
import type { GetPartitionArgs, GetPartitionResult } from "@pulumi/aws";
import { text } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { type AwsContext, partitionOf } from "../context";

/** The partition of the provider's region. */
export const getPartition = invokable<GetPartitionArgs, GetPartitionResult, AwsContext>({
  token: "aws:index/getPartition:getPartition",
  inputs: { id: text() },
  async call(context) {
    const found = partitionOf(context.region);
    return { id: found.partition, ...found };
  },
});
