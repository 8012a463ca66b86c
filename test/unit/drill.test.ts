/** Drills: the order of handovers, what is read of the cluster, figures, and the report that one looks at. */
import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { UsageError } from "../../sandbox/commands/command";
import { drillArguments } from "../../sandbox/commands/drill";
import { drillRows } from "../../sandbox/drill/figures";
import { drillPage } from "../../sandbox/drill/page";
import {
  type Drill,
  type DrillHandover,
  drillJson,
  type NodeSample,
  type Sample,
  scriptSpan,
  servingOf,
  stepSpans,
} from "../../sandbox/drill/record";
import { roundTrip } from "../../sandbox/drill/run";
import { niceStep, placeOf, secondsText, timeline, type View } from "../../sandbox/drill/timeline";
import { readSample } from "../../sandbox/drill/watch";
import { judgeCalls } from "../../sandbox/service/check";
import { figuresBetween } from "../../sandbox/service/figures";
import type { CallRecord } from "../../sandbox/service/load";
import { changeServing, readServing, rememberServing, servingIn, withServing } from "../../sandbox/world/serving";
import type { Serving } from "../../topology";
import { receiptOf } from "../support/receipts";

const begin = Date.parse("2026-03-01T12:00:00.000Z");

/** A call that was answered; times in milliseconds since the drill's beginning. */
function call(key: string, start: number, end: number, changes: Partial<CallRecord> = {}): CallRecord {
  const region = changes.region ?? "region1";
  return {
    key,
    client: 0,
    account: "a",
    amount: 1,
    start: begin + start,
    end: begin + end,
    region,
    outcome: "acknowledged",
    attempts: [{ region, start: begin + start, end: begin + end }],
    receipt: { id: key, count: 1, sum: 1, pod: "ledger-1" },
    ...changes,
  };
}

/** Six nodes, three in each region, of which `serving` is served. */
function nodesOf(serving: Serving): NodeSample[] {
  return [1, 2, 3, 4, 5, 6].map((number) => {
    const region = number <= 3 ? "region1" : "region2";
    const works = serving === "both" || serving === region;
    return {
      id: `N${number}`,
      name: `restate-${(number - 1) % 3}.${region}`,
      region,
      storage: works ? "read-write" : "read-only",
      worker: works ? "active" : "draining",
      metadata: works ? "member" : "standby",
    };
  });
}

function sampleOf(at: number, serving: Serving, nodeset: string[], leader: string | null = nodeset[0] ?? null): Sample {
  const one = { leader, replication: nodeset.length ? "{node: 2}" : null, nodeset };
  return { at: begin + at, partitions: [0, 1].map((id) => ({ id, ...one })), nodes: nodesOf(serving) };
}

/** A handover of 4 s in two steps, which began `at` milliseconds after the drill. */
function handoverOf(number: number, from: Serving, to: Serving, at: number): DrillHandover {
  const receipt = receiptOf(number, from, to, {
    began: new Date(begin + at).toISOString(),
    seconds: 4,
    steps: [
      { step: "every partition is led from <there> & lives", seconds: 1, changes: 2 },
      { step: "a snapshot holds what was written before", seconds: 3, changes: 1 },
    ],
    changes: 3,
  });
  return { from, to, began: begin + at - 3_000, ended: begin + at + 6_000, receipt };
}

function drillOf(changes: Partial<Drill> = {}): Drill {
  const calls = changes.calls ?? [
    call("one", 500, 600),
    call("two", 5_000, 6_500, { region: "region2" }),
    call("three", 9_000, 9_010),
  ];
  const lines = calls.map(({ key, amount }, i) => [i + 1, { id: key, amount }] as const);
  const state = new Map([["a", { balance: { count: lines.length, sum: lines.length }, lines: new Map(lines) }]]);
  const verdict = judgeCalls(
    calls.map((one, i) => ({ ...one, receipt: { id: one.key, count: i + 1, sum: i + 1, pod: "ledger-1" } })),
    state,
  );
  return {
    run: "drill-1",
    began: begin,
    ended: begin + 20_000,
    restateVersion: "1.7.12",
    machine: { cores: 2, model: "a processor", node: "v20", load: 1 },
    clients: 8,
    accounts: 64,
    interval: 500,
    handovers: [handoverOf(1, "both", "region2", 5_000)],
    samples: [
      sampleOf(1_000, "both", ["N1", "N4"]),
      sampleOf(1_500, "both", ["N1", "N4"]),
      sampleOf(6_000, "region2", [], null),
      sampleOf(6_500, "region2", ["N4", "N5"]),
    ],
    calls,
    verdicts: { region1: verdict, region2: verdict },
    faults: [],
    ...changes,
  };
}

describe("the order of handovers", () => {
  test("a round trip leads through both regions, from where it began and back to it", () => {
    const trip = (serving: Serving, once = false, rounds = 1) => roundTrip(serving, { rounds, once }).join(" ");
    assert.equal(trip("both"), "region2 both region1 both");
    assert.equal(trip("region2"), "both region1 both region2");
    assert.equal(trip("region1"), "both region2 both region1");
    assert.equal(trip("both", true), "region2 both");
    assert.equal(trip("region1", true), "both region1");
    assert.equal(trip("both", true, 2), "region2 both region2 both");
  });

  test("flags", () => {
    assert.deepEqual(drillArguments({}), { rounds: 1, once: false, clients: 8, accounts: 64 });
    assert.deepEqual(drillArguments({ rounds: "3", once: true, clients: "2", accounts: "5" }), {
      rounds: 3,
      once: true,
      clients: 2,
      accounts: 5,
    });
    for (const wrong of ["0", "101", "1.5", "two", ""]) {
      assert.throws(() => drillArguments({ rounds: wrong }), {
        constructor: UsageError,
        message: `--rounds takes a whole number from 1 to 100, not ${wrong}`,
      });
    }
  });
});

describe("serving in the sandbox's project", () => {
  const folder = mkdtempSync(join(tmpdir(), "restate-serving-"));
  const project = join(folder, "project");
  const file = join(project, "Pulumi.yaml");
  const original = join(folder, "clone.yaml");
  const text = readFileSync(join(__dirname, "../../Pulumi.yaml"), "utf8");

  before(() => {
    mkdirSync(project);
    writeFileSync(original, text);
    symlinkSync(original, file);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("a copy takes the link's place, and the link comes back", () => {
    assert.equal(readServing(project), "both");
    const restore = rememberServing(project);
    changeServing("region2", project);
    assert.equal(readServing(project), "region2");
    assert.equal(lstatSync(file).isSymbolicLink(), false);
    assert.equal(readFileSync(original, "utf8"), text);
    changeServing("region1", project);
    assert.equal(readServing(project), "region1");
    restore();
    restore();
    assert.equal(readlinkSync(file), original);
    assert.equal(readServing(project), "both");
  });

  test("a file comes back as it was", () => {
    rmSync(file);
    const own = withServing(text, "region1");
    writeFileSync(file, own);
    const restore = rememberServing(project);
    changeServing("both", project);
    restore();
    assert.equal(readFileSync(file, "utf8"), own);
  });

  test("only that value differs", () => {
    const differing = withServing(text, "region2")
      .split("\n")
      .filter((line) => !withServing(text, "both").split("\n").includes(line));
    assert.deepEqual(differing, ["    default: region2"]);
    assert.throws(() => servingIn("config: {}"), /restate:serving in Pulumi.yaml is undefined, not one of both/);
  });

  test("a stack's own value is refused, with the way out", () => {
    writeFileSync(join(project, "Pulumi.region1.yaml"), 'config: { "restate:serving": region1 }\n');
    assert.throws(
      () => readServing(project),
      /restate:serving is set in Pulumi.region1.yaml.*Next: pulumi config rm restate:serving --stack region1/,
    );
    rmSync(join(project, "Pulumi.region1.yaml"));
  });
});

describe("what is seen of the cluster", () => {
  const row = (kind: string, id: string, ...[a, b, c, d, e]: (string | null)[]) => ({ kind, id, a, b, c, d, e });
  const rows = [
    row("node", "N10", "restate-0.region2", "region2", "read-write", "active", "member"),
    row("partition", "10", "N1", "{node: 2}", "[N10, N2]", "", ""),
    row("partition", "2", null, null, null, "", ""),
    row("node", "N2", "restate-1.region1", "region1", "read-only", "draining", "standby"),
  ];

  test("a line is a sample, whatever restatectl prints before the rows", () => {
    const expected: Sample = {
      at: 1700000000123.456,
      partitions: [
        { id: 2, leader: null, replication: null, nodeset: [] },
        { id: 10, leader: "N1", replication: "{node: 2}", nodeset: ["N2", "N10"] },
      ],
      nodes: [
        {
          id: "N2",
          name: "restate-1.region1",
          region: "region1",
          storage: "read-only",
          worker: "draining",
          metadata: "standby",
        },
        {
          id: "N10",
          name: "restate-0.region2",
          region: "region2",
          storage: "read-write",
          worker: "active",
          metadata: "member",
        },
      ],
    };
    assert.deepEqual(readSample(`1700000000.123456 ${JSON.stringify(rows)}`), expected);
    assert.deepEqual(readSample(`1700000000,123456 4 rows. Query took 3ms ${JSON.stringify(rows)}`), expected);
  });

  test("what is no answer is no sample", () => {
    for (const line of ["", "1700000000.1 ", "1700000000.1 error", "1700000000.1 []", "1700000000.1 [{", "x [{}]"]) {
      assert.equal(readSample(line), undefined, line);
    }
  });

  test("which regions serve", () => {
    for (const serving of ["both", "region1", "region2"] as const) assert.equal(servingOf(nodesOf(serving)), serving);
    const [first, ...others] = nodesOf("both");
    assert.equal(servingOf([{ ...first!, storage: "read-only" }, ...others]), undefined);
    assert.equal(servingOf([...nodesOf("region1").slice(0, 3), ...nodesOf("region2").slice(0, 3)]), undefined);
  });

  test("where records go", () => {
    const nodes = nodesOf("both");
    assert.equal(placeOf(["N1", "N2"], nodes), "region1");
    assert.equal(placeOf(["N4", "N6"], nodes), "region2");
    assert.equal(placeOf(["N1", "N6"], nodes), "both");
    assert.equal(placeOf([], nodes), "nobody");
  });
});

describe("figures", () => {
  test("of a part: calls that were under way, and silences that fall into it, also in part", () => {
    const calls = [call("a", 0, 100), call("b", 90, 1_000), call("c", 1_000, 1_010), call("d", 2_400, 2_500)];
    const figures = figuresBetween(calls, begin + 500, begin + 1_500);
    assert.equal(figures.calls, 2);
    assert.equal(figures.slowest, 910);
    assert.equal(figures.perSecond, 2);
    // From the answer at 1010 to that at 2500, which is longer than the one from 100 to 1000.
    assert.equal(figures.longestSilence, 1_490);
  });

  test("of a part without a call, or without an answer, the silence is the part", () => {
    assert.equal(figuresBetween([], 100, 400).longestSilence, 300);
    const open = call("a", 0, 1_000, { outcome: "open" });
    assert.deepEqual(
      [figuresBetween([open], begin, begin + 700)].map(({ calls, acknowledged, longestSilence }) => [
        calls,
        acknowledged,
        longestSilence,
      ]),
      [[1, 0, 700]],
    );
  });

  test("a handover's silence is at least as long as any gap between answers in it", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1_000 }), { maxLength: 20 }), (ends) => {
        const { longestSilence } = figuresBetween(
          ends.map((end, i) => call(String(i), end - 1, end)),
          begin,
          begin + 1_000,
        );
        const moments = [0, ...ends.sort((a, b) => a - b), 1_000];
        const longest = Math.max(...moments.slice(1).map((moment, i) => moment - moments[i]!));
        assert.ok(Math.abs(longestSilence - longest) < 0.001);
      }),
    );
  });

  test("of a drill: before, each handover, everything; with what the state says", () => {
    const drill = drillOf();
    drill.verdicts.region2 = { ...drill.verdicts.region2!, lost: ["two"], doubled: ["three"] };
    drill.calls = [...drill.calls, call("four", 6_000, 8_000, { outcome: "open" })];
    const failed = {
      from: "region2",
      to: "both",
      began: begin + 12_000,
      ended: begin + 14_000,
      problem: "no",
    } as const;
    drill.handovers = [...drill.handovers, failed];
    assert.deepEqual(
      drillRows(drill).map(({ name, seconds, upSeconds, steps, commands, problem, figures, ...rest }) => [
        name,
        seconds,
        upSeconds,
        steps,
        commands,
        problem,
        figures.calls,
        rest,
      ]),
      [
        ["before", undefined, undefined, undefined, undefined, undefined, 1, { unanswered: 0, lost: 0, doubled: 0 }],
        ["1: both → region2", 4, 9, 2, 3, undefined, 3, { unanswered: 1, lost: 1, doubled: 1 }],
        ["2: region2 → both", undefined, 2, undefined, undefined, "no", 0, { unanswered: 0, lost: 0, doubled: 0 }],
        [
          "the whole drill",
          undefined,
          undefined,
          undefined,
          undefined,
          undefined,
          4,
          { unanswered: 1, lost: 1, doubled: 1 },
        ],
      ],
    );
  });

  test("a script's time and its steps' follow from the receipt", () => {
    const one = handoverOf(1, "both", "region2", 5_000);
    assert.deepEqual(scriptSpan(one), { from: begin + 5_000, to: begin + 9_000 });
    assert.deepEqual(
      stepSpans(one.receipt!).map(({ from, to }) => [from - begin, to - begin]),
      [
        [5_000, 6_000],
        [6_000, 9_000],
      ],
    );
    assert.equal(scriptSpan({ ...one, receipt: undefined }), undefined);
  });
});

describe("the time line", () => {
  const whole: View = { from: begin, to: begin + 20_000, origin: begin };

  /** Elements of a drawing by their class: what it draws, and where. */
  function rectangles(svg: string): { kind: string; x: number; width: number; title: string }[] {
    return [
      ...svg.matchAll(
        /<rect class="([^"]*)" x="([^"]*)" y="[^"]*" width="([^"]*)" height="[^"]*"(?:\/>|><title>([^<]*))/g,
      ),
    ].map(([, kind, x, width, title]) => ({ kind: kind!, x: Number(x), width: Number(width), title: title ?? "" }));
  }

  test("steps are bands at their times, with name, seconds and commands", () => {
    const drill = drillOf();
    const svg = timeline(drill, { ...whole, handover: drill.handovers[0]! });
    const plot = 1200 - 186 - 14;
    const x = (at: number) => 186 + (plot * at) / 20_000;
    const steps = rectangles(svg).filter(({ kind }) => kind === "step");
    assert.deepEqual(
      steps.map(({ title }) => title),
      [
        "every partition is led from &lt;there&gt; &amp; lives: 1.0 s, 2 commands",
        "a snapshot holds what was written before: 3.0 s, 1 command",
      ],
    );
    assert.ok(Math.abs(steps[0]!.x - x(5_000)) < 0.1 && Math.abs(steps[1]!.x - x(6_000)) < 0.1);
    assert.ok(Math.abs(steps[1]!.width - (x(9_000) - x(6_000))) < 0.1);
    assert.match(svg, />a snapshot holds what was written before: 3\.0 s, 1 command<\/text>/);
  });

  test("leaders, logs and nodes are bars for as long as nothing changes, and what was not seen is missing", () => {
    const bars = rectangles(timeline(drillOf(), whole)).map(({ kind, title }) => `${kind}: ${title}`);
    // Seen at 1 and 1.5 s, and then at 6 s: it is not known what was after 4.5 s.
    assert.ok(bars.includes("region1: partition 0: led by restate-0.region1, from 1.0 s to 4.5 s"), bars.join("\n"));
    assert.ok(bars.includes("nobody: partition 0: led by nobody, from 6.0 s to 6.5 s"));
    assert.ok(bars.includes("both: log 1: replicated {node: 2} on N1, N4, from 1.0 s to 4.5 s"));
    assert.ok(bars.includes("nobody: log 1: sealed, from 6.0 s to 6.5 s"));
    assert.ok(bars.includes("region2: log 1: replicated {node: 2} on N4, N5, from 6.5 s to 9.5 s"));
    assert.ok(
      bars.includes(
        "region1 withdrawn standby: restate-0.region1: storage read-only, worker draining, metadata standby, from 6.0 s to 9.5 s",
      ),
    );
  });

  test("slow and unanswered calls are drawn by themselves, with their attempts", () => {
    const slow = call("slow", 2_000, 5_500, {
      attempts: [
        { region: "region1", start: begin + 2_000, end: begin + 5_000, error: "no answer <in time>" },
        { region: "region2", start: begin + 5_050, end: begin + 5_500 },
      ],
    });
    const svg = timeline(drillOf({ calls: [slow, call("open", 0, 9_000, { outcome: "open" })] }), whole);
    assert.match(
      svg,
      /<g class="slow"><title>slow: acknowledged after 3\.5 s, 2 attempts\nregion1: no answer &lt;in time&gt;\nregion2: answered</,
    );
    assert.match(svg, /<g class="slow unanswered"><title>open: open after 9\.0 s/);
  });

  test("calls are counted where they were answered: one cell in the lane of their region", () => {
    const svg = timeline(
      drillOf({ calls: [call("a", 0, 10), call("b", 0, 10), call("c", 0, 20, { region: "region2" })] }),
      whole,
    );
    const cells = (region: string) =>
      [...svg.matchAll(new RegExp(`<path class="${region} heat\\d" d="([^"]*)"`, "g"))].flatMap(([, d]) =>
        d!.match(/M/g),
      );
    assert.equal(cells("region1").length, 1);
    assert.equal(cells("region2").length, 1);
  });

  test("whatever happened, it is XML, and nothing lies outside of it", () => {
    const moment = fc.integer({ min: -3_000, max: 30_000 });
    const calls = fc.array(
      fc.record({ start: moment, took: fc.integer({ min: 0, max: 70_000 }), one: fc.boolean(), open: fc.boolean() }),
      { maxLength: 30 },
    );
    const samples = fc.array(
      fc.record({ at: moment, serving: fc.constantFrom<Serving>("both", "region1", "region2"), sealed: fc.boolean() }),
      { maxLength: 20 },
    );
    fc.assert(
      fc.property(calls, samples, fc.boolean(), moment, (calls, samples, detailed, at) => {
        const handover = handoverOf(1, "both", "region2", at);
        const drill = drillOf({
          calls: calls.map(({ start, took, one, open }, i) =>
            call(`<${i}>`, start, start + took, {
              region: one ? "region1" : "region2",
              outcome: open ? "open" : "acknowledged",
            }),
          ),
          samples: samples
            .sort((a, b) => a.at - b.at)
            .map(({ at, serving, sealed }) => sampleOf(at, serving, sealed ? [] : ["N1", "N5"])),
          handovers: [handover],
        });
        const svg = timeline(drill, { ...whole, ...(detailed ? { handover } : {}) });
        assertXml(svg);
        assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
        for (const { x, width } of rectangles(svg)) assert.ok(x >= 185.9 && x + width <= 1187, `${x} ${width}`);
      }),
      { numRuns: 60 },
    );
  });

  test("steps of an axis, and seconds in words", () => {
    assert.deepEqual([0.7, 1, 1.1, 3, 6, 430].map(niceStep), [1, 1, 2, 5, 10, 500]);
    assert.deepEqual([42, 999, 1_500, 19_000, 61_000].map(secondsText), [
      "0.04 s",
      "1.00 s",
      "1.5 s",
      "19.0 s",
      "61 s",
    ]);
  });
});

/** Fails unless every element is closed by its own end. */
function assertXml(text: string): void {
  const open: string[] = [];
  const rest = text.replace(/<(\/?)([a-z]+)((?:\s+[\w-]+="[^"<]*")*)\s*(\/?)>/g, (_, end, name, _attributes, empty) => {
    if (end) assert.equal(open.pop(), name);
    else if (!empty) open.push(name);
    return "";
  });
  assert.deepEqual(open, []);
  assert.doesNotMatch(rest, /[<>]/);
}

describe("the report", () => {
  test("the page needs nothing else", () => {
    const page = drillPage(drillOf());
    assert.doesNotMatch(page, /<script|<link|<img|<iframe|@import|url\(|https?:|src=/i);
    assert.match(page, /^<!doctype html>/);
    assert.equal(page.match(/<svg /g)?.length, 2);
    assert.match(
      page,
      /<b>Passed\.<\/b> Every handover was done, and each of 3 acknowledged calls is in the state exactly once/,
    );
    assert.match(page, /Handover 1: both → region2/);
  });

  test("what failed stands first, as text", () => {
    const failed = {
      from: "both",
      to: "region2",
      began: begin + 4_000,
      ended: begin + 9_000,
      problem: "a <log> is sealed",
    } as const;
    const page = drillPage(
      drillOf({ handovers: [failed], faults: ["the handover to region2 was not done: a <log> is sealed"] }),
    );
    assert.match(page, /<b>Failed\.<\/b><ul><li>the handover to region2 was not done: a &lt;log&gt; is sealed<\/li>/);
    assert.doesNotMatch(page, /<log>|Passed/);
  });

  test("a drill in which nothing happened can be shown", () => {
    const page = drillPage(
      drillOf({ handovers: [], samples: [], calls: [], verdicts: {}, faults: ["it was interrupted"] }),
    );
    assert.match(page, /it was interrupted/);
    assert.doesNotMatch(page, /NaN|Infinity/);
  });

  test("the JSON has every call, with its attempts where there were several", () => {
    const again = call("again", 10, 3_200, {
      attempts: [
        { region: "region1", start: begin + 10, end: begin + 3_010, error: "no answer in time" },
        { region: "region2", start: begin + 3_060, end: begin + 3_200 },
      ],
    });
    const drill = drillOf({ calls: [call("one", 500, 600.1234), again] });
    const { calls, samples, ...rest } = JSON.parse(drillJson(drill)) as Record<string, unknown>;
    assert.deepEqual(calls, {
      columns: ["key", "account", "client", "amount", "region", "outcome", "start", "end", "attempts"],
      rows: [
        ["one", "a", 0, 1, "region1", "acknowledged", 500, 600.123, 1],
        [
          ...["again", "a", 0, 1, "region1", "acknowledged", 10, 3_200],
          [
            ["region1", 10, 3_010, "no answer in time"],
            ["region2", 3_060, 3_200, null],
          ],
        ],
      ],
    });
    const { calls: _calls, samples: _samples, ...expected } = drill;
    assert.deepEqual(samples, drill.samples);
    assert.deepEqual(rest, JSON.parse(JSON.stringify(expected)));
  });
});
