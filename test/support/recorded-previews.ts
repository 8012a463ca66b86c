/** Previews of both stacks that were recorded in the sandbox, by tools/record-previews.ts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { type Preview, readPreview } from "../../commands/preview-comment";

/** Folder of the recordings. */
export const recordedPreviews = join(__dirname, "../recordings/previews");

/** The events of one region's preview. */
export function recordedEvents(name: string, region: "region1" | "region2"): EngineEvent[] {
  const text = readFileSync(join(recordedPreviews, name, `${region}.jsonl`), "utf8");
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as EngineEvent);
}

/** Both regions' previews. */
export function recorded(name: string): [Preview, Preview] {
  return [
    readPreview("region1", recordedEvents(name, "region1")),
    readPreview("region2", recordedEvents(name, "region2")),
  ];
}
