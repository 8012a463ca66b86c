/**
 * Set-up of the sandbox's own namespaces, run once by the supervisor: interfaces, addresses and mounts.
 * No address forwards to another (ip_forward=0), so pods of two regions meet only at addresses that the namespace owns.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { runDir } from "./paths";
import { awsEndpoint, dnsServerIp, type WorldRegion } from "./regions";

/** Commands for `ip -batch` that make loopback, the fixed addresses and one bridge per region. Pure. */
export function networkCommands(regions: readonly WorldRegion[]): string[] {
  const fixed = [...new Set([awsEndpoint.ip, dnsServerIp])];
  return [
    "link set lo up",
    ...fixed.map((ip) => `address add ${ip}/32 dev lo`),
    ...regions.flatMap((region) => {
      // A fixed hardware address: a bridge otherwise takes its ports' lowest, and pods would lose their gateway
      // whenever another pod comes or goes.
      const mac = ["02", "00", ...region.gatewayIp.split(".").map((n) => Number(n).toString(16).padStart(2, "0"))];
      const prefix = region.vpcCidr.split("/")[1];
      const own = [region.apiServerIp, ...region.zones.map((zone) => zone.nodeIp)];
      return [
        `link add ${region.bridge} address ${mac.join(":")} type bridge`,
        `address add ${region.gatewayIp}/${prefix} dev ${region.bridge}`,
        ...own.map((ip) => `address add ${ip}/32 dev ${region.bridge}`),
        `link set ${region.bridge} up`,
      ];
    }),
  ];
}

function run(command: string, args: string[], input?: string): void {
  const result = spawnSync(command, args, { input, encoding: "utf8" });
  if (result.error) throw new Error(`cannot run ${command}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${[command, ...args].join(" ")} failed: ${result.stderr.trim()}`);
}

/** Makes the network of the namespace that this process is in. */
export function setUpNetwork(regions: readonly WorldRegion[]): void {
  const settings = {
    "net/ipv4/ip_forward": "0",
    // Everything in the sandbox has an IPv4 address; without this, links would also spend time on IPv6 ones.
    "net/ipv6/conf/default/disable_ipv6": "1",
    // Pods run as unprivileged users of their own; some listen on low ports.
    "net/ipv4/ip_unprivileged_port_start": "0",
  };
  for (const [name, value] of Object.entries(settings)) {
    try {
      writeFileSync(`/proc/sys/${name}`, value);
    } catch (error) {
      // A kernel without IPv6 has no such setting, and needs none.
      if (name.startsWith("net/ipv4")) throw error;
    }
  }
  run("ip", ["-batch", "-"], `${networkCommands(regions).join("\n")}\n`);
}

/** Mounts what programs expect to be able to write or read about their own namespaces. */
export function setUpMounts(): void {
  const resolver = realOr("/etc/resolv.conf");
  run("mount", ["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"]);
  // Names resolve as they do in pods. Where the file is a link into /run, it is made there anew.
  const content = `nameserver ${dnsServerIp}\noptions attempts:1 timeout:1\n`;
  if (resolver?.startsWith("/run/")) {
    mkdirSync(dirname(resolver), { recursive: true });
    writeFileSync(resolver, content);
  } else if (resolver) {
    const source = join(runDir, "resolv.conf");
    writeFileSync(source, content);
    run("mount", ["--bind", source, resolver]);
  }
}

function realOr(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}
