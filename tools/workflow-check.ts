/** Lints the GitHub workflows: actionlint (their form, expressions and scripts), then zizmor (what attackers look for). */
import { spawnSync } from "node:child_process";
import { ensureToolchain, streamProgress, toolPath } from "../sandbox/toolchain";

async function main(): Promise<number> {
  const listed = spawnSync("git", ["ls-files", ".github/workflows/*.yml"], { encoding: "utf8" });
  const workflows = listed.stdout.split("\n").filter(Boolean);
  if (workflows.length === 0) throw new Error("git lists no workflow; run this inside a checkout");
  await ensureToolchain(["shellcheck", "actionlint", "zizmor"], streamProgress());
  const run = (command: string, args: string[]) =>
    spawnSync(command, [...args, ...workflows], { stdio: "inherit" }).status;
  const codes = [
    run(toolPath("actionlint"), ["-shellcheck", toolPath("shellcheck"), "-pyflakes", ""]),
    // Offline: what it would ask GitHub about, such as whether a commit belongs to a tag, needs a token.
    run(toolPath("zizmor"), [
      "--offline",
      "--no-progress",
      "--quiet",
      "--persona",
      "pedantic",
      "--min-severity",
      "low",
    ]),
  ];
  console.log(
    `workflows: ${workflows.length} linted, ${codes.every((code) => code === 0) ? "clean" : "with findings"}`,
  );
  return codes.find((code) => code !== 0) ?? 0;
}

main().then((code) => {
  process.exitCode = code;
});
