/** Deployments that are disturbed: the next `npm run up` finishes, nothing is left over, nothing is there twice. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { deployed, FaultWorld, type Moment } from "../faults/world";

describe("npm run up, disturbed", () => {
  const world = new FaultWorld();
  before(() => world.start());
  after(() => world.stop());

  const moments: [string, Moment, RegExp][] = [
    [
      "the bucket exists, and the state does not know it",
      { call: { service: "s3", action: "PutBucketTagging" } },
      /snapshots \(s3\/bucket:Bucket\): exists as restate-snapshots-region1-[0-9a-f]{8}; taken into the state/,
    ],
    [
      "Helm is installing",
      { helm: "region1", status: "pending-install" },
      /begins anew|exists as restate-region1\/restate/,
    ],
    [
      "load balancers are being made",
      { call: { service: "elasticloadbalancing", action: "CreateLoadBalancer", region: "us-east-1" } },
      /load-balancers-restate-\d \(core\/v1:Service\): is created again, whether it exists or not/,
    ],
  ];
  let expected: RegExp | undefined;
  for (const [name, moment, recovery] of moments) {
    test(`killed while ${name}`, async () => {
      const run = await world.up();
      assert.ok(await world.killAt(run, moment), `it was killed before its end:\n${run.output}`);
      if (expected) assert.match(run.output, expected);
      expected = recovery;
    });
  }

  test("the next one finishes under throttling, with exactly the right objects", async () => {
    await world.aws.addFault({ effect: "throttle", probability: 0.3, seconds: 10 });
    const output = await world.finish(world.up());
    assert.match(output, expected!);
    assert.match(output, /both regions are up/);
    assert.deepEqual(await world.inventory(), deployed);
  });

  test("a further up changes nothing, and no run is remembered as interrupted", async () => {
    const up = ["pulumi", "up", "--yes", "--skip-preview", "--expect-no-changes", "--suppress-outputs"];
    assert.doesNotMatch(await world.sandbox.must("region1", ...up), /pending operations/);
  });
});
