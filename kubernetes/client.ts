/** Clients for a cluster. The library is loaded only when one is asked for, since it is large. */
import type { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import type { ClusterAccess } from "./access";

/** The library's form of the access to a cluster. */
export async function configOf(access: ClusterAccess): Promise<KubeConfig> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromString(access.kubeconfig);
  if (access.context) config.setCurrentContext(access.context);
  return config;
}

/** A client for pods, nodes, volumes and Services. */
export async function coreApi(access: ClusterAccess): Promise<CoreV1Api> {
  const { CoreV1Api } = await import("@kubernetes/client-node");
  return (await configOf(access)).makeApiClient(CoreV1Api);
}
