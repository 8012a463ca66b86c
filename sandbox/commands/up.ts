/** `up`: brings up the sandbox's world, or what of it is not up. */
import {
  describeMissing,
  ensureRestate,
  ensureToolchain,
  missingPrerequisites,
  preparePulumiHome,
  type Progress as ToolchainProgress,
  toolPath,
} from "../toolchain";
import { writeKubeconfigs } from "../world/access";
import type { HostPortsStatus } from "../world/control";
import { ensureStacks, pulumiHome, writeStackConfigs } from "../world/environment";
import { runUp } from "../world/operator";
import { sandboxDir } from "../world/paths";
import { bundlePrograms } from "../world/programs";
import { regions } from "../world/regions";
import { askedRestateVersions } from "../world/versions";
import { type ProgressListener, startWorld, WorldError, whileLocked } from "../world/world";
import type { Command } from "./command";
import { Progress, type Task } from "./progress";
import { duration } from "./text";

/** Brings up the world. */
export const up: Command = {
  name: "up",
  summary: "Bring up both regions and deploy both stacks, or what of that is not up; twice is harmless",
  usage: "[--world-only]",
  help: `
  --world-only   the clusters and all around them, but none of the stacks

Builds and installs the tools on first use (minutes); afterwards the world is up in seconds. The stacks are deployed as
an operator would: npm run up, with the environment that \`env\` prints.`,
  options: { "world-only": { type: "boolean" } },
  async run(args) {
    const progress = new Progress();
    const ports = await worldUp(progress).finally(() => progress.close());
    const say = (text: string) => void process.stderr.write(`${text}\n`);
    say(`The world is up after ${duration(progress.elapsed)}.`);
    if (args.flags["world-only"] !== true) {
      const { code } = await runUp(args.json);
      if (code !== 0) return code;
    }
    if (args.json) {
      if (args.flags["world-only"])
        console.log(JSON.stringify({ milliseconds: progress.elapsed, folder: sandboxDir, ...ports }));
      return 0;
    }
    console.log(`Everything took ${duration(progress.elapsed)}. Next:`);
    console.log(
      '  eval "$(npm run -s sandbox -- env region1)"     then pulumi, kubectl, helm and aws work with region1, and so does',
    );
    console.log("  npm run status                                  both regions on one screen, what is wrong first");
    console.log("  npm run sandbox -- status                       all parts of the sandbox");
    console.log("  npm run sandbox -- fault --help                 break things");
    console.log("  npm run sandbox -- down                         stop; --delete-state to start afresh");
    return 0;
  },
};

/**
 * Brings up the world and writes what the host needs to reach it: kubeconfigs, tools, Pulumi's home, the stacks'
 * configuration. Safe to call at any time, and from several processes at once.
 */
async function worldUp(progress: Progress): Promise<HostPortsStatus> {
  const missing = missingPrerequisites();
  if (missing.length > 0) throw new WorldError(describeMissing(missing));
  const listener = worldProgress(progress);
  return whileLocked(listener, async () => {
    await ensureToolchain("all", toolchainProgress(progress));
    for (const version of askedRestateVersions()) await ensureRestate(version, toolchainProgress(progress));
    await bundlePrograms();
    const [{ hostPorts }] = await Promise.all([
      startWorld({ init: [toolPath("cluster"), "init"], progress: listener }),
      preparePulumiHome(pulumiHome),
    ]);
    writeKubeconfigs(regions, hostPorts);
    await writeStackConfigs(hostPorts);
    await ensureStacks();
    return hostPorts;
  });
}

/** The toolchain's way to tell what it does, on this view. */
function toolchainProgress(progress: Progress): ToolchainProgress {
  return {
    say: (line) => progress.note(line),
    async task(title, run) {
      const task = progress.task(title);
      try {
        const result = await run((detail) => task.update(detail));
        task.done();
        return result;
      } catch (error) {
        task.fail();
        throw error;
      }
    },
  };
}

/** Shows a start: one task for each group of parts that share the first word of their names. */
export function worldProgress(progress: Progress): ProgressListener {
  const tasks = new Map<string, Task | "ended">();
  return {
    phase: (name) => progress.note(name),
    parts(all) {
      const groups = new Map<string, typeof all>();
      for (const part of all) {
        const group = part.name.split("/")[0]!;
        groups.set(group, [...(groups.get(group) ?? []), part]);
      }
      for (const [group, parts] of groups) {
        const open = parts.filter((part) => part.state !== "ready" && part.state !== "done");
        const fallen = open.find((part) => part.state === "dead" || part.state === "failed");
        let task = tasks.get(group);
        if (open.length === 0 && (task === undefined || task === "ended")) continue;
        // After its end only when more parts have joined, as nodes do once their instances exist.
        if (task === undefined || task === "ended") {
          task = progress.task(group);
          tasks.set(group, task);
        }
        const count = `${parts.length - open.length} of ${parts.length}`;
        if (open.length > 0 && !fallen) {
          const starting = open.filter((part) => part.state === "starting").map((part) => part.name.split("/").at(-1));
          task.update(`${count}  ${starting.join(", ")}`);
          continue;
        }
        if (fallen) task.fail(`${fallen.name}: ${fallen.ended ?? fallen.state}`);
        else task.done(`${parts.length} ready`);
        tasks.set(group, "ended");
      }
    },
  };
}
