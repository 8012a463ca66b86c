/**
 * The supervisor's program, started by `up` as the first of the sandbox's namespaces: sets up network and mounts, opens
 * the gates and the control socket, then waits to be told what to run. Its argument is the module that exports `plan`.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { serveControl } from "./control";
import { openGates } from "./gates";
import { setUpMounts, setUpNetwork } from "./namespace";
import { logDir, projectDir, runDir, sandboxDir } from "./paths";
import type { Plan } from "./plan";
import { memoryOf } from "./processes";
import { regions, witnessRegion } from "./regions";
import { Supervisor } from "./supervisor";

async function main(): Promise<void> {
  const planModule = process.argv[2];
  if (!planModule) throw new Error("usage: inside.ts <module that exports a plan>");
  const temporary = join(sandboxDir, "tmp");
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  setUpMounts();
  setUpNetwork([...regions, witnessRegion]);
  const { plan } = require(planModule) as { plan: Plan };
  const environment = { ...process.env, TMPDIR: temporary };
  const supervisor = new Supervisor({
    plan,
    logDir,
    stateFile: join(runDir, "state.json"),
    workDir: projectDir,
    environment,
  });
  await openGates(plan.gates);
  const shutdown = (): void => void supervisor.shutdown().finally(() => process.exit(0));
  process.on("SIGTERM", shutdown);
  process.on("SIGINT", shutdown);
  await serveControl({
    supervisor,
    plan,
    environment,
    workDir: projectDir,
    memory: () => memoryOf(process.pid),
    onShutdown: () => process.exit(0),
  });
  await supervisor.ensure("main");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
