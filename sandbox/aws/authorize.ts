/**
 * Decides what IAM would, from the policies of who asks and of what is asked for.
 *
 * Everything is in one account. There are no service control policies or VPC endpoint policies. The
 * sandbox's plain HTTP stands for TLS: `aws:SecureTransport` is always true. A policy that cannot be evaluated gives
 * nothing, whatever the others say.
 */
import { accountId } from "../world/regions";
import { type Answer, evaluate, type Names, type PolicyKind, type PolicyRequest, UnknownPolicyError } from "./evaluate";
import type { PolicyText } from "./moto";
import type { Need } from "./request";

/**
 * A decision. `reason` says why not, in the words of AWS's messages: `because …` or `with …`; `unknown` is set where it is that
 * a policy cannot be evaluated here, and belongs into every message, also where AWS gives no reason.
 */
export type Decision = { allowed: true } | { allowed: false; reason: string; unknown?: string };

/** The message of a denial for which AWS gives no reason. */
export function withoutReason(message: string, decision: Decision | undefined): string {
  return decision && "unknown" in decision ? `${message}, ${decision.unknown}` : message;
}

/** A user, or a role's session, with the policies that speak for them. */
export interface Principal {
  /** As policies and messages name them: a user's or an assumed role's ARN. */
  arn: string;
  /** The role's own ARN, where `arn` is a session of it. */
  role?: string;
  policies: PolicyText[];
  /** Permissions boundary: what the policies may give at most. */
  boundary?: PolicyText | null;
  /** Policy given when the role was assumed: it can only take away. */
  sessionPolicy?: PolicyText;
}

/** What may be asked: a policy that is attached to something other than who asks, if there is one. */
interface Asked {
  kind: "resource" | "trust";
  policy: PolicyText | null;
}

function decide(who: Names, principal: Omit<Principal, "arn">, need: Need, asked: Asked): Decision {
  const request: PolicyRequest = {
    principal: who,
    action: need.action,
    resource: need.resource,
    context: { ...need.context, "aws:SecureTransport": "true" },
  };
  const unknown: string[] = [];
  const ask = (name: string, kind: PolicyKind, policy: PolicyText): Answer => {
    try {
      return evaluate(kind, policy, request);
    } catch (error) {
      if (!(error instanceof UnknownPolicyError)) throw error;
      unknown.push(`${name}: ${error.message}`);
      return { denies: false, allows: new Set() };
    }
  };
  const own = principal.policies.map((policy) => ask("policy", "identity", policy));
  const limits = [
    ...(principal.boundary ? [ask("permissions boundary", "identity", principal.boundary)] : []),
    ...(principal.sessionPolicy ? [ask("session policy", "identity", principal.sessionPolicy)] : []),
  ];
  const attached = asked.policy ? ask(`${asked.kind} policy`, asked.kind, asked.policy) : undefined;
  if (unknown.length > 0) {
    const cannot = `because the sandbox cannot evaluate ${unknown.join("; ")}`;
    return { allowed: false, reason: cannot, unknown: cannot };
  }
  if ([...own, ...limits, ...(attached ? [attached] : [])].some((answer) => answer.denies)) {
    return { allowed: false, reason: "with an explicit deny in a policy" };
  }
  // Limits do not hold for what a policy gives to the user or session itself, by its full name.
  if (attached?.allows.has("itself")) return { allowed: true };
  const within = limits.every((answer) => answer.allows.size > 0);
  const given = own.some((answer) => answer.allows.size > 0);
  // A role is assumed only where its trust says so; a trust in the account leaves it to the account's own policies.
  const enough =
    attached?.allows.has("role") || (given && (asked.kind === "resource" || attached?.allows.has("account") === true));
  if (enough && within) return { allowed: true };
  const lacking = asked.kind === "trust" ? "role trust policy" : "identity-based policy";
  return { allowed: false, reason: `because no ${lacking} allows the ${need.action} action` };
}

const namesOf = ({ arn, role }: Principal): Names => ({ kind: "AWS", own: arn, ...(role ? { role } : {}) });

/** Whether a principal may do what a request needs; `bucketPolicy` is that of the resource's bucket. */
export function authorize(principal: Principal, need: Need, bucketPolicy: PolicyText | null): Decision {
  const context = { ...need.context, "aws:PrincipalAccount": accountId };
  return decide(namesOf(principal), principal, { ...need, context }, { kind: "resource", policy: bucketPolicy });
}

/** A role and who may assume it. */
export interface TrustingRole {
  arn: string;
  trust: PolicyText;
}

/** Whether a role's trust policy lets the holder of a web identity token assume it. `issuerName`: without `https://`. */
export function trustsToken(
  role: TrustingRole,
  provider: { arn: string; issuerName: string },
  claims: { aud: string; sub: string },
): Decision {
  const context = { [`${provider.issuerName}:aud`]: claims.aud, [`${provider.issuerName}:sub`]: claims.sub };
  const need: Need = { action: "sts:AssumeRoleWithWebIdentity", resource: role.arn, context };
  const who: Names = { kind: "Federated", own: provider.arn };
  return decide(who, { policies: [] }, need, { kind: "trust", policy: role.trust });
}

/** Whether a principal of the account may assume a role: by the role's trust policy and, where that leaves it open, its own. */
export function trustsPrincipal(role: TrustingRole, principal: Principal, context: Record<string, string>): Decision {
  const need: Need = {
    action: "sts:AssumeRole",
    resource: role.arn,
    context: { ...context, "aws:PrincipalAccount": accountId },
  };
  return decide(namesOf(principal), principal, need, { kind: "trust", policy: role.trust });
}

/** Whether a role's trust policy lets a service of AWS assume it on behalf of this account. */
export function trustsService(role: TrustingRole, service: string): Decision {
  const need: Need = { action: "sts:AssumeRole", resource: role.arn, context: { "aws:SourceAccount": accountId } };
  const who: Names = { kind: "Service", own: service };
  return decide(who, { policies: [] }, need, { kind: "trust", policy: role.trust });
}
