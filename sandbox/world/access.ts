/** What the host needs to reach the world, written when it is up: kubeconfigs and a folder of tools. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { type HostPortsStatus, worldStatus } from "./control";
import { readJson, writeAtomically } from "./files";
import { runDir, sandboxDir, stateDir } from "./paths";
import type { WorldRegion } from "./regions";

/** The kubeconfig of a region for programs on the host. */
export function hostKubeconfig(region: string): string {
  return join(sandboxDir, `${region}.kubeconfig`);
}

/** The kubeconfig of a region for programs inside the namespaces. */
export function insideKubeconfig(region: string): string {
  return join(runDir, `${region}.kubeconfig`);
}

/** Names of the gates to the host. */
export const gateNames = {
  api: (region: string) => `${region}/api`,
  ingress: (region: string) => `${region}/ingress`,
  admin: (region: string) => `${region}/admin`,
  aws: "aws",
} as const;

/** A kubeconfig with another server. Pure. */
export function kubeconfigFor(insideConfig: string, server: string): string {
  const config = parse(insideConfig) as { clusters: { cluster: { server: string } }[] };
  for (const { cluster } of config.clusters) cluster.server = server;
  return stringify(config);
}

/** Writes the host's kubeconfigs of regions whose API server has started. */
export function writeKubeconfigs(regions: readonly WorldRegion[], hostPorts: HostPortsStatus): void {
  for (const { name } of regions) {
    const port = portOf(hostPorts.ports, gateNames.api(name));
    const inside = readFileSync(insideKubeconfig(name), "utf8");
    writeAtomically(hostKubeconfig(name), kubeconfigFor(inside, `https://127.0.0.1:${port}`));
  }
}

/** The ports on 127.0.0.1 by gate, as the last `up` has them. */
export function knownPorts(): Record<string, number> {
  const file = join(stateDir, "ports.json");
  if (!existsSync(file)) throw new Error("the sandbox has never been up here. Next: npm run sandbox -- up");
  return readJson(file) as Record<string, number>;
}

/** A gate's port; throws when it has none. */
export function portOf(ports: Record<string, number>, gate: string): number {
  const port = ports[gate];
  if (port === undefined) throw new Error(`no port on 127.0.0.1 leads to ${gate}. Next: npm run sandbox -- up`);
  return port;
}

/** The ports that are kept right now. */
export async function hostPortsOf(): Promise<HostPortsStatus> {
  const { hostPorts } = await worldStatus();
  if (!hostPorts) throw new Error("nothing keeps the ports on 127.0.0.1. Next: npm run sandbox -- up");
  return hostPorts;
}
