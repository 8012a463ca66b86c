/** Figures of the benchmarks: what was measured, with its unit and its target, and the sums that they are made with. Pure. */
import { size, table } from "../commands/text";

/** One measurement. */
export interface Figure {
  what: string;
  value: number;
  /** Seconds, bytes, or a ratio. */
  unit: "s" | "B" | "x";
  /** What the value should stay under. */
  target?: number;
}

/** The same measured in two ways, several times each. */
export interface Comparison {
  what: string;
  unit: "s" | "ms" | "runs";
  /** The same without any handover, just before each of them. */
  atRest?: readonly number[];
  original: readonly number[];
  ours: readonly number[];
  /** What ours should stay under, and what its ratio to the original's. */
  target?: { value?: number; ratio?: number };
}

/** Time that a command took. */
export interface Times {
  /** Seconds on the clock. */
  wall: number;
  /** Processor seconds of it and of all that it waited for: unlike the clock's, nearly the same on a busy machine. */
  processor: number;
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("there is no median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Processor seconds of its children, from what a shell's `times` prints: minutes and seconds, user and system, itself first. */
export function childrenTime(text: string): number {
  const parts = [...text.matchAll(/(\d+)m([\d.,]+)s/g)];
  if (parts.length !== 4) throw new Error(`times printed something else: ${text}`);
  return parts
    .slice(2)
    .reduce((sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds!.replace(",", ".")), 0);
}

/**
 * Previews against those of an empty program that is loaded in the same way, and of one as `pulumi new` makes it: medians
 * and their ratios.
 */
export function previewFigures(
  title: string,
  own: readonly Times[],
  empty: readonly Times[],
  usual: readonly Times[],
  target: number,
): Figure[] {
  const of = (times: readonly Times[], kind: keyof Times) => median(times.map((one) => one[kind]));
  return [
    { what: `${title}: preview without changes`, value: of(own, "wall"), unit: "s" },
    { what: `${title}: preview of an empty program`, value: of(empty, "wall"), unit: "s" },
    { what: `${title}: ratio of the two`, value: of(own, "wall") / of(empty, "wall"), unit: "x", target },
    { what: `${title}: preview of an empty program as pulumi new makes it`, value: of(usual, "wall"), unit: "s" },
    { what: `${title}: ratio to that one`, value: of(own, "wall") / of(usual, "wall"), unit: "x" },
    { what: `${title}: processor time, preview without changes`, value: of(own, "processor"), unit: "s" },
    { what: `${title}: processor time, empty program`, value: of(empty, "processor"), unit: "s" },
    { what: `${title}: ratio of processor times`, value: of(own, "processor") / of(empty, "processor"), unit: "x" },
  ];
}

/** Reads `--partitions`: whole numbers from 1 to 1024 with commas between them. */
export function partitionCounts(text: string): number[] {
  const counts = text.split(",").map(Number);
  if (counts.every((count) => Number.isInteger(count) && count >= 1 && count <= 1024)) return [...new Set(counts)];
  throw new Error(
    `--partitions takes partitions of the cluster, from 1 to 1024 and with commas between them, such as 4,32, not ${text}`,
  );
}

/** Reads `--replicas`: whole numbers from 1 to 9 with commas between them. */
export function replicaCounts(text: string): number[] {
  const counts = text.split(",").map(Number);
  if (counts.every((count) => Number.isInteger(count) && count >= 1 && count <= 9)) return [...new Set(counts)];
  throw new Error(
    `--replicas takes nodes a region, from 1 to 9 and with commas between them, such as 3,9, not ${text}`,
  );
}

/** How much of the original's ours is, by the medians. */
export const ratioOf = ({ original, ours }: Comparison): number => median(ours) / median(original);

/** Comparisons as a table for people: medians, their ratio, and whether the targets are met. */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map((one) => {
    const { what, unit, atRest, original, ours, target = {} } = one;
    const shown = (value: number) =>
      unit === "s" ? `${value.toFixed(1)} s` : unit === "ms" ? `${value.toFixed(0)} ms` : String(value);
    if (unit === "runs") {
      const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
      return [what, "", `${sum(original)} of ${original.length}`, `${sum(ours)} of ${ours.length}`];
    }
    const ratio = ratioOf(one);
    const goals = [
      ...(target.value === undefined
        ? []
        : [{ met: median(ours) < target.value, words: `under ${shown(target.value)}` }]),
      ...(target.ratio === undefined
        ? []
        : [{ met: ratio <= target.ratio, words: `at most ${target.ratio.toFixed(2)} of the original` }]),
    ];
    const verdicts = goals.map(({ met, words }) => `${met ? "met" : "missed"}: ${words}`);
    const quiet = atRest ? shown(median(atRest)) : "";
    return [what, quiet, shown(median(original)), shown(median(ours)), ratio.toFixed(2), verdicts.join("; ")];
  });
  return table(["MEDIANS", "NO HANDOVER", "ORIGINAL", "OURS", "RATIO", "TARGETS"], rows);
}

/** Figures as a table for people. */
export function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ what, value, unit, target }) => [
    what,
    unit === "B" ? size(value) : unit === "s" ? `${value.toFixed(2)} s` : value.toFixed(2),
    target === undefined ? "" : `${value < target ? "met" : "missed"}: under ${target}${unit === "s" ? " s" : ""}`,
  ]);
  return table(["WHAT", "FIGURE", "TARGET"], rows);
}
