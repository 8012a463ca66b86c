/** Plain values as they cross the wire between the engine and a provider, and the few questions asked of them. */

/** A JSON value, or the marker of a value that is not known yet. */
export type Value = null | boolean | number | string | Value[] | { [key: string]: Value };
/** The properties of a resource, the arguments of a function, or a provider's configuration. */
export type Properties = { [key: string]: Value };

/** What the engine sends, during previews, for a value that is not known yet; also what is sent back. */
export const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** The markers that the engine uses for unknown values of each type. */
const unknowns = new Set([
  unknown,
  "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7", // boolean
  "3eeb2bf0-c639-47a8-9e75-3b44932eb421", // number
  "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2", // array
  "dd056dcd-154b-4c76-9bd3-c8f88648b5ff", // object
]);

/** Key under which check records which inputs it filled in itself, as the official bridged providers do. */
export const defaultsKey = "__defaults";

/** Whether a value is the marker of one that is not known yet. */
export function isUnknown(value: Value | undefined): boolean {
  return typeof value === "string" && unknowns.has(value);
}

/** Whether a value is, or has in it, something that is not known yet. */
export function hasUnknown(value: Value | undefined): boolean {
  if (Array.isArray(value)) return value.some(hasUnknown);
  if (isObject(value)) return Object.values(value).some(hasUnknown);
  return isUnknown(value);
}

/** Whether a value is an object (and neither null nor a list). */
export function isObject(value: Value | undefined): value is Properties {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value says no more than its absence: null, false, 0, an empty text, list or object. */
export function isEmpty(value: Value | undefined): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === "") return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).every((key) => key === defaultsKey || isEmpty(value[key]));
}

/** Drops undefined members, at any depth: they have no form on the wire. Dates become ISO texts. */
export function toValue(value: unknown): Value {
  return value === undefined ? null : (JSON.parse(JSON.stringify(value)) as Value);
}

/** The same value with object keys sorted, as text: equal texts mean equal values. */
export function canonical(value: Value | undefined): string {
  return JSON.stringify(value ?? null, (_, member) =>
    isObject(member)
      ? Object.fromEntries(
          Object.entries(member)
            .filter(([key]) => key !== defaultsKey)
            .sort(([a], [b]) => (a < b ? -1 : 1)),
        )
      : member,
  );
}

/** The form in which a secret crosses the wire. */
export function asSecret(value: Value): Value {
  return { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", value };
}
