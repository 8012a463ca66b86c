/** Clients that call the practice service through both regions for as long as a test lasts, and the count of what became of their calls. */
import assert from "node:assert/strict";
import { readState } from "../../sandbox/service/admin";
import { faultsOf, judgeCalls } from "../../sandbox/service/check";
import type { RegionPorts } from "../../sandbox/service/deploy";
import { startLoad } from "../../sandbox/service/load";
import type { Sandbox } from "./sandbox";

/** Callers at work. */
export interface Callers {
  /** Ends them; may be called again. */
  stop: () => Promise<unknown>;
  /** Ends them and fails unless each of more than 500 acknowledged calls is in the state, once. */
  assertEachOnce: () => Promise<void>;
}

/** Deploys the practice service in a provisioned sandbox, and has four clients call it, with accounts that begin with the prefix. */
export async function startCallers(sandbox: Sandbox, prefix: string): Promise<Callers> {
  const { regions } = JSON.parse(await sandbox.command("practice", "--json")) as { regions: RegionPorts[] };
  const accounts = Array.from({ length: 16 }, (_, i) => `${prefix}${i}`);
  const load = startLoad(prefix, { regions, clients: 4, accounts, restMs: 100, giveUpMs: 600_000 });
  return {
    stop: () => load.stop(),
    assertEachOnce: async () => {
      const verdict = judgeCalls(await load.stop(), await readState(regions[0]!.admin, prefix));
      assert.deepEqual(faultsOf(verdict), []);
      assert.ok(verdict.acknowledged > 500, `${verdict.acknowledged} calls`);
      console.log(`${verdict.acknowledged} acknowledged calls, each in the state exactly once`);
    },
  };
}
