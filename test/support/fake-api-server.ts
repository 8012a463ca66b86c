/**
 * Answers what `placement.ts` asks of a Kubernetes API server, on a port of 127.0.0.1, from objects that a test changes.
 * Knows four kinds and no watches, no selectors but that of Restate's pods, and no authentication. Speaks TLS if it is given a certificate.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { V1Node, V1PersistentVolume, V1PersistentVolumeClaim, V1Pod } from "@kubernetes/client-node";

/** What the cluster holds. */
export interface FakeCluster {
  pods: V1Pod[];
  claims: V1PersistentVolumeClaim[];
  volumes: V1PersistentVolume[];
  nodes: V1Node[];
}

/** A pod of the chart: with a claim unless told otherwise, and on a node if one is given. */
export function pod(index: number, nodeName?: string, changes: { claim?: boolean; deleted?: boolean } = {}): V1Pod {
  const name = `restate-${index}`;
  return {
    metadata: {
      name,
      labels: { app: "restate" },
      ...(changes.deleted ? { deletionTimestamp: new Date("2026-01-01T00:00:00Z") } : {}),
    },
    spec: {
      containers: [{ name: "restate" }],
      ...(nodeName ? { nodeName } : {}),
      volumes: [
        { name: "tmp", emptyDir: {} },
        ...(changes.claim === false
          ? []
          : [{ name: "storage", persistentVolumeClaim: { claimName: `storage-${name}` } }]),
      ],
    },
  };
}

/** The claim of a pod, bound to a volume if one is named. */
export function claim(index: number, volumeName?: string): V1PersistentVolumeClaim {
  return { metadata: { name: `storage-restate-${index}` }, spec: volumeName ? { volumeName } : {} };
}

/** A volume whose node affinity has the given expressions. */
export function volume(name: string, ...expressions: [key: string, values: string[], operator?: string][]) {
  return {
    metadata: { name },
    spec: {
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            {
              matchExpressions: expressions.map(([key, values, operator]) => ({
                key,
                operator: operator ?? "In",
                values,
              })),
            },
          ],
        },
      },
    },
  } satisfies V1PersistentVolume;
}

/** A node, in a zone if one is given. */
export function node(name: string, zone?: string): V1Node {
  return { metadata: { name, labels: zone ? { "topology.kubernetes.io/zone": zone } : {} } };
}

/** A cluster in which every pod has a volume, in zones a, b, c, a, ... of a region. */
export function runningCluster(awsRegion: string, replicas: number): FakeCluster {
  const cluster: FakeCluster = { pods: [], claims: [], volumes: [], nodes: [] };
  for (let i = 0; i < replicas; i++) {
    const zone = `${awsRegion}${"abc"[i % 3]}`;
    cluster.pods.push(pod(i, `node-${i}`));
    cluster.claims.push(claim(i, `volume-${i}`));
    cluster.volumes.push(volume(`volume-${i}`, ["topology.kubernetes.io/zone", [zone]]));
    cluster.nodes.push(node(`node-${i}`, zone));
  }
  return cluster;
}

/** An API server that a test can change, stop and start again on the same port. */
export class FakeApiServer {
  cluster: FakeCluster = { pods: [], claims: [], volumes: [], nodes: [] };
  /** What the pod of each Job printed last, by the beginning of the Job's name. */
  jobs: Record<string, unknown> = {};
  /** Takes requests and never answers them. */
  silent = false;
  readonly requests: string[] = [];
  private server: Server | undefined;
  private port = 0;

  constructor(readonly tls?: { key: string; cert: string }) {}

  async start(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      const url = new URL(request.url as string, "http://127.0.0.1");
      this.requests.push(url.pathname + url.search);
      if (!this.silent) this.answer(url, response);
    };
    const server = this.tls ? createTlsServer(this.tls, listener) : createServer(listener);
    this.server = server.listen(this.port, "127.0.0.1");
    await once(server, "listening");
    this.port = (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const { server } = this;
    if (!server) return;
    this.server = undefined;
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  }

  get url(): string {
    return `${this.tls ? "https" : "http"}://127.0.0.1:${this.port}`;
  }

  /** A kubeconfig with two contexts: `here` leads to this server, the current one nowhere. */
  get kubeconfig(): string {
    const at = (name: string, server: string) => ({ name, cluster: { server, "insecure-skip-tls-verify": true } });
    return JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [at("here", this.url), at("nowhere", "http://127.0.0.1:1")],
      users: [{ name: "tester", user: {} }],
      contexts: ["here", "nowhere"].map((name) => ({ name, context: { cluster: name, user: "tester" } })),
      "current-context": "nowhere",
    });
  }

  private answer(url: URL, response: ServerResponse): void {
    const reply = (status: number, body: unknown) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const list = (kind: string, items: unknown[]) => reply(200, { apiVersion: "v1", kind: `${kind}List`, items });
    const one = (kind: string, items: { metadata?: { name?: string } }[], name: string) => {
      const found = items.find((item) => item.metadata?.name === name);
      if (found) reply(200, { apiVersion: "v1", kind, ...found });
      else reply(404, { kind: "Status", apiVersion: "v1", code: 404, message: `${kind} ${name} not found` });
    };
    const [, , , kind, name, inside, podName] = url.pathname.split("/");
    const job = url.searchParams.get("labelSelector")?.match(/^job-name=(.+)$/)?.[1] ?? podName?.replace(/-pod$/, "");
    const printed = job && Object.keys(this.jobs).find((beginning) => job.startsWith(beginning));
    if (kind === "namespaces" && inside === "pods" && podName) {
      reply(200, this.jobs[printed as string]);
    } else if (kind === "namespaces" && inside === "pods" && job) {
      list("Pod", printed ? [{ metadata: { name: `${job}-pod` }, status: { phase: "Succeeded" } }] : []);
    } else if (kind === "namespaces" && inside === "pods" && url.searchParams.get("labelSelector") === "app=restate") {
      list("Pod", this.cluster.pods);
    } else if (kind === "namespaces" && inside === "persistentvolumeclaims") {
      list("PersistentVolumeClaim", this.cluster.claims);
    } else if (kind === "persistentvolumes" && name) {
      one("PersistentVolume", this.cluster.volumes, name);
    } else if (kind === "nodes" && name) {
      one("Node", this.cluster.nodes, name);
    } else {
      reply(500, { message: `the fake API server knows nothing of ${url.pathname}${url.search}` });
    }
  }
}
