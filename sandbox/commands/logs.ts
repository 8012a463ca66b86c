/** `logs`: what a part of the sandbox, or a pod in it, has written. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { logDir } from "../world/paths";
import { logPath } from "../world/supervisor";
import { type Command, UsageError } from "./command";
import { findPod, runHere, runKubectl } from "./pods";

/** Prints a log. */
export const logs: Command = {
  name: "logs",
  summary: "Print the log of a part of the sandbox, or of a pod",
  usage: "<part|[region/]pod> [-f] [-n <lines>]",
  help: `
  -f, --follow       go on printing what comes
  -n, --lines <n>    the last n lines (default 200)

Parts are those that \`status\` lists, e.g. region1/kube-apiserver; pods are found by name in both regions.`,
  options: { follow: { type: "boolean", short: "f" }, lines: { type: "string", short: "n" } },
  positionals: { min: 1, max: 1 },
  async run(args) {
    const name = args.positionals[0]!;
    const lines = String(args.flags.lines ?? "200");
    if (!/^\d+$/.test(lines)) throw new UsageError(`--lines takes a number, not ${lines}`, logs);
    const path = logPath(logDir, name);
    if (existsSync(path)) {
      if (args.json) {
        console.log(JSON.stringify({ part: name, file: path }));
        return 0;
      }
      return runHere("tail", [...(args.flags.follow ? ["-F"] : []), "-n", lines, path]);
    }
    const pod = await findPod(name);
    if (!pod) {
      const parts = existsSync(logDir) ? readdirSync(logDir).filter((f) => f.endsWith(".log")) : [];
      const known = parts.map((file) => file.slice(0, -4)).join(", ");
      throw new UsageError(
        `no part and no pod is named ${name}${known ? ` (parts with a log: ${known})` : `: nothing in ${join(logDir)}`}`,
        logs,
      );
    }
    const follow = args.flags.follow ? ["--follow"] : [];
    return runKubectl(pod.region, [
      "logs",
      "-n",
      pod.namespace,
      pod.name,
      "--all-containers",
      "--tail",
      lines,
      ...follow,
    ]);
  },
};
