/**
 * Stand-in for the EBS CSI driver and its provisioner: claims of classes with provisioner `ebs.csi.aws.com` get a folder
 * in the sandbox's state, tied to the zone that the scheduler has chosen, and a volume in EC2.
 * Not done: attachment, snapshots, clones, resizing, block volumes, limits of size; the folder is as large as the disk.
 */
import { chmod, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { CreateVolumeCommand, DeleteVolumeCommand, DescribeVolumesCommand, type VolumeType } from "@aws-sdk/client-ec2";
import {
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Node,
  type V1PersistentVolume,
  type V1PersistentVolumeClaim,
} from "@kubernetes/client-node";
import { stateDir } from "../world/paths";
import type { WorldRegion } from "../world/regions";
import { type AwsClients, awsMessage, hasCode, tagList } from "./aws";
import type { VolumeLists } from "./cluster";
import { EventRecorder, type EventSubject, hasStatus, type LiveList, WorkQueue } from "./kubernetes";
import { log } from "./log";
import {
  decideClaim,
  ebsDriver,
  isToBeDeleted,
  isToBeReleased,
  volumeFinalizer,
  volumeFor,
  volumeIdAnnotation,
  volumeName,
} from "./volume-model";

/** What the provisioner needs of its surroundings. */
interface ProvisionerOptions extends VolumeLists {
  region: WorldRegion;
  config: KubeConfig;
  aws: AwsClients;
  nodes: LiveList<V1Node>;
}

/** The provisioner of one region. */
export class VolumeProvisioner {
  private readonly core: CoreV1Api;
  private readonly events: EventRecorder;
  private readonly claimQueue = new WorkQueue((key) => this.provision(key));
  private readonly volumeQueue = new WorkQueue((name) => this.remove(name));

  constructor(private readonly options: ProvisionerOptions) {
    this.core = options.config.makeApiClient(CoreV1Api);
    this.events = new EventRecorder(options.config, ebsDriver);
  }

  /** Starts to work on what there is and on each change. */
  start(): void {
    const { claims, classes, volumes } = this.options;
    const lookAtClaims = () => {
      for (const claim of claims.all()) {
        if (["none", "wait"].includes(this.decide(claim).kind)) continue;
        this.claimQueue.addUnlessRetrying(`${claim.metadata!.namespace}/${claim.metadata!.name}`);
      }
    };
    const lookAtVolumes = () => {
      for (const volume of volumes.all()) {
        if (isToBeDeleted(volume) || isToBeReleased(volume)) {
          this.volumeQueue.addUnlessRetrying(volume.metadata!.name!);
        }
      }
    };
    claims.onChange(lookAtClaims);
    classes.onChange(lookAtClaims);
    volumes.onChange(lookAtVolumes);
    lookAtClaims();
    lookAtVolumes();
  }

  private decide(claim: V1PersistentVolumeClaim) {
    const storageClass = this.options.classes.get(claim.spec?.storageClassName ?? "");
    const zones = this.options.region.zones.map((zone) => zone.name);
    return decideClaim(claim, storageClass, this.options.nodes.all(), zones);
  }

  private async provision(key: string): Promise<void> {
    const [namespace, name] = key.split("/") as [string, string];
    const claim = this.options.claims.get(name, namespace);
    if (!claim) return;
    const decision = this.decide(claim);
    if (decision.kind === "none" || decision.kind === "wait") return;
    const subject: EventSubject = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      name,
      namespace,
      uid: claim.metadata!.uid!,
    };
    if (decision.kind === "fault") {
      const { message } = decision;
      await this.events.record(subject, "Warning", "ProvisioningFailed", `failed to provision volume: ${message}`);
      throw new Error(message);
    }
    const pvName = volumeName(claim);
    if (this.options.volumes.get(pvName)) return;
    const storageClass = this.options.classes.get(claim.spec!.storageClassName!)!;
    await this.events.record(
      subject,
      "Normal",
      "Provisioning",
      `External provisioner is provisioning volume for claim "${key}"`,
    );
    try {
      const volumeId = await this.ec2Volume(pvName, claim, decision);
      const path = join(stateDir, "volumes", this.options.region.name, volumeId);
      await mkdir(path, { recursive: true });
      // Pods run as users of their own; what keeps strangers out is that `.sandbox/` is its owner's.
      await chmod(path, 0o777);
      const volume = volumeFor(claim, storageClass, { ...decision, volumeId, path });
      await this.core.createPersistentVolume({ body: volume }).catch((error) => {
        if (!hasStatus(error, 409)) throw error;
      });
    } catch (error) {
      const message = `failed to provision volume with StorageClass "${storageClass.metadata!.name}": ${awsMessage(error)}`;
      await this.events.record(subject, "Warning", "ProvisioningFailed", message);
      throw new Error(message);
    }
    log(`${this.options.region.name} ${key}: volume ${pvName} in ${decision.zone}`);
    await this.events.record(
      subject,
      "Normal",
      "ProvisioningSucceeded",
      `Successfully provisioned volume ${pvName} using ${ebsDriver}`,
    );
  }

  /** The EC2 volume for a claim: the one that a killed predecessor made, else a new one. */
  private async ec2Volume(
    pvName: string,
    claim: V1PersistentVolumeClaim,
    place: {
      zone: string;
      sizeGib: number;
      volumeType: string;
      encrypted: boolean;
      iops?: number;
      throughput?: number;
    },
  ): Promise<string> {
    const { ec2 } = this.options.aws;
    const { eksClusterName } = this.options.region;
    const existing = await ec2.send(
      new DescribeVolumesCommand({ Filters: [{ Name: "tag:CSIVolumeName", Values: [pvName] }] }),
    );
    const found = existing.Volumes?.find((v) => v.AvailabilityZone === place.zone && v.State !== "deleting");
    if (found) return found.VolumeId!;
    const created = await ec2.send(
      new CreateVolumeCommand({
        AvailabilityZone: place.zone,
        Size: place.sizeGib,
        VolumeType: place.volumeType as VolumeType,
        Encrypted: place.encrypted,
        ...(place.iops ? { Iops: place.iops } : {}),
        ...(place.throughput ? { Throughput: place.throughput } : {}),
        TagSpecifications: [
          {
            ResourceType: "volume",
            Tags: tagList({
              CSIVolumeName: pvName,
              "ebs.csi.aws.com/cluster": "true",
              "kubernetes.io/created-for/pv/name": pvName,
              "kubernetes.io/created-for/pvc/name": claim.metadata!.name!,
              "kubernetes.io/created-for/pvc/namespace": claim.metadata!.namespace!,
              KubernetesCluster: eksClusterName,
              [`kubernetes.io/cluster/${eksClusterName}`]: "owned",
            }),
          },
        ],
      }),
    );
    return created.VolumeId!;
  }

  private async remove(name: string): Promise<void> {
    const volume = this.options.volumes.get(name);
    if (!volume) return;
    if (isToBeReleased(volume)) {
      await this.removeFinalizer(volume);
      return;
    }
    if (!isToBeDeleted(volume)) return;
    const volumeId = volume.metadata!.annotations![volumeIdAnnotation];
    if (volumeId && /^vol-[0-9a-f]+$/.test(volumeId)) {
      await rm(join(stateDir, "volumes", this.options.region.name, volumeId), { recursive: true, force: true });
      await this.options.aws.ec2.send(new DeleteVolumeCommand({ VolumeId: volumeId })).catch((error) => {
        if (!hasCode(error, "InvalidVolume.NotFound")) throw error;
      });
    }
    await this.core.deletePersistentVolume({ name }).catch((error) => {
      if (!hasStatus(error, 404)) throw error;
    });
    await this.removeFinalizer(volume);
    log(`${this.options.region.name} volume ${name} deleted with its data`);
  }

  private async removeFinalizer(volume: V1PersistentVolume): Promise<void> {
    const { name } = volume.metadata!;
    // Read anew: the API server refuses a list with a finalizer that another controller has removed in between.
    const now = await this.core.readPersistentVolume({ name: name! }).catch((error) => {
      if (hasStatus(error, 404)) return undefined;
      throw error;
    });
    if (!now?.metadata?.finalizers?.includes(volumeFinalizer)) return;
    const finalizers = now.metadata.finalizers.filter((f) => f !== volumeFinalizer);
    const { resourceVersion } = now.metadata;
    await this.core
      .patchPersistentVolume(
        { name: name!, body: { metadata: { finalizers, resourceVersion } } },
        setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
      )
      .catch((error) => {
        if (!hasStatus(error, 404)) throw error;
      });
  }
}
