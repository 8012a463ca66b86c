/** Runs shellcheck over every shell script of the project: those with the ending .sh, and .ci/run. */
import { spawnSync } from "node:child_process";
import { ensureToolchain, streamProgress, toolPath } from "../sandbox/toolchain";

async function main(): Promise<number> {
  const listed = spawnSync("git", ["ls-files", "*.sh", ".ci/run"], { encoding: "utf8" });
  const scripts = listed.stdout.split("\n").filter(Boolean);
  if (scripts.length === 0) throw new Error("git lists no shell script; run this inside a checkout");
  await ensureToolchain(["shellcheck"], streamProgress());
  const { status } = spawnSync(toolPath("shellcheck"), ["--severity=style", ...scripts], { stdio: "inherit" });
  console.log(`shellcheck: ${scripts.length} scripts, ${status === 0 ? "clean" : "with findings"}`);
  return status ?? 1;
}

main().then((code) => {
  process.exitCode = code;
});
