/**
 * Reading objects from a cluster's API. Every preview waits for this, and the client library takes as long to load as
 * Pulumi's SDK: only its modules that understand kubeconfigs are loaded, and all of it only for kubeconfigs that need more.
 */
import { readFileSync } from "node:fs";
import { type Agent, request as plainRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import type { Cluster, User } from "@kubernetes/client-node";
import type { ExecAuth } from "@kubernetes/client-node/dist/exec_auth.js";
import type { ClusterAccess } from "./access";
import { configOf } from "./client";

/** Reads what a path of the API holds, JSON unless it is parsed as something else. Rejects with the server's message for any answer but success. */
export type Read = <T>(path: string, signal: AbortSignal, parse?: (text: string) => T) => Promise<T>;

/** Where the API is, and what each request to it carries. */
interface Connection {
  server: string;
  ca?: Buffer;
  cert?: Buffer | string;
  key?: Buffer | string;
  rejectUnauthorized?: boolean;
  servername?: string;
  auth?: string;
  headers?: Record<string, string>;
  agent?: Agent;
}

/** A reader for one cluster. Logging in belongs to the first read; what is awaited here is the code that is loaded. */
export async function reader(access: ClusterAccess): Promise<Read> {
  const logIn = await connector(access);
  let connection: Promise<Connection> | undefined;
  return async (path, signal, parse = JSON.parse) => {
    connection ??= logIn();
    return get(await connection, path, signal, parse);
  };
}

function get<T>(
  { server, ...options }: Connection,
  path: string,
  signal: AbortSignal,
  parse: (text: string) => T,
): Promise<T> {
  const headers = { accept: "application/json", ...options.headers };
  const request = server.startsWith("http:") ? plainRequest : tlsRequest;
  return new Promise((resolve, reject) => {
    const sent = request(`${server}${path}`, { ...options, headers, signal }, (response) => {
      const chunks: Buffer[] = [];
      response.on("error", reject);
      response.on("data", (chunk: Buffer) => void chunks.push(chunk));
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        try {
          if (response.statusCode === 200) resolve(parse(text));
          else reject(new Error(`GET ${path}: HTTP ${response.statusCode}: ${messageOf(text)}`));
        } catch (error) {
          reject(error);
        }
      });
    });
    sent.on("error", reject);
    sent.end();
  });
}

/** What an answer that is not the object says: the message of a Status, or its own text. */
function messageOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text;
  } catch {
    return text;
  }
}

/** Runs commands for tokens, and keeps tokens for as long as they last. */
let commands: ExecAuth | undefined;

/** Reads a kubeconfig's context, its current one or the one that is asked for, and returns what logs in there. */
async function connector(access: ClusterAccess): Promise<() => Promise<Connection>> {
  const [{ load }, { newClusters, newContexts, newUsers }, { ExecAuth }] = await Promise.all([
    import("js-yaml"),
    import("@kubernetes/client-node/dist/config_types.js"),
    import("@kubernetes/client-node/dist/exec_auth.js"),
  ]);
  const config = load(access.kubeconfig) as Record<string, unknown>;
  const name = access.context ?? config["current-context"];
  const context = newContexts(config.contexts).find((one) => one.name === name);
  const cluster = newClusters(config.clusters).find((one) => one.name === context?.cluster);
  const user = newUsers(config.users).find((one) => one.name === context?.user);
  if (!cluster) throw new Error(`the kubeconfig has no context ${name}, or not its cluster`);
  if (user?.authProvider || user?.impersonateUser || cluster.proxyUrl) return libraryConnector(access);
  return async () => {
    const connection: Connection = { server: cluster.server, ...certificates(cluster, user) };
    if (cluster.skipTLSVerify) connection.rejectUnauthorized = false;
    if (cluster.tlsServerName) connection.servername = cluster.tlsServerName;
    if (user?.username) connection.auth = `${user.username}:${user.password}`;
    commands ??= new ExecAuth();
    if (user?.exec) await commands.applyAuthentication(user, connection);
    if (user?.token) connection.headers = { Authorization: `Bearer ${user.token}` };
    return connection;
  };
}

/** The certificates of a kubeconfig, which are files or base64. */
function certificates(cluster: Cluster, user: User | undefined): Pick<Connection, "ca" | "cert" | "key"> {
  const content = (file: string | undefined, data: string | undefined) =>
    file ? readFileSync(file) : data ? Buffer.from(data, "base64") : undefined;
  const ca = content(cluster.caFile, cluster.caData);
  const cert = content(user?.certFile, user?.certData);
  const key = content(user?.keyFile, user?.keyData);
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
}

/** The same by the client library: for proxies, impersonation, and the auth providers that came before commands. */
async function libraryConnector(access: ClusterAccess): Promise<() => Promise<Connection>> {
  const config = await configOf(access);
  const { server } = config.getCurrentCluster() as Cluster;
  return async () => {
    const options = {};
    await config.applyToHTTPSOptions(options);
    return { ...options, server };
  };
}
