/** Turns what Pulumi's engine tells of a run into lines of progress and a list of errors. */
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { resourceLabel } from "./pending";

/** Whether a resource of this type is something out there, not a component, a provider or the stack itself. */
export const isReal = (type: string) => !/^(restate:|pulumi:providers:|pulumi:pulumi:Stack$)/.test(type);

/** A message of the engine without its marks for colour. */
export const plainMessage = (message: string) => message.replace(/<\{%[^%]*%\}>/g, "").trim();

/** Turns the engine's events into lines of progress and a list of errors. */
export function follow(
  stack: string,
  line: (text: string) => void,
): {
  onEvent: (event: EngineEvent) => void;
  errors: string[];
  changes: Record<string, number>;
  /** Types of the resources that were updated. */
  updated: Set<string>;
} {
  const errors: string[] = [];
  const changes: Record<string, number> = {};
  const updated = new Set<string>();
  let last = "";
  const verbs: Record<string, string> = {
    create: "created",
    update: "updated",
    delete: "deleted",
    replace: "replaced",
    "create-replacement": "created in its place",
    "delete-replaced": "deleted the old",
  };
  return {
    errors,
    changes,
    updated,
    onEvent: (event) => {
      Object.assign(changes, event.summaryEvent?.resourceChanges);
      const pre = event.resourcePreEvent?.metadata;
      if (pre && verbs[pre.op] && isReal(pre.type)) {
        line(`${stack}  … ${pre.op} ${resourceLabel(pre.urn)}`);
      }
      const done = event.resOutputsEvent?.metadata;
      if (done?.op === "update") updated.add(done.type);
      if (done && verbs[done.op] && isReal(done.type)) {
        line(`${stack}  ✓ ${verbs[done.op]} ${resourceLabel(done.urn)}`);
      }
      const failed = event.resOpFailedEvent?.metadata;
      if (failed) errors.push(`${failed.op} of ${resourceLabel(failed.urn)} failed`);
      const policy = event.policyEvent;
      if (policy?.enforcementLevel === "mandatory") {
        errors.push(
          `${resourceLabel(policy.resourceUrn ?? "")}: policy ${policy.policyName}: ${plainMessage(policy.message)}`,
        );
      }
      const diagnostic = event.diagnosticEvent;
      if (!diagnostic?.message) return;
      const text = plainMessage(diagnostic.message);
      if (diagnostic.severity === "error") {
        errors.push(diagnostic.urn ? `${resourceLabel(diagnostic.urn)}: ${text}` : text);
        return;
      }
      if (!["info", "info#err", "warning"].includes(diagnostic.severity)) return;
      // A wait says the same again and again; what a condition's path selects meanwhile, and that a container has ended well, is no news.
      if (text === "" || text === last || /selected nothing$|^Found \{|completed with exit code 0$/.test(text)) return;
      last = text;
      line(`${stack}  ${diagnostic.severity === "warning" ? "!" : " "} ${text}`);
    },
  };
}
