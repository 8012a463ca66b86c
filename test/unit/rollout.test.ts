/** The wait for a region's pods to restart: what is left of a rollout, and how the wait ends. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { V1StatefulSet } from "@kubernetes/client-node";
import { awaitRollout, rolloutLeft } from "../../commands/rollout";

/** A StatefulSet of three pods, as its controller tells of it. */
function set(status: V1StatefulSet["status"], generation = 2): V1StatefulSet {
  return {
    metadata: { generation },
    spec: { replicas: 3, selector: {}, serviceName: "restate", template: {} },
    status: { ...status, replicas: 3 } as V1StatefulSet["status"],
  };
}
const revisions = { currentRevision: "restate-1", updateRevision: "restate-2", observedGeneration: 2, replicas: 3 };
const complete = set({ ...revisions, currentRevision: "restate-2", updatedReplicas: 3, readyReplicas: 3 });
const halfway = set({ ...revisions, updatedReplicas: 1, readyReplicas: 2 });

describe("what is left of a rollout", () => {
  for (const [name, one, left] of [
    ["all of it is done", complete, undefined],
    ["a pod that is down for another reason is none", set({ ...complete.status!, readyReplicas: 1 }), undefined],
    ["the controller has yet to look", set(complete.status, 3), "Kubernetes has not seen the change yet"],
    ["no status yet", { metadata: { generation: 1 } }, "Kubernetes has not seen the change yet"],
    ["one pod after the other", halfway, "1 of 3 have restarted, 2 are ready"],
    ["none yet", set({ ...revisions }), "0 of 3 have restarted, 0 are ready"],
    ["a region that has no StatefulSet", undefined, undefined],
  ] satisfies [string, V1StatefulSet | undefined, string | undefined][])
    test(name, () => assert.equal(rolloutLeft(one), left));
});

describe("the wait", () => {
  /** Waits while the cluster answers this, one after the other, the last one for ever; what was said. */
  async function waited(
    answers: (V1StatefulSet | Error)[],
    patience = 60_000,
    interrupted = () => false,
  ): Promise<string[]> {
    const said: string[] = [];
    let asked = 0;
    const read = async () => {
      const answer = answers[Math.min(asked++, answers.length - 1)]!;
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const how = { read, stack: "region1", namespace: "ns", say: (text: string) => void said.push(text), interrupted };
    await awaitRollout({ ...how, patience, pause: 1 }).catch((error) => said.push(`error: ${error.message}`));
    return said;
  }

  test("nothing restarts: nothing is said", async () => assert.deepEqual(await waited([complete]), []));
  test("each change is told once, and an answer that fails is asked for again", async () =>
    assert.deepEqual(await waited([halfway, halfway, new Error("refused"), complete]), [
      "pods restart: 1 of 3 have restarted, 2 are ready",
      "pods restart: refused",
      "all pods have restarted",
    ]));
  test("where nothing changes it ends, with the next command", async () =>
    assert.deepEqual(await waited([halfway], 50), [
      "pods restart: 1 of 3 have restarted, 2 are ready",
      "error: pods restart no further: 1 of 3 have restarted, 2 are ready, for 0.05 s. The other region was left as it is. " +
        "Next: kubectl -n ns get pods; when they are well, npm run up; to change what they run, pulumi up --stack region1",
    ]));
  test("an interrupt ends it", async () =>
    assert.match(
      (await waited([halfway], 60_000, () => true)).at(-1)!,
      /^error: interrupted while pods restart: .* Next: kubectl -n ns rollout status statefulset\/restate, then npm run up$/,
    ));
});
