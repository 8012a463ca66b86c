/** The figures of a drill: what callers noticed of each handover, and what became of their calls. Pure. */
import { type Figures, figuresBetween, figuresOf } from "../service/figures";
import { type Drill, scriptSpan } from "./record";

/** Figures of a part of a drill. */
export interface DrillRow {
  name: string;
  /** Seconds that the handover's script took, and `npm run up` around it; absent for parts that are no handover. */
  seconds?: number;
  upSeconds?: number;
  steps?: number;
  commands?: number;
  /** Why it was not done. */
  problem?: string;
  figures: Figures;
  /** Calls that ended without an answer: nobody knows whether they took effect. */
  unanswered: number;
  /** Acknowledged calls that are not in the state, and calls that are in it more than once, as any region has it. */
  lost: number;
  doubled: number;
}

/** A row for the time before the first handover, one for each handover, one for everything. */
export function drillRows(drill: Drill): DrillRow[] {
  const all = (kind: "lost" | "doubled") => new Set(Object.values(drill.verdicts).flatMap((verdict) => verdict[kind]));
  const [lost, doubled] = [all("lost"), all("doubled")];
  const outcome = (from: number, to: number): Pick<DrillRow, "unanswered" | "lost" | "doubled"> => {
    const calls = drill.calls.filter((call) => call.end >= from && call.start <= to);
    return {
      unanswered: calls.filter((call) => call.outcome === "open").length,
      lost: calls.filter(({ key }) => lost.has(key)).length,
      doubled: calls.filter(({ key }) => doubled.has(key)).length,
    };
  };
  const between = (from: number, to: number) => ({
    figures: figuresBetween(drill.calls, from, to),
    ...outcome(from, to),
  });
  return [
    { name: "before", ...between(drill.began, drill.handovers[0]?.began ?? drill.ended) },
    ...drill.handovers.map((one, i): DrillRow => {
      const span = scriptSpan(one) ?? { from: one.began, to: one.ended };
      return {
        name: `${i + 1}: ${one.from} → ${one.to}`,
        upSeconds: (one.ended - one.began) / 1000,
        ...(one.receipt
          ? { seconds: one.receipt.seconds, steps: one.receipt.steps.length, commands: one.receipt.changes }
          : {}),
        ...(one.problem ? { problem: one.problem } : {}),
        ...between(span.from, span.to),
      };
    }),
    { name: "the whole drill", figures: figuresOf(drill.calls), ...outcome(drill.began, drill.ended) },
  ];
}
