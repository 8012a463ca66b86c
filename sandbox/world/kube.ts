/** Reading from a Kubernetes API server with what a kubeconfig says, for the few questions that the sandbox itself has. */
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { parse } from "yaml";

interface Kubeconfig {
  clusters: {
    name: string;
    cluster: { server: string; "certificate-authority-data"?: string; "tls-server-name"?: string };
  }[];
  users: {
    name: string;
    user: { "client-certificate-data"?: string; "client-key-data"?: string; token?: string };
  }[];
}

interface Client {
  server: string;
  agent: Agent;
  headers: Record<string, string>;
}

/** Clients by the text of their kubeconfig, so that connections are used again. */
const clients = new Map<string, Client>();

function clientFor(path: string): Client {
  const text = readFileSync(path, "utf8");
  const known = clients.get(text);
  if (known) return known;
  const config = parse(text) as Kubeconfig;
  const cluster = config.clusters[0]?.cluster;
  const user = config.users[0]?.user;
  if (!cluster || !user) throw new Error(`${path} names no cluster or no user`);
  const decode = (data: string | undefined): Buffer | undefined => (data ? Buffer.from(data, "base64") : undefined);
  const client: Client = {
    server: cluster.server,
    agent: new Agent({
      keepAlive: true,
      ca: decode(cluster["certificate-authority-data"]),
      cert: decode(user["client-certificate-data"]),
      key: decode(user["client-key-data"]),
      servername: cluster["tls-server-name"],
    }),
    headers: user.token ? { authorization: `Bearer ${user.token}` } : {},
  };
  clients.set(text, client);
  return client;
}

/** GETs a path from the API server of the kubeconfig at `path` and returns the JSON of a 200 answer. */
export function kubeGet<T>(kubeconfig: string, path: string, timeout = 3_000): Promise<T> {
  return new Promise((resolve, reject) => {
    const { server, agent, headers } = clientFor(kubeconfig);
    const url = new URL(path, server);
    const message = request(
      url,
      { agent, headers: { ...headers, accept: "application/json" }, timeout },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString("utf8");
          if (response.statusCode === 200) resolve(JSON.parse(text) as T);
          else reject(new Error(`GET ${url.href}: ${response.statusCode} ${text.slice(0, 200)}`));
        });
      },
    );
    message.on("timeout", () => message.destroy(new Error(`GET ${url.href}: no answer within ${timeout} ms`)));
    message.on("error", reject);
    message.end();
  });
}

interface Condition {
  type: string;
  status: string;
}

/** The parts of a Node that are looked at. */
export interface KubeNode {
  metadata: { name: string; labels?: Record<string, string> };
  spec?: { unschedulable?: boolean; providerID?: string };
  status?: { conditions?: Condition[] };
}

/** The parts of a Pod that are looked at. */
export interface KubePod {
  metadata: { name: string; namespace: string; labels?: Record<string, string>; deletionTimestamp?: string };
  spec?: { nodeName?: string };
  status?: { phase?: string; podIP?: string; conditions?: Condition[] };
}

/** Whether a node or pod says that it is ready. */
export function isReady(object: { status?: { conditions?: Condition[] } }): boolean {
  return object.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false;
}

/** Which pods a gate leads to. */
export interface PodQuery {
  namespace: string;
  labelSelector: string;
}

/** The address of a pod: a ready one before any other, then by name; throws when none has an address. */
export async function readyPodAddress(kubeconfig: string, query: PodQuery): Promise<string> {
  const path = `/api/v1/namespaces/${encodeURIComponent(query.namespace)}/pods?labelSelector=${encodeURIComponent(query.labelSelector)}`;
  const { items } = await kubeGet<{ items: KubePod[] }>(kubeconfig, path);
  const pods = items
    .filter((pod) => pod.status?.podIP && !pod.metadata.deletionTimestamp)
    .sort((a, b) => Number(isReady(b)) - Number(isReady(a)) || a.metadata.name.localeCompare(b.metadata.name));
  const address = pods[0]?.status?.podIP;
  if (!address) throw new Error(`no pod with ${query.labelSelector} in namespace ${query.namespace} has an address`);
  return address;
}

/** Cluster addresses of Services by kubeconfig, namespace and name, with the time when each was asked for. */
const serviceAddresses = new Map<string, { address: string; asked: number }>();

/** For how long an address is taken as it is, in milliseconds. */
const addressKept = 5_000;

/**
 * The cluster address of a Service. One that has been asked for before is given also while the API server is away, since
 * what carries the traffic needs no API server either.
 */
export async function serviceAddress(
  kubeconfig: string,
  { namespace, name }: { namespace: string; name: string },
): Promise<string> {
  const key = `${kubeconfig} ${namespace}/${name}`;
  const known = serviceAddresses.get(key);
  if (known && Date.now() - known.asked < addressKept) return known.address;
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`;
  try {
    const service = await kubeGet<{ spec: { clusterIP: string } }>(kubeconfig, path, known ? 500 : 3_000);
    serviceAddresses.set(key, { address: service.spec.clusterIP, asked: Date.now() });
    return service.spec.clusterIP;
  } catch (error) {
    if (known) return known.address;
    throw error;
  }
}
