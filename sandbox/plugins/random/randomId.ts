/** `random.RandomId`: random bytes, kept in the state alone. */
import { randomBytes } from "node:crypto";
import type { RandomIdArgs, RandomIdState } from "@pulumi/random";
import { number, type Plain, text, texts } from "../provider/fields";
import { resource } from "../provider/resource";

/** The state that random bytes and a prefix give. */
function stateOf(bytes: Buffer, prefix = ""): Plain<RandomIdState> {
  return {
    byteLength: bytes.length,
    b64Std: prefix + bytes.toString("base64"),
    b64Url: prefix + bytes.toString("base64url"),
    hex: prefix + bytes.toString("hex"),
    dec: prefix + (bytes.length > 0 ? BigInt(`0x${bytes.toString("hex")}`) : 0n).toString(),
  };
}

/** Every argument but the keepers' names replaces it; the id is the URL-safe base64 form, without the prefix. */
export const randomId = resource<RandomIdArgs, RandomIdState, unknown>({
  token: "random:index/randomId:RandomId",
  inputs: {
    byteLength: number({ required: true, replaces: true }),
    keepers: texts({ replaces: true }),
    prefix: text({ replaces: true }),
  },
  outputs: { b64Std: text(), b64Url: text(), dec: text(), hex: text() },
  check: ({ byteLength }) =>
    typeof byteLength === "number" && !(Number.isInteger(byteLength) && byteLength >= 1)
      ? [{ property: "byteLength", reason: `byteLength must be a whole number of at least 1, not ${byteLength}` }]
      : [],
  async create(_, { byteLength }) {
    return randomBytes(byteLength).toString("base64url");
  },
  async read(_, id, known) {
    // An import gives "prefix,id" or "id".
    const comma = known.byteLength === undefined ? id.lastIndexOf(",") : -1;
    const prefix = comma >= 0 ? id.slice(0, comma) : known.prefix;
    const bare = id.slice(comma + 1);
    const bytes = Buffer.from(bare, "base64url");
    return { id: bare, state: { ...stateOf(bytes, prefix), prefix, keepers: known.keepers } };
  },
  async delete() {},
});
