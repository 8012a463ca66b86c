/** The inner half of the host's ports: each gate is a unix socket whose connections go on to a target inside. */
import { mkdirSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { socketPath } from "./files";
import { runDir } from "./paths";
import type { Gate } from "./plan";

/** The unix socket of a gate. */
export function gateSocket(name: string): string {
  return join(runDir, "gates", `${name.replaceAll("/", "-")}.sock`);
}

/** Passes bytes both ways, half-closes included; when one side breaks off, so does the other. */
export function pipeBoth(a: Socket, b: Socket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.setNoDelay(true);
    from.on("error", () => to.destroy());
    from.on("close", () => {
      if (!from.readableEnded) to.destroy();
    });
    from.pipe(to);
  }
}

/** Listens on every gate's socket. */
export async function openGates(gates: readonly Gate[]): Promise<void> {
  mkdirSync(join(runDir, "gates"), { recursive: true, mode: 0o700 });
  await Promise.all(
    gates.map(
      (gate) =>
        new Promise<void>((resolve, reject) => {
          const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
            client.on("error", () => client.destroy());
            gate.target().then(
              ({ host, port }) => {
                const target = connect({ host, port, allowHalfOpen: true });
                pipeBoth(client, target);
              },
              () => client.destroy(),
            );
          });
          server.on("error", reject);
          server.listen(socketPath(gateSocket(gate.name)), resolve);
        }),
    ),
  );
}
