/** What `npm run up` shows of what the engine tells. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { follow } from "../../commands/progress";

/** The lines and errors that come of some events. */
function followed(...events: object[]): { lines: string[]; errors: string[] } {
  const lines: string[] = [];
  const { onEvent, errors } = follow("region1", (text) => lines.push(text));
  for (const event of events) onEvent({ sequence: 0, timestamp: 0, ...event } as EngineEvent);
  return { lines, errors };
}

const urn = "urn:pulumi:region1::restate::kubernetes:batch/v1:Job::provisioning";
const says = (severity: string, message: string) => ({ diagnosticEvent: { severity, message, color: "never", urn } });

describe("progress of an update", () => {
  test("what is made and changed is shown as it begins and as it is done; components and what stays are not", () => {
    const of = (op: string, type: string) => ({ metadata: { op, type, urn } });
    const { lines } = followed(
      { resourcePreEvent: of("create", "kubernetes:batch/v1:Job") },
      { resOutputsEvent: of("create", "kubernetes:batch/v1:Job") },
      { resourcePreEvent: of("create", "restate:index:Region") },
      { resourcePreEvent: of("same", "kubernetes:batch/v1:Job") },
      { resOutputsEvent: of("same", "kubernetes:batch/v1:Job") },
    );
    assert.deepEqual(lines, [
      "region1  … create provisioning (batch/v1:Job)",
      "region1  ✓ created provisioning (batch/v1:Job)",
    ]);
  });

  test("messages: warnings are marked, what is said again or is no news is left out", () => {
    const { lines, errors } = followed(
      says("info", "<{%reset%}>2s  not yet complete:<{%reset%}>\n"),
      says("info", "2s  not yet complete:"),
      says("warning", "[Pod a/b]: container is waiting: ContainerCreating"),
      says("warning", '[Pod a/b]: Container "provision" completed with exit code 0'),
      says("warning", '[Pod a/b]: Container "provision" completed with exit code 1'),
      says("info", "Found {.metadata.annotations} selected nothing"),
      says("debug", "nothing for people"),
    );
    assert.deepEqual(lines, [
      "region1    2s  not yet complete:",
      "region1  ! [Pod a/b]: container is waiting: ContainerCreating",
      'region1  ! [Pod a/b]: Container "provision" completed with exit code 1',
    ]);
    assert.deepEqual(errors, []);
  });

  test("errors are kept, with the resource that they are about, and so are mandatory policies", () => {
    const policy = (enforcementLevel: string) => ({
      policyEvent: { enforcementLevel, policyName: "private", message: "is public", resourceUrn: urn },
    });
    const { lines, errors } = followed(
      says("error", "no access"),
      { diagnosticEvent: { severity: "error", message: "preview failed", color: "never" } },
      { resOpFailedEvent: { metadata: { op: "update", urn } } },
      policy("advisory"),
      policy("mandatory"),
    );
    assert.deepEqual(lines, []);
    assert.deepEqual(errors, [
      "provisioning (batch/v1:Job): no access",
      "preview failed",
      "update of provisioning (batch/v1:Job) failed",
      "provisioning (batch/v1:Job): policy private: is public",
    ]);
  });
});
