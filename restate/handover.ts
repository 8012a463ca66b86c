/** The scripts and gates that hand the cluster over, as they are brought into pods: operations/handover. */
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { type NodeIdentity, type Replication, servingValues } from "../topology";

const operations = resolve(__dirname, "../operations");

/** Every file that a run needs, by its name: all of them lie in one folder in the pod. */
export function handoverFiles(): Record<string, string> {
  const folder = join(operations, "handover");
  const own = readdirSync(folder)
    .sort()
    .map((name) => [name, readFileSync(join(folder, name), "utf8")] as const);
  return Object.fromEntries([["aws.sh", readFileSync(join(operations, "aws.sh"), "utf8")] as const, ...own]);
}

/** What a run is made of, but for what it leads to. */
export interface HandoverSetting {
  cluster: string;
  /** Region whose pods run it. */
  region: string;
  /** Every node of both regions. */
  nodes: readonly NodeIdentity[];
  /** Replication while both regions serve, and while one does. */
  both: Replication;
  one: Replication;
  /** Seconds that a run may take. */
  timeout: number;
  /** Records that a partition may have since its last snapshot when a run begins. */
  maxUnsaved: number;
  /** Where receipts go. */
  bucket: string;
  awsRegion: string;
  /** Further environment, such as where S3 is if not at AWS. */
  env: Record<string, string>;
}

/** Name of the template from which a run is started without Pulumi. */
export const serveTemplate = (target: string): string => `restate-serve-${target}`;

/** What one run leads to. */
export interface HandoverTarget {
  target: string;
  /** Number of the last handover that is known to the one who asks, and who served then; undefined: whatever it is. */
  after?: number;
  before?: string;
  askedBy: Record<string, unknown>;
  /** Command that starts it again. */
  next: string;
}

/** The environment that handover.sh reads. */
export function handoverEnvironment(setting: HandoverSetting, run: HandoverTarget): Record<string, string> {
  return {
    CLUSTER: setting.cluster,
    NODES: JSON.stringify(setting.nodes.map(({ name, region, address }) => ({ name, region, address }))),
    REGION: setting.region,
    TARGET: run.target,
    AFTER: run.after === undefined ? "" : String(run.after),
    BEFORE: run.before ?? "",
    LOG_BOTH: setting.both.log,
    PARTITION_BOTH: setting.both.partition,
    LOG_ONE: setting.one.log,
    PARTITION_ONE: setting.one.partition,
    ASKED: JSON.stringify(run.askedBy),
    TIMEOUT: String(setting.timeout),
    MAX_UNSAVED: String(setting.maxUnsaved),
    BUCKET: setting.bucket,
    BUCKET_REGION: setting.awsRegion,
    NEXT: run.next,
    ...setting.env,
  };
}

/**
 * A script for `bash -s` that writes the files into a folder, runs handover.sh there and removes it: for pods that do not
 * have them mounted.
 */
export function handoverScript(environment: Record<string, string>, mode: "check"): string {
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  return [
    "set -euo pipefail",
    "folder=$(mktemp -d)",
    `trap 'rm -rf "$folder"' EXIT`,
    ...Object.entries(handoverFiles()).map(([name, text]) => `printf '%s' ${quoted(text)} >"$folder/${name}"`),
    ...Object.entries(environment).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `bash "$folder/handover.sh" ${mode} </dev/null`,
    "exit 0",
    "",
  ].join("\n");
}

/** The command that reads the cluster's record of handovers; operations/handover/record.sh writes it. */
export const recordCommand = ["restatectl", "metadata", "get", "--key", "restate-two-regions/handover"];

const recordSchema = z.object({
  /** Of the last handover that was completed; 0 if there was none. */
  number: z.number().default(0),
  /** What it led to. */
  serving: z.enum(servingValues).default("both"),
  /** The one that runs, or was killed and nobody has gone on with. */
  lock: z.object({ holder: z.string(), number: z.number(), to: z.enum(servingValues), step: z.string() }).nullish(),
});

/** The part of the cluster's record of handovers that tells where it is. */
export type HandoverRecord = z.infer<typeof recordSchema>;

/** Reads what the command printed: `null` before the first handover. Throws if that is no record. */
export const handoverRecord = (printed: string): HandoverRecord => recordSchema.parse(JSON.parse(printed) ?? {});
