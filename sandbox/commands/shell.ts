/** `shell`: a shell inside the sandbox's namespaces, or in the network of one pod. */
import { readFileSync } from "node:fs";
import { operatorEnvironment } from "../world/environment";
import { processTable, processTree } from "../world/processes";
import { regionNamed, regions, witnessRegion } from "../world/regions";
import { firstInsider, insideEnvironment } from "../world/world";
import { type Command, UsageError } from "./command";
import { findPod, runHere } from "./pods";

/** Opens a shell, or runs one command there. */
export const shell: Command = {
  name: "shell",
  summary: "A shell inside the sandbox's network, or in that of one pod",
  usage: "<region|[region/]pod> [-c <command>]",
  help: `
  -c, --command <command>   run this instead of an interactive shell

In a region one sees all addresses of the sandbox; in a pod only what the pod sees. Programs and files are this machine's.`,
  options: { command: { type: "string", short: "c" } },
  positionals: { min: 1, max: 1 },
  async run(args) {
    const name = args.positionals[0]!;
    const insider = firstInsider();
    if (insider === undefined) throw new Error("the sandbox is not running. Next: npm run sandbox -- up");
    const isRegion = [...regions, witnessRegion].some((region) => region.name === name);
    const pod = isRegion ? undefined : await findPod(name);
    if (!isRegion && !pod) {
      throw new UsageError(`no region (${regions.map((r) => r.name).join(", ")}) and no pod is named ${name}`, shell);
    }
    let network = insider;
    if (pod) {
      const found = pod.ip ? processWithAddress(pod.ip, processTree(insider, processTable())) : undefined;
      if (found === undefined) throw new Error(`${name} has no running process (address: ${pod.ip ?? "none"})`);
      network = found;
    }
    const region = regionNamed(pod?.region ?? name);
    const { PATH: tools, ...variables } = operatorEnvironment(region, "inside");
    const inside = insideEnvironment(process.env);
    const environment = { ...inside, ...variables, TERM: process.env.TERM, PATH: `${tools}:${inside.PATH}` };
    return runHere(
      "nsenter",
      [
        ...["--preserve-credentials", `--user=/proc/${insider}/ns/user`, `--mount=/proc/${insider}/ns/mnt`],
        ...[`--pid=/proc/${insider}/ns/pid`, `--net=/proc/${network}/ns/net`, `--wdns=${process.cwd()}`, "--"],
        ...(typeof args.flags.command === "string" ? ["sh", "-c", args.flags.command] : ["bash", "-i"]),
      ],
      environment,
    );
  },
};

/** A process whose network has this address as its own. */
function processWithAddress(address: string, pids: readonly number[]): number | undefined {
  return pids.find((pid) => {
    try {
      const lines = readFileSync(`/proc/${pid}/net/fib_trie`, "utf8").split("\n");
      return lines.some((line, i) => line.trim() === `|-- ${address}` && lines[i + 1]?.includes("/32 host LOCAL"));
    } catch {
      return false;
    }
  });
}
