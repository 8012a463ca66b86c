/** What a stack does about its peer: every combination of what is read, what is remembered, and what is confirmed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { peerOutputsSchema } from "../../outputs";
import { decidePeer, disagreements, memoryOf, type PeerQuestion } from "../../peer";
import { peerOutputs } from "../support/peer-outputs";
import { receiptOf } from "../support/receipts";

const stack = "organization/restate/region2";
const outputs = peerOutputs("region2");
const { bucket: _bucket, ...withoutBucket } = outputs;

const reads: Record<string, PeerQuestion["read"]> = {
  found: { state: "found", outputs: { ...outputs, pending: [], lead: "region1" } },
  malformed: { state: "found", outputs: { ...withoutBucket, contract: 2 } },
  empty: { state: "found", outputs: {} },
  none: { state: "none" },
  unreadable: { state: "unreadable", reason: "connection refused" },
};
const remembered = peerOutputs("region2", { serving: "region1" });
const memories: Record<string, PeerQuestion["memory"]> = {
  none: { state: "none" },
  found: { state: "found", value: remembered },
  malformed: { state: "found", value: { region: "region2" } },
  unreadable: { state: "unreadable", reason: "locked" },
};

const gone = `the peer stack ${stack} does not exist yet or has no outputs`;
const unread = `the outputs of the peer stack ${stack} cannot be read (connection refused)`;
const forgetCommand = `pulumi config set restate:forgetPeer ${stack}`;

const seen = { state: "seen", outputs, pending: [] };
const otherShape =
  `the outputs of the peer stack ${stack} are not those of a region:\n` +
  "  contract: Invalid input: expected 1\n" +
  "  bucket: Invalid input: expected object, received undefined\n" +
  `Nothing was changed. If it runs another version of this program, run pulumi up --stack ${stack} with this one; ` +
  "if it is another stack altogether, correct restate:peer.";
const absent = (why: string) => ({
  state: "absent",
  pending: [`${why}. Next: pulumi up --stack ${stack}, then pulumi up here again`],
});
const kept = (why: string) => ({
  state: "remembered",
  outputs: remembered,
  pending: [
    `${why}; what was built from its last known outputs is kept as it is. Next: pulumi up --stack ${stack}, or, if it is gone for good, ${forgetCommand}`,
  ],
});
const forgotten = (why: string) => ({
  state: "absent",
  pending: [
    `${why}; what was built for it is removed, as restate:forgetPeer says. Next: pulumi config rm restate:forgetPeer`,
  ],
});
const badMemory = (why: string) =>
  `${why}, and what this stack remembers of it does not fit this version of the program:\n` +
  "  contract: Invalid input: expected 1\n" +
  "  cluster: Invalid input: expected string, received undefined\n" +
  '  home: Invalid option: expected one of "region1"|"region2"\n' +
  "  replicas: Invalid input: expected number, received undefined\n" +
  "  domain: Invalid input: expected string, received undefined\n" +
  "  awsRegion: Invalid input: expected string, received undefined\n" +
  "  accountId: Invalid input: expected string, received undefined\n" +
  "  kubernetes: Invalid input: expected object, received undefined\n" +
  "  identity: Invalid input: expected object, received undefined\n" +
  "  bucket: Invalid input: expected object, received undefined\n" +
  "  nodes: Invalid input: expected array, received undefined\n" +
  `Nothing was changed. Bring the peer back (pulumi up --stack ${stack}), or confirm that what was built for it may be removed: ${forgetCommand}`;
const noMemory = (why: string) =>
  `${why}, and this stack's own state cannot tell whether anything was built from it (locked).\n` +
  "Nothing was changed, since replication, permissions or trust might be removed. Run pulumi up again when the state " +
  `can be read; if the peer is gone for good, confirm it: ${forgetCommand}`;

/** What comes of a question: the peer, or the message of the error. */
function decide(question: PeerQuestion): unknown {
  try {
    return decidePeer(question);
  } catch (error) {
    return (error as Error).message;
  }
}

describe("every combination", () => {
  for (const [readName, read] of Object.entries(reads)) {
    for (const [memoryName, memory] of Object.entries(memories)) {
      for (const forget of [false, true]) {
        test(`read ${readName}, memory ${memoryName}, ${forget ? "forget" : "keep"}`, () => {
          const why = readName === "unreadable" ? unread : gone;
          const outOfSight = forget
            ? forgotten(why)
            : { none: absent(why), found: kept(why), malformed: badMemory(why), unreadable: noMemory(why) }[memoryName];
          const expected = { found: seen, malformed: otherShape }[readName] ?? outOfSight;
          assert.deepEqual(decide({ stack, read, memory, forget }), expected);
        });
      }
    }
  }
});

test("what was remembered is never lost without being told", () => {
  fc.assert(
    fc.property(fc.constantFrom(...Object.keys(reads)), (readName) => {
      const question = { stack, read: reads[readName] as PeerQuestion["read"], memory: memories.found as never };
      const result = decide({ ...question, forget: false });
      assert.ok(typeof result === "string" || (result as { outputs?: unknown }).outputs !== undefined);
    }),
  );
});

test("every entry of pending ends with the next command", () => {
  for (const read of Object.values(reads)) {
    for (const memory of Object.values(memories)) {
      const result = decide({ stack, read, memory, forget: false });
      if (typeof result === "string") assert.match(result, /pulumi (up|config set)/);
      else for (const one of (result as { pending: string[] }).pending) assert.match(one, /Next: pulumi /);
    }
  }
});

test("what is remembered of the peer does not change with a handover", () => {
  const handed = {
    ...outputs,
    serving: "region2",
    runningReplicas: 1,
    handover: { receipt: receiptOf(1, "both", "region2") },
  } as const;
  assert.deepEqual(memoryOf(handed), memoryOf(outputs));
  assert.deepEqual(peerOutputsSchema.parse(memoryOf(handed)), memoryOf(handed));
  assert.equal(memoryOf(handed).bucket.arn, outputs.bucket.arn);
});

describe("disagreements", () => {
  test("none", () => assert.deepEqual(disagreements(outputs, outputs, stack), []));
  test("who serves is a handover's", () => {
    assert.deepEqual(disagreements(outputs, { ...outputs, serving: "region2" }, stack), []);
  });
  test("of every kind, in order", () => {
    const own = {
      cluster: "other",
      home: "region2",
      replicas: 5,
      domain: "new.example.com",
    } as const;
    assert.deepEqual(disagreements(own, outputs, stack), [
      `${stack} was last brought up with cluster restate, this stack has other. Next: pulumi up --stack ${stack}`,
      `${stack} was last brought up with home region1, this stack has region2. Next: pulumi up --stack ${stack}`,
      `${stack} was last brought up with replicas 3, this stack has 5. Next: pulumi up --stack ${stack}`,
      `${stack} was last brought up with domain restate.example.com, this stack has new.example.com. Next: pulumi up --stack ${stack}`,
    ]);
  });
});
