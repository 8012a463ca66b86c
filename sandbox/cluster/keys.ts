/** Keys, certificates and kubeconfigs of the sandbox's clusters. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { writeAtomically } from "../world/files";
import { runDir, stateDir } from "../world/paths";
import type { WorldRegion } from "../world/regions";

/** A certificate, as `sandbox-cluster pki` takes it; a server's has names or addresses. */
interface Certificate {
  name: string;
  authority: string;
  commonName: string;
  organization: string[];
  dnsNames: string[];
  addresses: string[];
}

/** Everything that a cluster's folder of keys holds, as `sandbox-cluster pki` takes it. */
interface KeysSpec {
  authorities: string[];
  keyPairs: string[];
  certificates: Certificate[];
}

/** Folder with the keys of a region's cluster; kept for as long as the cluster's state. */
export function pkiDir(region: WorldRegion): string {
  return join(stateDir, "pki", region.name);
}

/** Name of the key and certificate of a node. */
export function nodeKey(nodeName: string): string {
  return `node-${nodeName}`;
}

/** Address of the cluster's API server, which is also in the nodes' kubeconfigs. */
export function apiServerUrl(region: WorldRegion): string {
  return `https://${region.apiServerIp}:6443`;
}

/** First address of a range such as `172.20.1.0/24`: the cluster's own Service `kubernetes` has it. */
function firstAddress(cidr: string): string {
  const bytes = cidr.split("/")[0]!.split(".").map(Number);
  return [...bytes.slice(0, 3), bytes[3]! + 1].join(".");
}

/** The keys and certificates that a region's cluster needs. Pure. */
function keysSpec(region: WorldRegion): KeysSpec {
  const client = (name: string, commonName: string, ...organization: string[]): Certificate => ({
    name,
    authority: "ca",
    commonName,
    organization,
    dnsNames: [],
    addresses: [],
  });
  return {
    authorities: ["ca", "front-proxy-ca"],
    keyPairs: ["service-account"],
    certificates: [
      {
        ...client("apiserver", "kube-apiserver"),
        dnsNames: [
          "localhost",
          "kubernetes",
          "kubernetes.default",
          "kubernetes.default.svc",
          "kubernetes.default.svc.cluster.local",
        ],
        addresses: ["127.0.0.1", region.apiServerIp, firstAddress(region.serviceCidr)],
      },
      { ...client("front-proxy", "front-proxy-client"), authority: "front-proxy-ca" },
      client("admin", "sandbox-admin", "system:masters"),
      client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
      client("kube-controller-manager", "system:kube-controller-manager"),
      client("kube-scheduler", "system:kube-scheduler"),
      // A node's certificate serves both its API and its requests to the API server.
      ...region.zones.map((zone) => ({
        ...client(nodeKey(zone.nodeName), `system:node:${zone.nodeName}`, "system:nodes"),
        dnsNames: [zone.nodeName],
        addresses: [zone.nodeIp],
      })),
    ],
  };
}

/** Makes the keys of a region's cluster, as far as they are not there. */
export function ensureKeys(region: WorldRegion, binary: string): void {
  const folder = pkiDir(region);
  const input = JSON.stringify(keysSpec(region));
  const result = spawnSync(binary, ["pki", folder], { input, encoding: "utf8" });
  if (result.error) throw new Error(`cannot run ${binary}: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`the keys of ${region.name} cannot be made: ${result.stderr.trim()}`);
}

/** A kubeconfig for one of the region's clients, with its keys inside; the context has the region's name. */
function kubeconfig(region: WorldRegion, key: string): string {
  const read = (file: string) => readFileSync(join(pkiDir(region), file)).toString("base64");
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name: region.name, cluster: { server: apiServerUrl(region), "certificate-authority-data": read("ca.crt") } },
    ],
    users: [
      {
        name: `${region.name}-${key}`,
        user: { "client-certificate-data": read(`${key}.crt`), "client-key-data": read(`${key}.key`) },
      },
    ],
    contexts: [{ name: region.name, context: { cluster: region.name, user: `${region.name}-${key}` } }],
    "current-context": region.name,
  });
}

/** Where the kubeconfig of a client inside the sandbox's namespaces is. */
export function kubeconfigPath(region: WorldRegion, key: string): string {
  return key === "admin" ? join(runDir, `${region.name}.kubeconfig`) : join(runDir, region.name, `${key}.kubeconfig`);
}

/** Writes the kubeconfigs of all clients of a region inside the sandbox's namespaces. */
export function writeKubeconfigs(region: WorldRegion): void {
  mkdirSync(join(runDir, region.name), { recursive: true });
  const nodes = region.zones.map((zone) => nodeKey(zone.nodeName));
  for (const key of ["admin", "kube-controller-manager", "kube-scheduler", ...nodes]) {
    writeAtomically(kubeconfigPath(region, key), kubeconfig(region, key));
  }
}
