/** Keys of the clusters' token issuers, fetched as IAM does: from the issuer, which here is the region's API server. */
import { readFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import type { JSONWebKeySet } from "jose";
import { stateDir } from "../world/paths";
import { regions, witnessRegion } from "../world/regions";

/** Fetches an issuer's public keys; rejects when it cannot be reached. */
export type FetchKeys = (issuer: string) => Promise<JSONWebKeySet>;

/** The sandbox's own: asks the API server of the region that has this issuer. */
export const fetchFromApiServer: FetchKeys = async (issuer) => {
  const region = [...regions, witnessRegion].find((r) => r.oidcIssuer === issuer);
  if (!region) throw new Error(`no region of the sandbox has the issuer ${issuer}`);
  const ca = readFileSync(join(stateDir, "pki", region.name, "ca.crt"));
  const url = `https://${region.apiServerIp}:6443/openid/v1/jwks`;
  return new Promise((resolve, reject) => {
    const sent = get(url, { ca, timeout: 5000, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(JSON.parse(text) as JSONWebKeySet);
        else reject(new Error(`${url} answered ${response.statusCode}: ${text.slice(0, 200)}`));
      });
    });
    sent.on("timeout", () => sent.destroy(new Error(`${url} did not answer within 5 s`)));
    sent.on("error", reject);
  });
};

/** Remembers keys for a while, and asks again when a token names a key that is not among them. */
export class IssuerKeys {
  private readonly held = new Map<string, { keys: JSONWebKeySet; at: number }>();

  constructor(
    private readonly fetch: FetchKeys,
    private readonly maxAgeMs = 60_000,
  ) {}

  async of(issuer: string, keyId: string | undefined): Promise<JSONWebKeySet> {
    const held = this.held.get(issuer);
    const fresh = held !== undefined && Date.now() - held.at < this.maxAgeMs;
    if (held && fresh && held.keys.keys.some((key) => key.kid === keyId)) return held.keys;
    try {
      const keys = await this.fetch(issuer);
      this.held.set(issuer, { keys, at: Date.now() });
      return keys;
    } catch (error) {
      // An issuer that is away for a moment does not make known keys unknown.
      if (held?.keys.keys.some((key) => key.kid === keyId)) return held.keys;
      throw error;
    }
  }
}
