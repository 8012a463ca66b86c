/**
 * The stand-ins for load balancers, DNS, EBS and the EKS webhooks. The tests themselves are in network-inside.ts, which
 * this file runs in namespaces of their own, with a sandbox folder of their own.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ensureToolchain, noProgress } from "../../sandbox/toolchain";
import { typescript } from "../../sandbox/world/paths";
import { insideEnvironment } from "../../sandbox/world/world";

test("the network's stand-ins, in namespaces of their own", { timeout: 1_200_000 }, async (context) => {
  await ensureToolchain(["cluster", "python"], noProgress);
  const folder = mkdtempSync(join(tmpdir(), "network-test-"));
  const child = spawn(
    "unshare",
    [
      ..."--user --map-root-user --net --mount --mount-proc --pid --fork --kill-child".split(" "),
      process.execPath,
      ...typescript,
      join(__dirname, "network-inside.ts"),
    ],
    {
      env: {
        // As in a sandbox, nothing of the caller's: its proxies would be asked for what is inside.
        ...insideEnvironment(process.env),
        AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true",
        RESTATE_SANDBOX_DIR: folder,
        HOME: folder,
        TMPDIR: folder,
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const output: string[] = [];
  child.stdout.on("data", (data: Buffer) => output.push(data.toString("utf8")));
  const code = await new Promise((resolve) => child.on("exit", resolve));
  for (const line of output.join("").split("\n")) if (/^\s*(not )?ok |^\s*# \w/.test(line)) context.diagnostic(line);
  if (code !== 0) {
    console.log(output.join(""));
    console.log(`logs are kept in ${folder}/logs`);
  } else rmSync(folder, { recursive: true, force: true });
  assert.equal(code, 0, "the tests inside failed: see above");
});
