/** `witness`: the third, small region, on demand. */

import { hostPortsOf, writeKubeconfigs } from "../world/access";
import { control } from "../world/control";
import { witnessRegion } from "../world/regions";
import { firstInsider, startGroup, whileLocked } from "../world/world";
import { type Command, UsageError } from "./command";
import { Progress } from "./progress";
import { worldProgress } from "./up";

/** Starts or stops the witness region. */
export const witness: Command = {
  name: "witness",
  summary: "Start or stop the third region: one node, a place for a metadata-only witness",
  usage: "up|down",
  help: `Its kubeconfig is .sandbox/${witnessRegion.name}.kubeconfig; \`env ${witnessRegion.name}\` works as for the other regions.`,
  positionals: { min: 1, max: 1 },
  async run(args) {
    const action = args.positionals[0];
    if (action !== "up" && action !== "down") throw new UsageError(`witness takes up or down, not ${action}`, witness);
    if (firstInsider() === undefined) throw new Error("the sandbox is not running. Next: npm run sandbox -- up");
    const progress = new Progress();
    const listener = worldProgress(progress);
    try {
      await whileLocked(listener, async () => {
        if (action === "down") {
          await control("POST", "/groups", { group: "witness", action: "stop" }, { timeout: 60_000 });
          return;
        }
        await startGroup("witness", listener, Date.now() + 120_000);
        writeKubeconfigs([witnessRegion], await hostPortsOf());
      });
    } finally {
      progress.close();
    }
    if (args.json) console.log(JSON.stringify({ witness: action }));
    return 0;
  },
};
