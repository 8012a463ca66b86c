/** `random.RandomPassword`: random characters kept as a secret in the state, with their bcrypt hash; the id is `none`. */
import type { RandomPasswordArgs, RandomPasswordState } from "@pulumi/random";
import { text } from "../provider/fields";
import { resource } from "../provider/resource";
import { argumentsOf, check, draw, inputs, stateOf } from "./characters";

/** As the official provider makes it: cost 10. */
async function bcryptHash(password: string): Promise<string> {
  const { hash } = await import("bcryptjs");
  return hash(password, 10);
}

/** Replaced by any change; an import takes the password as its id. */
export const randomPassword = resource<RandomPasswordArgs, RandomPasswordState, unknown>({
  token: "random:index/randomPassword:RandomPassword",
  inputs,
  outputs: { result: text({ secret: true }), bcryptHash: text({ secret: true }) },
  check,
  async create(_, args) {
    const result = draw(args);
    return { id: "none", state: { ...stateOf(args, result), bcryptHash: await bcryptHash(result) } };
  },
  async read(_, id, known) {
    if (known.result !== undefined) return { state: known };
    return { id: "none", state: { ...argumentsOf(id), result: id, bcryptHash: await bcryptHash(id) } };
  },
  async delete() {},
});
