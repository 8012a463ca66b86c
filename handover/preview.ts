/** What a change of `serving` would do, and what would block it: for previews, in the words of a pull request. */
import { z } from "zod";
import type { ClusterAccess } from "../kubernetes/access";
import { coreApi } from "../kubernetes/client";
import { within } from "../kubernetes/deadline";
import { runInPod } from "../kubernetes/exec";
import { type HandoverSetting, handoverEnvironment, handoverScript } from "../restate/handover";
import { describeHandover, type HandoverOrder } from "./plan";

/** Longest that the cluster may take to say what would block a handover, in milliseconds. */
const patience = 45_000;

/** What `handover.sh check` prints. */
const checkSchema = z.object({
  serving: z.string(),
  number: z.number(),
  target: z.string(),
  /** What a run would change, one sentence each. */
  outstanding: z.array(z.string()),
  /** What would keep it from beginning. */
  obstacles: z.array(z.string()),
});

/** What the live cluster says to a handover. */
export type HandoverCheck = z.infer<typeof checkSchema>;

/** Asks the live cluster, in a pod of this region. */
export async function checkHandover(
  access: ClusterAccess,
  namespace: string,
  setting: HandoverSetting,
  order: HandoverOrder,
): Promise<HandoverCheck> {
  const api = await coreApi(access);
  const { items } = await within(patience, api.listNamespacedPod({ namespace, labelSelector: "app=restate" }));
  const pod = items.find(({ status }) => status?.phase === "Running")?.metadata?.name;
  if (!pod) throw new Error(`no pod of namespace ${namespace} runs`);
  const environment = handoverEnvironment(setting, { ...order, next: "pulumi up" });
  const target = { namespace, pod, container: "restate" };
  const printed = await runInPod(access, target, ["bash", "-s"], patience, handoverScript(environment, "check"));
  return checkSchema.parse(JSON.parse(printed));
}

/** A handover in words: what it would do and what would block it; `check` is an error's message where nobody answers. Pure. */
export function handoverInWords(order: HandoverOrder, check: HandoverCheck | string): string {
  const last = typeof check === "string" ? order.after : check.number;
  const lines = [
    `serving: ${order.before} -> ${order.target}. This update hands the cluster over (handover ${last + 1}):`,
    ...describeHandover(order).map((line) => `  - ${line}`),
  ];
  if (typeof check === "string") {
    lines.push(`What would block it is not known: the cluster cannot be asked (${check}).`);
  } else if (check.obstacles.length > 0) {
    lines.push("BLOCKED as things are now:", ...check.obstacles.map((line) => `  - ${line}`));
  } else {
    lines.push(`Nothing would block it now; ${check.outstanding.length} things differ from what is wanted.`);
  }
  return lines.join("\n");
}
