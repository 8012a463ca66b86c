/** Which ports of the host's 127.0.0.1 a clone takes: always the same ones where they are free. */
import { createHash } from "node:crypto";
import { createServer, type Server } from "node:net";

/** Ports to choose from: below the range that Linux gives to outgoing connections (32768 and up by default). */
const first = 20_000;
const count = 12_000;

/**
 * Ports to try for a gate, best first: the remembered one, then a row that starts at a place of the clone's own, so that
 * two clones rarely want the same.
 */
export function* candidatePorts(clone: string, gate: string, remembered?: number): Generator<number> {
  if (remembered !== undefined) yield remembered;
  const start = createHash("sha256").update(`${clone}\0${gate}`).digest().readUInt32BE() % count;
  for (let i = 0; i < count; i++) {
    const port = first + ((start + i) % count);
    if (port !== remembered) yield port;
  }
}

/** Listens on the first candidate that is free and not given to another gate of this clone. */
export async function listenOnFirstFree(
  server: Server,
  candidates: Iterable<number>,
  taken: ReadonlySet<number>,
): Promise<number> {
  for (const port of candidates) {
    if (taken.has(port)) continue;
    if (await tryListen(server, port)) return port;
  }
  throw new Error(`no free port on 127.0.0.1 between ${first} and ${first + count - 1}`);
}

function tryListen(server: Server, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => {
      if (error.code === "EADDRINUSE" || error.code === "EACCES") resolve(false);
      else reject(error);
    };
    server.once("error", failed);
    server.listen({ host: "127.0.0.1", port }, () => {
      server.off("error", failed);
      resolve(true);
    });
  });
}

/** A server that takes connections half-closed, as pipes want them. */
export function pipeServer(onConnection: Parameters<typeof createServer>[1]): Server {
  return createServer({ allowHalfOpen: true, pauseOnConnect: true }, onConnection);
}
