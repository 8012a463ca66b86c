/** `status`: one screen over all parts, clusters, load balancers and faults; what is wrong first. */
import type { WorldStatus } from "../world/control";
import { gatherReport } from "../world/live-report";
import { type Problem, problemsOf, type WorldReport } from "../world/report";
import type { ItemStatus } from "../world/supervisor";
import { statusFromHost } from "../world/world";
import type { Command } from "./command";
import { colours, duration, size, table } from "./text";

/** Prints the state of the sandbox; exit code 0 only when all is well. */
export const status: Command = {
  name: "status",
  summary: "One screen over all parts; what is wrong first, with the next command (exit code 0: all is well)",
  usage: "",
  help: "",
  async run(args) {
    const found = await statusFromHost({ memory: true, probe: true });
    const report = found && (await gatherReport(found));
    const problems = problemsOf(found, report);
    if (args.json) console.log(JSON.stringify({ healthy: problems.length === 0, problems, ...found, report }, null, 2));
    else console.log(screen(found, report, problems, Date.now()));
    return problems.length === 0 ? 0 : 1;
  },
};

/** The screen as text. */
export function screen(
  found: WorldStatus | undefined,
  report: WorldReport | undefined,
  problems: readonly Problem[],
  now: number,
): string {
  const paint = colours(process.stdout);
  const blocks: string[] = [];
  if (problems.length > 0) {
    const lines = problems.map(({ what, next }) => `${paint.red("✗")} ${what}\n    ${paint.dim("next:")} ${next}`);
    blocks.push(lines.join("\n"));
  } else blocks.push(paint.green("✓ all is well"));
  if (!found) return blocks.join("\n\n");

  const total = found.parts.reduce((sum, part) => sum + (part.memory ?? 0), found.memory ?? 0);
  const colourOf = (state: ItemStatus["state"]): ((text: string) => string) =>
    state === "ready" || state === "done"
      ? paint.green
      : state === "dead" || state === "failed"
        ? paint.red
        : paint.yellow;
  const rows = found.parts
    .filter((part) => part.kind === "part")
    .map((part) => [
      part.name,
      colourOf(part.state)(part.answers === false ? "no answer" : part.state),
      String(part.hostPid ?? ""),
      part.startedAt !== undefined && part.pid ? duration(now - part.startedAt) : "",
      part.memory ? size(part.memory) : "",
    ]);
  rows.unshift(["supervisor", paint.green("ready"), "", duration(now - found.startedAt), size(found.memory ?? 0)]);
  blocks.push(`${table(["PART", "STATE", "PID", "UP", "MEMORY"], rows)}\n${paint.dim(`all parts: ${size(total)}`)}`);

  const nodes = (report?.clusters ?? []).flatMap((cluster) =>
    (cluster.nodes ?? []).map((node) => [
      cluster.region,
      node.name,
      node.zone,
      node.ready ? paint.green("Ready") : paint.red("NotReady"),
      node.unschedulable ? "cordoned" : "",
      String(node.pods),
    ]),
  );
  if (nodes.length > 0) blocks.push(table(["REGION", "NODE", "ZONE", "STATE", "", "PODS"], nodes));
  const balancers = (report?.loadBalancers ?? []).map((lb) => [
    lb.region,
    lb.name,
    lb.zone ?? "",
    lb.address ?? "",
    `${lb.healthyTargets}/${lb.targets}`,
    lb.hostname,
  ]);
  if (balancers.length > 0) {
    blocks.push(table(["REGION", "LOAD BALANCER", "ZONE", "ADDRESS", "HEALTHY", "NAME"], balancers));
  }
  const replication = (report?.replication ?? []).map((one) => [
    `${one.source} → ${one.destination}`,
    String(one.pending),
    String(one.failed),
    duration(one.lagSeconds * 1_000),
  ]);
  if (replication.length > 0) blocks.push(table(["REPLICATION", "PENDING", "FAILED", "LAG"], replication));
  const ports = Object.entries(found.hostPorts?.ports ?? {}).map(([gate, port]) => [gate, `127.0.0.1:${port}`]);
  if (ports.length > 0) blocks.push(table(["ON THIS MACHINE", "ADDRESS"], ports));
  return blocks.join("\n\n");
}
