/**
 * Provider plugin `random`: the sandbox's stand-in for the official plugin, used only where that is not installed.
 * It has RandomId, RandomString and RandomPassword; everything else (RandomPet, RandomUuid, ...) is refused by name.
 */
import { version } from "@pulumi/random/package.json";
import { serve } from "../provider/serve";
import { randomId } from "./randomId";
import { randomPassword } from "./randomPassword";
import { randomString } from "./randomString";

void serve({
  name: "random",
  version,
  configuration: {},
  configure: async () => ({}),
  resources: [randomId, randomString, randomPassword],
  functions: [],
});
