/** What every Job has that acts on the cluster from inside: the nodes' image, its scripts, and no rights of its own. */
import { createHash } from "node:crypto";
import type * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

/** Seconds beyond a script's own deadline in which its pod may start and end. */
export const podGrace = 120;

/** Tells what a Job of that name prints, as a part of the resource, until the output is there. */
export type FollowJob = (job: string, told: pulumi.Resource, until: pulumi.Output<unknown>) => void;

/** What a Job's pod is made of. */
export interface ClusterJobArgs {
  /** Name of its container. */
  name: string;
  /** Image of the Restate nodes: it has restatectl, bash, curl and jq. */
  image: string;
  imagePullPolicy: string;
  command: string[];
  env: Record<string, pulumi.Input<string>>;
  /** Config map with the scripts, mounted at /operations. */
  scripts: pulumi.Input<string>;
  labels: Record<string, string>;
  /** Seconds that the script may take, in all. */
  timeout: number;
  /** The nodes' service account, for Jobs that need the nodes' role. Default: none, and no token. */
  serviceAccount?: string;
}

/** Names what a run does: a change of any of it makes a new Job. */
export function fingerprint(parts: unknown): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 10);
}

/** The specification of a Job that runs once and is not tried again by Kubernetes. */
export function clusterJobSpec(args: ClusterJobArgs): k8s.types.input.batch.v1.JobSpec {
  return {
    backoffLimit: 0,
    activeDeadlineSeconds: args.timeout + podGrace,
    // A pod that was evicted did not fail.
    podFailurePolicy: {
      rules: [{ action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] }],
    },
    template: {
      metadata: { labels: args.labels },
      spec: {
        restartPolicy: "Never",
        ...(args.serviceAccount ? { serviceAccountName: args.serviceAccount } : {}),
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        securityContext: {
          runAsNonRoot: true,
          runAsUser: 1000,
          // The role's token is readable for this group.
          ...(args.serviceAccount ? { fsGroup: 2000 } : {}),
          seccompProfile: { type: "RuntimeDefault" },
        },
        containers: [
          {
            name: args.name,
            image: args.image,
            imagePullPolicy: args.imagePullPolicy,
            command: args.command,
            env: Object.entries(args.env).map(([name, value]) => ({ name, value })),
            resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "256Mi" } },
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ["ALL"] },
            },
            volumeMounts: [
              { name: "operations", mountPath: "/operations", readOnly: true },
              { name: "tmp", mountPath: "/tmp" },
            ],
          },
        ],
        volumes: [
          { name: "operations", configMap: { name: args.scripts } },
          { name: "tmp", emptyDir: {} },
        ],
      },
    },
  };
}
