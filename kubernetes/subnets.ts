/** Chooses each node's subnet: the one of the zone where its pod runs. Pure. */
import { RunError } from "@pulumi/pulumi/errors";
import type { Placement } from "./placement";

/** Subnets by zone, and the words that say where they come from (for errors). */
export interface SubnetMap {
  byZone: Record<string, string>;
  /** e.g. `restate:subnets.byZone`. */
  source: string;
}

/** The subnets of the placements' zones, in their order. Throws one error that names every pod whose zone has none. */
export function chooseSubnets(placements: readonly Placement[], subnets: SubnetMap): string[] {
  const faults: string[] = [];
  const chosen = placements.map(({ pod, zone, source }) => {
    const subnet = subnets.byZone[zone];
    if (subnet === undefined) {
      faults.push(`pod ${pod} runs in zone ${zone} (by its ${source}), for which there is no subnet`);
    }
    return subnet ?? "";
  });
  if (faults.length > 0) {
    throw new RunError(
      `${faults.join("\n")}\n${subnets.source} has subnets in ${Object.keys(subnets.byZone).sort().join(", ") || "no zone"}. ` +
        "Add the missing zone there, or keep pods out of it with restate:scheduling.nodeSelector; then run pulumi up again.",
    );
  }
  return chosen;
}

/** A subnet as discovery finds it. */
export interface FoundSubnet {
  id: string;
  zone: string;
}

/** One subnet a zone, from those that discovery found. Throws naming every zone that has several, or if there is none. */
export function subnetsByZone(found: readonly FoundSubnet[], search: string): Record<string, string> {
  if (found.length === 0) {
    throw new RunError(
      `no subnet matches ${search}. Correct restate:subnets.discover, or give restate:subnets.byZone; nothing was changed.`,
    );
  }
  const byZone: Record<string, string> = {};
  const doubles = new Set<string>();
  for (const { id, zone } of [...found].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    if (byZone[zone] !== undefined) doubles.add(zone);
    else byZone[zone] = id;
  }
  if (doubles.size > 0) {
    const lines = [...doubles].sort().map((zone) => {
      const ids = found.filter((s) => s.zone === zone).map((s) => s.id);
      return `  ${zone}: ${ids.sort().join(", ")}`;
    });
    throw new RunError(
      `several subnets match ${search}:\n${lines.join("\n")}\nNarrow restate:subnets.discover.tags until one a zone is left, ` +
        "or give restate:subnets.byZone; nothing was changed.",
    );
  }
  return byZone;
}
