/** Starts and stops a world of the fake plan from a process of its own, as `up` and `down` do; prints JSON. */
import { join } from "node:path";
import { execInside, partControl } from "../../sandbox/world/control";
import { startWorld, statusFromHost, stopWorld, whileLocked } from "../../sandbox/world/world";

const planModule = join(__dirname, "world-fake-plan.ts");
const progress = { phase: (name: string) => console.error(name), parts: () => {} };

const verbs: Record<string, (args: string[]) => Promise<unknown>> = {
  up: ([group]) => whileLocked(progress, () => startWorld({ planModule, progress, init: [], group, deadline: 30_000 })),
  down: ([flag]) => whileLocked(progress, () => stopWorld({ progress, deleteState: flag === "--delete-state" })),
  status: () => statusFromHost({ memory: true, probe: true }),
  part: ([name, action]) => partControl(name!, action as "kill"),
  exec: (command) => execInside({ command }),
};

const [verb, ...args] = process.argv.slice(2);
verbs[verb!]!(args).then(
  (result) => console.log(JSON.stringify(result ?? null)),
  (error: Error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);
