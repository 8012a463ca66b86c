/**
 * `aws.iam.OpenIdConnectProvider`.
 * As with the official provider, the output `url` is what IAM gives back: without `https://`.
 */
import type { iam } from "@pulumi/aws";
import { list, set, text, texts } from "../../provider/fields";
import { resource } from "../../provider/resource";
import { call } from "../call";
import type { AwsContext } from "../context";
import { unlessGone } from "../errors";
import { allTags, tagChanges, tagList, tagMap, tagOutputs } from "../tags";

const gone = ["NoSuchEntityException", "NoSuchEntity"];

/** A change of the URL replaces it. The id is the ARN. */
export const openIdConnectProvider = resource<
  iam.OpenIdConnectProviderArgs,
  iam.OpenIdConnectProviderState,
  AwsContext
>({
  token: "aws:iam/openIdConnectProvider:OpenIdConnectProvider",
  inputs: {
    clientIdLists: set(text(), { required: true }),
    tags: texts(),
    thumbprintLists: list(text(), { computed: true }),
    url: text({ required: true, replaces: true, compareAs: (url) => url.replace(/^https:\/\//, "") }),
  },
  outputs: { arn: text(), tagsAll: texts() },
  derive: ({ tags }, context) => ({ tagsAll: allTags(context, tags) }),
  check: ({ url }) =>
    url?.startsWith("http://")
      ? [{ property: "url", reason: `url must begin with https://, not ${JSON.stringify(url)}` }]
      : [],

  async create(request, inputs) {
    const { CreateOpenIDConnectProviderCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const tags = allTags(request.context, inputs.tags);
    const command = new CreateOpenIDConnectProviderCommand({
      Url: inputs.url.includes("://") ? inputs.url : `https://${inputs.url}`,
      ClientIDList: inputs.clientIdLists,
      ...(inputs.thumbprintLists && { ThumbprintList: inputs.thumbprintLists }),
      ...(Object.keys(tags).length > 0 && { Tags: tagList(tags) }),
    });
    const doing = `creating IAM OIDC Provider (${inputs.url})`;
    const made = await call(request, doing, (options) => client.send(command, options));
    return made.OpenIDConnectProviderArn!;
  },

  async read(request, id, known) {
    const { GetOpenIDConnectProviderCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const found = await unlessGone(
      gone,
      call(request, `reading IAM OIDC Provider (${id})`, (options) =>
        client.send(new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn: id }), options),
      ),
    );
    return (
      found && {
        state: {
          arn: id,
          clientIdLists: found.ClientIDList,
          thumbprintLists: found.ThumbprintList,
          url: found.Url,
          ...tagOutputs(request.context, tagMap(found.Tags), known.tags),
        },
      }
    );
  },

  async update(request, id, inputs, before) {
    const sdk = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const doing = `updating IAM OIDC Provider (${id})`;
    const on = { OpenIDConnectProviderArn: id };
    for (const ClientID of inputs.clientIdLists.filter((client) => !before.clientIdLists?.includes(client)))
      await call(request, doing, (options) =>
        client.send(new sdk.AddClientIDToOpenIDConnectProviderCommand({ ...on, ClientID }), options),
      );
    for (const ClientID of (before.clientIdLists ?? []).filter((client) => !inputs.clientIdLists.includes(client)))
      await call(request, doing, (options) =>
        client.send(new sdk.RemoveClientIDFromOpenIDConnectProviderCommand({ ...on, ClientID }), options),
      );
    const ThumbprintList = inputs.thumbprintLists;
    if (ThumbprintList?.length)
      await call(request, doing, (options) =>
        client.send(new sdk.UpdateOpenIDConnectProviderThumbprintCommand({ ...on, ThumbprintList }), options),
      );
    const changes = tagChanges(before.tagsAll ?? {}, allTags(request.context, inputs.tags));
    if (changes.remove.length > 0)
      await call(request, doing, (options) =>
        client.send(new sdk.UntagOpenIDConnectProviderCommand({ ...on, TagKeys: changes.remove }), options),
      );
    if (Object.keys(changes.set).length > 0)
      await call(request, doing, (options) =>
        client.send(new sdk.TagOpenIDConnectProviderCommand({ ...on, Tags: tagList(changes.set) }), options),
      );
  },

  async delete(request, id) {
    const { DeleteOpenIDConnectProviderCommand } = await import("@aws-sdk/client-iam");
    const client = await request.context.iam();
    const deleted = call(request, `deleting IAM OIDC Provider (${id})`, (options) =>
      client.send(new DeleteOpenIDConnectProviderCommand({ OpenIDConnectProviderArn: id }), options),
    );
    await unlessGone(gone, deleted);
  },
});
