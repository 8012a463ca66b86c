/** The parts of the sandbox that stand in for load balancers, DNS, the EBS driver and the EKS webhooks. */
import { join } from "node:path";
import type { Part } from "../world/part";
import { projectDir, typescript } from "../world/paths";
import { askSocket, controllersSocket, networkSocket } from "./control";

const program = (file: string): string[] => [
  process.execPath,
  ...typescript,
  join(projectDir, "sandbox/network", file),
];

/**
 * Two processes for all regions, which wait by themselves for API servers and AWS: `network/traffic` carries the
 * traffic and answers DNS; `network/controllers` does the rest and can be down without harm to traffic.
 * Workloads should start after both are ready: the webhooks are of the kind that is skipped when it does not answer.
 */
export function networkParts(): Part[] {
  const isReady = (socket: string) => async () => (await askSocket<{ ready: boolean }>(socket, "GET", "/ready")).ready;
  // The AWS SDK announces the end of Node 20 at each start; the versions here are pinned.
  const env = { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true" };
  return [
    { name: "network/traffic", command: program("traffic.ts"), env, ready: isReady(networkSocket) },
    { name: "network/controllers", command: program("controllers.ts"), env, ready: isReady(controllersSocket) },
  ];
}
