/**
 * Keeps metrics of real nodes for the tests of the alerts: `node --require ./tools/typescript.cjs tools/record-metrics.ts NAME FILE...`,
 * with what `npm run -s sandbox -- shell region1/restate-0 -c "curl -s localhost:5122/metrics"` printed for each node.
 *
 * Leaves out what no alert and no panel reads: who adds a metric to them records the situations anew.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { everyMetric, recordedMetrics } from "../test/support/recorded-metrics";

const [name, ...files] = process.argv.slice(2);
if (!name || files.length === 0) throw new Error("name the recording, and the files with what the nodes answered");
const lines = files
  .flatMap((file) => readFileSync(file, "utf8").split("\n"))
  .filter((line) => everyMetric.includes(line.split("{")[0]!));
mkdirSync(recordedMetrics, { recursive: true });
writeFileSync(join(recordedMetrics, `${name}.prom`), `${lines.sort().join("\n")}\n`);
