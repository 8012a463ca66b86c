/** Provisions the Restate cluster: a Job in the home region that waits for every node of both regions. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Job } from "@pulumi/kubernetes/batch/v1";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { appliedByStack } from "../kubernetes/applied";
import { type NodeIdentity, provisionedReplication } from "../topology";
import { clusterJobSpec, type FollowJob, fingerprint, podGrace } from "./clusterJob";

export interface ProvisioningArgs {
  namespace: string;
  /** Image of the Restate nodes: it has restatectl, bash, curl and jq. */
  image: string;
  imagePullPolicy: string;
  cluster: string;
  /** Every node of both regions. */
  nodes: readonly NodeIdentity[];
  /** Nodes in each region, which decides the replication. */
  replicas: number;
  partitions: number;
  /** Seconds that the script waits for nodes and cluster, in all. */
  timeout: number;
  follow: FollowJob;
}

/**
 * A Job named after what it does, so that it runs again only if that changes; it is idempotent all the same. Pulumi
 * waits for it, and its log is shown meanwhile; a failed Job is replaced by the next `up`.
 */
export class Provisioning extends pulumi.ComponentResource {
  readonly job: pulumi.Output<string>;

  constructor(name: string, args: ProvisioningArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:Provisioning", name, {}, opts);

    const script = readFileSync(join(__dirname, "..", "operations", "provision.sh"), "utf8");
    const replication = provisionedReplication(args.replicas);
    const env = {
      CLUSTER: args.cluster,
      NODES: JSON.stringify(args.nodes.map(({ name, address }) => ({ name, address }))),
      LOG_REPLICATION: replication.log,
      PARTITION_REPLICATION: replication.partition,
      PARTITIONS: String(args.partitions),
      TIMEOUT: String(args.timeout),
    };
    const jobName = `restate-provision-${fingerprint({ script, env, image: args.image })}`;
    const labels = { "app.kubernetes.io/name": "restate", "app.kubernetes.io/component": "provisioning" };

    const scripts = new ConfigMap(
      `${name}-scripts`,
      {
        metadata: { name: jobName, namespace: args.namespace, labels, annotations: appliedByStack },
        immutable: true,
        data: { "provision.sh": script },
      },
      { parent: this },
    );
    const job = new Job(
      name,
      {
        metadata: {
          name: jobName,
          namespace: args.namespace,
          labels,
          annotations: { ...appliedByStack, "pulumi.com/replaceUnready": "true" },
        },
        spec: clusterJobSpec({
          name: "provision",
          image: args.image,
          imagePullPolicy: args.imagePullPolicy,
          command: ["bash", "/operations/provision.sh"],
          env,
          scripts: scripts.metadata.name,
          labels,
          timeout: args.timeout,
        }),
      },
      { parent: this, customTimeouts: { create: `${args.timeout + podGrace}s` } },
    );

    args.follow(jobName, this, job.id);
    this.job = job.metadata.name;
    this.registerOutputs({ job: this.job });
  }
}
