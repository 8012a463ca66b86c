/**
 * Keeps previews for the tests of the comment: `node --require ./tools/typescript.cjs tools/record-previews.ts NAME REGION1.jsonl REGION2.jsonl`,
 * with what `PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true pulumi preview --json --policy-pack policies` printed in the sandbox.
 *
 * Leaves out what the comment does not read (values of resources, configuration, chatter) and where on the machine it was.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { recordedPreviews } from "../test/support/recorded-previews";

/** What is kept of an event; nothing of most. */
function kept({ resourcePreEvent, resOutputsEvent, policyEvent, diagnosticEvent, summaryEvent }: EngineEvent): unknown {
  if (resourcePreEvent) {
    const { op, urn, type, diffs, detailedDiff } = resourcePreEvent.metadata;
    return { resourcePreEvent: { metadata: { op, urn, type, diffs, detailedDiff } } };
  }
  if (resOutputsEvent?.metadata.type === "pulumi:pulumi:Stack") {
    const { op, urn, type, old, new: made } = resOutputsEvent.metadata;
    const outputs = (state: typeof old) => (state ? { outputs: state.outputs } : null);
    return { resOutputsEvent: { metadata: { op, urn, type, old: outputs(old), new: outputs(made) } } };
  }
  if (policyEvent) return { policyEvent };
  if (diagnosticEvent?.severity === "error") return { diagnosticEvent };
  return summaryEvent ? { summaryEvent: { resourceChanges: summaryEvent.resourceChanges } } : undefined;
}

const [name, ...files] = process.argv.slice(2);
if (!name || files.length !== 2) throw new Error("name the recording, and the two files with what Pulumi printed");
mkdirSync(join(recordedPreviews, name), { recursive: true });
for (const [i, file] of files.entries()) {
  const events = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .flatMap((line) => kept(JSON.parse(line) as EngineEvent) ?? []);
  const text = events.map((event) => `${JSON.stringify(event)}\n`).join("");
  const anywhere = text
    .replace(/"(\/[^"/]+)+\/sandbox\/chart"/g, '"/project/sandbox/chart"')
    .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:1");
  writeFileSync(join(recordedPreviews, name, `region${i + 1}.jsonl`), anywhere);
}
