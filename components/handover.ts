/** Hands the cluster over: the Job that this stack awaits, and the templates to start one without Pulumi. */
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { HandoverOrder } from "../handover/plan";
import { appliedByStack } from "../kubernetes/applied";
import { type HandoverSetting, handoverEnvironment, handoverFiles, serveTemplate } from "../restate/handover";
import type { Serving } from "../topology";
import { clusterJobSpec, type FollowJob, fingerprint, podGrace } from "./clusterJob";

export interface HandoverArgs {
  namespace: string;
  /** Image of the Restate nodes: it has restatectl, bash, curl and jq. */
  image: string;
  imagePullPolicy: string;
  serviceAccount: string;
  setting: Omit<HandoverSetting, "bucket"> & { bucket: pulumi.Input<string> };
  /** Present where this stack runs a handover, or has run the last one. */
  order?: HandoverOrder;
  /** What a run started by hand may lead to. */
  emergencies: readonly Serving[];
  /** Name of this stack, for the next command to type. */
  stack: string;
  follow: FollowJob;
}

/**
 * The Job is named after the handover and what it does, so that it runs again only if that changes; on a cluster that is
 * there already it changes nothing. Pulumi waits for it, and its log is shown meanwhile; a failed Job is replaced by the
 * next `up`. The templates are CronJobs that are suspended: `kubectl create job --from` starts one.
 */
export class Handover extends pulumi.ComponentResource {
  /** The Job, where there is one. */
  readonly job?: k8s.batch.v1.Job;
  /** Commands that start a handover without Pulumi, by what it leads to. */
  readonly emergency: Record<string, string>;

  constructor(name: string, args: HandoverArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:Handover", name, {}, opts);

    const { namespace, setting, order } = args;
    const files = handoverFiles();
    const labels = { "app.kubernetes.io/name": "restate", "app.kubernetes.io/component": "handover" };
    const scriptsName = `restate-handover-${fingerprint(files)}`;
    const scripts = new k8s.core.v1.ConfigMap(
      `${name}-scripts`,
      {
        metadata: { name: scriptsName, namespace, labels, annotations: appliedByStack },
        immutable: true,
        data: files,
      },
      { parent: this },
    );
    const environment = (run: Parameters<typeof handoverEnvironment>[1]) => ({
      ...handoverEnvironment({ ...setting, bucket: "" }, run),
      BUCKET: setting.bucket,
    });
    const spec = (env: Record<string, pulumi.Input<string>>) =>
      clusterJobSpec({
        name: "handover",
        image: args.image,
        imagePullPolicy: args.imagePullPolicy,
        command: ["bash", "/operations/handover.sh", "run"],
        env,
        scripts: scripts.metadata.name,
        labels,
        timeout: setting.timeout,
        serviceAccount: args.serviceAccount,
      });

    this.emergency = {};
    for (const target of args.emergencies) {
      const template = serveTemplate(target);
      const kubectl = `kubectl -n ${namespace}`;
      // Asked again until the container has begun to print.
      this.emergency[target] =
        `job=${template}-$(date +%s) && ${kubectl} create job --from=cronjob/${template} "$job" && until ${kubectl} logs -f "job/$job"; do sleep 1; done`;
      new k8s.batch.v1.CronJob(
        `${name}-${target === "both" ? "to-both" : "to-here"}`,
        {
          metadata: { name: template, namespace, labels, annotations: appliedByStack },
          spec: {
            // Never by the clock: it is a template.
            suspend: true,
            schedule: "0 0 1 1 *",
            concurrencyPolicy: "Forbid",
            jobTemplate: {
              metadata: { labels },
              spec: spec(
                environment({
                  target,
                  askedBy: { user: `started by hand in ${setting.region}` },
                  next: this.emergency[target]!,
                }),
              ),
            },
          },
        },
        { parent: this },
      );
    }

    if (order) {
      const { target, after, before, askedBy } = order;
      const next = `pulumi up --stack ${args.stack}`;
      // Who asks is told, and makes no other run of it.
      const run = { target, after, before, next };
      const identity = {
        files,
        image: args.image,
        env: handoverEnvironment({ ...setting, bucket: "" }, { ...run, askedBy: {} }),
      };
      const jobName = `restate-handover-${after + 1}-${target}-${fingerprint(identity)}`;
      this.job = new k8s.batch.v1.Job(
        `${name}-job`,
        {
          metadata: {
            name: jobName,
            namespace,
            labels,
            annotations: { ...appliedByStack, "pulumi.com/replaceUnready": "true" },
          },
          spec: spec(environment({ ...run, askedBy })),
        },
        {
          parent: this,
          customTimeouts: { create: `${setting.timeout + podGrace}s` },
          deleteBeforeReplace: true,
        },
      );
      args.follow(jobName, this, this.job.id);
    }
    this.registerOutputs({ emergency: this.emergency, ...(this.job ? { job: this.job.metadata.name } : {}) });
  }
}
