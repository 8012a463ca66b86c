/**
 * Evaluates policies as IAM does, within one account, for the part of their language that is used here. Pure.
 *
 * Known are Effect, Action, Resource and Principal, and the operators and keys of conditions below. A policy with anything
 * else (NotAction, variables, other operators or keys) is not evaluated in part: it is refused, with all that is not known.
 */
import { z } from "zod";

/** What a policy is attached to, which decides what its statements must have. */
export type PolicyKind = "identity" | "resource" | "trust";

/** A policy cannot be read, or has something that is not known here; the message names every such thing and its place. */
export class UnknownPolicyError extends Error {}

/** Who asks, by all names that a policy's Principal may have for them. */
export interface Names {
  kind: "AWS" | "Federated" | "Service";
  /** The user, the role's session, the identity provider or the service. */
  own: string;
  /** ARN of the role, where `own` is a session of it. */
  role?: string;
}

/** A request, as statements see it. */
export interface PolicyRequest {
  principal: Names;
  /** As in `s3:GetObject`. */
  action: string;
  /** ARN, or `*` for an action on no resource in particular. */
  resource: string;
  /** Condition keys that the request has. Throws for one that is not known. */
  context: Record<string, string>;
}

/**
 * How far an allowing statement reaches: it names the user, session, service or provider itself (as identity policies do,
 * by where they are), a session's `role` or anyone, or the whole `account`.
 */
type Reach = "itself" | "role" | "account";

/** What a policy says of a request. */
export interface Answer {
  denies: boolean;
  allows: ReadonlySet<Reach>;
}

/**
 * Condition keys that are known. Those that a request's context lacks are absent: the account of a service's caller is there for
 * services only, and tags of a request never, since nobody here passes session tags.
 */
const knownKeys = [
  /^aws:(SecureTransport|PrincipalAccount|SourceAccount|RequestTag\/.+)$/i,
  /^sts:ExternalId$/i,
  /^s3:(prefix|delimiter|max-keys|VersionId|x-amz-(acl|server-side-encryption|storage-class))$/i,
  // Claims of a web identity token, by its issuer: `oidc.eks.us-east-1.amazonaws.com/id/0A1B:sub`.
  /^[^:]+\.[^:]+:(aud|sub)$/i,
];
const isKnownKey = (key: string) => knownKeys.some((known) => known.test(key));

/** One value stands for a list of one. */
const list = <T extends z.ZodType>(one: T) =>
  z.preprocess((value) => (Array.isArray(value) ? value : [value]), z.array(one).min(1));

const noVariables = z.string().refine((value) => !value.includes("${"), { error: "policy variables are not known" });
const values = list(z.union([z.boolean(), z.number(), noVariables]));
const conditions = z.record(
  z.string().refine(isKnownKey, { error: "condition key is not known" }),
  values.transform((all) => all.map(String)),
);
const anyStatement = {
  Sid: z.string().optional(),
  Effect: z.enum(["Allow", "Deny"]),
  Action: list(z.string().regex(/^(\*|[a-z0-9-]+:[\w*?]+)$/i, { error: "must be * or <service>:<action>" })),
  Condition: z
    .strictObject({ StringEquals: conditions, StringLike: conditions, Bool: conditions })
    .partial()
    .default({}),
};
const Resource = list(noVariables.regex(/^(\*|arn(:[^:]*){4}:.*)$/s, { error: "must be * or an ARN of six parts" }));
const arnOrAccount = /^(\*|\d{12}|arn:[a-z-]+:(iam|sts)::\d{12}:[^*?]+)$/;
const named = list(z.string().regex(/^[^*?]+$/, { error: "must be a name without wildcards" }));
const Principal = z.preprocess(
  (value) => (value === "*" ? { AWS: "*" } : value),
  z
    .strictObject({
      AWS: list(z.string().regex(arnOrAccount, { error: "must be *, an account or an ARN without wildcards" })),
      Federated: named,
      Service: named,
    })
    .partial(),
);
const statements = {
  identity: z.strictObject({ ...anyStatement, Resource }),
  resource: z.strictObject({ ...anyStatement, Resource, Principal }),
  trust: z.strictObject({ ...anyStatement, Principal }),
};
const documentOf = <T extends z.ZodType>(statement: T) =>
  z.strictObject({
    Version: z.enum(["2012-10-17", "2008-10-17"]).optional(),
    Id: z.string().optional(),
    Statement: list(statement),
  });
const documents = {
  identity: documentOf(statements.identity),
  resource: documentOf(statements.resource),
  trust: documentOf(statements.trust),
};

/** A statement of any kind; those of identity policies name nobody, and those of trust policies are about the role. */
type Statement = z.infer<typeof statements.identity> & {
  Resource?: string[];
  Principal?: z.infer<typeof Principal>;
};

function read(kind: PolicyKind, policy: string): Statement[] {
  let json: unknown;
  try {
    json = JSON.parse(policy);
  } catch (error) {
    throw new UnknownPolicyError(`it is no JSON: ${(error as Error).message}`);
  }
  const parsed = documents[kind].safeParse(json);
  if (parsed.success) return parsed.data.Statement as Statement[];
  const faults = parsed.error.issues.map((issue) => {
    const message = issue.code === "invalid_key" ? issue.issues[0]!.message : issue.message;
    return [...issue.path, message].join(": ");
  });
  throw new UnknownPolicyError(faults.join("; "));
}

/** Whether a pattern with `*` (any text) and `?` (any one character) matches all of a text. */
export function matches(pattern: string, value: string): boolean {
  // Back to the last star when something does not fit: linear in memory, and never exponential in time.
  let [p, v, star, from] = [0, 0, -1, 0];
  while (v < value.length) {
    if (pattern[p] === "*") [star, from] = [p++, v];
    else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === value[v])) {
      p++;
      v++;
    } else if (star >= 0) {
      p = star + 1;
      v = ++from;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** An ARN's six parts; the last one may have colons of its own. */
function parts(arn: string): string[] {
  const all = arn.split(":");
  return [...all.slice(0, 5), all.slice(5).join(":")];
}

/** Wildcards stay within the part of the ARN that they are in. */
function resourceMatches(pattern: string, resource: string): boolean {
  if (pattern === "*" || resource === "*") return pattern === "*";
  const asked = parts(resource);
  return parts(pattern).every((part, i) => matches(part, asked[i]!));
}

const operators: Record<keyof Statement["Condition"], (expected: string, actual: string) => boolean> = {
  StringEquals: (expected, actual) => expected === actual,
  StringLike: matches,
  Bool: (expected, actual) => expected.toLowerCase() === actual.toLowerCase(),
};

/** All operators and keys must hold, each with one of its values; a key that the request lacks holds for none. */
function conditionsHold(statement: Statement, context: ReadonlyMap<string, string>): boolean {
  return (Object.keys(statement.Condition) as (keyof Statement["Condition"])[]).every((operator) =>
    Object.entries(statement.Condition[operator] ?? {}).every(([key, expected]) => {
      const actual = context.get(key.toLowerCase());
      return actual !== undefined && expected.some((one) => operators[operator](one, actual));
    }),
  );
}

/** How the statement's principals reach who asks: none if they do not. */
function reaches({ Principal }: Statement, { kind, own, role }: Names): Reach[] {
  if (!Principal) return ["itself"];
  const anyone: Reach[] = Principal.AWS?.includes("*") ? ["role"] : [];
  if (kind !== "AWS") return Principal[kind]?.includes(own) ? ["itself"] : anyone;
  const account = own.split(":")[4]!;
  const reach = (name: string): Reach[] => {
    if (name === own) return ["itself"];
    if (name === role) return ["role"];
    return name === account || /^arn:[a-z-]+:iam::(\d{12}):root$/.exec(name)?.[1] === account ? ["account"] : [];
  };
  return [...anyone, ...(Principal.AWS ?? []).flatMap(reach)];
}

/** What a policy says of a request. Throws {@link UnknownPolicyError}. */
export function evaluate(kind: PolicyKind, policy: string, request: PolicyRequest): Answer {
  const unknown = Object.keys(request.context).filter((key) => !isKnownKey(key));
  if (unknown.length > 0) throw new Error(`condition keys that no policy could use: ${unknown.join(", ")}`);
  const context = new Map(Object.entries(request.context).map(([key, value]) => [key.toLowerCase(), value]));
  let denies = false;
  const allows = new Set<Reach>();
  for (const statement of read(kind, policy)) {
    const reached = reaches(statement, request.principal);
    const applies =
      reached.length > 0 &&
      statement.Action.some((pattern) => matches(pattern.toLowerCase(), request.action.toLowerCase())) &&
      (statement.Resource ?? ["*"]).some((pattern) => resourceMatches(pattern, request.resource)) &&
      conditionsHold(statement, context);
    if (!applies) continue;
    if (statement.Effect === "Deny") denies = true;
    else for (const one of reached) allows.add(one);
  }
  return { denies, allows };
}
