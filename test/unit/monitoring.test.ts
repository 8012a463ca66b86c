/**
 * The alerts, by the real promtool: their form, and which of them fire when the metrics go through what real nodes were
 * recorded in. Then the dashboard, and that neither reads a metric that nobody exports.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse, stringify } from "yaml";
import { dashboard } from "../../monitoring/dashboard";
import { foreignMetrics } from "../../monitoring/metrics";
import { alertRules, type RulesInput } from "../../monitoring/rules";
import { ensureToolchain, noProgress, toolPath } from "../../sandbox/toolchain";
import { everyInput, everyMetric, recorded, rulesOf, situations } from "../support/recorded-metrics";

const folder = mkdtempSync(join(tmpdir(), "restate-alerts-"));
before(() => ensureToolchain(["promtool"], noProgress));
after(() => rmSync(folder, { recursive: true }));

function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(toolPath("promtool"), args, { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  return stdout;
}

/** A part of a story: a situation and how many minutes it lasts; `of` keeps the series of some nodes only. */
interface Part {
  situation: string;
  minutes: number;
  of?: RegExp;
}

/** A series over time, in promtool's notation: a value a minute, and gone as soon as it is not there. */
interface Series {
  series: string;
  values: string;
}

/** What Prometheus would have: the parts one after the other. */
function told(parts: readonly Part[]): Series[] {
  const parsed = parts.map(({ situation, of }) => {
    const all = [...recorded(situation)];
    return new Map(of ? all.filter(([series]) => of.test(series)) : all);
  });
  const names = [...new Set(parsed.flatMap((one) => [...one.keys()]))];
  return names.map((series) => {
    const values = parts.flatMap(({ minutes }, i) => {
      const value = parsed[i]!.get(series);
      const before = i > 0 && parsed[i - 1]!.has(series);
      return Array.from({ length: minutes }, (_, n) => value ?? (before && n === 0 ? "stale" : "_"));
    });
    return { series, values: values.join(" ") };
  });
}

/** Asks promtool whether exactly these alerts fire at that minute, each as `name region`, or `name` if it is of no region. */
function assertFiring(input: RulesInput, series: Series[], expected: Record<number, string[]>): void {
  writeFileSync(join(folder, "rules.yaml"), stringify({ groups: alertRules(input) }));
  const story = {
    rule_files: ["rules.yaml"],
    evaluation_interval: "1m",
    tests: [
      {
        interval: "1m",
        input_series: series,
        promql_expr_test: Object.entries(expected).map(([minute, alerts]) => ({
          expr: 'group by (alertname, restate_region) (ALERTS{alertstate="firing"})',
          eval_time: `${minute}m`,
          exp_samples: alerts.map((alert) => {
            const [name, region] = alert.split(" ");
            return { labels: `{alertname="${name}"${region ? `,restate_region="${region}"` : ""}}`, value: 1 };
          }),
        })),
      },
    ],
  };
  writeFileSync(join(folder, "story.yaml"), stringify(story));
  promtool("test", "rules", "story.yaml");
  for (const alert of Object.values(expected).flat()) fired.add(alert.split(" ")[0]!);
}

/** Alerts that were seen to fire. */
const fired = new Set<string>();

const region1 = /node_name="[^"]+[.]region1"/;
const both = { bothRegions: true };

describe("rules", () => {
  test("promtool takes them, for whatever a stack can be set to", () => {
    for (const [i, input] of everyInput.entries()) {
      writeFileSync(join(folder, `${i}.yaml`), stringify({ groups: alertRules(input) }));
    }
    const said = promtool("check", "rules", "--lint=all", "--lint-fatal", ...everyInput.map((_, i) => `${i}.yaml`));
    assert.equal([...said.matchAll(/SUCCESS: \d+ rules found/g)].length, everyInput.length);
  });

  test("each has a severity, names the next command, and leads to a section of the operator's guide", () => {
    const guide = readFileSync(join(__dirname, "../../docs/operations.md"), "utf8");
    const sections = [...guide.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replace(/[^a-z0-9 -]/g, "")
        .replaceAll(" ", "-"),
    );
    const { scripts } = JSON.parse(readFileSync(join(__dirname, "../../package.json"), "utf8"));
    for (const { rules } of everyInput.flatMap(alertRules)) {
      for (const { alert, labels, annotations } of rules) {
        assert.match(labels.severity!, /^(critical|warning)$/, alert);
        assert.equal(labels.restate_cluster, "restate");
        const [, section] = /^docs\/operations\.md#(.+)$/.exec(annotations.runbook) ?? [];
        assert.ok(sections.includes(section!), `${alert}: ${annotations.runbook}`);
        const commands = [...annotations.description.matchAll(/npm run ([a-z]+)/g)].map(([, name]) => name!);
        assert.ok(commands.length > 0, `${alert}: ${annotations.description}`);
        for (const name of commands) assert.ok(scripts[name], `${alert}: npm run ${name}`);
      }
    }
  });
});

describe("what fires", () => {
  for (const region of ["region1", "region2"] as const) {
    for (const bothRegions of [true, false]) {
      test(`nothing while all is well, by the rules of ${region}${bothRegions ? " with the metrics of both" : ""}`, () => {
        const story = told([{ situation: "healthy", minutes: 40 }]);
        assertFiring(rulesOf(region, { bothRegions }), story, { 1: [], 20: [], 39: [] });
      });
    }
  }

  test("nothing where every node is read twice", () => {
    const story = told([{ situation: "healthy", minutes: 20 }]);
    const again = story.map(({ series, values }) => ({ series: series.replace("{", '{service="restate",'), values }));
    assertFiring(rulesOf("region1", both), [...story, ...again], { 19: [] });
  });

  const down: Part[] = [
    { situation: "healthy", minutes: 10 },
    { situation: "node-killed", minutes: 1 },
    { situation: "node-down", minutes: 15 },
    { situation: "node-back", minutes: 10 },
  ];
  test("a node is killed: that it is down, after a while and until it is back; its partitions have other leaders", () => {
    const expected = { 14: [], 16: ["RestateNodeDown region1"], 25: ["RestateNodeDown region1"], 30: [] };
    assertFiring(rulesOf("region1", both), told(down), expected);
    assertFiring(rulesOf("region2", both), told(down), { 14: [], 16: [], 25: [], 30: [] });
  });

  test("a node is down where one region serves alone: the next one would take the metadata's majority", () => {
    const input = rulesOf("region1", { serving: "region1", ...both });
    assertFiring(input, told(down), { 11: [], 13: ["RestateMetadataQuorumAtRisk"], 30: [] });
  });

  test("two nodes are down: the same with both regions", () => {
    // As many nodes as the recording has, of a cluster of eight.
    const input = rulesOf("region2", { replicas: 4, runningReplicas: 3 });
    assertFiring(input, told(down), { 11: [], 13: ["RestateMetadataQuorumAtRisk"], 30: [] });
  });

  const cut: Part[] = [
    { situation: "node-back", minutes: 10 },
    { situation: "region2-cut", minutes: 1 },
    { situation: "region2-cut-later", minutes: 6 },
  ];
  const lost = (peer: string) => ["RestateMetadataQuorumLost", `RestateOtherRegionAway ${peer}`];
  test("a region is cut off: both say so, and which node tries in vain to write", () => {
    const input = rulesOf("region1");
    const fails = "RestateAppendsFail region1";
    assertFiring(input, told(cut), { 9: [], 11: ["RestateMetadataQuorumLost"], 13: [fails, ...lost("region2")] });
    assertFiring(rulesOf("region2"), told(cut), { 9: [], 13: lost("region1") });
  });

  test("a region is out of reach, and its metrics too: partitions have no leader that is seen", () => {
    const parts = cut.map((part, i) => (i === 0 ? part : { ...part, of: region1 }));
    const all = ["RestateAppendsFail region1", "RestateLeaderMissing", ...lost("region2")];
    assertFiring(rulesOf("region1", both), told(parts), { 10: [], 13: all });
  });

  test("no node of the own region answers", () => {
    const parts = [
      { situation: "healthy", minutes: 10 },
      { situation: "healthy", minutes: 10, of: /node_name="[^"]+[.]region2"/ },
    ];
    const expected = ["RestateNodeDown region1", "RestateRegionWithoutFollowers region1"];
    assertFiring(rulesOf("region1"), told(parts), { 14: [], 16: expected });
  });

  const drained: Part[] = [
    { situation: "region1-drained", minutes: 70 },
    { situation: "region1-drained-later", minutes: 8 },
  ];
  test("region1 is drained, and shall be: nothing", () => {
    for (const region of ["region1", "region2"] as const) {
      for (const bothRegions of [true, false]) {
        const input = rulesOf(region, { serving: "region2", bothRegions });
        assertFiring(input, told(drained), { 60: [], 77: [] });
      }
    }
  });

  test("region1 is drained, and shall serve: it has no processors, and no copy of what is written", () => {
    const followers = "RestateRegionWithoutFollowers region1";
    const expected = { 60: [followers], 77: ["RestateLogNotInRegion region1", followers] };
    assertFiring(rulesOf("region1", both), told(drained), expected);
    assertFiring(rulesOf("region2", both), told(drained), { 60: [], 77: [] });
  });

  test("the region that serves alone loses the node that leads", () => {
    const parts = [drained[0]!, { ...drained[1]!, of: /node_name="restate-[02][.]region2"/ }];
    const expected = ["RestateLeaderMissing", "RestateMetadataQuorumAtRisk", "RestateNodeDown region2"];
    assertFiring(rulesOf("region2", { serving: "region2" }), told(parts), { 60: [], 77: expected });
  });

  test("snapshots fail: from the first one on, in both regions since nodes of both have tried", () => {
    const parts = [
      { situation: "node-back", minutes: 20 },
      { situation: "snapshots-fail", minutes: 5 },
    ];
    for (const region of ["region1", "region2"] as const) {
      assertFiring(rulesOf(region), told(parts), { 19: [], 20: [`RestateSnapshotFails ${region}`] });
    }
  });

  test("snapshots are overdue: enough records for one, and none", () => {
    const input = (intervalRecords: number, more = {}) =>
      rulesOf("region2", { serving: "region2", snapshots: { intervalRecords, trimDelaySeconds: 900, ...more } });
    // 6157 records in four partitions.
    assertFiring(input(700), told(drained), { 70: [], 77: ["RestateSnapshotOverdue region2"] });
    assertFiring(input(800), told(drained), { 77: [] });
    // Not yet, if time has to pass as well: the hour before is looked at, and snapshots were made in it.
    const made = [{ situation: "node-back", minutes: 30 }, { ...drained[0]!, minutes: 30 }, drained[1]!];
    assertFiring(input(700), told(made), { 67: [] });
  });
});

/** What cannot be brought about at will: the other metrics are as recorded. */
test("a processor gets no further", () => {
  const key = 'restate_partition_applied_lsn_lag{cluster_name="restate",node_name="restate-1.region2",quantile="1.0"}';
  const story = (values: string) => {
    const healthy = told([{ situation: "healthy", minutes: 60 }]);
    assert.equal(healthy.filter(({ series }) => series === key).length, 1);
    return healthy.map((one) => (one.series === key ? { ...one, values } : one));
  };
  const stuck = story("0x4 800x4 1200x29 0x19");
  const expected = { 19: [], 21: ["RestateProcessorBehind region2"], 39: ["RestateProcessorBehind region2"], 42: [] };
  assertFiring(rulesOf("region2"), stuck, expected);
  assertFiring(rulesOf("region1"), stuck, { 30: [] });
  assertFiring(rulesOf("region2", { serving: "region1" }), stuck, { 30: [] });
  // Behind, and on its way.
  assertFiring(rulesOf("region2"), story("0x4 1200x5 0x4 1200x5 0x39"), { 10: [], 21: [] });
});

describe("what others tell", () => {
  const volume = (left: string): Series[] => {
    const labels = '{namespace="restate-region1",persistentvolumeclaim="storage-restate-0"}';
    return [
      { series: `kubelet_volume_stats_available_bytes${labels}`, values: left },
      { series: `kubelet_volume_stats_capacity_bytes${labels}`, values: "100x60" },
    ];
  };
  const well = told([{ situation: "healthy", minutes: 60 }]);

  test("a volume fills up", () => {
    assertFiring(rulesOf("region1"), [...well, ...volume("21x60")], { 50: [] });
    // Both severities have one name.
    assertFiring(rulesOf("region1"), [...well, ...volume("21x19 19x39")], { 29: [], 31: ["RestateDiskFull region1"] });
    assertFiring(rulesOf("region2"), [...well, ...volume("5x60")], { 50: [] });
    const critical = alertRules(rulesOf("region1"))[0]!.rules.filter(({ alert }) => alert === "RestateDiskFull");
    assert.deepEqual(
      critical.map(({ labels, expr }) => [labels.severity, expr.slice(-5)]),
      [
        ["warning", "< 0.2"],
        ["critical", "< 0.1"],
      ],
    );
  });

  const job = (name: string, metric: string, values: string, more = ""): Series => ({
    series: `kube_job_${metric}{namespace="restate-region1",job_name="${name}"${more}}`,
    values,
  });

  test("a handover takes longer than it may, and is over", () => {
    const name = "restate-handover-1-region1-0123456789";
    const story = [job(name, "status_start_time", "0x60"), job(name, "status_active", "1x20 0x39")];
    const expected = { 14: [], 16: ["RestateHandoverStuck region1"], 20: ["RestateHandoverStuck region1"], 22: [] };
    assertFiring(rulesOf("region1"), [...well, ...story], expected);
    assertFiring(rulesOf("region1", { handoverTimeout: 7200 }), [...well, ...story], { 20: [] });
    const other = story.map((one) => ({ ...one, series: one.series.replace("restate-handover", "backup") }));
    assertFiring(rulesOf("region1"), [...well, ...other], { 20: [] });
  });

  test("a handover failed, until a later one is completed", () => {
    const [first, second] = ["restate-serve-region1-1", "restate-handover-2-region1-0123456789"] as const;
    const failed = [
      job(first, "created", "60x60"),
      job(first, "failed", "0x4 1x55", ',condition="true"'),
      job(first, "failed", "0x60", ',condition="false"'),
    ];
    const done = [job(second, "created", "_x29 1800x30"), job(second, "status_completion_time", "_x34 2100x25")];
    const expected = { 4: [], 6: ["RestateHandoverFailed region1"], 33: ["RestateHandoverFailed region1"], 40: [] };
    assertFiring(rulesOf("region1"), [...well, ...failed, ...done], expected);
    // One that was completed before does not count.
    const before = [job(second, "created", "1x60"), job(second, "status_completion_time", "30x60")];
    assertFiring(rulesOf("region1"), [...well, ...failed, ...before], { 6: ["RestateHandoverFailed region1"] });
  });
});

test("every alert fired in one of these stories", () => {
  const all = new Set(everyInput.flatMap(alertRules).flatMap(({ rules }) => rules.map(({ alert }) => alert)));
  assert.deepEqual([...fired].sort(), [...all].sort());
});

describe("metrics", () => {
  test("each one that is read was exported by a real node, or is named as one of the kubelet or of kube-state-metrics", () => {
    const exported = new Set(situations().flatMap((one) => [...recorded(one).keys()].map((key) => key.split("{")[0]!)));
    assert.ok(everyMetric.length >= 20);
    assert.deepEqual(
      everyMetric.filter((name) => !exported.has(name)),
      [...foreignMetrics].sort(),
    );
  });

  test("a quantile and a state that are read were exported", () => {
    const series = situations().flatMap((one) => [...recorded(one).keys()]);
    const read = JSON.stringify([dashboard("restate"), everyInput.map(alertRules)]);
    const matchers = new Set(
      [...read.matchAll(/(quantile|state|status)=\\"([^\\]+)\\"/g)].map(([, k, v]) => `${k}="${v}"`),
    );
    assert.deepEqual([...matchers].sort(), ['quantile="1.0"', 'state="alive"', 'status="ok"']);
    for (const matcher of matchers)
      assert.ok(
        series.some((one) => one.includes(matcher)),
        matcher,
      );
  });
});

describe("dashboard", () => {
  const made = dashboard("restate");

  test("promtool takes every query", () => {
    const queries = made.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr })));
    assert.ok(queries.length >= 15);
    const groups = [
      {
        name: "panels",
        rules: queries.map(({ expr }, i) => ({
          record: `panel:${i}`,
          expr: expr.replaceAll("$__rate_interval", "5m"),
        })),
      },
    ];
    writeFileSync(join(folder, "panels.yaml"), stringify({ groups }));
    assert.match(promtool("check", "rules", "panels.yaml"), new RegExp(`SUCCESS: ${queries.length} rules found`));
  });

  test("panels have titles and ids of their own, and lie side by side within the grid", () => {
    const panels = made.panels as unknown as {
      id: number;
      title: string;
      gridPos: Record<"x" | "y" | "w" | "h", number>;
    }[];
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
    );
    assert.equal(new Set(cells).size, cells.length);
    for (const { gridPos } of panels) assert.ok(gridPos.x + gridPos.w <= 24);
  });

  test("it is of one cluster", () => {
    const text = JSON.stringify(dashboard("orders"));
    assert.match(text, /cluster_name=\\"orders\\"/);
    assert.doesNotMatch(text, /cluster_name=\\"restate\\"/);
    assert.equal(parse(text).uid, "restate-orders");
  });
});
