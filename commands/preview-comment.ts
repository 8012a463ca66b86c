/** What previews of both stacks say, as one comment for a pull request. Pure: events of Pulumi's engine in, Markdown out. */
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { leadRegion, type RegionName, regionNames } from "../topology";
import { isReal, plainMessage } from "./progress";

/** First line of the comment, by which it is found again. */
export const commentMark = "<!-- restate-two-regions previews -->";

/** Longest list of one kind that a region shows; GitHub takes 65,536 characters in all. */
const mostShown = 60;

/** What would be done to one resource. */
interface Step {
  op: string;
  type: string;
  name: string;
  /** Paths of what differs. */
  paths: string[];
}

/** What a policy said. */
interface Said {
  rule: string;
  resource: string;
  message: string;
}

/** One stack's preview. */
export interface Preview {
  stack: string;
  /** Whether it went through to its end, with no mandatory policy broken. */
  succeeded: boolean;
  steps: Step[];
  unchanged: number;
  /** The stack's outputs before and after; before the first `up` there are none. */
  before: Record<string, unknown>;
  after: Record<string, unknown>;
  violations: Said[];
  advice: Said[];
  /** Things that policies cannot look at before the update. */
  notKnown: number;
  errors: string[];
}

const nameOf = (urn: string) => urn.split("::").at(-1) ?? urn;

/** Reads the events of one preview, in their order. */
export function readPreview(stack: string, events: readonly EngineEvent[]): Preview {
  const preview: Preview = {
    stack,
    succeeded: false,
    steps: [],
    unchanged: 0,
    before: {},
    after: {},
    violations: [],
    advice: [],
    notKnown: 0,
    errors: [],
  };
  for (const event of events) {
    const step = event.resourcePreEvent?.metadata;
    if (step && isReal(step.type)) {
      if (step.op === "same") preview.unchanged += 1;
      // A replacement comes as three steps, of which the logical one stands for all.
      else if (!["read", "refresh", "create-replacement", "delete-replaced"].includes(step.op)) {
        const paths = Object.keys(step.detailedDiff ?? {});
        preview.steps.push({
          op: step.op,
          type: step.type,
          name: nameOf(step.urn),
          paths: (paths.length > 0 ? paths : (step.diffs ?? [])).sort(),
        });
      }
    }
    const done = event.resOutputsEvent?.metadata;
    if (done?.type === "pulumi:pulumi:Stack") {
      preview.before = { ...preview.before, ...done.old?.outputs };
      if (Object.keys(done.new?.outputs ?? {}).length > 0) preview.after = done.new!.outputs;
    }
    const policy = event.policyEvent;
    if (policy) {
      // The rule's title, then what it found; where the stack is meant, no resource.
      const [, ...found] = plainMessage(policy.message).split("\n");
      const message = found.join(" ").trim();
      const said = { rule: policy.policyName, resource: nameOf(policy.resourceUrn ?? ""), message };
      if (policy.enforcementLevel === "mandatory") preview.violations.push(said);
      else if (/ not known yet; checked /.test(message)) preview.notKnown += 1;
      else preview.advice.push(said);
    }
    const diagnostic = event.diagnosticEvent;
    if (diagnostic?.severity === "error") {
      const text = plainMessage(diagnostic.message);
      if (text && !/^preview failed$/.test(text)) preview.errors.push(text);
    }
    if (event.summaryEvent) preview.succeeded = true;
  }
  preview.succeeded &&= preview.errors.length === 0 && preview.violations.length === 0;
  return preview;
}

/** Text in a cell of a table or a line of a list, as code. */
const code = (text: string) => `\`${text.replaceAll("`", "'").replaceAll("|", "\\|").replaceAll("\n", " ")}\``;

/** Text as it is, but for what would break a table or be taken for markup. */
const words = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("|", "\\|").replaceAll("\n", " ");

const outputText = (outputs: Record<string, unknown>, key: string) =>
  typeof outputs[key] === "string" ? (outputs[key] as string) : undefined;

/** What holds data: its replacement or deletion loses some. */
const holdsData = /(s3\/bucket:Bucket|helm\.sh\/v3:Release|core\/v1:Namespace)$/;

/** The parts of the outputs that the peer builds from. */
const peerReads = [
  "serving",
  "home",
  "cluster",
  "replicas",
  "domain",
  "bucket",
  "role",
  "nodes",
  "identity",
  "kubernetes",
];

/** Whether the peer has something new to build from after this stack's update. */
function tellsPeer({ before, after }: Preview): boolean {
  return peerReads.some((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}

/** What becomes of `serving`, in one paragraph. */
function servingText(previews: readonly [Preview, Preview]): string {
  const changes = previews.map(({ stack, before, after }) => ({
    stack,
    from: outputText(before, "serving"),
    to: outputText(after, "serving"),
  }));
  const changed = changes.filter(({ from, to }) => to !== undefined && from !== undefined && from !== to);
  const [first] = changed;
  if (!first) {
    const now = changes.map(({ to }) => to).find((to) => to !== undefined);
    if (now !== undefined && changes.every(({ from }) => from === undefined)) return `\`serving\` is ${code(now)}.`;
    return now === undefined
      ? "`serving` is not known, since no preview came to its end."
      : `\`serving\` stays ${code(now)}.`;
  }
  const targets = new Set(changes.flatMap(({ to }) => to ?? []));
  if (targets.size > 1) {
    return `**The stacks disagree on \`serving\`**: ${changes.map(({ stack, to }) => `${stack} ${code(to ?? "?")}`).join(", ")}. Set it once, in Pulumi.yaml.`;
  }
  const home = (outputText(previews[0].after, "home") ?? "region1") as RegionName;
  const serving = first.to as RegionName | "both";
  const lead = leadRegion({ home, serving });
  const drained = serving === "both" ? [] : regionNames.filter((region) => region !== serving);
  const what = drained.length > 0 ? `${drained.join(", ")} is to serve no more` : "both regions are to serve";
  return `**This is a handover: \`serving\` changes from ${code(first.from!)} to ${code(first.to!)}.** ${what}; ${lead} leads.`;
}

/** In which order to apply, as a list; home comes first, as `npm run up` does it. */
function order(previews: readonly [Preview, Preview]): string[] {
  if (previews.some(({ succeeded }) => !succeeded))
    return ["Nothing is to be applied before both previews go through."];
  const changing = previews.filter(({ steps }) => steps.length > 0);
  if (changing.length === 0) return ["Nothing is to be applied."];
  const stacks = changing.map(({ stack }) => stack);
  // Whoever came before has to learn what the later one exports.
  const [home, peer] = previews;
  if (tellsPeer(peer) && (stacks.includes(peer.stack) || tellsPeer(home))) stacks.push(home.stack);
  const list = stacks.map((stack, i) => {
    const again = stacks.indexOf(stack) < i ? ", again, for what the other one exports then" : "";
    return `${i + 1}. ${code(`pulumi up --stack ${stack} --policy-pack policies`)}${again}`;
  });
  return [...list, "", "`npm run up` does that, one at a time, until neither has anything left to do."];
}

const counted = (steps: readonly Step[], ...ops: string[]) => steps.filter(({ op }) => ops.includes(op)).length;

function listed<T>(all: readonly T[], line: (one: T) => string): string[] {
  const more = all.length - mostShown;
  return [...all.slice(0, mostShown).map(line), ...(more > 0 ? [`- … and ${more} more`] : [])];
}

/** What is said of one region below the summary. */
function section(preview: Preview): string[] {
  const { stack, steps, violations, advice, notKnown, errors, after } = preview;
  const pending = Array.isArray(after.pending) ? after.pending.map(String) : [];
  const lines = [`### ${stack}`, ""];
  if (errors.length > 0) {
    lines.push("**The preview failed:**", "", ...listed(errors, (one) => `- ${words(one)}`), "");
  }
  if (violations.length > 0) {
    lines.push("**Policies stop this:**", "");
    lines.push(...listed(violations, ({ rule, message }) => `- ${code(rule)} ${words(message)}`), "");
  }
  const lost = steps.filter(({ op, type }) => ["delete", "replace"].includes(op) && holdsData.test(type));
  if (lost.length > 0) {
    lines.push(`**Data would be lost:** ${lost.map(({ op, name }) => `${op} of ${code(name)}`).join(", ")}.`, "");
  }
  if (steps.length === 0) {
    if (errors.length === 0) lines.push("Nothing changes.", "");
  } else {
    lines.push("| | resource | what differs |", "|---|---|---|");
    for (const { op, type, name, paths } of steps.slice(0, mostShown)) {
      const shown = paths.slice(0, 8).map(code);
      if (paths.length > 8) shown.push(`and ${paths.length - 8} more`);
      lines.push(`| ${op} | ${code(name)} ${words(type)} | ${shown.join(", ")} |`);
    }
    if (steps.length > mostShown) lines.push(`| | and ${steps.length - mostShown} more | |`);
    lines.push("");
  }
  if (pending.length > 0) lines.push("Waits afterwards:", "", ...listed(pending, (one) => `- ${words(one)}`), "");
  if (advice.length > 0) {
    lines.push(`<details><summary>${advice.length} pieces of advice by policies</summary>`, "");
    lines.push(...listed(advice, ({ rule, message }) => `- ${code(rule)} ${words(message)}`), "", "</details>", "");
  }
  if (notKnown > 0) {
    lines.push(
      `Policies cannot look at ${notKnown} things before the update; they look again then, before each is changed.`,
      "",
    );
  }
  return lines;
}

/** The comment. `previews` has the home region's stack first; `commit` is what was previewed, if that is to be said. */
export function renderComment(previews: readonly [Preview, Preview], commit?: string): string {
  const stopped = previews.filter(({ succeeded }) => !succeeded).map(({ stack }) => stack);
  const verdict = stopped.length > 0 ? `**Not to be merged as it is:** see ${stopped.join(" and ")}.` : "";
  const table = previews.map(({ stack, steps, unchanged, violations, succeeded }) => {
    const counts = [
      counted(steps, "create", "import"),
      counted(steps, "update"),
      counted(steps, "replace"),
      counted(steps, "delete", "discard"),
      unchanged,
    ];
    const state = violations.length > 0 ? `${violations.length} broken` : succeeded ? "kept" : "preview failed";
    return `| ${stack} | ${counts.join(" | ")} | ${state} |`;
  });
  return [
    commentMark,
    `## What would change${commit ? ` (${commit.slice(0, 8)})` : ""}`,
    "",
    ...(verdict ? [verdict, ""] : []),
    servingText(previews),
    "",
    "| stack | create | update | replace | delete | unchanged | policies |",
    "|---|---|---|---|---|---|---|",
    ...table,
    "",
    "**Order**",
    "",
    ...order(previews),
    "",
    ...previews.flatMap(section),
  ]
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trimEnd()
    .concat("\n");
}
