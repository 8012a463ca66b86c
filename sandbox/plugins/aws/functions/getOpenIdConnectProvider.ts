/** `aws.iam.getOpenIdConnectProvider`. */
import type { iam } from "@pulumi/aws";
import { text, texts } from "../../provider/fields";
import { invokable } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";
import { tagMap } from "../tags";

const bare = (url: string | undefined) => url?.replace(/^https:\/\//, "");

/** The provider with this ARN or this URL. */
export const getOpenIdConnectProvider = invokable<
  iam.GetOpenIdConnectProviderArgs,
  iam.GetOpenIdConnectProviderResult,
  AwsContext
>({
  token: "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider",
  inputs: { arn: text({ conflictsWith: ["url"] }), tags: texts(), url: text({ conflictsWith: ["arn"] }) },
  async call(context, args, signal) {
    const { GetOpenIDConnectProviderCommand, ListOpenIDConnectProvidersCommand } = await import("@aws-sdk/client-iam");
    const client = await context.iam();
    const doing = `reading IAM OIDC Provider (${args.arn ?? args.url ?? ""})`;
    if (!args.arn && !args.url) throw new Error(`${doing}: one of arn and url must be given`);
    const list = await call({ context, signal }, doing, (options) =>
      client.send(new ListOpenIDConnectProvidersCommand({}), options),
    );
    // The path of the ARN is the URL without its scheme.
    const arns = (list.OpenIDConnectProviderList ?? []).map(({ Arn }) => Arn ?? "");
    const arn = args.arn ?? arns.find((candidate) => candidate.split(":oidc-provider/")[1] === bare(args.url));
    if (!arn) throw new Error(`${doing}: no IAM OIDC provider with this URL; there are ${arns.join(", ") || "none"}`);
    const found = await call({ context, signal }, doing, (options) =>
      client.send(new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn: arn }), options),
    );
    return {
      arn,
      id: arn,
      clientIdLists: found.ClientIDList ?? [],
      tags: tagMap(found.Tags),
      thumbprintLists: found.ThumbprintList ?? [],
      url: found.Url ?? "",
    };
  },
});
