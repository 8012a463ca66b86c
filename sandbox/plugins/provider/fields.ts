/**
 * The table language in which a resource type's arguments and outputs are written down, and what follows from such a
 * table alone: checking arguments, filling in defaults, finding differences, foreseeing outputs in a preview.
 *
 * Tables are typed by the argument types of the official SDK package: every argument must be listed, none may be invented.
 */
import type * as pulumi from "@pulumi/pulumi";
import { canonical, defaultsKey, isEmpty, isObject, isUnknown, type Properties, unknown, type Value } from "./values";

/** An argument type of the SDK without promises, outputs, resources and policy objects: as it arrives at a provider. */
export type Plain<T> = T extends Promise<unknown> | pulumi.OutputInstance<unknown> | pulumi.Resource
  ? never
  : T extends { Statement: unknown }
    ? never // policy documents given as objects are turned into text by check
    : T extends (infer E)[]
      ? Plain<E>[]
      : T extends object
        ? { [K in keyof T]: Plain<T[K]> }
        : T;

/** How one argument or output behaves. */
export interface FieldOptions {
  /** Must be given. */
  required?: true;
  /** A change means a new resource. */
  replaces?: true;
  /** AWS chooses a value where none is given: leaving it out is never a difference. */
  computed?: true;
  /** The provider's own setting: never read from the API, kept in the state as given. */
  providerOnly?: true;
  /** Filled in by check where none is given. */
  default?: Value;
  /** The values that are accepted. */
  oneOf?: readonly string[];
  /** Other arguments that may not be given together with this one. */
  conflictsWith?: readonly string[];
  /** Named after the resource where no name is given: base name, a hyphen, 7 random hexadecimal digits. */
  autoName?: { maxLength: number; lowerCase?: true };
  /** The form in which two texts are compared, where AWS gives back another than it was given. */
  compareAs?: (value: string) => string;
  /** Always shown as a secret. */
  secret?: true;
  /** An output that an update may change: not known in the preview of one. */
  volatile?: true;
}

type Kind = "string" | "number" | "boolean" | "list" | "set" | "map" | "object" | "json" | "refused";

/** One argument or output of type T. */
export interface Field<T> extends FieldOptions {
  kind: Kind;
  element?: Field<unknown>;
  fields?: Record<string, Field<unknown>>;
  /** For `json`: the form in which two documents are compared. */
  normalize?: (document: Value) => Value;
  /** For `refused`: what to do instead. */
  instead?: string;
  /** Carries the type, never a value. */
  type?: T;
}

/** A field for each member of T, no more and no fewer. */
export type Fields<T> = { [K in keyof T]-?: Field<NonNullable<Plain<T[K]>>> };
/** A table whose member types no longer matter. */
export type AnyFields = Record<string, Field<unknown>>;

/** A text. */
export const text = (options: FieldOptions = {}): Field<string> => ({ kind: "string", ...options });
/** A number. */
export const number = (options: FieldOptions = {}): Field<number> => ({ kind: "number", ...options });
/** A boolean. */
export const boolean = (options: FieldOptions = {}): Field<boolean> => ({ kind: "boolean", ...options });
/** Texts by name, as tags are. */
export const texts = (options: FieldOptions = {}): Field<Record<string, string>> => ({
  kind: "map",
  element: text(),
  ...options,
});
/** A list in which order matters. */
export const list = <T>(element: Field<T>, options: FieldOptions = {}): Field<T[]> => ({
  kind: "list",
  element,
  ...options,
});
/** A list in which order does not matter. */
export const set = <T>(element: Field<T>, options: FieldOptions = {}): Field<T[]> => ({
  kind: "set",
  element,
  ...options,
});
/** An object with the members of T, which must be named: `object<Rule>({...})`. */
export const object = <T = never>(fields: NoInfer<Fields<T>>, options: FieldOptions = {}): Field<Plain<T>> => ({
  kind: "object",
  fields: fields as AnyFields,
  ...options,
});
/** A JSON document as text; documents with the same normal form count as equal. */
export const json = (options: FieldOptions & { normalize?: (document: Value) => Value } = {}): Field<string> => ({
  kind: "json",
  ...options,
});
/** An argument that the official provider has and this stand-in refuses. */
export const refused = (instead: string): Field<never> => ({ kind: "refused", instead });

/** A fault of one argument, by its path. */
export interface Failure {
  property: string;
  reason: string;
}

/** What check needs to know beyond the arguments. */
export interface CheckContext {
  /** The resource's name in the program, from its URN. */
  name: string;
  /** Chosen by the engine: the same for the preview and the update. */
  randomDigits: string;
  /** The engine's own autonaming settings, where the stack has any. */
  autonaming?: { proposedName: string; mode: "propose" | "enforce" | "disable" };
  /** Called in error messages, e.g. `aws:s3/bucket:Bucket`. */
  subject: string;
}

/** Checks arguments against a table, converts what can be converted, and fills in defaults. */
export function checkInputs(
  fields: AnyFields,
  news: Properties,
  olds: Properties,
  context: CheckContext,
): { inputs: Properties; failures: Failure[] } {
  const failures: Failure[] = [];
  const inputs = checkObject(fields, news, "", context.subject, failures);
  const oldDefaults = Array.isArray(olds[defaultsKey]) ? olds[defaultsKey] : [];
  const filled: string[] = [];
  for (const [key, field] of Object.entries(fields)) {
    if (inputs[key] !== undefined || field.conflictsWith?.some((other) => inputs[other] !== undefined)) continue;
    const kept = oldDefaults.includes(key) ? olds[key] : undefined;
    const value = field.autoName ? (kept ?? autoName(field.autoName, context, key, failures)) : field.default;
    if (value === undefined) continue;
    inputs[key] = value;
    filled.push(key);
  }
  inputs[defaultsKey] = filled;
  return { inputs, failures };
}

function autoName(
  options: NonNullable<FieldOptions["autoName"]>,
  context: CheckContext,
  key: string,
  failures: Failure[],
): Value | undefined {
  const { autonaming } = context;
  if (autonaming?.mode === "disable") {
    failures.push({ property: key, reason: `is missing: autonaming is disabled for this stack, so give ${key}` });
    return undefined;
  }
  const suffix = `-${context.randomDigits}`;
  const proposed = autonaming?.proposedName ?? `${context.name.slice(0, options.maxLength - suffix.length)}${suffix}`;
  return options.lowerCase && autonaming?.mode !== "enforce" ? proposed.toLowerCase() : proposed;
}

function checkObject(
  fields: AnyFields,
  value: Properties,
  path: string,
  subject: string,
  failures: Failure[],
): Properties {
  const result: Properties = {};
  const at = (key: string) => (path === "" ? key : `${path}.${key}`);
  for (const [key, member] of Object.entries(value)) {
    if (key === defaultsKey || member === null) continue;
    const field = fields[key];
    if (!field) {
      const known = Object.keys(fields).filter((name) => fields[name]?.kind !== "refused");
      failures.push({ property: at(key), reason: `${subject} has no ${at(key)}; it has ${known.join(", ")}` });
    } else if (field.kind === "refused") {
      const reason = `the sandbox's stand-in for the official plugin does not know ${at(key)} of ${subject}: ${field.instead}`;
      failures.push({ property: at(key), reason });
    } else {
      for (const other of field.conflictsWith ?? [])
        if (value[other] !== undefined && value[other] !== null)
          failures.push({ property: at(key), reason: `conflicts with ${at(other)}: give one of them` });
      result[key] = checkValue(field, member, at(key), subject, failures);
    }
  }
  for (const [key, field] of Object.entries(fields))
    if (field.required && result[key] === undefined && !isUnknown(value[key]))
      if (!failures.some((failure) => failure.property === at(key)))
        failures.push({ property: at(key), reason: `is required by ${subject} and missing` });
  return result;
}

function checkValue(field: Field<unknown>, value: Value, path: string, subject: string, failures: Failure[]): Value {
  if (isUnknown(value)) return value;
  const wrong = (expected: string): Value => {
    failures.push({ property: path, reason: `${path} must be ${expected}, not ${JSON.stringify(value)}` });
    return value;
  };
  switch (field.kind) {
    case "string": {
      if (typeof value === "number" || typeof value === "boolean") return String(value);
      if (typeof value !== "string") return wrong("a text");
      if (field.oneOf && !field.oneOf.includes(value)) return wrong(`one of ${field.oneOf.join(", ")}`);
      return value;
    }
    case "number": {
      const converted = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
      return typeof converted === "number" && Number.isFinite(converted) ? converted : wrong("a number");
    }
    case "boolean":
      if (value === "true" || value === "false") return value === "true";
      return typeof value === "boolean" ? value : wrong("true or false");
    case "json": {
      if (typeof value !== "string")
        return isObject(value) || Array.isArray(value) ? JSON.stringify(value) : wrong("JSON");
      if (parseJson(value) === undefined) return wrong("valid JSON");
      return value;
    }
    case "list":
    case "set":
      if (!Array.isArray(value)) return wrong("a list");
      return value.map((member, i) => checkValue(field.element!, member, `${path}[${i}]`, subject, failures));
    case "map":
      if (!isObject(value)) return wrong("a map");
      return Object.fromEntries(
        Object.entries(value)
          .filter(([key, member]) => key !== defaultsKey && member !== null)
          .map(([key, member]) => [key, checkValue(field.element!, member, `${path}.${key}`, subject, failures)]),
      );
    case "object":
      return isObject(value) ? checkObject(field.fields!, value, path, subject, failures) : wrong("an object");
    case "refused":
      return value;
  }
}

/** Whether two values of a field mean the same to AWS. */
function same(field: Field<unknown>, a: Value | undefined, b: Value | undefined): boolean {
  if (isUnknown(a) || isUnknown(b)) return false;
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) && isEmpty(b);
  switch (field.kind) {
    case "json":
      return normalJson(field, a) === normalJson(field, b);
    case "set":
      return sortedSet(a) === sortedSet(b);
    case "object":
    case "list":
    case "map":
      return differences(field, a, b, "").length === 0;
    default:
      return field.compareAs ? field.compareAs(String(a)) === field.compareAs(String(b)) : a === b;
  }
}

const sortedSet = (value: Value | undefined) =>
  canonical(Array.isArray(value) ? [...value].sort((x, y) => (canonical(x) < canonical(y) ? -1 : 1)) : value);

function parseJson(document: string): Value | undefined {
  try {
    return JSON.parse(document) as Value;
  } catch {
    return undefined;
  }
}

function normalJson(field: Field<unknown>, value: Value | undefined): string {
  const document = typeof value === "string" ? parseJson(value) : value;
  return canonical(document === undefined ? value : field.normalize ? field.normalize(document) : document);
}

/** One property that differs. */
export interface Difference {
  /** As Pulumi writes property paths: `rules[0].filter.prefix`, `tags["a.b"]`. */
  path: string;
  kind: "add" | "delete" | "update";
  replaces: boolean;
}

const member = (path: string, key: string) => {
  if (!/^[A-Za-z_$][\w$]*$/.test(key)) return `${path}["${key.replaceAll('"', '\\"')}"]`;
  return path === "" ? key : `${path}.${key}`;
};

/** The differences between a resource's state and what is asked for, down to the innermost property that differs. */
export function differences(
  field: Field<unknown>,
  before: Value | undefined,
  after: Value | undefined,
  path: string,
  replaces = field.replaces === true,
): Difference[] {
  const difference = (kind: Difference["kind"]): Difference[] => [{ path, kind, replaces }];
  // Arguments come with their defaults, but what an import reads and a refresh compares with comes without.
  if ((after === undefined || after === null) && field.default !== undefined)
    return differences(field, before, field.default, path, replaces);
  if (isUnknown(after)) return difference(isEmpty(before) ? "add" : "update");
  if (isEmpty(after) && isEmpty(before)) return [];
  if (after === undefined || after === null) return field.computed ? [] : difference("delete");
  if (before === undefined || before === null) return difference("add");
  if (field.kind === "object" && isObject(before) && isObject(after))
    return Object.entries(field.fields!).flatMap(([key, inner]) =>
      differences(inner, before[key], after[key], member(path, key), replaces || inner.replaces === true),
    );
  if (field.kind === "map" && isObject(before) && isObject(after)) {
    const keys = new Set([...Object.keys(before), ...Object.keys(after)].filter((key) => key !== defaultsKey));
    return [...keys].flatMap((key): Difference[] => {
      if (before[key] === undefined) return [{ path: member(path, key), kind: "add", replaces }];
      if (after[key] === undefined) return [{ path: member(path, key), kind: "delete", replaces }];
      return before[key] === after[key] ? [] : [{ path: member(path, key), kind: "update", replaces }];
    });
  }
  if (field.kind === "list" && Array.isArray(before) && Array.isArray(after))
    return Array.from({ length: Math.max(before.length, after.length) }, (_, i) => `${path}[${i}]`).flatMap(
      (at, i): Difference[] => {
        if (i >= before.length) return [{ path: at, kind: "add", replaces }];
        if (i >= after.length) return [{ path: at, kind: "delete", replaces }];
        return differences(field.element!, before[i], after[i], at, replaces);
      },
    );
  return same(field, before, after) ? [] : difference(isEmpty(before) ? "add" : isEmpty(after) ? "delete" : "update");
}

/**
 * The differences between a whole state and checked inputs. Those of outputs that follow from inputs and configuration
 * (`tagsAll`) are named only where no input differs: else they follow from that.
 */
export function diffInputs(
  inputs: AnyFields,
  outputs: AnyFields,
  state: Properties,
  news: Properties,
  derived: Properties,
): Difference[] {
  const wanted = { ...derived, ...news };
  const among = (fields: AnyFields) =>
    Object.entries(fields).flatMap(([key, field]) => differences(field, state[key], wanted[key], key));
  const found = among(inputs);
  if (found.length > 0) return found;
  return among(Object.fromEntries(Object.entries(outputs).filter(([key]) => key in derived)));
}

/** The state that a preview shows: inputs, what follows from them, and unknowns for what only AWS can tell. */
export function foresee(
  inputs: AnyFields,
  outputs: AnyFields,
  news: Properties,
  derived: Properties,
  before: Properties | undefined,
): Properties {
  const state: Properties = { ...derived, ...withoutDefaults(news) };
  for (const [key, field] of Object.entries({ ...inputs, ...outputs })) {
    // What AWS writes in another way than it is given does not change by being given again.
    if (before?.[key] !== undefined && state[key] !== undefined && same(field, before[key], state[key]))
      state[key] = before[key];
    if (state[key] !== undefined || field.kind === "refused") continue;
    if (key in inputs && !field.computed) continue;
    const old = field.volatile ? undefined : before?.[key];
    if (old !== undefined) state[key] = old;
    else if (!before || field.volatile) state[key] = unknown;
  }
  return state;
}

/** What was read, in the known wording of documents, lists and objects that mean the same; the provider's settings are kept. */
export function settle(fields: AnyFields, known: Properties, read: Properties): Properties {
  const state: Properties = {};
  for (const [key, field] of Object.entries(fields)) {
    const value = field.providerOnly ? (known[key] ?? field.default) : read[key];
    const old = known[key];
    const scalar = field.kind === "string" || field.kind === "number" || field.kind === "boolean";
    const kept = !scalar && old !== undefined && !isUnknown(old) && same(field, old, value) ? old : value;
    if (kept !== undefined && kept !== null && !(isEmpty(kept) && old === undefined && field.kind !== "boolean"))
      state[key] = kept;
  }
  return state;
}

/** The arguments that describe a state: for `pulumi import` all that say something, for a refresh those that were given. */
export function inputsOf(
  fields: AnyFields,
  state: Properties,
  given: Properties | undefined,
  derived: Properties,
): Properties {
  const inputs: Properties = {};
  for (const [key, field] of Object.entries(fields)) {
    const value = state[key];
    if (value === undefined || field.kind === "refused") continue;
    const says = !isEmpty(value) && canonical(value) !== canonical(field.default) && !same(field, value, derived[key]);
    if (given ? given[key] !== undefined || (says && !field.computed) : says) inputs[key] = value;
  }
  if (given?.[defaultsKey] !== undefined) inputs[defaultsKey] = given[defaultsKey];
  return inputs;
}

/** The properties without the record of defaults. */
export function withoutDefaults(properties: Properties): Properties {
  const { [defaultsKey]: _, ...rest } = properties;
  return rest;
}
