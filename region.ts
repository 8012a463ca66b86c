/** One region of the cluster: composes its components from the settings and from what is known of the peer. */

import { Provider } from "@pulumi/kubernetes/provider";
import * as pulumi from "@pulumi/pulumi";
import { RunError } from "@pulumi/pulumi/errors";
import { nodeRoleArn, nodeRoleName, type TrustedRegion } from "./aws/documents";
import type { FollowJob } from "./components/clusterJob";
import { Handover } from "./components/handover";
import { Monitoring } from "./components/monitoring";
import { NodeLoadBalancers } from "./components/nodeLoadBalancers";
import { PodIdentity } from "./components/podIdentity";
import { Provisioning } from "./components/provisioning";
import { ReplicationAlarms } from "./components/replicationAlarms";
import { chartSource, RestateRelease } from "./components/restateRelease";
import { RestateRole } from "./components/restateRole";
import { SnapshotBucket } from "./components/snapshotBucket";
import { replicationRuleId, SnapshotReplication } from "./components/snapshotReplication";
import { type GuardedRegion, guardName } from "./guard";
import { type HandoverPlan, handoverMemoryName } from "./handover/plan";
import { handoverSetting } from "./handover/setting";
import type { ClusterAccess } from "./kubernetes/access";
import type { Placement } from "./kubernetes/placement";
import type { SubnetMap } from "./kubernetes/subnets";
import { contractVersion, type PeerOutputs, type Receipt, type RegionOutputs } from "./outputs";
import { disagreements, memoryName, memoryOf, type Peer } from "./peer";
import { slowReplication, snapshotRules } from "./restate/snapshotRules";
import { chartValues } from "./restate/values";
import type { Settings } from "./settings";
import { clusterNodes, leadRegion, regionNodes } from "./topology";

/** The chart's service account, which is named like everything that it renders. */
const serviceAccount = "restate";

/** What was found out about the world before the first resource. */
export interface Surroundings {
  /** How the cluster is reached, and what names it whatever address it has. */
  cluster: ClusterAccess & { identifier: string };
  identity: PeerOutputs["identity"];
  subnets: SubnetMap;
  peer: Peer;
  /** What follows from `serving`. */
  handover: HandoverPlan;
  /** The receipt that the Job of a handover left; not known in a preview. */
  receipt: (job: pulumi.CustomResource, name: pulumi.Output<string>) => pulumi.Input<Receipt>;
  /** Tells what a Job prints, as a part of the resource, until the output is there. */
  follow: FollowJob;
  /** Rejects while the cluster needs this region; asked with the URN of the guard before anything is destroyed. */
  beforeDestroy: (urn: string, buckets: GuardedRegion["buckets"]) => Promise<void>;
  /** Zones of this region's pods: as they are now in a preview (undefined if unknown), awaited in an update. */
  placements: (after: pulumi.CustomResource, pods: readonly string[]) => pulumi.Input<readonly Placement[]>;
}

/** Settings and facts that contradict what the peer exports. Throws one error with all of them. */
function checkAgainstPeer(settings: Settings, identity: PeerOutputs["identity"], peer: PeerOutputs): void {
  const faults: string[] = [];
  if (peer.region === settings.region) {
    faults.push(`restate:region: both stacks are ${settings.region}; correct restate:region or restate:peer`);
  }
  if (peer.accountId !== settings.accountId) {
    faults.push(
      `restate:accountId: the peer is in account ${peer.accountId}, this stack in ${settings.accountId}; both regions belong to one account`,
    );
  }
  const sameCluster = peer.identity.oidcIssuer !== undefined && peer.identity.oidcIssuer === identity.oidcIssuer;
  if (settings.mode === "one-cluster" && peer.kubernetes.namespace === settings.namespace) {
    faults.push(
      `restate:kubernetes.namespace: both regions use ${settings.namespace}; in one cluster each needs a namespace of its own`,
    );
  }
  if (settings.mode === "two-clusters" && sameCluster) {
    faults.push(
      `restate:mode: both regions have the OIDC issuer ${identity.oidcIssuer}, which is one cluster; set restate:mode one-cluster or correct restate:kubernetes`,
    );
  }
  if (faults.length > 0) {
    throw new RunError(`this stack and its peer contradict each other; nothing was changed:\n  ${faults.join("\n  ")}`);
  }
}

/** A value in which any part may still be on its way. */
type AsInput<T> = T extends (infer U)[]
  ? pulumi.Input<AsInput<U>[]>
  : T extends object
    ? pulumi.Input<{ [K in keyof T]: AsInput<T[K]> }>
    : pulumi.Input<T>;

/** Makes everything of one region and returns what its stack exports. */
export function deployRegion(settings: Settings, around: Surroundings): pulumi.Inputs {
  const { region, cluster, namespace, accountId, awsRegion } = settings;
  const peer = around.peer.outputs;
  if (peer) checkAgainstPeer(settings, around.identity, peer);
  const isHome = settings.home === region;
  const lead = leadRegion(settings);
  const nodes = regionNodes(settings, region);
  const tags = { "restate:cluster": cluster, "restate:region": region, ...settings.tags };
  const { order, latest, runningReplicas } = around.handover;
  const pending = [...around.peer.pending, ...around.handover.pending];
  if (peer && around.peer.state === "seen") pending.push(...disagreements(settings, peer, settings.peer));

  // Remembered before anything is built from it, so that losing sight of the peer removes nothing.
  const memory = peer ? [new pulumi.Stash(memoryName, { input: memoryOf(peer) })] : [];
  const fromPeer = { dependsOn: memory };

  const bucket = new SnapshotBucket("snapshots", {
    namePrefix: `${cluster}-snapshots-${region}`,
    noncurrentDays: settings.snapshots.noncurrentDays,
    protect: settings.protect,
    forceDestroy: settings.forceDestroy,
    tags,
  });

  const own: TrustedRegion = { accountId, awsRegion, namespace, serviceAccount, identity: around.identity };
  const role = isHome
    ? new RestateRole(
        "restate-role",
        {
          roleName: nodeRoleName(cluster),
          trusted: [own, ...(peer ? [{ ...peer, ...peer.kubernetes }] : [])],
          bucketArns: [bucket.arn, ...(peer ? [peer.bucket.arn] : [])],
          tags,
        },
        fromPeer,
      )
    : undefined;
  const roleArn = nodeRoleArn(accountId, awsRegion, cluster);
  const roleExists = isHome || peer?.role !== undefined;
  if (!roleExists && peer)
    pending.push(`the role of the nodes waits for the home region. Next: pulumi up --stack ${settings.peer}`);

  const replication = peer
    ? new SnapshotReplication(
        "replication",
        {
          roleName: `${cluster}-${region}-replication`,
          accountId,
          source: bucket,
          destinationArn: peer.bucket.arn,
          ...settings.replication,
          tags,
        },
        fromPeer,
      )
    : undefined;

  const provider = new Provider("kubernetes", {
    kubeconfig: pulumi.secret(around.cluster.kubeconfig),
    ...(around.cluster.context ? { context: around.cluster.context } : {}),
    // The cluster stays the same one if its address changes.
    clusterIdentifier: around.cluster.identifier,
  });
  const inCluster = { providers: { kubernetes: provider } };

  const podIdentity =
    settings.identity.mode === "podIdentity" && roleExists
      ? new PodIdentity(
          "pod-identity",
          {
            eksCluster: settings.kubernetes.eksCluster as string,
            namespace,
            serviceAccount,
            roleArn: role?.arn ?? roleArn,
            tags,
          },
          fromPeer,
        )
      : undefined;

  const release = new RestateRelease(
    "restate",
    {
      namespace,
      createNamespace: settings.kubernetes.createNamespace,
      chart: settings.chart,
      chartVersion: settings.chartVersion,
      values: bucket.name.apply((name) =>
        chartValues({
          ...settings,
          serviceAccountAnnotations: settings.identity.mode === "oidc" ? { "eks.amazonaws.com/role-arn": roleArn } : {},
          podAnnotations: settings.identity.mode === "kiam" ? { "iam.amazonaws.com/role": roleArn } : {},
          ...settings.scheduling,
          runningReplicas,
          snapshots: { ...settings.snapshots, bucket: name },
        }),
      ),
      protect: settings.protect,
    },
    { ...inCluster, dependsOn: role ? [role] : [] },
  );

  const loadBalancers = new NodeLoadBalancers(
    "load-balancers",
    {
      namespace,
      nodes,
      placements: around.placements(
        release.release,
        nodes.map((node) => node.pod),
      ),
      subnets: around.subnets,
      ...settings.loadBalancers,
      namePrefix: settings.namePrefix,
      tags,
    },
    { ...inCluster, dependsOn: [release] },
  );

  const provisioning = provisionFrom(settings, peer, pending)
    ? new Provisioning(
        "provisioning",
        {
          namespace,
          image: nodeImage(settings),
          imagePullPolicy: settings.image.pullPolicy,
          cluster,
          nodes: clusterNodes(settings),
          replicas: settings.replicas,
          partitions: settings.partitions,
          timeout: settings.provisionTimeout,
          follow: around.follow,
        },
        { ...inCluster, dependsOn: [loadBalancers, ...memory] },
      )
    : undefined;

  const handover = peer
    ? new Handover(
        "handover",
        {
          namespace,
          image: nodeImage(settings),
          imagePullPolicy: settings.image.pullPolicy,
          serviceAccount,
          setting: { ...handoverSetting(settings), bucket: bucket.name },
          ...(order ? { order } : {}),
          emergencies: [region, "both"],
          stack: pulumi.getStack(),
          follow: around.follow,
        },
        { ...inCluster, dependsOn: [loadBalancers, ...(provisioning ? [provisioning] : []), ...memory] },
      )
    : undefined;
  const alarms =
    peer && settings.monitoring.alarms
      ? new ReplicationAlarms(
          "replication-alarms",
          {
            namePrefix: `${cluster}-${region}`,
            ownBucket: bucket.name,
            peerBucket: peer.bucket.name,
            ruleId: replicationRuleId,
            lag: slowReplication(snapshotRules(settings.snapshots)),
            ...(settings.monitoring.alarmTopicArn ? { topicArn: settings.monitoring.alarmTopicArn } : {}),
            tags,
          },
          fromPeer,
        )
      : undefined;

  // After the handover: alerts are told of who serves when it is so, and none is raised by a first deployment.
  const monitoring =
    peer && (settings.monitoring.prometheus || settings.monitoring.dashboard)
      ? new Monitoring(
          "monitoring",
          {
            ...settings.monitoring,
            rules: {
              ...settings,
              runningReplicas,
              bothRegions: settings.monitoring.bothRegions ?? settings.mode === "one-cluster",
              handoverTimeout: settings.handover.timeout,
              snapshots: snapshotRules(settings.snapshots),
            },
          },
          { ...inCluster, dependsOn: [...(handover ? [handover] : []), ...memory] },
        )
      : undefined;

  // The receipt of a handover that is done is known; that of one which begins is read when it has ended.
  const receipt = handover?.job && !order?.done ? around.receipt(handover.job, handover.job.metadata.name) : latest;
  const asked = order ? { askedBy: order.askedBy, after: order.after, before: order.before } : {};
  const receiptMemory = receipt ? [new pulumi.Stash(handoverMemoryName, { input: { receipt, ...asked } })] : [];

  // Depends on everything, so that nothing is deleted before the guard agrees.
  const all = [
    ...[bucket, role, replication, provider, podIdentity, release, loadBalancers, provisioning, handover],
    ...[alarms, monitoring],
    ...[...memory, ...receiptMemory],
  ];
  const buckets = {
    own: { name: bucket.name, awsRegion },
    ...(peer ? { peer: { name: peer.bucket.name, awsRegion: peer.awsRegion } } : {}),
  };
  const beforeDelete = new pulumi.ResourceHook(
    guardName,
    ({ urn, oldInputs }) => around.beforeDestroy(urn, oldInputs?.input as GuardedRegion["buckets"]),
    { onDryRun: true },
  );
  new pulumi.Stash(
    guardName,
    { input: buckets },
    { dependsOn: all.filter((one) => one !== undefined), hooks: { beforeDelete: [beforeDelete] } },
  );

  return {
    contract: contractVersion,
    region,
    cluster,
    home: settings.home,
    serving: settings.serving,
    replicas: settings.replicas,
    domain: settings.domain,
    lead,
    awsRegion,
    accountId,
    kubernetes: { cluster: around.cluster.identifier, namespace, serviceAccount },
    identity: around.identity,
    bucket: { name: bucket.name, arn: bucket.arn, noncurrentDays: settings.snapshots.noncurrentDays },
    ...(role ? { role: { arn: role.arn } } : {}),
    nodes: loadBalancers.nodes,
    release: {
      name: release.releaseId,
      chart: chartSource(settings.chart).chart,
      chartVersion: settings.chartVersion,
      restateVersion: settings.restateVersion,
    },
    ...(replication
      ? {
          replication: {
            ruleId: replication.ruleId,
            destination: replication.destination,
            roleArn: replication.roleArn,
          },
        }
      : {}),
    ...(provisioning ? { provisioning: { job: provisioning.job } } : {}),
    runningReplicas,
    ...(receipt ? { handover: { receipt } } : {}),
    emergency: handover?.emergency ?? {},
    pending,
  } satisfies { [K in keyof RegionOutputs]: AsInput<RegionOutputs[K]> };
}

/** Whether this stack provisions now; says in `pending` what it waits for if it is the one to do so but cannot yet. */
function provisionFrom(settings: Settings, peer: PeerOutputs | undefined, pending: string[]): boolean {
  // Home's whoever serves: a handover makes and deletes no Job of it.
  if (settings.home !== settings.region) return false;
  if (!peer) {
    pending.push(`provisioning waits for the nodes of the peer. Next: pulumi up --stack ${settings.peer}`);
    return false;
  }
  if (peer.nodes.length < settings.replicas) {
    pending.push(
      `provisioning waits for ${settings.replicas} nodes of ${settings.peer}, which has ${peer.nodes.length}. Next: pulumi up --stack ${settings.peer}`,
    );
    return false;
  }
  return true;
}

/** Reference of the nodes' image. */
function nodeImage(settings: Settings): string {
  const { repository, tag, digest } = settings.image;
  return digest ? `${repository}@${digest}` : `${repository}:${tag ?? settings.restateVersion}`;
}
