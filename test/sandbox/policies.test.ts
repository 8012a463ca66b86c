/** The policy pack with the real engine: the program passes, sabotaged variants are stopped, in the preview or in the update. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { commentMark } from "../../commands/preview-comment";
import { typescript } from "../../sandbox/world/paths";
import { sabotages } from "../policies/sabotage";
import { type Ended, Sandbox } from "../support/sandbox";
import { ProgramCopy } from "../support/variants";

const root = join(__dirname, "../..");
const config = ["--policy-config", join(root, "sandbox/policies.json")];
const policies = ["--policy-pack", join(root, "policies"), "--policy-pack-config", join(root, "sandbox/policies.json")];

/** Rules that stopped a run, as Pulumi lists them. */
function stoppedBy({ stdout }: Ended): string[] {
  return [
    ...new Set([...stdout.matchAll(/\[mandatory\] +(?:\[severity: \w+\] +)?(\S+)/g)].map(([, rule]) => rule!)),
  ].sort();
}

describe("policies with the real engine, before anything is deployed", () => {
  const sandbox = new Sandbox();
  before(() => sandbox.command("up", "--world-only"));
  after(() => sandbox.stop());

  const pulumi = (...args: string[]) => sandbox.tool("region1", "pulumi", ...args, "--color", "never", ...policies);
  /** Runs Pulumi with a variant of the program instead of the program. */
  async function withVariant(rule: string, ...args: string[]): Promise<Ended> {
    const copy = ProgramCopy.of(sabotages.find((one) => one.rule === rule)!);
    try {
      copyFileSync(join(sandbox.folder, "project", "Pulumi.region1.yaml"), join(copy.folder, "Pulumi.region1.yaml"));
      return await pulumi("--cwd", copy.folder, ...args);
    } finally {
      copy.remove();
    }
  }

  test("a first preview passes: what is known is right, and the rest is said to be not known yet", async () => {
    const ended = await pulumi("preview");
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.deepEqual(stoppedBy(ended), []);
    assert.match(ended.stdout, /restate-two-regions@v0\.1\.0/);
    assert.match(
      ended.stdout,
      /snapshots-policy: policy not known yet; checked before the update changes the resource/,
    );
    // What the sandbox's configuration lets pass with a warning.
    assert.match(ended.stdout, /\[advisory\] +\[severity: high\] +bucket-protected/);
  });

  test("npm run previews prints the comment of both stacks, and nothing else", async () => {
    const previews = ["node", ...typescript, "commands/previews.ts", "--commit", "0123456789", ...config];
    const ended = await sandbox.tool("region1", ...previews);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.ok(ended.stdout.startsWith(`${commentMark}\n## What would change (01234567)\n`), ended.stdout);
    assert.match(ended.stdout, /^\| region1 \| \d+ \| 0 \| 0 \| 0 \| 0 \| kept \|$/m);
    assert.match(ended.stdout, /^\| create \| `restate` kubernetes:helm\.sh\/v3:Release \| {2}\|$/m);
    assert.match(ended.stdout, /Policies cannot look at \d+ things before the update/);
    const strict = await sandbox.tool("region1", ...previews, "--expect-no-changes");
    assert.equal(strict.code, 1);
    // With the policies as they are for production the sandbox does not pass.
    const production = await sandbox.tool("region1", ...previews.slice(0, 4));
    assert.equal(production.code, 1);
    assert.match(production.stdout, /\*\*Policies stop this:\*\*\n\n- `[a-z-]+` /);
  });

  // Of a resource, of a document in it, of a component's wiring, of the whole stack; all others: test/policies/sabotage.test.ts.
  for (const rule of ["bucket-public-access", "iam-web-identity-exact", "release-not-awaited", "stack-guarded"]) {
    test(`a preview is stopped: ${rule}`, async () => {
      const ended = await withVariant(rule, "preview");
      assert.notEqual(ended.code, 0);
      assert.deepEqual(stoppedBy(ended), [rule], ended.stdout + ended.stderr);
    });
  }

  test("exemptions in a faulty form are refused before anything runs", async () => {
    const config = { "lb-internal": { exemptions: [{ resource: "*", reason: "short", expires: "soon" }] } };
    const ended = await sandbox.tool(
      "region1",
      ...[
        "bash",
        "-c",
        `pulumi preview --policy-pack ${policies[1]} --policy-pack-config <(echo '${JSON.stringify(config)}')`,
      ],
    );
    assert.notEqual(ended.code, 0);
    assert.match(ended.stdout + ended.stderr, /exemptions\.0\.(reason|expires)/);
  });

  test("an update is stopped where a preview could not know, before the resource is made", async () => {
    const preview = await withVariant("bucket-tls-only", "preview");
    assert.equal(preview.code, 0, preview.stdout + preview.stderr);
    const ended = await withVariant("bucket-tls-only", "up", "--yes", "--skip-preview");
    assert.notEqual(ended.code, 0);
    assert.deepEqual(stoppedBy(ended), ["bucket-tls-only"], ended.stdout + ended.stderr);
    const buckets = JSON.parse(await sandbox.must("region1", "aws", "s3api", "list-buckets")) as {
      Buckets: { Name: string }[];
    };
    const name = buckets.Buckets.map((one) => one.Name).find((one) => one.startsWith("restate-snapshots-region1"));
    assert.ok(name, "the bucket itself was made");
    const policy = await sandbox.tool("region1", "aws", "s3api", "get-bucket-policy", "--bucket", name);
    assert.match(policy.stderr, /NoSuchBucketPolicy/);
  });
});
