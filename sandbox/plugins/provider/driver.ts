/**
 * What the engine asks of a provider, answered from its tables: plain values in and out, nothing of gRPC.
 *
 * Not done, unlike by the official bridged providers: a schema to generate an SDK from, listing of resources, method
 * calls, remote components, parameterization. Secrets are not seen here at all: the engine takes them off before and
 * puts them back on every output that has the name of a secret argument (and not on others that follow from it: `tagsAll`).
 */
import { createHash } from "node:crypto";
import {
  type AnyFields,
  type CheckContext,
  checkInputs,
  type Difference,
  diffInputs,
  type Failure,
  foresee,
  inputsOf,
  settle,
  withoutDefaults,
} from "./fields";
import type { AnyResource, ProviderDefinition, Request } from "./resource";
import { asSecret, defaultsKey, hasUnknown, isUnknown, type Properties, toValue } from "./values";

/** How long a request may take where the program sets no `customTimeouts`, in seconds. */
const defaultTimeout = 20 * 60;

/** The resource exists, but something after its creation failed: it stays in the state and the next update completes it. */
export class Incomplete extends Error {
  constructor(
    readonly id: string,
    readonly state: Properties,
    readonly inputs: Properties,
    readonly reason: string,
  ) {
    super(reason);
  }
}

/** The answer to a diff. */
export interface Diff {
  differences: Difference[];
  deleteBeforeReplace: boolean;
}

/** Answers the engine's requests for one provider process. */
export class Driver<Context> {
  private readonly cancelled = new AbortController();
  private configured: Promise<Context> | undefined;

  constructor(readonly definition: ProviderDefinition<Context>) {}

  /** Checks the provider's configuration; what comes from a stack's settings are texts, some of them JSON. */
  checkConfig(news: Properties): { inputs: Properties; failures: Failure[] } {
    const { configuration, name, checkConfiguration } = this.definition;
    const plain = decodeConfiguration(configuration, news);
    const { inputs, failures } = checkInputs(
      configuration,
      plain,
      {},
      {
        name,
        randomDigits: "",
        subject: `the ${name} provider's configuration (settings ${name}:...)`,
      },
    );
    if (failures.length === 0 && checkConfiguration && !hasUnknown(inputs))
      failures.push(...checkConfiguration(withoutDefaults(inputs)));
    return { inputs: news, failures };
  }

  /** Remembers the configuration; what it takes to use it (credentials, account) is done once, here. */
  async configure(args: Properties): Promise<void> {
    const plain = decodeConfiguration(this.definition.configuration, args);
    const { inputs } = checkInputs(
      this.definition.configuration,
      plain,
      {},
      {
        name: this.definition.name,
        randomDigits: "",
        subject: this.definition.name,
      },
    );
    this.configured = this.definition.configure(withoutDefaults(inputs), this.cancelled.signal);
    await this.configured;
  }

  /** Stops whatever is under way. */
  cancel(): void {
    this.cancelled.abort(new Error("cancelled by the engine"));
  }

  /** Calls a function. */
  async invoke(token: string, args: Properties): Promise<{ result: Properties; failures: Failure[] }> {
    const found = this.definition.functions.find((candidate) => candidate.token === token);
    if (!found) throw this.notKnown("function", token, this.definition.functions);
    const context: CheckContext = { name: token, randomDigits: "", subject: token };
    const { inputs, failures } = checkInputs(found.inputs, args, {}, context);
    if (failures.length > 0) return { result: {}, failures };
    const signal = AbortSignal.any([this.cancelled.signal, AbortSignal.timeout(defaultTimeout * 1000)]);
    return {
      result: toValue(await found.call(await this.context(), withoutDefaults(inputs), signal)) as Properties,
      failures,
    };
  }

  /** Checks a resource's arguments and fills in defaults. */
  async check(
    urn: string,
    olds: Properties,
    news: Properties,
    seed: Uint8Array,
    autonaming?: CheckContext["autonaming"],
  ): Promise<{ inputs: Properties; failures: Failure[] }> {
    const type = this.resource(urn);
    const digits = createHash("sha256").update(seed.length > 0 ? seed : crypto.getRandomValues(new Uint8Array(16)));
    const randomDigits = digits.digest("hex").slice(0, 7);
    const context: CheckContext = { name: nameOf(urn), randomDigits, subject: type.token };
    if (autonaming) context.autonaming = autonaming;
    const { inputs, failures } = checkInputs(type.inputs, news, olds, context);
    if (failures.length === 0 && type.check) failures.push(...type.check(withoutDefaults(inputs)));
    return { inputs, failures };
  }

  /** Compares a resource's state with what is asked for. */
  async diff(urn: string, state: Properties, news: Properties, ignored: readonly string[]): Promise<Diff> {
    const type = this.resource(urn);
    const derived = await this.derive(type, news);
    const all = diffInputs(type.inputs, type.outputs, state, news, derived);
    const differences = all.filter(({ path }) => !ignored.some((ignore) => isWithin(path, ignore)));
    const name = type.nameInput;
    const defaults = Array.isArray(news[defaultsKey]) ? news[defaultsKey] : [];
    const nameStays = name !== undefined && news[name] !== undefined && news[name] === state[name];
    return {
      differences,
      deleteBeforeReplace:
        differences.some(({ replaces }) => replaces) && nameStays && !defaults.includes(name) && !isUnknown(news[name]),
    };
  }

  /** Creates a resource, or foresees one. */
  async create(
    urn: string,
    news: Properties,
    preview: boolean,
    timeout: number,
  ): Promise<{ id: string; state: Properties }> {
    const type = this.resource(urn);
    const derived = await this.derive(type, news);
    if (preview) return { id: "", state: foresee(type.inputs, type.outputs, news, derived, undefined) };
    const inputs = withoutDefaults(news);
    const known = { ...derived, ...inputs };
    let made: string | undefined;
    const request = await this.request(urn, timeout, (id) => {
      made = id;
    });
    try {
      const created = await type.create(request, inputs);
      const id = typeof created === "string" ? created : created.id;
      made = id;
      const read = typeof created === "string" ? await type.read(request, id, known) : created;
      if (!read) throw new Error(`${type.token} ${id} was created and then could not be found`);
      return { id, state: settle(allFields(type), known, toValue(read.state) as Properties) };
    } catch (error) {
      if (made === undefined) throw error;
      throw new Incomplete(made, await this.whatIsThere(type, request, made, known), news, messageOf(error));
    }
  }

  /** Reads a resource for a refresh, an import or a `get`; no id in the answer means that it is gone. */
  async read(
    urn: string,
    id: string,
    state: Properties,
    given: Properties | undefined,
    timeout: number,
  ): Promise<{ id: string; state: Properties; inputs: Properties } | undefined> {
    const type = this.resource(urn);
    const known = withoutDefaults(state);
    const request = await this.request(urn, timeout);
    const read = await type.read(request, id, known);
    if (!read) return undefined;
    const settled = settle(allFields(type), known, toValue(read.state) as Properties);
    const importing = Object.keys(known).length === 0;
    const inputs = inputsOf(type.inputs, settled, importing ? undefined : given, await this.derive(type, {}));
    return { id: read.id ?? id, state: settled, inputs };
  }

  /** Updates a resource, or foresees an update. */
  async update(
    urn: string,
    id: string,
    before: Properties,
    news: Properties,
    preview: boolean,
    timeout: number,
  ): Promise<Properties> {
    const type = this.resource(urn);
    const derived = await this.derive(type, news);
    if (preview) return foresee(type.inputs, type.outputs, news, derived, before);
    const inputs = withoutDefaults(news);
    const request = await this.request(urn, timeout);
    await type.update?.(request, id, inputs, withoutDefaults(before));
    // Arguments that AWS chose keep their values; those that are not given any more go.
    const kept = Object.fromEntries(
      Object.entries(before).filter(([key]) => key in type.outputs || type.inputs[key]?.computed),
    );
    const known = { ...kept, ...derived, ...inputs };
    const read = await type.read(request, id, known);
    if (!read) throw new Error(`${type.token} ${id} is gone: run pulumi refresh to take it out of the state`);
    return settle(allFields(type), known, toValue(read.state) as Properties);
  }

  /** Deletes a resource. */
  async delete(urn: string, id: string, state: Properties, timeout: number): Promise<void> {
    await this.resource(urn).delete(await this.request(urn, timeout), id, withoutDefaults(state));
  }

  /** The state as the engine is to keep it: outputs that are always secret are marked so. */
  markSecrets(urn: string, state: Properties): Properties {
    const fields = allFields(this.resource(urn));
    return Object.fromEntries(
      Object.entries(state).map(([key, value]) => [key, fields[key]?.secret ? asSecret(value) : value]),
    );
  }

  private async whatIsThere(
    type: AnyResource<Context>,
    request: Request<Context>,
    id: string,
    known: Properties,
  ): Promise<Properties> {
    try {
      const read = await type.read(request, id, known);
      if (read) return settle(allFields(type), known, toValue(read.state) as Properties);
    } catch {
      // The first failure is the one to report; what is known must do as the state.
    }
    return known;
  }

  private async context(): Promise<Context> {
    if (!this.configured) throw new Error(`the ${this.definition.name} provider is not configured yet`);
    return this.configured;
  }

  private async request(
    urn: string,
    timeout: number,
    made: (id: string) => void = () => {},
  ): Promise<Request<Context>> {
    const limit = AbortSignal.timeout((timeout > 0 ? timeout : defaultTimeout) * 1000);
    return { context: await this.context(), urn, made, signal: AbortSignal.any([this.cancelled.signal, limit]) };
  }

  private async derive(type: AnyResource<Context>, inputs: Properties): Promise<Properties> {
    return type.derive ? (toValue(type.derive(withoutDefaults(inputs), await this.context())) as Properties) : {};
  }

  private resource(urn: string): AnyResource<Context> {
    const token = typeOf(urn);
    const found = this.definition.resources.find((candidate) => candidate.token === token);
    if (!found) throw this.notKnown("resource type", token, this.definition.resources);
    return found;
  }

  private notKnown(what: string, token: string, known: readonly { token: string }[]): Error {
    const { name, version } = this.definition;
    const list = known.map((entry) => entry.token).sort();
    return new Error(
      `the sandbox's stand-in for the ${name} plugin has no ${what} ${token}; it has ${list.join(", ") || "none"}. ` +
        `Install the official plugin to use it: pulumi plugin install resource ${name} v${version}`,
    );
  }
}

const allFields = <Context>(type: AnyResource<Context>): AnyFields => ({ ...type.inputs, ...type.outputs });
const typeOf = (urn: string) => urn.split("::")[2]?.split("$").at(-1) ?? "";
const nameOf = (urn: string) => urn.split("::").slice(3).join("::");
const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));
const isWithin = (path: string, ignore: string) =>
  path === ignore || path.startsWith(`${ignore}.`) || path.startsWith(`${ignore}[`);

/** Settings arrive as texts; those that the table has as lists, objects and so on are JSON in them. */
function decodeConfiguration(fields: AnyFields, args: Properties): Properties {
  const ignored = new Set(["version", "pluginDownloadURL", "pluginChecksums", "__internal", defaultsKey]);
  return Object.fromEntries(
    Object.entries(args)
      .filter(([key]) => !ignored.has(key))
      .map(([key, value]) => {
        const kind = fields[key]?.kind;
        if (typeof value !== "string" || isUnknown(value) || kind === "string" || kind === undefined)
          return [key, value];
        try {
          return [key, JSON.parse(value)];
        } catch {
          return [key, value];
        }
      }),
  );
}
