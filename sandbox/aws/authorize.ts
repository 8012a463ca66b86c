/**
 * Decides what IAM would: evaluates real policies with iam-simulate.
 *
 * Everything is in one account. There are no service control policies or VPC endpoint policies. The
 * sandbox's plain HTTP stands for TLS: `aws:SecureTransport` is always true.
 */
import { runSimulation } from "@cloud-copilot/iam-simulate";
import { accountId } from "../world/regions";
import type { PolicyText } from "./moto";
import type { Need } from "./request";

/** A decision: `explicit` says that a statement denies, rather than none allowing. */
export type Decision = { allowed: true } | { allowed: false; explicit: boolean; reason: string };

/** Who asks, with the policies that speak for them. */
export interface Principal {
  /** As policies and messages name them: a user's or assumed role's ARN, a provider's ARN, or a service. */
  arn: string;
  policies: PolicyText[];
  /** Permissions boundary: what the policies may give at most. */
  boundary?: PolicyText | null;
  /** Policy given when the role was assumed: it can only take away. */
  sessionPolicy?: PolicyText;
}

async function simulate(
  principal: Principal,
  need: Need,
  resourcePolicy: unknown,
  context: Record<string, string>,
): Promise<Decision> {
  const simulated = await runSimulation(
    {
      request: {
        principal: principal.arn,
        action: need.action,
        resource: { resource: need.resource, accountId },
        contextVariables: context,
      },
      identityPolicies: principal.policies.map((policy, i) => ({ name: `policy-${i}`, policy: JSON.parse(policy) })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      ...(resourcePolicy ? { resourcePolicy } : {}),
      ...(principal.boundary
        ? { permissionBoundaryPolicies: [{ name: "boundary", policy: JSON.parse(principal.boundary) }] }
        : {}),
      ...(principal.sessionPolicy ? { sessionPolicy: JSON.parse(principal.sessionPolicy) } : {}),
    },
    {},
  );
  if (simulated.resultType === "error") {
    return {
      allowed: false,
      explicit: false,
      reason: `policies cannot be evaluated: ${JSON.stringify(simulated.errors)}`,
    };
  }
  if (simulated.overallResult === "Allowed") return { allowed: true };
  return { allowed: false, explicit: simulated.overallResult === "ExplicitlyDenied", reason: simulated.overallResult };
}

/** Whether a principal may do what a request needs; `bucketPolicy` is that of the resource's bucket. */
export function authorize(principal: Principal, need: Need, bucketPolicy: PolicyText | null): Promise<Decision> {
  const context = { ...need.context, "aws:SecureTransport": "true", "aws:PrincipalAccount": accountId };
  return simulate(principal, need, bucketPolicy ? JSON.parse(bucketPolicy) : undefined, context);
}

/**
 * The library knows condition keys of a provider only by a host name without a path, as EKS's issuers have one. So the
 * issuer's own keys are renamed, in the policy and in the request alike, to a provider that it knows; other providers'
 * keys are left alone, and match nothing, as in AWS.
 */
const knownProvider = "accounts.google.com";

function renameKeys(trust: PolicyText, issuerName: string): unknown {
  const foreign = "foreign.invalid";
  return JSON.parse(trust, (_name, value: unknown) => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => {
        const at = key.lastIndexOf(":");
        const [provider, claim] = [key.slice(0, at), key.slice(at + 1)];
        if (at < 0 || !(provider.includes("/") || provider === knownProvider)) return [key, inner];
        if (provider.toLowerCase() === issuerName.toLowerCase()) return [`${knownProvider}:${claim}`, inner];
        return provider.startsWith("aws:") ? [key, inner] : [`${foreign}:${claim}`, inner];
      }),
    );
  });
}

/** Whether a role's trust policy lets the holder of a web identity token assume it. `issuerName`: without `https://`. */
export function trustsToken(
  role: { arn: string; trust: PolicyText },
  provider: { arn: string; issuerName: string },
  claims: { aud: string; sub: string },
): Promise<Decision> {
  const need: Need = { action: "sts:AssumeRoleWithWebIdentity", resource: role.arn, context: {} };
  return simulate({ arn: provider.arn, policies: [] }, need, renameKeys(role.trust, provider.issuerName), {
    [`${knownProvider}:aud`]: claims.aud,
    [`${knownProvider}:sub`]: claims.sub,
  });
}

/** Whether a role's trust policy lets a principal of the account assume it. */
export function trustsPrincipal(
  role: { arn: string; trust: PolicyText },
  principal: Principal,
  context: Record<string, string>,
): Promise<Decision> {
  const need: Need = { action: "sts:AssumeRole", resource: role.arn, context: {} };
  return simulate(principal, need, JSON.parse(role.trust), { ...context, "aws:PrincipalAccount": accountId });
}

/** Whether a role's trust policy lets a service of AWS assume it on behalf of this account. */
export function trustsService(role: { arn: string; trust: PolicyText }, service: string): Promise<Decision> {
  const need: Need = { action: "sts:AssumeRole", resource: role.arn, context: {} };
  return simulate({ arn: service, policies: [] }, need, JSON.parse(role.trust), { "aws:SourceAccount": accountId });
}
