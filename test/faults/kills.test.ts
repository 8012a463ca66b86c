/**
 * Deployments that are killed at many moments, and whose clusters and AWS are away or throttled meanwhile: however they
 * were disturbed, the next `npm run up` finishes, with exactly the objects of an undisturbed one. Takes long, and prints
 * what was tried and what was found. `FAULTS=<word>` runs only the tests whose name has that word.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { table } from "../../commands/report";
import { awsControl } from "../../sandbox/aws/control";
import { deployed, FaultWorld, type Moment, nothing, stacks } from "./world";

/** Kills of one deployment from nothing, spread over its lines of progress. */
const spreadKills = Number(process.env.FAULT_KILLS ?? 24);

/** Moments that matter most: something exists, and the state does not know it, or not all of it. */
const targeted: [string, Moment][] = [
  ["region1: role exists", { call: { service: "iam", action: "GetRole" } }],
  ["region1: bucket exists", { call: { service: "s3", action: "PutBucketTagging" } }],
  ["region1: role's policy is put", { call: { service: "iam", action: "GetRolePolicy" } }],
  ["region1: bucket's policy is put", { call: { service: "s3", action: "GetBucketPolicy" } }],
  ["region1: versioning is put", { call: { service: "s3", action: "GetBucketVersioning" } }],
  ["region1: namespace exists", { printed: /create restate-namespace/ }],
  ["region1: Helm is installing", { helm: "region1", status: "pending-install" }],
  ["region1: Helm has installed", { helm: "region1", status: "deployed" }],
  [
    "region1: a Service exists",
    { call: { service: "elasticloadbalancing", action: "CreateLoadBalancer", region: "us-east-1" } },
  ],
  [
    "region1: a load balancer exists",
    { call: { service: "elasticloadbalancing", action: "CreateListener", region: "us-east-1" } },
  ],
  ["region2: bucket exists", { call: { service: "s3", action: "PutBucketTagging", region: "us-west-2" } }],
  [
    "region2: replication is put",
    { call: { service: "s3", action: "GetReplicationConfiguration", region: "us-west-2" } },
  ],
  ["region2: Helm is installing", { helm: "region2", status: "pending-install" }],
  [
    "region2: a Service exists",
    { call: { service: "elasticloadbalancing", action: "CreateLoadBalancer", region: "us-west-2" } },
  ],
  ["region1 again: role is changed", { printed: /region1 +… update restate-role / }],
  ["region1 again: replication's role exists", { printed: /region1 +… create replication-role / }],
  ["region1 again: provisioning runs", { printed: /region1 +… create provisioning / }],
];

describe("deployments that are disturbed", { timeout: 6 * 3600_000 }, () => {
  const world = new FaultWorld();
  const findings: string[][] = [["DISTURBED", "HOW IT ENDED", "WHAT THE NEXT ONE FOUND"]];
  before(() => world.start());
  after(async () => {
    console.log(table(findings));
    await world.stop();
  });

  /** Remembers a row of the table, and shows it at once: all of them take hours. */
  function note(row: string[]): void {
    findings.push(row);
    console.log(row.join(" | "));
  }

  const only = process.env.FAULTS;
  const experiment = (name: string, run: () => Promise<void>) =>
    test(name, { skip: only !== undefined && !name.includes(only) }, run);

  /** What a run told of the one before it, in few words. */
  const found = (output: string) =>
    output
      .split("\n")
      .filter((line) =>
        /taken into the state|was not created|created again|begins anew|lock of a run|being deleted/.test(line),
      )
      .map((line) => line.replace(/^ *[\d.]+s +/, ""))
      .join("; ") || "nothing";

  /** Brings both up, undisturbed, and compares all that there is. */
  async function finishes(what: string): Promise<void> {
    const output = await world.finish(world.up());
    note([what, "both regions are up", found(output)]);
    await world.settles(deployed);
    const again = await world.finish(world.up());
    for (const stack of stacks) assert.match(again, new RegExp(`${stack} +unchanged`));
    assert.doesNotMatch(again, /interrupted/);
  }

  async function removeAll(): Promise<void> {
    for (const stack of stacks) await world.finish(world.destroy(stack));
    await world.settles(nothing);
  }

  /** Kills one run at a moment; whether it came to that moment. */
  async function killed(name: string, moment: Moment): Promise<boolean> {
    const run = await world.up();
    const inTime = await world.killAt(run, moment);
    note([name, inTime ? "killed" : "was not reached", found(run.output)]);
    return inTime;
  }

  experiment("targeted: a deployment from nothing, killed at each moment in turn", async () => {
    // A run gets on with several things at once, so a moment may have passed when its turn comes. Then the run has come to its
    // end, and the rest is tried from nothing again.
    let left = targeted;
    for (let round = 1; left.length > 0; round++) {
      const before = left.length;
      while (left.length > 0 && (await killed(...left[0]!))) left = left.slice(1);
      assert.ok(left.length < before, `not even from nothing was this reached: ${left[0]?.[0]}`);
      await finishes(`deployment ${round}: finish`);
      await removeAll();
    }
  });

  experiment("spread: one deployment, killed again and again", async () => {
    for (let i = 0; i < spreadKills; i++) {
      // Sometimes at once and sometimes later, so that the deployment gets on and all of it is covered.
      const run = await world.up();
      const inTime = await world.killAt(run, { printed: new RegExp(`(?:[…✓] [a-z][^…✓]*){${1 + (i % 9)}}`) });
      note([`kill ${i + 1}`, inTime ? "killed" : "ended before", found(run.output)]);
      if (!inTime) break;
    }
    await finishes("finish");
  });

  experiment("update: both regions deployed, killed while they are changed", async () => {
    for (const [setting, value, moment] of [
      ["restate:tags.changed", "once", { printed: /… update/ }],
      ["restate:tags.changed", "twice", { call: { service: "iam", action: "TagRole" } }],
      ["restate:env.RUST_LOG", "info", { helm: "region1", status: "pending-upgrade" }],
      ["restate:env.RUST_LOG", "warn", { printed: /✓ updated/ }],
    ] as [string, string, Moment][]) {
      for (const stack of stacks) await world.sandbox.must(stack, "pulumi", "config", "set", "--path", setting, value);
      assert.ok(await killed(`${setting}=${value}`, moment), "it ended before it was killed");
      await finishes(`${setting}=${value}: finish`);
    }
  });

  experiment("destroy: killed, and brought up again", async () => {
    for (const moment of [
      { printed: /load-balancers-restate-\d deleting/ },
      { helm: "region2", status: "uninstalling" },
      { printed: /Namespace restate-namespace deleting/ },
      { printed: /Bucket snapshots deleting/ },
    ] as Moment[]) {
      const run = await world.destroy("region2");
      const inTime = await world.killAt(run, moment);
      note([`destroy of region2: ${JSON.stringify(moment)}`, inTime ? "killed" : "ended before", ""]);
      await finishes("up after that");
    }
  });

  experiment("destroy: killed, and destroyed again", async () => {
    for (const stack of stacks) {
      const run = await world.destroy(stack);
      const inTime = await world.killAt(run, { printed: /restate deleting|restate-namespace deleting/ });
      note([`destroy of ${stack}`, inTime ? "killed" : "ended before", ""]);
      const recovered = await world.recover(stack);
      note([`recover ${stack}`, "ready", found(recovered)]);
    }
    await removeAll();
  });

  experiment("outage: an API server is away for a minute", async () => {
    const run = await world.up();
    await world.reaches(run, { printed: /region1 +… create restate-namespace/ });
    await world.sandbox.command("fault", "kill", "region1/kube-apiserver");
    await new Promise((done) => setTimeout(done, 60_000));
    await world.sandbox.command("up", "--world-only");
    const code = await run.ended;
    note(["region1's API server away for 60 s", code === 0 ? "went through" : "failed", lastErrors(run.output)]);
    await finishes("up after that");
    await removeAll();
  });

  experiment("outage: AWS fails for a minute", async () => {
    await outage("fail");
  });

  experiment("outage: AWS throttles for a minute", async () => {
    await outage("throttle");
  });

  async function outage(effect: "fail" | "throttle"): Promise<void> {
    const aws = awsControl(`${world.sandbox.folder}/run/aws-control.sock`);
    const run = await world.up();
    await world.reaches(run, { printed: /region1 +… create/ });
    await aws.addFault({ effect, seconds: 60 });
    const code = await run.ended;
    note([`AWS: ${effect} for 60 s`, code === 0 ? "went through" : "failed", lastErrors(run.output)]);
    await finishes("up after that");
    await removeAll();
  }

  const lastErrors = (output: string) => /failed:\n((?: {2}.*\n)+)/.exec(output)?.[1]?.trim().split("\n")[0] ?? "";
});
