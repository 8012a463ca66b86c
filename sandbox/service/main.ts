/** The program in the practice service's pods: serves the ledger over HTTP/2 until it is told to end. */
import { createServer, type ServerHttp2Session } from "node:http2";
import { createEndpointHandler } from "@restatedev/restate-sdk/node";
import { ledger } from "./ledger";

/** Where Restate finds the service in a pod. */
const port = Number(process.env.PORT ?? 9080);

const server = createServer(createEndpointHandler({ services: [ledger] }));
const sessions = new Set<ServerHttp2Session>();
server.on("session", (session) => {
  sessions.add(session);
  session.on("close", () => sessions.delete(session));
});
server.listen(port, () => console.log(`the ledger is served on port ${port}`));

// As the first process of its container, a program that does not heed the signal is not ended by it.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  // Tells Restate to go elsewhere with new calls, and lets those that are under way finish.
  for (const session of sessions) session.close();
});
