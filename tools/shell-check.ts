/**
 * Runs shellcheck over every shell script of the project: those with the ending .sh, and .ci/run. Parts of a script, which
 * have no `#!`, are looked at in the scripts that source them.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { ensureToolchain, streamProgress, toolPath } from "../sandbox/toolchain";

async function main(): Promise<number> {
  const listed = spawnSync("git", ["ls-files", "*.sh", ".ci/run"], { encoding: "utf8" });
  const scripts = listed.stdout.split("\n").filter(Boolean);
  if (scripts.length === 0) throw new Error("git lists no shell script; run this inside a checkout");
  const isWhole = (script: string) => readFileSync(script, "utf8").startsWith("#!");
  const whole = scripts.filter(isWhole);
  const texts = whole.map((script) => readFileSync(script, "utf8")).join("");
  for (const part of scripts.filter((script) => !isWhole(script))) {
    if (
      !texts.includes(`shellcheck source=${part.split("/").at(-1)}`) &&
      !texts.includes(`shellcheck source=../${part.split("/").at(-1)}`)
    )
      throw new Error(`${part} has no #! and is sourced by no script`);
  }
  await ensureToolchain(["shellcheck"], streamProgress());
  const options = ["--severity=style", "--external-sources", "--check-sourced", "--source-path=SCRIPTDIR"];
  const { status } = spawnSync(toolPath("shellcheck"), [...options, ...whole], { stdio: "inherit" });
  console.log(`shellcheck: ${scripts.length} scripts, ${status === 0 ? "clean" : "with findings"}`);
  return status ?? 1;
}

main().then((code) => {
  process.exitCode = code;
});
