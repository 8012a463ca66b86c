/** What the volume provisioner decides: whether and where a claim gets a volume, and how the volume looks. Pure. */
import type { V1Node, V1PersistentVolume, V1PersistentVolumeClaim, V1StorageClass } from "@kubernetes/client-node";

/** Name of the driver that the sandbox's provisioner stands for. */
export const ebsDriver = "ebs.csi.aws.com";

/** Keeps a volume until its data and its EC2 volume are gone. */
export const volumeFinalizer = "external-provisioner.volume.kubernetes.io/finalizer";

/** Annotation with the id of the EC2 volume. */
export const volumeIdAnnotation = "sandbox/ebs-volume-id";

const zoneLabels = ["topology.kubernetes.io/zone", "topology.ebs.csi.aws.com/zone"];

/** The zone of a node, by either label. */
function zoneOfNode(node: V1Node): string | undefined {
  return zoneLabels.map((label) => node.metadata?.labels?.[label]).find((zone) => zone !== undefined);
}

const units: Record<string, number> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** Size of an EC2 volume that holds a Kubernetes quantity, in whole GiB; undefined when it is not a quantity. */
export function gibibytes(quantity: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(?:(Ki|Mi|Gi|Ti|Pi|[kMGTP])|e(\d+))?$/.exec(quantity);
  if (!match) return undefined;
  const bytes = Number(match[1]) * (match[3] ? 10 ** Number(match[3]) : units[match[2] ?? ""]!);
  return Math.max(1, Math.ceil(bytes / 2 ** 30));
}

/** What to do for a claim. */
type ClaimDecision =
  /** Nothing, now or ever. */
  | { kind: "none" }
  /** It waits for the scheduler to choose a node. */
  | { kind: "wait" }
  | { kind: "fault"; message: string }
  | {
      kind: "provision";
      zone: string;
      sizeGib: number;
      /** As in EC2: gp3, io2 … */
      volumeType: string;
      encrypted: boolean;
      iops?: number;
      throughput?: number;
    };

/** Decides for a claim. `zones` are the region's, for classes that bind at once. */
export function decideClaim(
  claim: V1PersistentVolumeClaim,
  storageClass: V1StorageClass | undefined,
  nodes: V1Node[],
  zones: string[],
): ClaimDecision {
  if (claim.metadata?.deletionTimestamp || claim.spec?.volumeName || claim.status?.phase === "Bound") {
    return { kind: "none" };
  }
  if (storageClass?.provisioner !== ebsDriver) return { kind: "none" };
  const fault = (message: string): ClaimDecision => ({ kind: "fault", message });
  const unsupported = (claim.spec?.accessModes ?? []).filter((m) => !["ReadWriteOnce", "ReadWriteOncePod"].includes(m));
  if (unsupported.length > 0) {
    return fault(
      `access mode ${unsupported.join(", ")} is not offered by EBS volumes with a file system: use ReadWriteOnce`,
    );
  }
  if (claim.spec?.volumeMode === "Block") return fault("volumeMode Block: the sandbox offers file systems only");
  if (claim.spec?.dataSource || claim.spec?.dataSourceRef) {
    return fault("dataSource: the sandbox has neither snapshots nor clones of volumes");
  }
  const request = claim.spec?.resources?.requests?.storage ?? "";
  const sizeGib = gibibytes(request);
  if (sizeGib === undefined) return fault(`the requested size '${request}' is not a quantity`);
  const parameters = Object.fromEntries(
    Object.entries(storageClass.parameters ?? {}).map(([key, value]) => [key.toLowerCase(), value]),
  );
  const volumeType = parameters.type ?? "gp3";
  if (!["gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"].includes(volumeType)) {
    return fault(`StorageClass ${storageClass.metadata?.name}: '${volumeType}' is not a type of EBS volume`);
  }
  let zone = zones[0];
  if (storageClass.volumeBindingMode === "WaitForFirstConsumer") {
    const nodeName = claim.metadata?.annotations?.["volume.kubernetes.io/selected-node"];
    if (!nodeName) return { kind: "wait" };
    const node = nodes.find((n) => n.metadata?.name === nodeName);
    if (!node) return fault(`the selected node ${nodeName} does not exist`);
    zone = zoneOfNode(node);
    if (!zone) return fault(`the selected node ${nodeName} has no label ${zoneLabels.join(" or ")}`);
  }
  if (!zone) return fault("the region has no zone");
  return {
    kind: "provision",
    zone,
    sizeGib,
    volumeType,
    encrypted: parameters.encrypted === "true",
    ...(parameters.iops ? { iops: Number(parameters.iops) } : {}),
    ...(parameters.throughput ? { throughput: Number(parameters.throughput) } : {}),
  };
}

/** The volume for a claim, as the API server is to have it. */
export function volumeFor(
  claim: V1PersistentVolumeClaim,
  storageClass: V1StorageClass,
  place: { zone: string; sizeGib: number; volumeId: string; path: string },
): V1PersistentVolume {
  const { name, namespace, uid } = claim.metadata!;
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: {
      name: volumeName(claim),
      finalizers: [volumeFinalizer],
      labels: { "topology.kubernetes.io/zone": place.zone },
      annotations: { "pv.kubernetes.io/provisioned-by": ebsDriver, [volumeIdAnnotation]: place.volumeId },
    },
    spec: {
      capacity: { storage: `${place.sizeGib}Gi` },
      accessModes: claim.spec!.accessModes,
      volumeMode: "Filesystem",
      storageClassName: storageClass.metadata!.name,
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? "Delete",
      mountOptions: storageClass.mountOptions,
      claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", name, namespace, uid },
      hostPath: { path: place.path, type: "DirectoryOrCreate" },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: zoneLabels.map((key) => ({ key, operator: "In", values: [place.zone] })) },
          ],
        },
      },
    },
  };
}

/** Name of the volume that is made for a claim. */
export function volumeName(claim: V1PersistentVolumeClaim): string {
  return `pvc-${claim.metadata!.uid}`;
}

/** Says whether a volume of this provisioner is to be deleted with its data. */
export function isToBeDeleted(volume: V1PersistentVolume): boolean {
  if (volume.metadata?.annotations?.["pv.kubernetes.io/provisioned-by"] !== ebsDriver) return false;
  if (volume.spec?.persistentVolumeReclaimPolicy !== "Delete") return false;
  return volume.status?.phase === "Released" || volume.status?.phase === "Failed";
}

/** Says whether only the finalizer of a volume of this provisioner is to be removed: it is deleted, its data stay. */
export function isToBeReleased(volume: V1PersistentVolume): boolean {
  return (
    volume.metadata?.annotations?.["pv.kubernetes.io/provisioned-by"] === ebsDriver &&
    volume.metadata.deletionTimestamp !== undefined &&
    (volume.metadata.finalizers ?? []).includes(volumeFinalizer) &&
    volume.spec?.persistentVolumeReclaimPolicy !== "Delete"
  );
}
