/** `down`: stops exactly what `up` started. */
import { sandboxDir } from "../world/paths";
import { stopWorld, whileLocked } from "../world/world";
import type { Command } from "./command";
import { Progress } from "./progress";

/** Stops the sandbox; keeps its state unless told otherwise. */
export const down: Command = {
  name: "down",
  summary: "Stop everything that `up` started; the state stays for the next `up`",
  usage: "[--delete-state]",
  help: `
  --delete-state   also delete the state: clusters, volumes, AWS, Pulumi's stacks, logs. The build cache stays.`,
  options: { "delete-state": { type: "boolean" } },
  async run(args) {
    const progress = new Progress();
    const deleteState = args.flags["delete-state"] === true;
    const ran = await whileLocked({ phase: (name) => progress.note(name), parts: () => {} }, async () => {
      const task = progress.task("stopping the sandbox");
      const result = await stopWorld({
        deleteState,
        progress: { phase: (name) => task.update(name), parts: () => {} },
      });
      task.done(result ? "" : "it was not running");
      return result;
    });
    if (args.json) console.log(JSON.stringify({ stopped: ran, stateDeleted: deleteState, folder: sandboxDir }));
    else if (deleteState) console.log(`The state is deleted: ${sandboxDir}`);
    else console.log(`The state is kept in ${sandboxDir}; delete it with: npm run sandbox -- down --delete-state`);
    return 0;
  },
};
