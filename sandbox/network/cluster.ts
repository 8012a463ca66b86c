/** The live lists of a region's API server that the network's processes read. */
import { join } from "node:path";
import {
  CoreV1Api,
  DiscoveryV1Api,
  type KubeConfig,
  StorageV1Api,
  type V1EndpointSlice,
  type V1Node,
  type V1PersistentVolume,
  type V1PersistentVolumeClaim,
  type V1Service,
  type V1ServiceAccount,
  type V1StorageClass,
} from "@kubernetes/client-node";
import { runDir } from "../world/paths";
import { kubeConfigWhenThere, LiveList } from "./kubernetes";

/** Connects to a region, as soon as its kubeconfig is there. */
export async function regionConfig(region: string): Promise<KubeConfig> {
  return kubeConfigWhenThere(join(runDir, `${region}.kubeconfig`));
}

/** What decides where traffic goes. */
export interface TrafficLists {
  services: LiveList<V1Service>;
  slices: LiveList<V1EndpointSlice>;
  nodes: LiveList<V1Node>;
}

/** Live lists of Services, EndpointSlices and Nodes; not started. */
export function trafficLists(config: KubeConfig): TrafficLists {
  const core = config.makeApiClient(CoreV1Api);
  const discovery = config.makeApiClient(DiscoveryV1Api);
  return {
    services: new LiveList(config, "/api/v1/services", () => core.listServiceForAllNamespaces()),
    slices: new LiveList(config, "/apis/discovery.k8s.io/v1/endpointslices", () =>
      discovery.listEndpointSliceForAllNamespaces(),
    ),
    nodes: new LiveList(config, "/api/v1/nodes", () => core.listNode()),
  };
}

/** What the volume provisioner reads. */
export interface VolumeLists {
  claims: LiveList<V1PersistentVolumeClaim>;
  volumes: LiveList<V1PersistentVolume>;
  classes: LiveList<V1StorageClass>;
}

/** Live lists of claims, volumes and storage classes; not started. */
export function volumeLists(config: KubeConfig): VolumeLists {
  const core = config.makeApiClient(CoreV1Api);
  const storage = config.makeApiClient(StorageV1Api);
  return {
    claims: new LiveList(config, "/api/v1/persistentvolumeclaims", () =>
      core.listPersistentVolumeClaimForAllNamespaces(),
    ),
    volumes: new LiveList(config, "/api/v1/persistentvolumes", () => core.listPersistentVolume()),
    classes: new LiveList(config, "/apis/storage.k8s.io/v1/storageclasses", () => storage.listStorageClass()),
  };
}

/** Live list of service accounts; not started. */
export function serviceAccountList(config: KubeConfig): LiveList<V1ServiceAccount> {
  const core = config.makeApiClient(CoreV1Api);
  return new LiveList(config, "/api/v1/serviceaccounts", () => core.listServiceAccountForAllNamespaces());
}
