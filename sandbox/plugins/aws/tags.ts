/** Tags: the resource's own, the provider's default ones, and how AWS lists them. */
import type { AwsContext } from "./context";

type Tags = Record<string, string>;

/** All tags that a resource is to have: default ones, overridden by its own. */
export function allTags(context: AwsContext, tags: Tags | undefined): Tags {
  return { ...context.settings.defaultTags?.tags, ...tags };
}

/** As most AWS APIs list tags. */
export function tagList(tags: Tags): { Key: string; Value: string }[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

/** From an AWS list; tags of AWS itself (`aws:`) are left out, as the official provider does. */
export function tagMap(list: readonly { Key?: string | undefined; Value?: string | undefined }[] | undefined): Tags {
  return Object.fromEntries(
    (list ?? []).filter(({ Key }) => Key && !Key.startsWith("aws:")).map(({ Key, Value }) => [Key!, Value ?? ""]),
  );
}

/** The outputs `tags` and `tagsAll` for what was read: a default tag counts as the resource's own only if it was given so. */
export function tagOutputs(context: AwsContext, found: Tags, known: Tags | undefined): { tags?: Tags; tagsAll: Tags } {
  const defaults = context.settings.defaultTags?.tags ?? {};
  const tags = Object.fromEntries(
    Object.entries(found).filter(([key, value]) => defaults[key] !== value || known?.[key] !== undefined),
  );
  return { tags, tagsAll: found };
}

/** What must be set and what must be removed to get from one set of tags to another. */
export function tagChanges(before: Tags, after: Tags): { set: Tags; remove: string[] } {
  return {
    set: Object.fromEntries(Object.entries(after).filter(([key, value]) => before[key] !== value)),
    remove: Object.keys(before).filter((key) => after[key] === undefined),
  };
}
