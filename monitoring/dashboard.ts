/** The Grafana dashboard of a cluster, as code: one place for what to look at, in the order of the operator's guide. Pure. */
import { ofCluster, perNode } from "./rules";

/** A panel: what it is called, what it shows, and in which unit (a name that Grafana knows). */
interface Panel {
  title: string;
  /** What a reader should know of it. */
  description?: string;
  unit: string;
  queries: { expr: string; legend: string }[];
  /** One number instead of a graph. */
  stat?: boolean;
}

/** A dashboard in Grafana's format, as far as this one needs it. */
export interface Dashboard {
  uid: string;
  title: string;
  panels: { title: string; targets: { expr: string }[] }[];
  [more: string]: unknown;
}

const node = "{{node_name}}";
const rate = (metric: string, labels: string) => `max by (node_name) (rate(${metric}{${labels}}[$__rate_interval]))`;

/** Everything that is shown, row by row; `labels` picks the cluster's series. */
function panels(labels: string): Panel[][] {
  const mean = (metric: string) => `${rate(`${metric}_sum`, labels)} / ${rate(`${metric}_count`, labels)}`;
  /** A gauge summed up for each region, which is the end of a node's name. */
  const byRegion = (metric: string) =>
    `sum by (region) (label_replace(${perNode(metric, labels)}, "region", "$1", "node_name", ".+[.](.+)"))`;
  return [
    [
      {
        title: "Nodes alive",
        description: "As the node sees it that sees most of them.",
        unit: "none",
        stat: true,
        queries: [{ expr: `max(restate_failure_detector_nodes_total{${labels},state="alive"})`, legend: "alive" }],
      },
      {
        title: "Partitions without a leader",
        description: "Right only where this data source has the metrics of both regions, or one region serves alone.",
        unit: "none",
        stat: true,
        queries: [
          {
            expr: `max(restate_num_partitions{${labels}}) - sum(${perNode("restate_num_active_partition_leaders", labels)})`,
            legend: "without a leader",
          },
        ],
      },
      {
        title: "Metadata leader",
        description: "Its node's number; 0: a majority of the metadata store does not answer.",
        unit: "none",
        stat: true,
        queries: [{ expr: `max(restate_metadata_server_replicated_leader_id{${labels}})`, legend: "node" }],
      },
      {
        title: "Failed snapshots",
        unit: "none",
        stat: true,
        queries: [
          {
            expr: `sum(${perNode("restate_partition_store_snapshots_upload_failed_total", labels)}) or vector(0)`,
            legend: "failed",
          },
        ],
      },
    ],
    [
      {
        title: "Processors in each region",
        description: "At least as many as there are partitions, in each region that serves.",
        unit: "none",
        queries: [
          { expr: byRegion("restate_num_active_partitions"), legend: "{{region}}" },
          { expr: `max(restate_num_partitions{${labels}})`, legend: "partitions" },
        ],
      },
      {
        title: "Leaders of each node",
        unit: "none",
        queries: [{ expr: perNode("restate_num_active_partition_leaders", labels), legend: node }],
      },
      {
        title: "Records behind the log's end, worst partition of each node",
        unit: "none",
        queries: [{ expr: perNode("restate_partition_applied_lsn_lag", `${labels},quantile="1.0"`), legend: node }],
      },
    ],
    [
      {
        title: "Records committed by each sequencer",
        unit: "ops",
        queries: [{ expr: rate("restate_bifrost_sequencer_committed_records_total", labels), legend: node }],
      },
      {
        title: "Records stored by each log server",
        description: "In each region that serves, together at least as many as are committed.",
        unit: "ops",
        queries: [{ expr: rate("restate_log_server_store_records_total", `${labels},status="ok"`), legend: node }],
      },
      {
        title: "Time to append to a log, mean",
        unit: "s",
        queries: [{ expr: mean("restate_bifrost_sequencer_append_duration_seconds"), legend: node }],
      },
    ],
    [
      {
        title: "Calls by ingress",
        unit: "reqps",
        queries: [
          {
            expr: `sum by (node_name, status) (rate(restate_ingress_requests_total{${labels}}[$__rate_interval]))`,
            legend: `${node} {{status}}`,
          },
        ],
      },
      {
        title: "Time of a call at the ingress, mean",
        unit: "s",
        queries: [{ expr: mean("restate_ingress_request_duration_seconds"), legend: node }],
      },
      {
        title: "Age of snapshots, oldest of each leading node",
        description: "A node that only follows does not hear of newer ones, so it is not shown.",
        unit: "s",
        queries: [
          {
            expr: `${perNode("restate_partition_snapshot_age_seconds", `${labels},quantile="1.0"`)} and ${perNode("restate_num_active_partition_leaders", labels)} > 0`,
            legend: node,
          },
        ],
      },
      {
        title: "Left on the nodes' volumes",
        description: "In every namespace that this data source has.",
        unit: "percentunit",
        queries: [
          {
            expr: `kubelet_volume_stats_available_bytes{persistentvolumeclaim=~"storage-restate-.+"} / kubelet_volume_stats_capacity_bytes{persistentvolumeclaim=~"storage-restate-.+"}`,
            legend: "{{namespace}} {{persistentvolumeclaim}}",
          },
        ],
      },
    ],
  ];
}

/** Columns of Grafana's grid. */
const columns = 24;

/** The dashboard of a cluster, for both regions or those of them that the data source has. */
export function dashboard(cluster: string): Dashboard {
  const source = { type: "prometheus", uid: "$datasource" };
  let id = 0;
  let y = 0;
  const placed = panels(ofCluster(cluster)).flatMap((row) => {
    const width = Math.floor(columns / row.length);
    const height = row.some(({ stat }) => !stat) ? 8 : 4;
    const top = y;
    y += height;
    return row.map(({ title, description, unit, queries, stat }, i) => ({
      id: ++id,
      type: stat ? "stat" : "timeseries",
      title,
      ...(description ? { description } : {}),
      datasource: source,
      gridPos: { x: i * width, y: top, w: width, h: height },
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      targets: queries.map(({ expr, legend }, n) => ({
        refId: String.fromCharCode("A".charCodeAt(0) + n),
        datasource: source,
        expr,
        legendFormat: legend,
      })),
    }));
  });
  return {
    uid: `restate-${cluster}`,
    title: `Restate: ${cluster}`,
    tags: ["restate"],
    timezone: "utc",
    schemaVersion: 39,
    refresh: "30s",
    time: { from: "now-3h", to: "now" },
    templating: { list: [{ name: "datasource", type: "datasource", query: "prometheus", label: "Data source" }] },
    panels: placed,
  };
}
