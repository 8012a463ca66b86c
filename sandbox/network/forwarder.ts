/** Takes TCP connections on addresses of the sandbox's own and carries their bytes to pods, with delays and resets. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { delayLine } from "./delay-line";
import type { Flow } from "./faults";
import type { Endpoint } from "./routes";

/** A load balancer forgets a connection that has carried nothing for this long. */
const idleTimeoutMs = 350_000;

/** Where a new connection is to go. */
export interface Destination {
  endpoint: Endpoint;
  flow: Flow;
  /** Address from which the pod is called. */
  localAddress?: string;
}

/** What a listener has carried. */
export interface TrafficCounters {
  open: number;
  accepted: number;
  /** Connections that found no target, or whose target did not answer. */
  failed: number;
  bytesIn: number;
  bytesOut: number;
}

/** Rules that apply to every connection, as of now. */
interface ForwarderRules {
  isReset(flow: Flow): boolean;
  /** One-way delay of a connection's bytes. */
  delayMs(flow: Flow): number;
}

/** Counters that stand at zero. */
export function newCounters(): TrafficCounters {
  return { open: 0, accepted: 0, failed: 0, bytesIn: 0, bytesOut: 0 };
}

/** All listeners of one process. */
export class Forwarder {
  private readonly connections = new Map<Socket, { flow: Flow; upstream: Socket; listener: Server }>();

  constructor(private readonly rules: ForwarderRules) {}

  /** Listens on an address. `destinationOf` is asked for each connection; undefined resets it. */
  async listen(
    ip: string,
    port: number,
    destinationOf: (sourceIp: string) => Destination | undefined,
    counters: TrafficCounters,
  ): Promise<Server> {
    const server: Server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (client) =>
      this.carry(server, client, destinationOf(client.remoteAddress ?? ""), counters),
    );
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: ip, port, backlog: 1024 }, () => {
        server.off("error", reject);
        resolve();
      });
    });
    return server;
  }

  /** Stops listening and breaks the listener's connections. */
  close(server: Server): void {
    server.close();
    for (const [client, { upstream, listener }] of this.connections) {
      if (listener !== server) continue;
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
  }

  /** Breaks the connections that the rules now forbid. */
  applyResets(): void {
    for (const [client, { flow, upstream }] of this.connections) {
      if (!this.rules.isReset(flow)) continue;
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
  }

  private carry(
    listener: Server,
    client: Socket,
    destination: Destination | undefined,
    counters: TrafficCounters,
  ): void {
    counters.accepted++;
    client.on("error", () => {});
    if (!destination || this.rules.isReset(destination.flow)) {
      counters.failed++;
      client.resetAndDestroy();
      return;
    }
    const { endpoint, flow, localAddress } = destination;
    const delay = () => this.rules.delayMs(flow);
    // A real connection takes a round trip before the first byte leaves; here the kernel has accepted it already.
    const roundTrip = 2 * delay();
    if (roundTrip > 0) setTimeout(() => this.join(listener, client, endpoint, localAddress, flow, counters), roundTrip);
    else this.join(listener, client, endpoint, localAddress, flow, counters);
  }

  private join(
    listener: Server,
    client: Socket,
    endpoint: Endpoint,
    localAddress: string | undefined,
    flow: Flow,
    counters: TrafficCounters,
  ): void {
    if (client.destroyed) return;
    const delay = () => this.rules.delayMs(flow);
    const upstream = connect({
      host: endpoint.ip,
      port: endpoint.port,
      localAddress,
      allowHalfOpen: true,
      noDelay: true,
    });
    counters.open++;
    this.connections.set(client, { flow, upstream, listener });
    let connected = false;
    const breakOff = (other: Socket): void => {
      if (other.destroyed) return;
      const ms = delay();
      if (ms > 0) setTimeout(() => other.resetAndDestroy(), ms);
      else other.resetAndDestroy();
    };
    upstream.on("error", () => {
      if (!connected) counters.failed++;
    });
    upstream.on("connect", () => {
      connected = true;
      delayLine(client, upstream, delay, (bytes) => {
        counters.bytesIn += bytes;
      });
      delayLine(upstream, client, delay, (bytes) => {
        counters.bytesOut += bytes;
      });
    });
    upstream.on("close", (failed: boolean) => {
      // A stream that ended in order closes its peer by itself once its last bytes are there.
      if (failed || !upstream.readableEnded || !connected) breakOff(client);
    });
    client.on("close", (failed: boolean) => {
      counters.open--;
      this.connections.delete(client);
      if (failed || !client.readableEnded) breakOff(upstream);
    });
    client.setTimeout(idleTimeoutMs, () => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    });
  }
}
