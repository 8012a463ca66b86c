/**
 * The peer region as this stack sees it: read from its stack's outputs, or remembered where they cannot be seen.
 *
 * What was built from a peer must not vanish because its outputs did: what is seen is kept in this stack's own state (a
 * `Stash`, written before anything that is built from it) and used for as long as the peer is out of sight.
 */

import * as pulumi from "@pulumi/pulumi";
import { RunError } from "@pulumi/pulumi/errors";
import { type PeerOutputs, peerOutputsSchema } from "./outputs";
import { clusterSettings } from "./settings";

/** Name of the `Stash` resource that remembers the peer. */
export const memoryName = "peer";

/** What reading a stack's outputs gave. */
type StackRead =
  | { state: "found"; outputs: Record<string, unknown> }
  | { state: "none" }
  | { state: "unreadable"; reason: string };

/** The peer, as the rest of the program uses it. */
export interface Peer {
  /** Absent while there is nothing to build from. */
  outputs?: PeerOutputs;
  /** `seen`: just read. `remembered`: out of sight, last known outputs. `absent`: not there and never was, or forgotten. */
  state: "seen" | "remembered" | "absent";
  /** What waits for the peer, for the output `pending`. */
  pending: string[];
}

/** Everything that the decision depends on. */
export interface PeerQuestion {
  /** The peer's stack, organization/project/stack. */
  stack: string;
  read: StackRead;
  /** What this stack's own state remembers of a peer that is out of sight; `unreadable` if that could not be found out. */
  memory: { state: "none" } | { state: "found"; value: unknown } | { state: "unreadable"; reason: string };
  /** The setting that confirms that what was built for the peer may go, if set (already checked to be the peer). */
  forget: boolean;
}

/** The words an operator types to let go of a peer. */
function forgetCommand(stack: string): string {
  return `pulumi config set restate:forgetPeer ${stack}`;
}

/** Names what does not fit the contract in another stack's outputs. */
function misfits(value: unknown): string[] {
  const parsed = peerOutputsSchema.safeParse(value);
  return parsed.success ? [] : parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
}

/**
 * Decides what this stack may build from its peer. Pure.
 *
 * Throws where it cannot be known whether something would be removed: outputs of another shape, or a memory that cannot
 * be read. The errors say how to confirm a removal.
 */
export function decidePeer(question: PeerQuestion): Peer {
  const { stack, read, memory, forget } = question;

  if (read.state === "found" && Object.keys(read.outputs).length > 0) {
    const faults = misfits(read.outputs);
    if (faults.length > 0) {
      throw new RunError(
        `the outputs of the peer stack ${stack} are not those of a region:\n  ${faults.join("\n  ")}\n` +
          `Nothing was changed. If it runs another version of this program, run pulumi up --stack ${stack} with this one; ` +
          "if it is another stack altogether, correct restate:peer.",
      );
    }
    return { state: "seen", outputs: peerOutputsSchema.parse(read.outputs), pending: [] };
  }

  const why =
    read.state === "unreadable"
      ? `the outputs of the peer stack ${stack} cannot be read (${read.reason})`
      : `the peer stack ${stack} does not exist yet or has no outputs`;

  if (forget) {
    return {
      state: "absent",
      pending: [
        `${why}; what was built for it is removed, as restate:forgetPeer says. Next: pulumi config rm restate:forgetPeer`,
      ],
    };
  }
  if (memory.state === "unreadable") {
    throw new RunError(
      `${why}, and this stack's own state cannot tell whether anything was built from it (${memory.reason}).\n` +
        "Nothing was changed, since replication, permissions or trust might be removed. Run pulumi up again when the state " +
        `can be read; if the peer is gone for good, confirm it: ${forgetCommand(stack)}`,
    );
  }
  if (memory.state === "found") {
    const faults = misfits(memory.value);
    if (faults.length > 0) {
      throw new RunError(
        `${why}, and what this stack remembers of it does not fit this version of the program:\n  ${faults.join("\n  ")}\n` +
          `Nothing was changed. Bring the peer back (pulumi up --stack ${stack}), or confirm that what was built for it may ` +
          `be removed: ${forgetCommand(stack)}`,
      );
    }
    return {
      state: "remembered",
      outputs: peerOutputsSchema.parse(memory.value),
      pending: [
        `${why}; what was built from its last known outputs is kept as it is. Next: pulumi up --stack ${stack}, or, if it is gone for good, ${forgetCommand(stack)}`,
      ],
    };
  }
  return { state: "absent", pending: [`${why}. Next: pulumi up --stack ${stack}, then pulumi up here again`] };
}

/**
 * What is remembered of the peer: all that is built from it, and not what it does at the moment, which would change this
 * stack each time that the peer follows a handover.
 */
export function memoryOf({ serving: _, handover: __, runningReplicas: ___, ...lasting }: PeerOutputs): PeerOutputs {
  return lasting;
}

/**
 * Settings on which the two stacks disagree, as entries for `pending`; they agree again once both were brought up. Who serves
 * is not among them: that is changed by a handover, which one stack leads and the other follows.
 */
export function disagreements(
  own: Pick<PeerOutputs, (typeof clusterSettings)[number]>,
  peer: PeerOutputs,
  stack: string,
): string[] {
  return clusterSettings.flatMap((key) =>
    own[key] === peer[key]
      ? []
      : [
          `${stack} was last brought up with ${key} ${peer[key]}, this stack has ${own[key]}. Next: pulumi up --stack ${stack}`,
        ],
  );
}

/** What an engine's refusal to read a stack means: there is none, or it cannot be told. */
function notRead(error: unknown): { state: "none" } | { state: "unreadable"; reason: string } {
  const reason = error instanceof Error ? error.message : String(error);
  return /unknown stack|no stack named|not found/i.test(reason)
    ? { state: "none" }
    : { state: "unreadable", reason: reason.split("\n")[0] ?? reason };
}

/**
 * Reads a stack's outputs through the engine. A stack that does not exist is an answer here, where a `StackReference`
 * would end the run.
 */
async function readStackOutputs(stack: string): Promise<StackRead> {
  try {
    const result = await pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", { name: stack }, { async: true });
    const outputs = (result?.outputs ?? {}) as Record<string, unknown>;
    // A stack that is destroyed once more, with its program running, keeps outputs of what is not there.
    return JSON.stringify(outputs).includes(pulumi.runtime.unknownValue)
      ? { state: "unreadable", reason: "its last run left values of them unknown, as a second destroy does" }
      : { state: "found", outputs };
  } catch (error) {
    return notRead(error);
  }
}

/** Reads the peer's outputs, and what this stack's own state remembers of them where they are out of sight. */
export async function readPeer(peer: string, ownStack: string): Promise<Pick<PeerQuestion, "read" | "memory">> {
  const read = await readStackOutputs(peer);
  const seen = read.state === "found" && Object.keys(read.outputs).length > 0;
  return { read, memory: seen ? { state: "none" } : await readMemory(ownStack, memoryName) };
}

/** Reads what a stack's own state remembers under the name of a `Stash`. */
export async function readMemory(ownStack: string, name: string): Promise<PeerQuestion["memory"]> {
  try {
    const result = await pulumi.runtime.invoke(
      "pulumi:pulumi:readStackResourceOutputs",
      { stackName: ownStack },
      { async: true },
    );
    const resources = (result?.outputs ?? {}) as Record<string, { type: string; outputs?: { input?: unknown } }>;
    const urn = Object.keys(resources).find((one) => one.endsWith(`pulumi:index:Stash::${name}`));
    const value = urn && resources[urn]?.outputs?.input;
    return value ? { state: "found", value } : { state: "none" };
  } catch (error) {
    return notRead(error);
  }
}
