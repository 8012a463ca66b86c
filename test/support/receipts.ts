/** Receipts of handovers, as operations/handover writes them. */
import type { Receipt } from "../../outputs";
import type { Serving } from "../../topology";

/** The receipt of a handover that went well. */
export function receiptOf(number: number, from: Serving, to: Serving, changes: Partial<Receipt> = {}): Receipt {
  const tail = { segment: 1, base: 100, replication: "{node: 3, region: 2}", nodeset: "[N1, N2, N3, N4]", applied: 99 };
  return {
    number,
    from,
    to,
    began: "2026-01-01T00:00:00Z",
    ended: "2026-01-01T00:00:04Z",
    seconds: 4.2,
    askedBy: { commit: "a".repeat(40), dirty: false, settings: "0123456789abcdef", user: "alice" },
    ranIn: to === "both" ? "region1" : to,
    steps: [{ step: "every partition is led from here", seconds: 0.4, changes: 2 }],
    changes: 2,
    nodes: [
      {
        id: "N1",
        name: "restate-0.region1",
        region: "region1",
        storage: "read-only",
        worker: "draining",
        metadata: "standby",
      },
    ],
    logsBefore: [{ log: 0, ...tail }],
    logsAfter: [{ log: 0, ...tail, segment: 2, base: 120, replication: "{node: 2}", applied: 130 }],
    saved: true,
    ...changes,
  };
}
