/**
 * The control interface of the network: latency, cuts, delay of names, and what there is. Usable from the host, since a
 * unix socket does not care for network namespaces.
 */
import { request } from "node:http";
import { join } from "node:path";
import { socketPath } from "../world/files";
import { runDir } from "../world/paths";
import type { Cut, CutMode, CutTarget, FaultState } from "./faults";
import type { TrafficCounters } from "./forwarder";
import type { Health } from "./health";

/** The data plane's socket. */
export const networkSocket = join(runDir, "network-control.sock");

/** The controllers' socket. */
export const controllersSocket = join(runDir, "network-controllers.sock");

/** A target of a load balancer's port. */
interface TargetStatus {
  /** Instance id or address. */
  id: string;
  port: number;
  zone?: string;
  health: Health | "unused";
  /** Where its connections go: addresses of pods with ports. */
  pods: string[];
  problem?: string;
}

/** A network load balancer. */
export interface LoadBalancerStatus {
  region: string;
  name: string;
  dnsName: string;
  /** `namespace/name` of its Service. */
  service?: string;
  addresses: { zone: string; ip: string }[];
  ports: { port: number; targets: TargetStatus[] }[];
  traffic: TrafficCounters;
  /** Why it does not listen where it should. */
  problems: string[];
}

/** A host name from an annotation. */
interface NameStatus {
  host: string;
  owner: string;
  /** What those who ask are told now; empty when they are told that the name does not exist. */
  addresses: string[];
  /** Milliseconds until a change is seen. */
  changeInMs?: number;
  /** Services that ask for the same name in vain. */
  contenders: string[];
}

/** Everything. */
export interface NetworkStatus {
  regions: {
    name: string;
    /** True once its API server and AWS have both been read. */
    ready: boolean;
    /** Why the last look at AWS failed; what was known before still holds. */
    awsProblem?: string;
  }[];
  loadBalancers: LoadBalancerStatus[];
  /** Services with a cluster address that are forwarded in place of kube-proxy. */
  clusterServices: number;
  names: NameStatus[];
  faults: FaultState;
}

/** Sends a request to one of the two sockets and gives the JSON of the answer. */
export async function askSocket<T>(socket: string, method: string, path: string, body?: unknown): Promise<T> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath: socketPath(socket),
        method,
        path,
        headers: { "content-type": "application/json" },
        // A connection of its own: one that is kept may be closed by the other side just as it is used again.
        agent: false,
        timeout: 10_000,
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => {
          const text = Buffer.concat(parts).toString("utf8");
          let answer: unknown;
          try {
            answer = text === "" ? undefined : JSON.parse(text);
          } catch {
            reject(new Error(`${method} ${path}: the answer is not JSON: ${text.slice(0, 200)}`));
            return;
          }
          if ((response.statusCode ?? 500) < 300) resolve(answer as T);
          else reject(new Error((answer as { error?: string })?.error ?? `${method} ${path}: ${response.statusCode}`));
        });
      },
    );
    call.on("timeout", () => call.destroy(new Error(`${method} ${path}: no answer within 10 s`)));
    call.on("error", (error: NodeJS.ErrnoException) => {
      const down = error.code === "ENOENT" || error.code === "ECONNREFUSED";
      reject(down ? new Error(`the sandbox's network is not running: nothing answers on ${socket}`) : error);
    });
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The network as seen by tests and commands. */
export const networkControl = {
  /** Everything there is. */
  status: () => askSocket<NetworkStatus>(networkSocket, "GET", "/status"),
  /** The faults in effect. */
  faults: () => askSocket<FaultState>(networkSocket, "GET", "/faults"),
  /** Sets the one-way delay between two regions, for open connections as well; 0 removes it. */
  setLatency: (latency: { between: [string, string]; ms: number }) =>
    askSocket<FaultState>(networkSocket, "PUT", "/latency", latency),
  /** Cuts a region, a direction, a node, or a region's way to AWS. Mode `drop` unless given. */
  cut: (target: CutTarget & { mode?: CutMode }) =>
    askSocket<FaultState>(networkSocket, "PUT", "/cut", { mode: "drop", ...target } satisfies Cut),
  /** Removes one cut; all cuts when no target is given. */
  heal: (target?: CutTarget) => askSocket<FaultState>(networkSocket, "PUT", "/heal", target ?? {}),
  /** Sets how long a change of a host name takes to be seen. */
  setDnsDelay: (ms: number) => askSocket<FaultState>(networkSocket, "PUT", "/dns-delay", { ms }),
  /** Removes every cut and latency, and puts the delay of names back to its default. */
  reset: () => askSocket<FaultState>(networkSocket, "PUT", "/reset", {}),
};
