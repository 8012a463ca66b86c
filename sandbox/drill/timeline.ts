/**
 * Draws a part of a drill as a time line, in SVG: what callers noticed, and what the cluster and the handover did at the
 * same moment, one lane under the other. Pure: colours and fonts are classes, which the page defines.
 */

import type { Drill, DrillHandover, NodeSample, Sample } from "./record";
import { stepSpans } from "./record";

/** Part of a drill. Moments are in milliseconds since 1970. */
export interface View {
  from: number;
  to: number;
  /** Moment from which the axis counts. */
  origin: number;
  /** The handover whose steps are drawn; without one, all handovers as bands. */
  handover?: DrillHandover;
}

/** Sizes, in the units of the drawing. */
const width = 1200;
const gutter = 186;
const margin = 14;
const plot = width - gutter - margin;
const gap = 18;

/** Longest that a sample is taken to hold if no other follows, in milliseconds. */
const sampleHolds = 3_000;

/** A call that takes longer is drawn by itself, in milliseconds. */
const slowCall = 1_000;

/** Most calls that are drawn by themselves: the slowest. */
const mostSlowCalls = 500;

/** One lane, drawn from 0 downwards. */
interface Lane {
  title: string;
  /** What it shows, in smaller letters under the title. */
  note: string;
  height: number;
  body: string;
}

const round = (value: number) => String(Math.round(value * 100) / 100);

/** Text for XML. */
export const escapeXml = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** Seconds as people read them beside a bar: 0.42 s, 4.2 s, 42 s. */
export const secondsText = (milliseconds: number): string => {
  const seconds = milliseconds / 1000;
  return `${seconds.toFixed(seconds < 1 ? 2 : seconds < 20 ? 1 : 0)} s`;
};

/** Where a moment is, from the drawing's left edge. */
const xOf = (view: View, at: number) => gutter + (plot * (at - view.from)) / (view.to - view.from);

/** The same, for what may lie outside of the view. */
const clampedX = (view: View, at: number) => xOf(view, Math.min(view.to, Math.max(view.from, at)));

const rect = (x: number, y: number, w: number, h: number, kind: string, title?: string) =>
  `<rect class="${kind}" x="${round(x)}" y="${round(y)}" width="${round(Math.max(w, 0.6))}" height="${round(h)}"${
    title ? `><title>${escapeXml(title)}</title></rect>` : "/>"
  }`;
const text = (x: number, y: number, kind: string, content: string, anchor = "start") =>
  `<text class="${kind}" x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escapeXml(content)}</text>`;
const line = (x1: number, y1: number, x2: number, y2: number, kind: string) =>
  `<path class="${kind}" d="M${round(x1)} ${round(y1)}L${round(x2)} ${round(y2)}"/>`;

/** Room that a text of the small size needs. */
const roomFor = (content: string) => 6 * content.length + 8;

/** The first of the steps 1, 2 or 5 times a power of ten that is at least `least`. */
export function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999_999)!;
}

/** The handovers as bands, each within the `npm run up` that asked for it. */
function handoverLane(drill: Drill, view: View): Lane {
  const body = drill.handovers.map((one, i) => {
    const name = `${i + 1}: ${one.from} → ${one.to}`;
    const [x1, x2] = [clampedX(view, one.began), clampedX(view, one.ended)];
    const took = `${name}, npm run up: ${secondsText(one.ended - one.began)}`;
    const around = rect(x1, 0, x2 - x1, 26, one.problem ? "band failed" : "band", one.problem ?? took);
    const steps = one.receipt ? stepSpans(one.receipt) : [];
    const inner = steps.map(({ step, from, to }, n) => {
      const [s1, s2] = [clampedX(view, from), clampedX(view, to)];
      return rect(s1, 3, s2 - s1, 20, n % 2 === 0 ? "step" : "step other", `${step}: ${secondsText(to - from)}`);
    });
    return [around, ...inner, text(x1, 38, "small", x2 - x1 > roomFor(name) ? name : `${i + 1}`)].join("");
  });
  return { title: "handovers", note: "within npm run up", height: 42, body: body.join("") };
}

/** The steps of one handover, a row for each, with its name and time. */
function stepLane(handover: DrillHandover, view: View): Lane {
  const steps = handover.receipt ? stepSpans(handover.receipt) : [];
  const row = 18;
  const body = steps.map(({ step, changes, from, to }, i) => {
    const [x1, x2] = [clampedX(view, from), clampedX(view, to)];
    const commands = changes === 0 ? "" : `, ${changes} ${changes === 1 ? "command" : "commands"}`;
    const label = `${step}: ${secondsText(to - from)}${commands}`;
    const fits = x2 + roomFor(label) <= width - margin;
    return [
      rect(x1, i * row + 2, x2 - x1, row - 5, "step", label),
      fits
        ? text(x2 + 5, i * row + 12.5, "small", label)
        : text(
            Math.max(gutter, x1) - 5,
            i * row + 12.5,
            "small",
            label,
            x1 - gutter > roomFor(label) ? "end" : "start",
          ),
    ].join("");
  });
  return { title: "steps", note: "of the handover", height: Math.max(1, steps.length) * row, body: body.join("") };
}

/** Latency axis: from 1 ms to 10 s. */
const decades = ["1 ms", "10 ms", "100 ms", "1 s", "10 s"] as const;
const latencyHeight = 104;
const latencyY = (milliseconds: number) => {
  const share = Math.log10(Math.min(10_000, Math.max(1, milliseconds))) / (decades.length - 1);
  return latencyHeight * (1 - share);
};

/** Calls of a region's ingress by when they were answered and how long they took: the darker, the more. */
function latencyLane(drill: Drill, view: View, region: string): Lane {
  const calls = drill.calls.filter((call) => call.region === region && call.end >= view.from && call.end <= view.to);
  const [cell, rows] = [3, 52];
  const counts = new Map<string, number>();
  const columnOf = (at: number) => Math.min(Math.floor(plot / cell) - 1, Math.floor((xOf(view, at) - gutter) / cell));
  const rowOf = (took: number) => Math.min(rows - 1, Math.floor((latencyY(took) * rows) / latencyHeight));
  for (const { start, end, outcome } of calls) {
    if (outcome !== "acknowledged") continue;
    const key = `${columnOf(end)} ${rowOf(end - start)}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const most = Math.max(1, ...counts.values());
  const paths = ["", "", "", "", ""];
  for (const [key, count] of counts) {
    const [column, row] = key.split(" ").map(Number) as [number, number];
    const shade = most === 1 ? 2 : Math.min(4, Math.floor((5 * Math.log(count)) / Math.log(most + 1)));
    const height = round(latencyHeight / rows);
    paths[shade] += `M${gutter + column * cell} ${round((row * latencyHeight) / rows)}h${cell}v${height}h-${cell}z`;
  }
  const scale = decades.map((label, i) => {
    const y = latencyHeight * (1 - i / (decades.length - 1));
    return line(gutter, y, width - margin, y, "grid") + text(gutter - 6, y + 3.5, "tick", label, "end");
  });
  const slow = calls
    .filter(({ start, end, outcome }) => end - start > slowCall || outcome !== "acknowledged")
    .sort((a, b) => b.end - b.start - (a.end - a.start))
    .slice(0, mostSlowCalls)
    .map(({ key, start, end, attempts, outcome }) => {
      const y = latencyY(end - start);
      const kind = outcome === "acknowledged" ? "slow" : "slow unanswered";
      const words = [`${key}: ${outcome} after ${secondsText(end - start)}, ${attempts.length} attempts`];
      for (const { region: asked, error } of attempts) words.push(`${asked}: ${error ?? "answered"}`);
      return (
        `<g class="${kind}"><title>${escapeXml(words.join("\n"))}</title>` +
        `${line(clampedX(view, start), y, xOf(view, end), y, "span")}` +
        `<circle cx="${round(xOf(view, end))}" cy="${round(y)}" r="2.4"/></g>`
      );
    });
  const heat = paths.map((d, i) => (d === "" ? "" : `<path class="${region} heat${i}" d="${d}"/>`));
  return {
    title: region,
    note: "latency of calls",
    height: latencyHeight,
    body: [...scale, ...heat, ...slow].join(""),
  };
}

/** Answers a second, one region's on top of the other's. */
function throughputLane(drill: Drill, view: View, regions: readonly string[]): Lane {
  const height = 72;
  const bin = Math.max(100, niceStep((view.to - view.from) / 160));
  const bins = Math.ceil((view.to - view.from) / bin);
  const perRegion = regions.map((region) => {
    const counts = new Array<number>(bins).fill(0);
    for (const call of drill.calls) {
      const at = Math.floor((call.end - view.from) / bin);
      if (call.region === region && call.outcome === "acknowledged" && at >= 0 && at < bins) counts[at]!++;
    }
    return counts.map((count) => (1000 * count) / bin);
  });
  const total = (at: number) => perRegion.reduce((sum, counts) => sum + counts[at]!, 0);
  const highest = Math.max(1, ...Array.from({ length: bins }, (_, at) => total(at)));
  const step = niceStep(highest / 3);
  const top = Math.ceil(highest / step) * step;
  const y = (value: number) => height * (1 - value / top);
  const below = new Array<number>(bins).fill(0);
  const areas = perRegion.map((counts, i) => {
    const lower = [...below];
    for (let at = 0; at < bins; at++) below[at]! += counts[at]!;
    const x = (at: number) => round(clampedX(view, view.from + at * bin));
    const up = below.map((value, at) => `L${x(at)} ${round(y(value))}L${x(at + 1)} ${round(y(value))}`).join("");
    const back = lower
      .map((value, at) => `L${x(at + 1)} ${round(y(value))}L${x(at)} ${round(y(value))}`)
      .reverse()
      .join("");
    return `<path class="${regions[i]} area" d="M${up.slice(1)}${back}z"/>`;
  });
  const ticks = Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step).map(
    (value) =>
      line(gutter, y(value), width - margin, y(value), "grid") +
      text(gutter - 6, y(value) + 3.5, "tick", String(value), "end"),
  );
  return { title: "answers", note: `a second, by ${secondsText(bin)}`, height, body: [...ticks, ...areas].join("") };
}

/** How a row of a strip looks at one moment: a class and words. */
type Look = (sample: Sample, row: number) => { kind: string; words: string } | undefined;

/** Rows of bars: each bar is a time in which nothing changed for its row. */
function strips(drill: Drill, view: View, rows: readonly string[], look: Look, most: number): [number, string] {
  const height = Math.max(3, Math.min(11, Math.floor(most / Math.max(1, rows.length))));
  const seen = drill.samples.filter(({ at }) => at >= view.from - sampleHolds && at <= view.to);
  const bars = rows.map((name, row) => {
    const y = row * (height + 1);
    const found: string[] = height >= 9 ? [text(gutter - 6, y + height - 2, "tick", name, "end")] : [];
    let open: { from: number; kind: string; words: string } | undefined;
    const close = (at: number) => {
      if (open && at > view.from) {
        const [x1, x2] = [clampedX(view, open.from), clampedX(view, at)];
        const times = `from ${secondsText(open.from - view.origin)} to ${secondsText(at - view.origin)}`;
        found.push(rect(x1, y, x2 - x1, height, open.kind, `${name}: ${open.words}, ${times}`));
      }
      open = undefined;
    };
    seen.forEach((sample, i) => {
      const now = look(sample, row);
      if (!now || now.kind !== open?.kind || now.words !== open.words) {
        close(sample.at);
        if (now) open = { from: sample.at, ...now };
      }
      const next = seen[i + 1]?.at ?? Number.POSITIVE_INFINITY;
      if (next - sample.at > sampleHolds) close(Math.min(next, sample.at + sampleHolds));
    });
    return found.join("");
  });
  return [rows.length * (height + 1), bars.join("")];
}

/** By node id, its region. */
const regionsOfNodes = (nodes: readonly NodeSample[]) => new Map(nodes.map(({ id, region }) => [id, region]));

function leaderLane(drill: Drill, view: View, partitions: readonly string[]): Lane {
  const look: Look = ({ partitions: rows, nodes }, row) => {
    const one = rows[row];
    if (!one) return undefined;
    const node = nodes.find(({ id }) => id === one.leader);
    return node ? { kind: node.region, words: `led by ${node.name}` } : { kind: "nobody", words: "led by nobody" };
  };
  const [height, body] = strips(drill, view, partitions, look, 170);
  return { title: "leaders", note: "of each partition", height, body };
}

/** Where a log's records go: the class of its bar. Pure. */
export function placeOf(nodeset: readonly string[], nodes: readonly NodeSample[]): string {
  const regions = regionsOfNodes(nodes);
  const found = [...new Set(nodeset.map((id) => regions.get(id) ?? "nobody"))];
  if (found.length === 0) return "nobody";
  return found.length === 1 ? found[0]! : "both";
}

function logLane(drill: Drill, view: View, partitions: readonly string[]): Lane {
  const look: Look = ({ partitions: rows, nodes }, row) => {
    const one = rows[row];
    if (!one) return undefined;
    const kind = placeOf(one.nodeset, nodes);
    const words = kind === "nobody" ? "sealed" : `replicated ${one.replication} on ${one.nodeset.join(", ")}`;
    return { kind, words };
  };
  const [height, body] = strips(drill, view, partitions, look, 170);
  return { title: "logs", note: "where records go", height, body };
}

/** In service, withdrawn or between the two; a line under the bar for a member of the metadata store. */
function nodeLane(drill: Drill, view: View): Lane {
  const names = drill.samples[0]?.nodes.map(({ name }) => name) ?? [];
  const look: Look = ({ nodes }, row) => {
    const node = nodes.find(({ name }) => name === names[row]);
    if (!node) return undefined;
    const inService = node.storage === "read-write" && node.worker === "active";
    const withdrawn = node.storage !== "read-write" && node.worker !== "active";
    return {
      kind: `${node.region} ${inService ? "" : withdrawn ? "withdrawn" : "half"}${node.metadata === "member" ? "" : " standby"}`,
      words: `storage ${node.storage}, worker ${node.worker}, metadata ${node.metadata}`,
    };
  };
  const [height, body] = strips(drill, view, names, look, 11 * names.length);
  return { title: "nodes", note: "in service", height, body };
}

/** Numbers under the drawing, and lines through all of it. */
function axis(view: View, height: number): string {
  const step = niceStep((view.to - view.from) / 14);
  const first = Math.ceil((view.from - view.origin) / step);
  const last = Math.floor((view.to - view.origin) / step);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step)
    .map((at) => {
      const x = xOf(view, view.origin + at);
      const label = `${round(at / 1000)} s`;
      return line(x, 0, x, height + 4, "grid") + text(x, height + 17, "tick", label, "middle");
    })
    .join("");
}

/** Behind all lanes: where steps or handovers begin and end. */
function shades(drill: Drill, view: View, top: number, height: number): string {
  const spans = view.handover
    ? (view.handover.receipt ? stepSpans(view.handover.receipt) : []).filter((_, i) => i % 2 === 0)
    : drill.handovers.flatMap((one) => {
        const steps = one.receipt ? stepSpans(one.receipt) : [];
        return steps.length === 0 ? [] : [{ from: steps[0]!.from, to: steps.at(-1)!.to }];
      });
  return spans
    .filter(({ from, to }) => to > view.from && from < view.to)
    .map(({ from, to }) =>
      rect(clampedX(view, from), top, clampedX(view, to) - clampedX(view, from), height - top, "shade"),
    )
    .join("");
}

/** The drawing of a part of a drill. */
export function timeline(drill: Drill, view: View): string {
  const regions = [...new Set(drill.samples[0]?.nodes.map(({ region }) => region) ?? ["region1", "region2"])];
  const partitions = (drill.samples[0]?.partitions ?? []).map(({ id }) => `partition ${id}`);
  const first = view.handover ? stepLane(view.handover, view) : handoverLane(drill, view);
  const lanes = [
    first,
    ...regions.map((region) => latencyLane(drill, view, region)),
    throughputLane(drill, view, regions),
    leaderLane(drill, view, partitions),
    logLane(
      drill,
      view,
      partitions.map((name) => name.replace("partition", "log")),
    ),
    nodeLane(drill, view),
  ];
  let y = 6;
  const drawn = lanes.map(({ title, note, height, body }) => {
    const lane = `<g transform="translate(0 ${y})">${text(0, 11, "lane", title)}${text(0, 24, "tick", note)}${body}</g>`;
    y += height + gap;
    return lane;
  });
  const height = y - gap + 4;
  const label = view.handover ? `Handover from ${view.handover.from} to ${view.handover.to}` : "The whole drill";
  return (
    `<svg viewBox="0 0 ${width} ${height + 24}" role="img" aria-label="${label}">` +
    shades(drill, view, first.height + gap, height) +
    axis(view, height) +
    drawn.join("") +
    "</svg>"
  );
}
