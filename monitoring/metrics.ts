/** Names of the metrics that alerts and dashboard read. Pure. */
import { dashboard } from "./dashboard";
import { alertRules, type RulesInput } from "./rules";

/** Metrics of others than Restate: the kubelet's, and those of kube-state-metrics. */
export const foreignMetrics = [
  "kubelet_volume_stats_available_bytes",
  "kubelet_volume_stats_capacity_bytes",
  "kube_job_created",
  "kube_job_failed",
  "kube_job_status_active",
  "kube_job_status_completion_time",
  "kube_job_status_start_time",
];

/** Names in an expression: what stands before a selector. */
const namesIn = (expr: string) => [...expr.matchAll(/\b([a-z][a-z0-9_]*)\{/g)].map(([, name]) => name!);

/** Every metric that is read, sorted. */
export function metricsRead(inputs: readonly RulesInput[]): string[] {
  const alerts = inputs.flatMap((input) => alertRules(input).flatMap(({ rules }) => rules.map(({ expr }) => expr)));
  const shown = inputs.flatMap(({ cluster }) =>
    dashboard(cluster).panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  );
  return [...new Set([...alerts, ...shown].flatMap(namesIn))].sort();
}
