/**
 * The process on the host's side: listens on 127.0.0.1 only, one port per gate, and passes each connection to the gate's
 * unix socket. It ends when the supervisor does. Ports are remembered in the state folder.
 */
import { request } from "node:http";
import { connect, type Server } from "node:net";
import { join } from "node:path";
import { control, controlSocket } from "./control";
import { readJson, socketPath, writeAtomically } from "./files";
import { gateSocket, pipeBoth } from "./gates";
import { sandboxDir, stateDir } from "./paths";
import { candidatePorts, listenOnFirstFree, pipeServer } from "./ports";

/** The remembered ports, by gate. */
export const portsFile = join(stateDir, "ports.json");

/** Reads the remembered ports; a missing or damaged file gives none. */
export function rememberedPorts(): Record<string, number> {
  const content = readJson(portsFile);
  if (typeof content !== "object" || content === null) return {};
  return Object.fromEntries(
    Object.entries(content).filter(([, port]) => Number.isInteger(port) && port > 0 && port < 65_536),
  );
}

async function main(): Promise<void> {
  const gates = await control<string[]>("GET", "/gates");
  const remembered = rememberedPorts();
  const ports: Record<string, number> = {};
  const servers: Server[] = [];
  for (const gate of gates) {
    const server = pipeServer((client) => {
      client.on("error", () => client.destroy());
      pipeBoth(client, connect({ path: socketPath(gateSocket(gate)), allowHalfOpen: true }));
    });
    const taken = new Set(Object.values(ports));
    ports[gate] = await listenOnFirstFree(server, candidatePorts(sandboxDir, gate, remembered[gate]), taken);
    servers.push(server);
  }
  writeAtomically(portsFile, `${JSON.stringify({ ...remembered, ...ports }, null, 2)}\n`);

  const message = request({ socketPath: socketPath(controlSocket), method: "POST", path: "/host-ports" });
  const end = (): never => process.exit(0);
  message.on("response", (response) => response.resume().on("close", end));
  message.on("error", end);
  message.end(JSON.stringify({ pid: process.pid, ports }));
  process.on("SIGTERM", end);
}

if (require.main === module) {
  main().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}
