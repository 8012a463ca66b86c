/** The processes of a region's Kubernetes cluster: etcd, the control plane, and one node for each zone. */
import { mkdirSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { stringify } from "yaml";
import { toolPath } from "../toolchain";
import { writeAtomically } from "../world/files";
import { isReady, type KubeNode, kubeGet } from "../world/kube";
import type { Part } from "../world/part";
import { runDir, stateDir } from "../world/paths";
import { dnsServerIp, type WorldRegion } from "../world/regions";
import { apiServerUrl, ensureKeys, kubeconfigPath, nodeKey, pkiDir, writeKubeconfigs } from "./keys";

/** What is known of the nodes only when the world comes up. */
export interface ClusterOptions {
  /** The instances that the nodes are, by zone; a zone that is missing gets no node. */
  nodes: { zone: string; instanceId: string }[];
  /** JSON file with the images that the nodes know. */
  images: string;
  /** The program; the toolchain's unless given. */
  binary?: string;
}

/** What an m5.xlarge has, which is what the sandbox's instances are. */
const instance = { type: "m5.xlarge", cpu: 4, memory: "16Gi" } as const;

/** Paths that anyone may ask the API server for: its health, and the keys of its tokens, which AWS fetches. */
const openPaths = ["/livez", "/readyz", "/healthz", "/openid/v1/jwks", "/.well-known/openid-configuration"];

/** Name of the API server's part, which bootstrapping comes after. */
export function apiServerPart(region: WorldRegion): string {
  return `${region.name}/kube-apiserver`;
}

/**
 * Lets Go programs grow to a limit before they spend time on collecting garbage: that halves the processor time of a
 * start, of which there are a dozen at once.
 */
const memory = (limit: string) => ({ GOGC: "400", GOMEMLIMIT: limit });

/**
 * The parts of a region's cluster. Makes its keys and writes its kubeconfigs. etcd, the controller manager and the
 * scheduler listen on an address of the loopback interface, where no pod reaches them.
 */
export function clusterParts(region: WorldRegion, options: ClusterOptions): Part[] {
  const binary = options.binary ?? toolPath("cluster");
  ensureKeys(region, binary);
  writeKubeconfigs(region);
  const own = `127.0.${region.apiServerIp.split(".")[1]}.2`;
  const key = (file: string) => join(pkiDir(region), file);
  const name = (program: string) => `${region.name}/${program}`;
  const authentication = join(runDir, region.name, "authentication.yaml");
  writeAtomically(authentication, authenticationConfig());
  const etcdDir = join(stateDir, "etcd", region.name);
  mkdirSync(etcdDir, { recursive: true, mode: 0o700 });

  const etcd: Part = {
    name: name("etcd"),
    command: [
      binary,
      "etcd",
      `--name=${region.name}`,
      `--data-dir=${etcdDir}`,
      `--listen-client-urls=http://${own}:2379`,
      `--advertise-client-urls=http://${own}:2379`,
      `--listen-peer-urls=http://${own}:2380`,
      `--initial-advertise-peer-urls=http://${own}:2380`,
      `--initial-cluster=${region.name}=http://${own}:2380`,
      "--log-level=warn",
      "--snapshot-count=5000",
      // Safe against the death of any process; only that of the whole machine could lose what was written last.
      "--unsafe-no-fsync",
    ],
    env: memory("150MiB"),
    ready: () => answers(`http://${own}:2379/health`),
  };

  const apiServer: Part = {
    name: apiServerPart(region),
    command: [
      binary,
      "kube-apiserver",
      `--etcd-servers=http://${own}:2379`,
      `--bind-address=${region.apiServerIp}`,
      `--advertise-address=${region.apiServerIp}`,
      "--secure-port=6443",
      `--service-cluster-ip-range=${region.serviceCidr}`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      `--authentication-config=${authentication}`,
      `--client-ca-file=${key("ca.crt")}`,
      `--tls-cert-file=${key("apiserver.crt")}`,
      `--tls-private-key-file=${key("apiserver.key")}`,
      `--kubelet-certificate-authority=${key("ca.crt")}`,
      `--kubelet-client-certificate=${key("apiserver-kubelet.crt")}`,
      `--kubelet-client-key=${key("apiserver-kubelet.key")}`,
      "--kubelet-preferred-address-types=InternalIP",
      `--service-account-issuer=${region.oidcIssuer}`,
      `--service-account-jwks-uri=${region.oidcIssuer}/keys`,
      // As on EKS, where tokens for the API server itself have this audience too.
      `--api-audiences=${region.oidcIssuer},https://kubernetes.default.svc`,
      `--service-account-key-file=${key("service-account.pub")}`,
      `--service-account-signing-key-file=${key("service-account.key")}`,
      `--requestheader-client-ca-file=${key("front-proxy-ca.crt")}`,
      "--requestheader-allowed-names=front-proxy-client",
      "--requestheader-username-headers=X-Remote-User",
      "--requestheader-group-headers=X-Remote-Group",
      "--requestheader-extra-headers-prefix=X-Remote-Extra-",
      `--proxy-client-cert-file=${key("front-proxy.crt")}`,
      `--proxy-client-key-file=${key("front-proxy.key")}`,
      "--allow-privileged=true",
      "--event-ttl=6h",
      "--profiling=false",
      // So that a stopped server is gone at once: nothing balances load between several here.
      "--shutdown-delay-duration=0s",
    ],
    env: memory("400MiB"),
    after: [etcd.name],
    // A new etcd under an API server that lives on would contradict what that one remembers.
    boundTo: [etcd.name],
    // It would wait for open watches, and has nothing to lose: what it has acknowledged is in etcd.
    stopSeconds: 1,
    ready: () => answers(`${apiServerUrl(region)}/readyz`),
  };

  const controllerManager: Part = {
    name: name("kube-controller-manager"),
    command: [
      binary,
      "kube-controller-manager",
      ...clientFlags(region, "kube-controller-manager"),
      `--bind-address=${own}`,
      "--use-service-account-credentials=true",
      `--service-account-private-key-file=${key("service-account.key")}`,
      `--root-ca-file=${key("ca.crt")}`,
      `--cluster-signing-cert-file=${key("ca.crt")}`,
      `--cluster-signing-key-file=${key("ca.key")}`,
      // Addresses of pods and routes between nodes are the VPC's matter, load balancers their own controller's.
      "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller",
      "--node-monitor-period=2s",
      // A dead node is noticed in half the usual time.
      "--node-monitor-grace-period=20s",
      "--profiling=false",
    ],
    env: memory("150MiB"),
    after: [apiServer.name],
    // As with the leases of several, which end one that loses its API server: it would otherwise try again so rarely
    // that a cluster needs a minute to work again.
    boundTo: [apiServer.name],
    ready: () => answers(`https://${own}:10257/healthz`),
  };

  const scheduler: Part = {
    name: name("kube-scheduler"),
    command: [
      binary,
      "kube-scheduler",
      ...clientFlags(region, "kube-scheduler"),
      `--bind-address=${own}`,
      "--profiling=false",
    ],
    env: memory("120MiB"),
    after: [apiServer.name],
    // As with the leases of several, which end one that loses its API server: it would otherwise try again so rarely
    // that a cluster needs a minute to work again.
    boundTo: [apiServer.name],
    ready: () => answers(`https://${own}:10259/healthz`),
  };

  return [etcd, apiServer, controllerManager, scheduler, ...nodeParts(region, options, binary)];
}

function clientFlags(region: WorldRegion, client: string): string[] {
  const path = kubeconfigPath(region, client);
  return [
    `--kubeconfig=${path}`,
    `--authentication-kubeconfig=${path}`,
    `--authorization-kubeconfig=${path}`,
    "--leader-elect=false",
  ];
}

function nodeParts(region: WorldRegion, options: ClusterOptions, binary: string): Part[] {
  return options.nodes.map(({ zone: zoneName, instanceId }) => {
    const zone = region.zones.find((z) => z.name === zoneName);
    if (!zone) throw new Error(`${region.name} has no zone ${zoneName}: ${region.zones.map((z) => z.name).join(", ")}`);
    const labels = {
      "kubernetes.io/hostname": zone.nodeName,
      "node.kubernetes.io/instance-type": instance.type,
      "topology.kubernetes.io/region": region.awsRegion,
      "topology.kubernetes.io/zone": zone.name,
      "topology.ebs.csi.aws.com/zone": zone.name,
    };
    const file = (suffix: string) => join(pkiDir(region), `${nodeKey(zone.nodeName)}.${suffix}`);
    return {
      name: `${region.name}/node-${zone.name}`,
      command: [
        binary,
        "node",
        `--name=${zone.nodeName}`,
        ...Object.entries(labels).map(([label, value]) => `--label=${label}=${value}`),
        `--provider-id=aws:///${zone.name}/${instanceId}`,
        `--node-ip=${zone.nodeIp}`,
        `--bridge=${region.bridge}`,
        `--gateway=${region.gatewayIp}`,
        `--pod-prefix=${region.vpcCidr.split("/")[1]}`,
        `--first-pod-ip=${zone.podIps[0]}`,
        `--last-pod-ip=${zone.podIps[1]}`,
        `--kubeconfig=${kubeconfigPath(region, nodeKey(zone.nodeName))}`,
        `--dir=${join(stateDir, "nodes", zone.nodeName)}`,
        `--cluster-dns=${dnsServerIp}`,
        `--images=${options.images}`,
        `--cpu=${instance.cpu}`,
        `--memory=${instance.memory}`,
        `--client-ca=${join(pkiDir(region), "ca.crt")}`,
        `--certificate=${file("crt")}`,
        `--key=${file("key")}`,
      ],
      env: memory("100MiB"),
      after: [apiServerPart(region)],
      ready: async () =>
        isReady(await kubeGet<KubeNode>(kubeconfigPath(region, "admin"), `/api/v1/nodes/${zone.nodeName}`)),
    };
  });
}

/** Who may ask the API server without credentials, and for what. */
function authenticationConfig(): string {
  return stringify({
    apiVersion: "apiserver.config.k8s.io/v1",
    kind: "AuthenticationConfiguration",
    anonymous: { enabled: true, conditions: openPaths.map((path) => ({ path })) },
  });
}

/** Whether a URL answers with 200. Only asked for health, so that the server need not prove who it is. */
function answers(url: string): Promise<boolean> {
  if (url.startsWith("http:")) return fetch(url, { signal: AbortSignal.timeout(2_000) }).then(({ ok }) => ok);
  return new Promise((resolve, reject) => {
    const message = request(url, { rejectUnauthorized: false, timeout: 2_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    message.on("timeout", () => message.destroy(new Error(`${url}: no answer`)));
    message.on("error", reject);
    message.end();
  });
}
