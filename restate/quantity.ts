/** Kubernetes quantities of memory, and what of a container's memory RocksDB gets. */

const units: Record<string, number> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Bytes of a Kubernetes memory quantity such as `6Gi` or `500M`; undefined if it is none. */
export function memoryBytes(quantity: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$/.exec(quantity.trim());
  if (!match) return undefined;
  return Math.round(Number(match[1]) * units[match[2] ?? ""]!);
}

/** Share of the container's memory limit that RocksDB gets unless set: in the upper part of Restate's 20 to 50 %. */
const rocksdbShare = 0.45;

/** Least and largest share of the container's memory that Restate's guidance allows for RocksDB. */
export const rocksdbShareRange = { least: 0.2, most: 0.5 } as const;

/** RocksDB's memory for a memory limit, in whole mebibytes, in the notation that Restate reads, e.g. `2764MiB`. */
export function rocksdbMemory(limit: string): string {
  const bytes = memoryBytes(limit);
  if (bytes === undefined) throw new Error(`not a memory quantity: ${limit}; write e.g. 6Gi`);
  return `${Math.floor((bytes * rocksdbShare) / 2 ** 20)}MiB`;
}

/** Bytes of a size as Restate writes them (`3GB`, `2764MiB`, `512 MB`); undefined if it is none. */
export function restateSizeBytes(size: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([kKMGT]i?)?B?$/.exec(size.trim());
  if (!match) return undefined;
  const unit = (match[2] ?? "").replace("K", "k").replace("ki", "Ki");
  const factor = units[unit];
  return factor === undefined ? undefined : Math.round(Number(match[1]) * factor);
}
