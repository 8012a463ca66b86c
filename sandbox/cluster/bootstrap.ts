/** What a fresh cluster gets before anything is deployed to it, as EKS and its add-ons would have made it. */
import { KubeConfig, type KubernetesObject, KubernetesObjectApi, PatchStrategy } from "@kubernetes/client-node";
import type { WorldRegion } from "../world/regions";
import { kubeconfigPath } from "./keys";

/** The objects; pure. */
function bootstrapObjects(): KubernetesObject[] {
  const storageClass = {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: { name: "gp3", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
    provisioner: "ebs.csi.aws.com",
    parameters: { type: "gp3" },
    volumeBindingMode: "WaitForFirstConsumer",
    reclaimPolicy: "Delete",
    allowVolumeExpansion: true,
  };
  // AWS fetches the keys of a cluster's tokens without credentials.
  const discovery = {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: "sandbox:service-account-issuer-discovery" },
    roleRef: {
      apiGroup: "rbac.authorization.k8s.io",
      kind: "ClusterRole",
      name: "system:service-account-issuer-discovery",
    },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "system:unauthenticated" }],
  };
  return [storageClass, discovery];
}

/** Applies them to a region's cluster, whose API server must be ready. May be repeated. */
export async function bootstrapCluster(region: WorldRegion): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfigPath(region, "admin"));
  const api = KubernetesObjectApi.makeApiClient(config);
  for (const object of bootstrapObjects()) {
    await api.patch(object, undefined, undefined, "sandbox", true, PatchStrategy.ServerSideApply);
  }
}
