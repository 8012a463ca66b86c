/** What the Prometheus operator and Grafana are given to watch a region: where its nodes' metrics are, alerts, a dashboard. */
import { CustomResource } from "@pulumi/kubernetes/apiextensions";
import { ConfigMap } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import { appliedByStack } from "../kubernetes/applied";
import { dashboard } from "../monitoring/dashboard";
import { alertRules, type RulesInput } from "../monitoring/rules";

export interface MonitoringArgs {
  rules: RulesInput;
  /** Make a ServiceMonitor and a PrometheusRule; the Prometheus operator's CRDs must be installed. */
  prometheus: boolean;
  /** Make the dashboard's ConfigMap. */
  dashboard: boolean;
  /** Further labels of ServiceMonitor and PrometheusRule, by which a Prometheus selects them. */
  labels: Record<string, string>;
}

/** ServiceMonitor, PrometheusRule and dashboard, in the namespace of the nodes. */
export class Monitoring extends pulumi.ComponentResource {
  constructor(name: string, args: MonitoringArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:Monitoring", name, {}, opts);
    const child = { parent: this };

    const { cluster, namespace } = args.rules;
    const common = { "app.kubernetes.io/name": "restate", "app.kubernetes.io/component": "monitoring" };
    const metadata = (objectName: string, labels: Record<string, string>) => ({
      name: objectName,
      namespace,
      labels: { ...common, ...labels },
      annotations: appliedByStack,
    });
    const operator = (kind: string, spec: object) => ({
      apiVersion: "monitoring.coreos.com/v1",
      kind,
      metadata: metadata("restate-nodes", args.labels),
      spec,
    });

    if (args.prometheus) {
      new CustomResource(
        `${name}-nodes`,
        operator("ServiceMonitor", {
          selector: { matchLabels: { app: "restate" } },
          endpoints: [
            {
              port: "node",
              path: "/metrics",
              // Both of the chart's Services lead to the nodes: this one also to those that are not ready.
              relabelings: [
                { action: "keep", sourceLabels: ["__meta_kubernetes_service_name"], regex: "restate-cluster" },
              ],
            },
          ],
        }),
        child,
      );
      new CustomResource(`${name}-alerts`, operator("PrometheusRule", { groups: alertRules(args.rules) }), child);
    }
    if (args.dashboard) {
      new ConfigMap(
        `${name}-dashboard`,
        {
          // Grafana's sidecar looks for this label.
          metadata: metadata("restate-dashboard", { grafana_dashboard: "1" }),
          data: { [`restate-${cluster}.json`]: JSON.stringify(dashboard(cluster), null, 2) },
        },
        child,
      );
    }
    this.registerOutputs();
  }
}
