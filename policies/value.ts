/**
 * What a rule reads of a resource: values that may not be known yet. In a preview much is unknown, and a rule that took
 * "unknown" for "not set" would pass or fail wrongly; so reading what is unknown throws, and what throws is reported as
 * not known yet.
 */

/** Thrown when a rule needs a value that is known only once the update runs. */
export class NotKnown extends Error {
  constructor(
    /** Where the value is, e.g. `metadata.annotations`. */
    readonly path: string,
  ) {
    super(`${path} is not known yet`);
  }
}

/** Stands in plain data for a value that is not known. */
export const unknown: unique symbol = Symbol("not known yet");

/**
 * Copies the data that the policy SDK hands over. The SDK throws when an unknown value is read; here it becomes `unknown`,
 * so that what is beside it can still be read.
 */
export function plainData(data: unknown): unknown {
  if (data === null || typeof data !== "object") return data;
  const holder = data as Record<string, unknown>;
  const read = (key: string): unknown => {
    let value: unknown;
    try {
      value = holder[key];
    } catch {
      return unknown;
    }
    return plainData(value);
  };
  if (Array.isArray(data)) return Array.from({ length: data.length }, (_, i) => read(String(i)));
  return Object.fromEntries(Object.keys(holder).map((key) => [key, read(key)]));
}

/** A value at a place in a resource, a part of which may be unknown. Reads throw `NotKnown` where it is. */
export class Value {
  constructor(
    private readonly data: unknown,
    /** Where it is, from the resource's properties on; empty for all of them. */
    readonly path = "",
  ) {}

  private known(): unknown {
    if (this.data === unknown) throw new NotKnown(this.path || "the whole of it");
    return this.data ?? undefined;
  }

  /** What is below it under the given keys; of what is not there, nothing. */
  get(...keys: string[]): Value {
    return keys.reduce<Value>((from, key) => {
      const data = from.known();
      const path = from.path ? `${from.path}.${key}` : key;
      return new Value(
        data !== null && typeof data === "object" ? (data as Record<string, unknown>)[key] : undefined,
        path,
      );
    }, this);
  }

  /** Whether nothing is there. */
  get missing(): boolean {
    return this.known() === undefined;
  }

  /** It as text; numbers and booleans as they are written. */
  get text(): string | undefined {
    const data = this.known();
    return typeof data === "string" || typeof data === "number" || typeof data === "boolean" ? String(data) : undefined;
  }

  /** It as a number, also where it is written as text. */
  get number(): number | undefined {
    const text = this.text;
    return text === undefined || text.trim() === "" || Number.isNaN(Number(text)) ? undefined : Number(text);
  }

  /** Whether it is true, also where it is written as text. */
  get isTrue(): boolean {
    return this.text === "true";
  }

  /** Its elements; of a single value, that one; of nothing, none. */
  get list(): Value[] {
    const data = this.known();
    if (data === undefined) return [];
    return Array.isArray(data) ? data.map((one, i) => new Value(one, `${this.path}[${i}]`)) : [this];
  }

  /** Its texts, as a list; what is not text is left out. */
  get texts(): string[] {
    return this.list.flatMap((one) => one.text ?? []);
  }

  /** What is below it, by key. */
  get entries(): [string, Value][] {
    const data = this.known();
    if (data === null || typeof data !== "object" || Array.isArray(data)) return [];
    return Object.keys(data).map((key) => [key, this.get(key)]);
  }

  /** It as JSON, where it is text that holds some; otherwise itself. */
  get parsed(): Value {
    const data = this.known();
    if (typeof data !== "string") return this;
    try {
      return new Value(JSON.parse(data), this.path);
    } catch {
      return new Value(undefined, this.path);
    }
  }
}
