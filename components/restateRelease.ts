/** Restate's Helm release in one region, in a namespace of its own. */
import { Namespace } from "@pulumi/kubernetes/core/v1";
import { Release } from "@pulumi/kubernetes/helm/v3/release";
import * as pulumi from "@pulumi/pulumi";
import { appliedByStack } from "../kubernetes/applied";
import type { Settings } from "../settings";

/** Name of the Helm release, and (through the chart's nameOverride) of everything it renders. */
const releaseName = "restate";

export interface RestateReleaseArgs {
  namespace: string;
  createNamespace: boolean;
  chart: Settings["chart"];
  chartVersion: string;
  values: pulumi.Input<Record<string, unknown>>;
  /** Refuse deletion by Pulumi of the release and the namespace: both take the nodes' volumes with them. */
  protect: boolean;
}

/** Where the chart is: an OCI registry unless a repository or a folder is given. */
export function chartSource(chart: Settings["chart"]): { chart: string; repositoryOpts?: { repo: string } } {
  if (chart.folder) return { chart: chart.folder };
  if (chart.repository) return { chart: chart.name as string, repositoryOpts: { repo: chart.repository } };
  return { chart: chart.oci ?? "oci://ghcr.io/restatedev/restate-helm" };
}

/**
 * Namespace and Helm release. The release does not wait for its pods: they become ready only once the cluster is
 * provisioned, which needs the peer.
 */
export class RestateRelease extends pulumi.ComponentResource {
  readonly namespace: pulumi.Output<string>;
  readonly releaseId: pulumi.Output<string>;
  /** What must wait for the release depends on this. */
  readonly release: Release;

  constructor(name: string, args: RestateReleaseArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:RestateRelease", name, {}, opts);
    const kept = { parent: this, protect: args.protect };

    const namespace = args.createNamespace
      ? new Namespace(`${name}-namespace`, { metadata: { name: args.namespace, annotations: appliedByStack } }, kept)
      : undefined;
    this.release = new Release(
      name,
      {
        name: releaseName,
        namespace: args.namespace,
        createNamespace: false,
        ...chartSource(args.chart),
        ...(args.chart.folder ? {} : { version: args.chartVersion }),
        values: args.values,
        skipAwait: true,
        atomic: false,
        timeout: args.chart.timeout,
      },
      { ...kept, ...(namespace ? { dependsOn: [namespace] } : {}) },
    );

    this.namespace = pulumi.output(args.namespace);
    this.releaseId = this.release.id;
    this.registerOutputs({ namespace: this.namespace, releaseId: this.releaseId });
  }
}
