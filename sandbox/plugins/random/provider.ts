/**
 * Provider `random`: the sandbox's stand-in for the official plugin, used only where that is not installed.
 * It has RandomId, RandomString and RandomPassword; everything else (RandomPet, RandomUuid, ...) is refused by name.
 */
import { version } from "@pulumi/random/package.json";
import type { ProviderDefinition } from "../provider/resource";
import { randomId } from "./randomId";
import { randomPassword } from "./randomPassword";
import { randomString } from "./randomString";

/** The provider `random`. */
export const provider: ProviderDefinition<unknown> = {
  name: "random",
  version,
  configuration: {},
  configure: async () => ({}),
  resources: [randomId, randomString, randomPassword],
  functions: [],
};
