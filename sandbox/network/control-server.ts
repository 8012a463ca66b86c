/** A small JSON server on a unix socket. */
import { rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { socketPath } from "../world/files";

/** Handlers by `METHOD /path`; what one returns is the answer, what it throws is answered with status 400. */
type Handlers = Record<string, (body: unknown) => unknown>;

/** Listens on the socket, in place of a predecessor that was killed. */
export async function serveSocket(path: string, handlers: Handlers): Promise<Server> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", async () => {
      const respond = (status: number, body: unknown): void => {
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body ?? {}));
      };
      const handler = handlers[`${request.method} ${request.url}`];
      if (!handler) {
        respond(404, { error: `no ${request.method} ${request.url}: there are ${Object.keys(handlers).join(", ")}` });
        return;
      }
      try {
        const text = Buffer.concat(parts).toString("utf8");
        respond(200, await handler(text === "" ? undefined : JSON.parse(text)));
      } catch (error) {
        respond(400, { error: error instanceof Error ? error.message : String(error) });
      }
    });
  });
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socketPath(path), resolve);
  });
  return server;
}
