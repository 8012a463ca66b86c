/** `aws.getCallerIdentity`. */
import type { GetCallerIdentityArgs, GetCallerIdentityResult } from "@pulumi/aws";
import { text } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import type { AwsContext } from "../context";
import { fault } from "../errors";

/** Who the provider's credentials belong to. */
export const getCallerIdentity = invokable<GetCallerIdentityArgs, GetCallerIdentityResult, AwsContext>({
  token: "aws:index/getCallerIdentity:getCallerIdentity",
  inputs: { id: text() },
  async call(context) {
    try {
      const { accountId, arn, userId } = await context.caller();
      return { accountId, arn, userId, id: accountId };
    } catch (error) {
      throw fault("reading STS Caller Identity", error);
    }
  },
});
