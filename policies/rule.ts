/** The one shape of every rule, and how a rule becomes a policy of Pulumi's SDK. */
import type { Policies, PolicyConfigSchema, PolicyResource, ReportViolation, Severity } from "@pulumi/policy";
import { type Exemption, exemptionsSchema, judgeExemptions } from "./exemptions";
import { NotKnown, plainData, Value } from "./value";

/** A resource as rules see it: its inputs in a rule about resources, its outputs in a rule about the stack. */
export interface Resource {
  type: string;
  name: string;
  urn: string;
  props: Value;
  /** Whether Pulumi refuses to delete it. */
  protect: boolean;
  /** Seconds that its creation may take; 0 for the provider's own default. */
  createTimeout: number;
  /** URN of its parent. */
  parent?: string;
  /** URNs of all that it depends on. Only in rules about the stack. */
  dependsOn: ReadonlySet<string>;
  /** URNs of what each input is made from. Only in rules about the stack. */
  madeFrom: Readonly<Record<string, readonly string[]>>;
}

/** Everything that a stack has, with the outputs that it exports. */
export interface Stack {
  resources: readonly Resource[];
  outputs: Value;
}

/** Where a rule says what it found. */
export interface Report {
  /** Something is wrong: what, and what to do about it, each a clause without a full stop. */
  violation(fault: string, remedy: string, resource?: Resource): void;
  /** Looks at a part of the whole; if that part is not known yet, the others are looked at all the same. */
  part(look: () => void): void;
}

/** A parameter of a rule, set in the pack's configuration. */
export interface Parameter {
  about: string;
  type: "integer" | "string" | "array";
  default: number | string | string[];
}

type ParameterValues<P extends Record<string, Parameter>> = { [K in keyof P]: P[K]["default"] };

/** One rule. */
export interface Rule<P extends Record<string, Parameter> = Record<string, Parameter>> {
  /** Its name in configuration, in reports and on the command line. */
  id: string;
  /** What must hold, in one sentence. */
  title: string;
  /** What goes wrong otherwise. */
  why: string;
  severity: Severity;
  /** What happens unless the configuration says otherwise: `mandatory` stops the update, `advisory` warns. */
  level: "mandatory" | "advisory";
  /** Rules of public standards that it answers to, e.g. `FSBP S3.8`, `CKV_AWS_53`. */
  standards: readonly string[];
  parameters?: P;
  /** Looks at one resource's inputs, before it is created or changed. */
  resource?: { types: readonly string[]; check(resource: Resource, report: Report, values: ParameterValues<P>): void };
  /** Looks at all resources' outputs, at the end of a preview and of an update. */
  stack?(stack: Stack, report: Report, values: ParameterValues<P>): void;
}

/** Declares a rule; its parameters' types follow from what it declares. */
export function rule<P extends Record<string, Parameter> = Record<never, Parameter>>(one: Rule<P>): Rule {
  return one as unknown as Rule;
}

/** What a rule found in one look. */
export interface Finding {
  kind: "violation" | "not known yet";
  message: string;
  /** What exemptions may name: the resource, or nothing for the whole stack. */
  resource?: Resource;
}

/** Looks at something with a rule and collects what it says. `subject` is what it looks at, if that is one resource. */
export function collect(look: (report: Report) => void, subject?: Resource): Finding[] {
  const findings: Finding[] = [];
  const unknownPaths = new Set<string>();
  const part = (one: () => void) => {
    try {
      one();
    } catch (error) {
      if (!(error instanceof NotKnown)) throw error;
      unknownPaths.add(error.path);
    }
  };
  part(() =>
    look({
      part,
      violation(fault, remedy, resource = subject) {
        findings.push({
          kind: "violation",
          message: `${resource?.name ?? "the stack"}: ${fault}; ${remedy}`,
          resource,
        });
      },
    }),
  );
  if (unknownPaths.size > 0) {
    const when = subject ? "before the update changes the resource" : "at the end of the update";
    findings.push({
      kind: "not known yet",
      message: `${subject?.name ?? "the stack"}: ${[...unknownPaths].join(", ")} not known yet; checked ${when}`,
      resource: subject,
    });
  }
  return findings;
}

/** The values of a rule's parameters: what the configuration has, else their defaults. */
function parameterValues(one: Rule, config: Record<string, unknown>): ParameterValues<Record<string, Parameter>> {
  return Object.fromEntries(
    Object.entries(one.parameters ?? {}).map(([name, parameter]) => [name, config[name] ?? parameter.default]),
  ) as ParameterValues<Record<string, Parameter>>;
}

/** Schema of a rule's configuration, for Pulumi to check it with. */
function configSchema(one: Rule): PolicyConfigSchema {
  const parameters = Object.entries(one.parameters ?? {}).map(([name, parameter]) => [
    name,
    {
      type: parameter.type,
      description: parameter.about,
      default: parameter.default,
      ...(parameter.type === "array" ? { items: { type: "string" as const } } : {}),
    },
  ]);
  return { properties: { ...Object.fromEntries(parameters), exemptions: exemptionsSchema } };
}

/**
 * Says a finding with Pulumi's words. What is exempt or not known yet is said as advice: the SDK takes a level with a
 * report, though its types do not say so.
 */
function say(
  one: Rule,
  finding: Finding,
  exemptions: readonly Exemption[],
  today: Date,
  report: ReportViolation,
): void {
  const urn = finding.resource?.urn;
  const advise = (message: string) =>
    report({ message: `${one.title}\n${message}`, enforcementLevel: "advisory", urn } as unknown as string);
  if (finding.kind === "not known yet") {
    advise(finding.message);
    return;
  }
  const { exempt, notes } = judgeExemptions(exemptions, finding.resource, today);
  if (exempt) advise(`exempt until ${exempt.expires} (${exempt.reason}): ${finding.message}`);
  else report([finding.message, ...notes].join("; "), urn);
}

/** What the engine hands over, as rules see it. */
function asResource(
  args: Omit<PolicyResource, "parent" | "dependencies" | "propertyDependencies" | "isType" | "asType">,
) {
  return {
    type: args.type,
    name: args.name,
    urn: args.urn,
    props: new Value(plainData(args.props)),
    protect: args.opts.protect,
    createTimeout: args.opts.customTimeouts.createSeconds,
    ...(args.opts.parent ? { parent: args.opts.parent } : {}),
  };
}

/** The stack as rules see it. */
function asStack(resources: readonly PolicyResource[]): Stack {
  const root = resources.find((one) => one.type === "pulumi:pulumi:Stack");
  return {
    resources: resources.map((one) => ({
      ...asResource(one),
      dependsOn: new Set(one.dependencies.map((other) => other.urn)),
      madeFrom: Object.fromEntries(
        Object.entries(one.propertyDependencies).map(([key, others]) => [key, others.map((other) => other.urn)]),
      ),
    })),
    outputs: new Value(root ? plainData(root.props) : {}),
  };
}

/** A rule as a policy of Pulumi's SDK. `today` decides which exemptions hold. */
export function toPolicy(one: Rule, today: () => Date = () => new Date()): Policies[number] {
  const { resource, stack } = one;
  const settle = (
    args: { getConfig<T extends object>(): T },
    report: ReportViolation,
    subject: Resource | undefined,
    look: (into: Report, values: ParameterValues<Record<string, Parameter>>) => void,
  ) => {
    const config = args.getConfig<{ exemptions?: Exemption[] }>();
    const values = parameterValues(one, config as Record<string, unknown>);
    for (const finding of collect((into) => look(into, values), subject)) {
      say(one, finding, config.exemptions ?? [], today(), report);
    }
  };
  return {
    name: one.id,
    description: one.title,
    enforcementLevel: one.level,
    severity: one.severity,
    tags: [...one.standards],
    configSchema: configSchema(one),
    ...(resource
      ? {
          validateResource: (args, report) => {
            // Counted neither as passed nor as failed.
            if (!resource.types.includes(args.type)) args.notApplicable(`it is about ${resource.types.join(", ")}`);
            const subject = { ...asResource(args), dependsOn: new Set<string>(), madeFrom: {} };
            settle(args, report, subject, (into, values) => resource.check(subject, into, values));
          },
        }
      : {}),
    ...(stack
      ? {
          validateStack: (args, report) => {
            const whole = asStack(args.resources);
            settle(args, report, undefined, (into, values) => stack.call(one, whole, into, values));
          },
        }
      : {}),
  } as Policies[number];
}
