/** Exemptions from a rule: which resource, for what reason, until when. They stand in the pack's configuration. */
import type { PolicyConfigSchema } from "@pulumi/policy";
import type { Resource } from "./rule";

/** One exemption. */
export interface Exemption {
  /** Name of the resource, or `stack` where the whole stack is meant; `*` stands for any characters. */
  resource: string;
  reason: string;
  /** Last day on which it holds, e.g. `2027-03-31`. */
  expires: string;
}

/** Longest that an exemption may reach ahead, in days: what is meant for ever is the rule's configuration. */
const longest = 366;

/** Schema of a rule's exemptions, which Pulumi checks before anything runs. */
export const exemptionsSchema: PolicyConfigSchema["properties"][string] = {
  type: "array",
  description: `What is let pass: resource (its name, or stack; * for any characters), reason, expires (a day, at most ${longest} days ahead).`,
  default: [],
  items: {
    type: "object",
    required: ["resource", "reason", "expires"],
    additionalProperties: false,
    properties: {
      resource: { type: "string", minLength: 1 },
      reason: { type: "string", minLength: 10 },
      expires: { type: "string", pattern: "^\\d{4}-\\d{2}-\\d{2}$" },
    },
  },
};

function matches(pattern: string, resource: Resource | undefined): boolean {
  const literal = pattern.split("*").map((text) => text.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literal.join(".*")}$`).test(resource?.name ?? "stack");
}

const day = 24 * 60 * 60 * 1000;

/** Why an exemption does not hold on a day; undefined if it does. */
function fault({ expires }: Exemption, today: Date): string | undefined {
  // It holds until the end of its last day.
  const end = Date.parse(`${expires}T23:59:59.999Z`);
  if (Number.isNaN(end) || !new Date(end).toISOString().startsWith(expires)) return `${expires} is no day`;
  if (end < today.getTime()) return `expired on ${expires}`;
  if (end > today.getTime() + (longest + 1) * day) {
    return `does not count, since ${expires} is more than ${longest} days ahead`;
  }
  return undefined;
}

/** The exemption that lets a finding pass, if one does; else what to say of those that are for it but do not hold. */
export function judgeExemptions(
  exemptions: readonly Exemption[],
  resource: Resource | undefined,
  today: Date,
): { exempt?: Exemption; notes: string[] } {
  const candidates = exemptions.filter((one) => matches(one.resource, resource));
  const exempt = candidates.find((one) => fault(one, today) === undefined);
  if (exempt) return { exempt, notes: [] };
  return { notes: candidates.map((one) => `its exemption (${one.reason}): ${fault(one, today)}`) };
}
