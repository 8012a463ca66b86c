/** What a resource type and a function of a provider consist of. */
import type { AnyFields, Failure, Fields, Plain } from "./fields";
import type { Properties } from "./values";

/** One request from the engine for one resource. */
export interface Request<Context> {
  /** What the provider made of its configuration: clients and settings. */
  context: Context;
  urn: string;
  /** Ends when the engine cancels, or when the time that the request may take is over. */
  signal: AbortSignal;
  /** To be called as soon as the resource exists: from then on a failure keeps it in the state, as not yet complete. */
  made(id: string): void;
}

/** What reading a resource gives. */
interface Read<State> {
  /** The proper id, where an import may have given it in another form. */
  id?: string;
  state: State;
}

/** A resource type, with the arguments and the state of the official SDK's class. */
export interface ResourceType<Args, State, Context> {
  /** As the SDK registers it, e.g. `aws:s3/bucket:Bucket`. */
  token: string;
  inputs: Fields<Args>;
  outputs: Fields<Omit<State, keyof Args>>;
  /** The argument that names the resource: replacing one with a name given explicitly must delete the old one first. */
  nameInput?: keyof Args & string;
  /** What follows from arguments and the provider's configuration, without asking anybody. */
  derive?(inputs: Partial<Plain<Args>>, context: Context): Partial<Plain<State>>;
  /** Faults that the table cannot express. Arguments may be unknown. */
  check?(inputs: Partial<Plain<Args>>): Failure[];
  /** Creates the resource and returns its id; its state too where reading cannot find it out. */
  create(
    request: Request<Context>,
    inputs: Plain<Args>,
  ): Promise<string | { id: string; state: Partial<Plain<State>> }>;
  /** Reads the resource; undefined if it is gone. `known` is the last known state, or nothing for an import. */
  read(
    request: Request<Context>,
    id: string,
    known: Partial<Plain<State>>,
  ): Promise<Read<Partial<Plain<State>>> | undefined>;
  /** Brings the resource to `inputs`. Must be repeatable: a failed update is made again from the old state. */
  update?(request: Request<Context>, id: string, inputs: Plain<Args>, before: Partial<Plain<State>>): Promise<void>;
  /** Deletes the resource; one that is gone already is no error. */
  delete(request: Request<Context>, id: string, state: Partial<Plain<State>>): Promise<void>;
}

/** A function, with the arguments and the result of the official SDK's function. */
export interface FunctionType<Args, Result, Context> {
  /** As the SDK calls it, e.g. `aws:index/getRegion:getRegion`. */
  token: string;
  inputs: Fields<Args>;
  call(context: Context, args: Plain<Args>, signal: AbortSignal): Promise<Result>;
}

/** A resource type whose argument and state types no longer matter. */
export type AnyResource<Context> = Omit<
  ResourceType<Properties, Properties, Context>,
  "inputs" | "outputs" | "nameInput" | "derive" | "check"
> & {
  inputs: AnyFields;
  outputs: AnyFields;
  nameInput?: string;
  derive?(inputs: Properties, context: Context): Properties;
  check?(inputs: Properties): Failure[];
};
/** A function whose argument and result types no longer matter. */
export type AnyFunction<Context> = {
  token: string;
  inputs: AnyFields;
  call(context: Context, args: Properties, signal: AbortSignal): Promise<unknown>;
};

/** Checks a resource type's definition against the SDK's types, then forgets them. */
export function resource<Args, State, Context>(definition: ResourceType<Args, State, Context>): AnyResource<Context> {
  return definition as unknown as AnyResource<Context>;
}

/** Checks a function's definition against the SDK's types, then forgets them. */
export function invokable<Args, Result, Context>(
  definition: FunctionType<Args, Result, Context>,
): AnyFunction<Context> {
  return definition as unknown as AnyFunction<Context>;
}

/** A whole provider. */
export interface ProviderDefinition<Context> {
  /** Name of the package, e.g. `aws`. */
  name: string;
  /** Version of the official SDK package whose types it follows. */
  version: string;
  /** The provider's configuration. */
  configuration: AnyFields;
  /** Faults of the configuration that the table cannot express. */
  checkConfiguration?(configuration: Properties): Failure[];
  /** Makes the context of all requests; asked once, before any other request. */
  configure(configuration: Properties, signal: AbortSignal): Promise<Context>;
  resources: readonly AnyResource<Context>[];
  functions: readonly AnyFunction<Context>[];
}
