/** Any part of the sandbox's world is killed, and `up` brings it back. (All parts of a region at once: test/sandbox/world-real.test.ts.) */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { assertHealthy, base, done, operator, sandbox, status } from "../sandbox/real-world";
import { until } from "../sandbox/world-support";

describe("after kill -9 of any part", { timeout: 1_800_000 }, () => {
  before(() => {
    done("up", "--world-only");
  });
  after(() => {
    sandbox("down", "--delete-state");
    rmSync(base, { recursive: true, force: true });
  });

  test("up recovers with the same cluster", async () => {
    const names = status()
      .parts.filter((p) => p.kind === "part" && !p.name.startsWith("region2/"))
      .map((p) => p.name)
      .filter((name) => !name.includes("/node-"));
    const uid = "kubectl get namespace kube-system -o jsonpath={.metadata.uid}";
    const before = operator("region1", uid);
    assert.ok(names.length >= 8, names.join(" "));
    // Every part in one of three rounds, beside parts of other kinds.
    for (const round of [0, 1, 2]) {
      const killed = names.filter((_, i) => i % 3 === round);
      for (const { name, hostPid } of status().parts) if (killed.includes(name)) process.kill(hostPid!, "SIGKILL");
      const dead = () =>
        status()
          .parts.filter((p) => p.state === "dead")
          .map((p) => p.name);
      await until(`${killed.join(", ")} are dead`, () => killed.every((name) => dead().includes(name)));
      assert.equal(sandbox("status").status, 1);
      done("up", "--world-only");
      assertHealthy();
    }
    assert.equal(operator("region1", uid), before);
  });
});
