/**
 * Temporary credentials. A session's token carries everything about it, signed with a key that is kept with the AWS state:
 * so sessions outlive a kill of the gateway, and nothing has to be remembered about them.
 */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { jwtVerify, SignJWT } from "jose";

/** Who a session belongs to. */
export interface Session {
  roleName: string;
  /** Changes when a role is deleted and made again: that ends its sessions. */
  roleId: string;
  sessionName: string;
  /** The token's `sub`, for sessions of web identities. */
  subject?: string;
  policy?: string;
}

/** What STS hands out. */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
  expiration: Date;
}

/** What a session token turned out to be. */
export type Recognized =
  | { state: "valid"; session: Session; secret: string }
  | { state: "expired" }
  | { state: "unknown" };

/** Issues and recognizes temporary credentials. */
export class Sessions {
  private constructor(private readonly key: Buffer) {}

  /** Reads the signing key from a file, or makes it. */
  static open(file: string): Sessions {
    if (!existsSync(file)) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(`${file}.new`, randomBytes(32), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    }
    return new Sessions(readFileSync(file));
  }

  private secretOf(accessKeyId: string): string {
    return createHmac("sha256", this.key).update(`secret of ${accessKeyId}`).digest("base64").slice(0, 40);
  }

  async issue(session: Session, seconds: number): Promise<Credentials> {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const accessKeyId = `ASIA${[...randomBytes(16)].map((byte) => letters[byte % 32]).join("")}`;
    const expires = Math.floor(Date.now() / 1000) + seconds;
    const sessionToken = await new SignJWT({ ...session, accessKeyId })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime(expires)
      .sign(this.key);
    return {
      accessKeyId,
      secretAccessKey: this.secretOf(accessKeyId),
      sessionToken,
      expiration: new Date(expires * 1000),
    };
  }

  async recognize(accessKeyId: string, token: string): Promise<Recognized> {
    try {
      const { payload } = await jwtVerify<Session & { accessKeyId: string }>(token, this.key);
      if (payload.accessKeyId !== accessKeyId) return { state: "unknown" };
      return { state: "valid", session: payload, secret: this.secretOf(accessKeyId) };
    } catch (error) {
      return { state: (error as { code?: string }).code === "ERR_JWT_EXPIRED" ? "expired" : "unknown" };
    }
  }
}
