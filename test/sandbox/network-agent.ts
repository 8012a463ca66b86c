/**
 * What the network's tests run in a pod's network namespace: obeys one JSON order a line on standard input, and answers
 * with one JSON line. Serves an echo on a port, opens connections and asks DNS.
 */
import { Resolver } from "node:dns/promises";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

const open = new Map<string, Socket>();

type Order = { id: number; op: string; [key: string]: unknown };

function once(socket: Socket, event: string, timeoutMs: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => done(() => reject(new Error("timeout"))), timeoutMs);
    const onEvent = (value: unknown) => done(() => resolve(value));
    const onError = (error: NodeJS.ErrnoException) => done(() => reject(new Error(error.code ?? error.message)));
    const onClose = () => done(() => reject(new Error("closed")));
    function done(then: () => void): void {
      clearTimeout(timer);
      socket.off(event, onEvent).off("error", onError).off("close", onClose);
      then();
    }
    socket.on(event, onEvent).on("error", onError).on("close", onClose);
  });
}

const operations: Record<string, (order: Order) => Promise<unknown>> = {
  /** Echoes on a port, after a line with the name of this pod. */
  serve: (order) =>
    new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
        socket.on("error", () => {});
        socket.write(`${order.name}\n`);
        socket.pipe(socket);
      });
      server.on("error", reject);
      server.listen(order.port as number, "0.0.0.0", () => resolve({}));
    }),
  /** Opens a connection; answers with the greeting. */
  async open(order) {
    const socket = connect({ host: order.host as string, port: order.port as number, noDelay: true });
    socket.on("error", () => {});
    open.set(order.name as string, socket);
    const start = performance.now();
    const greeting = await once(socket, "data", (order.timeoutMs as number) ?? 3000);
    return { greeting: String(greeting).trim(), ms: performance.now() - start };
  },
  /** Sends bytes on an open connection and waits for as many to come back, unchanged. */
  async echo(order) {
    const socket = open.get(order.name as string)!;
    const bytes = (order.bytes as number) ?? 1;
    const sent = Buffer.alloc(bytes, Math.random().toString(36));
    const parts: Buffer[] = [];
    let length = 0;
    const start = performance.now();
    socket.write(sent);
    while (length < bytes) {
      const part = (await once(socket, "data", (order.timeoutMs as number) ?? 3000)) as Buffer;
      parts.push(part);
      length += part.length;
    }
    return { ms: performance.now() - start, same: Buffer.concat(parts).equals(sent) };
  },
  /** Waits until the other side ends an open connection; answers how. */
  async ended(order) {
    const socket = open.get(order.name as string)!;
    if (socket.errored) return { how: (socket.errored as NodeJS.ErrnoException).code };
    if (socket.closed) return { how: "closed" };
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve({ how: "timeout" }), (order.timeoutMs as number) ?? 3000);
      socket.once("error", (error: NodeJS.ErrnoException) => resolve({ how: error.code }));
      socket.once("close", () => {
        clearTimeout(timer);
        resolve({ how: "closed" });
      });
    });
  },
  async close(order) {
    open.get(order.name as string)?.destroy();
    open.delete(order.name as string);
    return {};
  },
  /** Median of many round trips of a few bytes on one connection, in milliseconds. */
  async roundTrips(order) {
    const socket = connect({ host: order.host as string, port: order.port as number, noDelay: true });
    await once(socket, "data", 3000);
    const times: number[] = [];
    for (let i = 0; i < (order.count as number); i++) {
      const start = performance.now();
      socket.write("x");
      await once(socket, "data", 3000);
      times.push(performance.now() - start);
    }
    socket.destroy();
    times.sort((a, b) => a - b);
    return { medianMs: times[Math.floor(times.length / 2)], worstMs: times.at(-1) };
  },
  /** Opens many connections at once and has each echo once. */
  async crowd(order) {
    const start = performance.now();
    await Promise.all(
      Array.from({ length: order.count as number }, async () => {
        const socket = connect({ host: order.host as string, port: order.port as number, noDelay: true });
        await once(socket, "data", 10_000);
        socket.write("x");
        await once(socket, "data", 10_000);
        socket.destroy();
      }),
    );
    return { ms: performance.now() - start };
  },
  async resolve(order) {
    const resolver = new Resolver({ timeout: 1000, tries: 1 });
    resolver.setServers([order.server as string]);
    const name = order.name as string;
    const addresses = order.type === "AAAA" ? await resolver.resolve6(name) : await resolver.resolve4(name);
    return { addresses: addresses.sort() };
  },
};

createInterface(process.stdin).on("line", (line) => {
  const order = JSON.parse(line) as Order;
  operations[order.op]!(order).then(
    (result) => process.stdout.write(`${JSON.stringify({ id: order.id, result })}\n`),
    (error: NodeJS.ErrnoException) =>
      process.stdout.write(`${JSON.stringify({ id: order.id, error: error.code ?? error.message })}\n`),
  );
});
process.stdin.on("end", () => process.exit(0));
