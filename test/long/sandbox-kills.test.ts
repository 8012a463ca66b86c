/** Any part of the sandbox's world is killed, and `up` brings it back. (All parts of a region at once: test/sandbox/world-real.test.ts.) */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { assertHealthy, clusterId, done, sandbox, status, withWorld } from "../sandbox/real-world";
import { until } from "../sandbox/world-support";

describe("after kill -9 of any part", { timeout: 1_800_000 }, () => {
  withWorld();

  test("up recovers with the same cluster", async () => {
    const names = status()
      .parts.filter((p) => p.kind === "part" && !p.name.startsWith("region2/"))
      .map((p) => p.name)
      .filter((name) => !name.includes("/node-"));
    const before = clusterId("region1");
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
    assert.equal(clusterId("region1"), before);
  });
});
