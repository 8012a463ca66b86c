/**
 * STS: hands out temporary credentials, after checking tokens and trust policies as AWS does.
 *
 * Not here: SAML, GetSessionToken, GetFederationToken, role chaining's one-hour limit, session tags, managed session policies.
 * EKS Pod Identity is not run either: nothing answers on 169.254.170.23, and pods get credentials by web identity only.
 */
import { randomUUID } from "node:crypto";
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import { accountId } from "../world/regions";
import { trustsPrincipal, trustsToken, withoutReason } from "./authorize";
import type { Caller } from "./callers";
import { AwsError } from "./errors";
import type { IssuerKeys } from "./issuers";
import type { Identities } from "./moto";
import { toXml } from "./request";
import type { Credentials, Sessions } from "./sessions";

type Role = Identities["roles"][number];

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/";

function answer(action: string, result: Record<string, unknown>): string {
  const body = toXml({ [`${action}Result`]: result, ResponseMetadata: { RequestId: randomUUID() } });
  return `<${action}Response xmlns="${namespace}">${body}</${action}Response>`;
}

function required(form: URLSearchParams, name: string): string {
  const value = form.get(name);
  if (!value) {
    const field = name.charAt(0).toLowerCase() + name.slice(1);
    throw new AwsError(
      400,
      "ValidationError",
      `1 validation error detected: Value null at '${field}' failed to satisfy constraint: Member must not be null`,
    );
  }
  return value;
}

function duration(form: URLSearchParams, role: Role): number {
  const seconds = Number(form.get("DurationSeconds") ?? 3600);
  if (!(seconds >= 900)) {
    throw new AwsError(
      400,
      "ValidationError",
      `1 validation error detected: Value '${seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900`,
    );
  }
  if (seconds > role.maxSession) {
    throw new AwsError(
      400,
      "ValidationError",
      "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    );
  }
  return seconds;
}

function assumed(role: Role, sessionName: string, credentials: Credentials): Record<string, unknown> {
  return {
    AssumedRoleUser: {
      AssumedRoleId: `${role.id}:${sessionName}`,
      Arn: `arn:aws:sts::${accountId}:assumed-role/${role.name}/${sessionName}`,
    },
    Credentials: {
      AccessKeyId: credentials.accessKeyId,
      SecretAccessKey: credentials.secretAccessKey,
      SessionToken: credentials.sessionToken,
      Expiration: credentials.expiration.toISOString(),
    },
  };
}

/** What was asked for, for the audit. */
export interface StsAudit {
  principal: string;
  resource: string;
}

/** STS's calls. Each gives the answer's XML or throws {@link AwsError}. */
export class Sts {
  constructor(
    private readonly sessions: Sessions,
    private readonly keys: IssuerKeys,
    private readonly identities: () => Promise<Identities>,
  ) {}

  async assumeRoleWithWebIdentity(form: URLSearchParams, audit: StsAudit): Promise<string> {
    const roleArn = required(form, "RoleArn");
    const sessionName = required(form, "RoleSessionName");
    const token = required(form, "WebIdentityToken");
    audit.resource = roleArn;
    const identities = await this.identities();
    const { claims, provider, issuerName } = await this.verify(token, identities);
    audit.principal = claims.sub ?? "";
    const role = identities.roles.find((r) => r.arn === roleArn);
    const { sub = "", aud } = claims;
    const audience = [aud ?? []].flat().find((one) => provider.clientIds.includes(one)) ?? "";
    const decision = role && trustsToken(role, { arn: provider.arn, issuerName }, { aud: audience, sub });
    if (!role || !decision?.allowed) {
      const denied = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
      throw new AwsError(403, "AccessDenied", withoutReason(denied, decision));
    }
    const policy = form.get("Policy");
    const credentials = await this.sessions.issue(
      { roleName: role.name, roleId: role.id, sessionName, subject: sub, ...(policy ? { policy } : {}) },
      duration(form, role),
    );
    return answer("AssumeRoleWithWebIdentity", {
      ...assumed(role, sessionName, credentials),
      SubjectFromWebIdentityToken: sub,
      Audience: audience,
      Provider: provider.arn,
    });
  }

  async assumeRole(form: URLSearchParams, caller: Caller): Promise<string> {
    const roleArn = required(form, "RoleArn");
    const sessionName = required(form, "RoleSessionName");
    const role = (await this.identities()).roles.find((r) => r.arn === roleArn);
    const externalId = form.get("ExternalId");
    const context: Record<string, string> = externalId ? { "sts:ExternalId": externalId } : {};
    const decision = role && trustsPrincipal(role, caller, context);
    if (!role || !decision?.allowed) {
      const denied = `User: ${caller.arn} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`;
      throw new AwsError(403, "AccessDenied", withoutReason(denied, decision));
    }
    const policy = form.get("Policy");
    const credentials = await this.sessions.issue(
      { roleName: role.name, roleId: role.id, sessionName, ...(policy ? { policy } : {}) },
      duration(form, role),
    );
    return answer("AssumeRole", assumed(role, sessionName, credentials));
  }

  getCallerIdentity(caller: Caller): string {
    return answer("GetCallerIdentity", { Arn: caller.arn, UserId: caller.id, Account: accountId });
  }

  private async verify(
    token: string,
    identities: Identities,
  ): Promise<{ claims: JWTPayload; provider: Identities["providers"][number]; issuerName: string }> {
    const invalid = (message: string): AwsError => new AwsError(400, "InvalidIdentityToken", message);
    let issuer: string | undefined;
    let keyId: string | undefined;
    let audiences: string[];
    try {
      const claims = decodeJwt(token);
      issuer = claims.iss;
      audiences = [claims.aud ?? []].flat();
      keyId = decodeProtectedHeader(token).kid;
    } catch {
      throw invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)");
    }
    const issuerName = issuer?.replace(/^https:\/\//, "") ?? "";
    const provider = identities.providers.find((p) => p.url === issuerName);
    if (!issuer || !provider) throw invalid(`No OpenIDConnect provider found in your account for ${issuer}`);
    if (!audiences.some((aud) => provider.clientIds.includes(aud))) throw invalid("Incorrect token audience");
    const keys = await this.keys.of(issuer, keyId).catch((error: Error) => {
      throw new AwsError(400, "IDPCommunicationError", `Could not fetch the keys of ${issuer}: ${error.message}`);
    });
    try {
      // Kubernetes signs with RSA or, where it is told to, with an elliptic curve; never with a shared secret.
      const { payload } = await jwtVerify(token, createLocalJWKSet(keys), {
        issuer,
        algorithms: ["RS256", "ES256", "ES384", "ES512"],
        requiredClaims: ["exp", "sub"],
      });
      return { claims: payload, provider, issuerName };
    } catch (error) {
      if (error instanceof errors.JWTExpired) {
        const now = Math.floor(Date.now() / 1000);
        throw new AwsError(
          400,
          "ExpiredTokenException",
          `Token expired: current date/time ${now} must be before the expiration date/time ${error.payload.exp}`,
        );
      }
      throw invalid(
        `Couldn't retrieve verification key from your identity provider, or the token does not match it: ${(error as Error).message}`,
      );
    }
  }
}
