/** Metrics of real nodes (Restate 1.7.12, six nodes in the sandbox), and the rules that they are put to. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { metricsRead } from "../../monitoring/metrics";
import type { RulesInput } from "../../monitoring/rules";
import { type RegionName, regionNames, servingValues } from "../../topology";

/** Where the recordings are: a file for each situation, with what all nodes answered. */
export const recordedMetrics = join(__dirname, "../recordings/metrics");

/** What the rules of a region are made of in the sandbox, but for fewer records between snapshots. */
export const rulesOf = (region: RegionName, changes: Partial<RulesInput> = {}): RulesInput => ({
  cluster: "restate",
  region,
  namespace: `restate-${region}`,
  serving: "both",
  replicas: 3,
  runningReplicas: 3,
  bothRegions: false,
  handoverTimeout: 900,
  snapshots: { intervalRecords: 10_000, trimDelaySeconds: 900 },
  ...changes,
});

/** Rules for whatever a stack can be set to. */
export const everyInput = regionNames.flatMap((region) =>
  servingValues.flatMap((serving) =>
    [true, false].flatMap((bothRegions) =>
      [1, 2, 3, 9].map((replicas) => rulesOf(region, { serving, bothRegions, replicas, runningReplicas: replicas })),
    ),
  ),
);

/** Every metric that alerts and dashboard read. */
export const everyMetric = metricsRead(everyInput);

/** Series of one situation, as Prometheus writes them, with their values. */
export function recorded(situation: string): Map<string, string> {
  const lines = readFileSync(join(recordedMetrics, `${situation}.prom`), "utf8")
    .trim()
    .split("\n");
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), line.slice(line.lastIndexOf(" ") + 1)]));
}

/** Names of all situations. */
export const situations = () => readdirSync(recordedMetrics).map((name) => name.replace(/\.prom$/, ""));
