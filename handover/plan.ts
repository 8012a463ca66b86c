/**
 * What a stack does about `serving`: whether it hands the cluster over, what it waits for, and how many nodes it runs
 * meanwhile. Pure; what is done is done by operations/handover.
 *
 * Every handover has a number, and is bound to the one that it follows: a stack that does not know the last one cannot
 * undo it.
 */
import { RunError } from "@pulumi/pulumi/errors";
import type { PeerOutputs, Receipt } from "../outputs";
import type { Settings } from "../settings";
import { leadRegion, type Serving } from "../topology";

/** Name of the `Stash` resource that remembers the last handover. */
export const handoverMemoryName = "handover";

/** Who asks for a handover: what tells one checkout of the program from another. Written into the receipt. */
export interface Asker {
  /** Git commit of the checkout; absent outside a repository. */
  commit?: string;
  /** Whether the checkout has changes that are not committed. */
  dirty?: boolean;
  /** Hash of the settings that both stacks share, that is, of Pulumi.yaml. */
  settings: string;
  user: string;
}

/** A handover that this stack runs, or has run. */
export interface HandoverOrder {
  target: Serving;
  /** Number of the last handover that this stack knew. */
  after: number;
  /** Who served then. That it was otherwise in between changes nothing about what is asked. */
  before: Serving;
  askedBy: Record<string, unknown>;
  /** Whether it is known to be done: the Job is there already, or finds nothing to do. */
  done: boolean;
}

/** How a handover was asked for. */
type Asked = Pick<HandoverOrder, "after" | "before" | "askedBy">;

/**
 * What a stack remembers of the last handover; how it was asked for only if this stack ran a Job for it. Others may have been faster than
 * that, and handovers by hand may have come between.
 */
export interface HandoverMemory extends Partial<Asked> {
  receipt: Receipt;
}

/** What follows from `serving` for one stack. */
export interface HandoverPlan {
  /** The last handover that is known of, from the peer's outputs or from this stack's memory. */
  latest?: Receipt;
  /** Present in the lead region, once there is something to hand over. */
  order?: HandoverOrder;
  /** Restate nodes that this region may run now; more, as long as they hold records (handover/standby.ts). */
  runningReplicas: number;
  /** What waits, for the output `pending`. */
  pending: string[];
}

/** Everything that the decision depends on. */
export interface HandoverQuestion {
  settings: Pick<Settings, "region" | "home" | "serving" | "replicas" | "standbyReplicas" | "peer">;
  /** The last one that this stack remembers. */
  remembered?: HandoverMemory;
  peer?: PeerOutputs;
  asker: () => Asker;
  /**
   * Whether this checkout is older than the commit: `older`, `not older`, or `unknown` where the commit cannot be found.
   */
  age: (commit: string) => "older" | "not older" | "unknown";
}

/** The regions that serve, in words. */
const served = (serving: Serving) => (serving === "both" ? "both regions" : `${serving} alone`);

/** Decides. Throws where this checkout must not hand over: it is older than the last one, or contradicts itself. */
export function planHandover(question: HandoverQuestion): HandoverPlan {
  const { settings, remembered, peer } = question;
  const { region, serving, replicas, standbyReplicas = replicas } = settings;
  const latest = [remembered?.receipt, peer?.handover?.receipt]
    .filter((one) => one !== undefined)
    .sort((a, b) => b.number - a.number)[0];
  const before: Serving = latest?.to ?? "both";
  const changes = before !== serving;
  const lead = leadRegion(settings);
  const plan: HandoverPlan = { ...(latest ? { latest } : {}), runningReplicas: replicas, pending: [] };
  // Idle, and nothing depends any more on what its nodes hold.
  if (serving !== "both" && serving !== region && latest?.to === serving && latest.saved) {
    plan.runningReplicas = standbyReplicas;
  }
  if (changes && latest) refuseContradiction(question, latest);
  if (lead !== region) {
    if (changes) {
      plan.pending.push(
        `${lead} hands the cluster over (serving: ${before} -> ${serving}). Next: pulumi up --stack ${settings.peer}`,
      );
    }
    return plan;
  }
  if (!changes && !latest) return plan;
  if (!peer) {
    if (changes)
      plan.pending.push(
        `the handover to ${served(serving)} waits for the peer. Next: pulumi up --stack ${settings.peer}`,
      );
    return plan;
  }
  const running = peer.runningReplicas ?? peer.replicas;
  if (changes && serving === "both" && running < replicas) {
    plan.pending.push(
      `the handover to both regions waits for ${replicas} nodes of ${peer.region}, which runs ${running}. Next: pulumi up --stack ${settings.peer}, then pulumi up here again`,
    );
    return plan;
  }
  plan.order = changes
    ? { target: serving, after: latest?.number ?? 0, before, askedBy: { ...question.asker() }, done: false }
    : { target: serving, ...orderedBefore(latest!, remembered), done: true };
  return plan;
}

/** What was asked for when a handover that is done was ordered, so that its Job stays as it is. */
function orderedBefore(latest: Receipt, remembered: HandoverMemory | undefined): Asked {
  const known = remembered?.receipt.number === latest.number ? remembered : undefined;
  return {
    after: known?.after ?? latest.number - 1,
    before: known?.before ?? latest.from,
    askedBy: known?.askedBy ?? latest.askedBy,
  };
}

/** Throws if this checkout cannot be the one that follows the last handover. */
function refuseContradiction({ settings, asker, age }: HandoverQuestion, latest: Receipt): void {
  const { commit, settings: shared } = latest.askedBy as Partial<Asker>;
  const happened = `handover ${latest.number} to ${served(latest.to)}, at ${latest.ended}`;
  if (shared !== undefined && shared === asker().settings) {
    throw new RunError(
      `restate:serving is ${settings.serving} here, and the same Pulumi.yaml was used for ${happened}: a stack's own file sets it ` +
        "to something else. Nothing was changed. Both stacks must agree: pulumi config rm restate:serving in each stack, and " +
        "set it once, in Pulumi.yaml.",
    );
  }
  if (commit === undefined) return;
  const found = age(commit);
  if (found === "not older") return;
  throw new RunError(
    (found === "older"
      ? `this checkout is older than the one (${commit.slice(0, 12)}) that asked for ${happened}, and would undo it.`
      : `${happened}, was asked for by commit ${commit.slice(0, 12)}, which this checkout does not have: it may be older, and would undo it.`) +
      ` Nothing was changed. Next: ${found === "older" ? "git pull" : "git fetch --unshallow, or git pull"}, then pulumi up again; ` +
      `to hand over to ${served(settings.serving)}, change restate:serving there`,
  );
}

/** What a handover does, in words, for previews. */
export function describeHandover({ target, before }: Pick<HandoverOrder, "target" | "before">): string[] {
  if (target === "both") {
    const back = before === "region1" ? "region2" : "region1";
    return [
      `every partition gets a processor in ${back} again, which catches up`,
      `the nodes of ${back} take records again, every log is written in both regions`,
      `the nodes of ${back} join the metadata store again, one by one; then each region leads half of the partitions`,
    ];
  }
  const drained = target === "region1" ? "region2" : "region1";
  return [
    `every partition is led from ${target} and lives there alone`,
    `the nodes of ${drained} leave the metadata store, one by one`,
    `every log is written in ${target} alone; a snapshot holds what was written before`,
    `until the way back, every record is in ${target} alone: its loss would be the loss of the cluster`,
  ];
}
