/** `random.RandomString`: random characters, kept in the state alone and not secret; the id is the text itself. */
import type { RandomStringArgs, RandomStringState } from "@pulumi/random";
import { text } from "../provider/fields";
import { resource } from "../provider/resource";
import { argumentsOf, check, draw, inputs, stateOf } from "./characters";

/** Replaced by any change; an import takes the text as its id. */
export const randomString = resource<RandomStringArgs, RandomStringState, unknown>({
  token: "random:index/randomString:RandomString",
  inputs,
  outputs: { result: text() },
  check,
  async create(_, args) {
    const result = draw(args);
    return { id: result, state: stateOf(args, result) };
  },
  async read(_, id, known) {
    return { state: known.result === undefined ? { ...argumentsOf(id), result: id } : known };
  },
  async delete() {},
});
