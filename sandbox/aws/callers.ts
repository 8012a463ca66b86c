/** Finds out who sent a request: a user by its access key, a role's session by its token. */
import { accountId } from "../world/regions";
import type { Principal } from "./authorize";
import { adminUser } from "./credentials";
import { commonError } from "./errors";
import type { Identities, Moto } from "./moto";
import { type Incoming, type Scope, splitUrl } from "./request";
import type { Sessions } from "./sessions";
import { checkSignature } from "./signature";

/** Who sent a request. */
export interface Caller extends Principal {
  /** IAM's unique id, with the session's name for roles. */
  id: string;
  /** The operator and the controllers: nothing is checked for them. */
  admin: boolean;
}

/** A view of IAM, read anew after each change that passes through the gateway. */
export class IdentityCache {
  private held: Promise<Identities> | undefined;

  constructor(private readonly moto: Moto) {}

  /** To be called when IAM, or a bucket or its policy, may have changed. */
  forget(): void {
    this.held = undefined;
  }

  readonly get = (): Promise<Identities> => {
    if (!this.held) {
      const asked = this.moto.identities();
      asked.catch(() => {
        if (this.held === asked) this.held = undefined;
      });
      this.held = asked;
    }
    return this.held;
  };
}

/** Recognizes callers. */
export class Callers {
  constructor(
    private readonly identities: IdentityCache,
    private readonly sessions: Sessions,
  ) {}

  /** The caller of a signed request, its signature checked. Throws what AWS answers to keys that it does not know. */
  async of(incoming: Incoming, scope: Scope, body: Buffer | undefined): Promise<Caller> {
    const { caller, secret } = await this.find(incoming, scope);
    checkSignature(incoming, scope, secret, body);
    return caller;
  }

  private async find(incoming: Incoming, scope: Scope): Promise<{ caller: Caller; secret: string }> {
    const unknown = commonError(
      scope.service,
      "unknownKey",
      scope.service === "s3"
        ? "The AWS Access Key Id you provided does not exist in our records."
        : "The security token included in the request is invalid.",
    );
    const token =
      incoming.headers["x-amz-security-token"] ?? splitUrl(incoming.url).query.get("X-Amz-Security-Token") ?? undefined;
    if (token === undefined) {
      const found = findUser(await this.identities.get(), scope.accessKeyId);
      if (found) return found;
      // The seed makes the operator's key behind the gateway's back.
      this.identities.forget();
      const now = findUser(await this.identities.get(), scope.accessKeyId);
      if (now) return now;
      throw unknown;
    }
    const recognized = await this.sessions.recognize(scope.accessKeyId, token);
    if (recognized.state === "expired") {
      throw commonError(scope.service, "expiredToken", "The provided token has expired.");
    }
    if (recognized.state === "unknown") throw unknown;
    const { session, secret } = recognized;
    const role = (await this.identities.get()).roles.find((r) => r.id === session.roleId);
    if (!role) throw unknown;
    return {
      caller: {
        arn: `arn:aws:sts::${accountId}:assumed-role/${role.name}/${session.sessionName}`,
        role: role.arn,
        id: `${role.id}:${session.sessionName}`,
        policies: role.policies,
        boundary: role.boundary,
        ...(session.policy ? { sessionPolicy: session.policy } : {}),
        admin: false,
      },
      secret,
    };
  }
}

function findUser(identities: Identities, accessKeyId: string): { caller: Caller; secret: string } | undefined {
  for (const user of identities.users) {
    const key = user.keys.find((k) => k.id === accessKeyId);
    if (!key) continue;
    const { arn, id, policies } = user;
    return { caller: { arn, id, policies, admin: user.name === adminUser }, secret: key.secret };
  }
  return undefined;
}
