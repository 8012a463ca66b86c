/** What this project knows of each Restate version: which settings it reads and what it needs from its surroundings. */

/** What a minor version of Restate needs from us; each field says since (or until) when. */
export interface VersionTraits {
  /** Until 1.5: partition-driven log trimming is off unless this experimental switch is set; always on from 1.6. */
  partitionDrivenTrimmingSwitch: boolean;
  /** Since 1.6: snapshots can be taken after a time as well as after a number of records. */
  snapshotInterval: boolean;
  /** Since 1.7: Restate keeps a number of snapshots and deletes older ones itself (needs `s3:DeleteObject`). */
  snapshotRetention: boolean;
  /** Since 1.6, as far as it was tried: how often and to how many nodes gossip tells who leads. */
  gossipSettings: boolean;
  /** Since 1.7.10, as far as it was seen: metrics of partitions are told by node, as alerts and dashboard read them. */
  metricsByNode: boolean;
  /** Since chart 1.6: pod labels can be set. */
  chartPodLabels: boolean;
  /** Since chart 1.6.2: `image.tag` and `image.digest`; older charts read `version` only. */
  chartImageTag: boolean;
  /** Since chart 1.5: a node selector can be set. */
  chartNodeSelector: boolean;
  /** Since chart 1.7: tolerations can be set. */
  chartTolerations: boolean;
}

/** The versions whose settings are known: minor version, its first and last known patch. */
export const knownVersions: readonly { minor: string; firstPatch: number; lastPatch: number }[] = [
  { minor: "1.4", firstPatch: 0, lastPatch: 4 },
  { minor: "1.5", firstPatch: 0, lastPatch: 6 },
  { minor: "1.6", firstPatch: 0, lastPatch: 2 },
  { minor: "1.7", firstPatch: 0, lastPatch: 12 },
];

/** The version that is deployed unless the settings say otherwise. */
export const defaultVersion = "1.7.12";

/** The known versions as an operator reads them, e.g. `1.4.0 to 1.4.4, 1.5.0 to 1.5.6`. */
export function knownVersionsText(): string {
  return knownVersions
    .map(({ minor, firstPatch, lastPatch }) => `${minor}.${firstPatch} to ${minor}.${lastPatch}`)
    .join(", ");
}

/**
 * Traits of a version, or undefined where its settings are not known. Restate ignores unknown settings in silence, so a
 * version must be looked at before it is used.
 */
export function versionTraits(version: string): VersionTraits | undefined {
  const match = /^(\d+\.\d+)\.(\d+)$/.exec(version);
  if (!match) return undefined;
  const patch = Number(match[2]);
  const known = knownVersions.find((v) => v.minor === match[1]);
  if (!known || patch < known.firstPatch || patch > known.lastPatch) return undefined;
  const minor = Number(known.minor.split(".")[1]);
  return {
    partitionDrivenTrimmingSwitch: minor <= 5,
    snapshotInterval: minor >= 6,
    snapshotRetention: minor >= 7,
    gossipSettings: minor >= 6,
    metricsByNode: minor > 7 || (minor === 7 && patch >= 10),
    chartPodLabels: minor >= 6,
    chartImageTag: minor > 6 || (minor === 6 && patch >= 2),
    chartNodeSelector: minor >= 5,
    chartTolerations: minor >= 7,
  };
}
