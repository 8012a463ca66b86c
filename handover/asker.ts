/** Who runs this program, and from which checkout: what a handover's receipt says, and what an old checkout is told by. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { Asker } from "./plan";

/** Runs git in a folder; undefined if it fails or there is none. */
function git(folder: string, ...args: string[]): string | undefined {
  try {
    return execFileSync("git", args, {
      cwd: folder,
      encoding: "utf8",
      timeout: 10_000,
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return undefined;
  }
}

/** The name of whoever runs this: in CI the one who caused the run. */
function user(): string {
  const { GITHUB_ACTOR, GITLAB_USER_LOGIN } = process.env;
  try {
    return GITHUB_ACTOR ?? GITLAB_USER_LOGIN ?? userInfo().username;
  } catch {
    return "unknown";
  }
}

/**
 * Who asks.
 *
 * @param checkout folder with the program
 * @param project folder with Pulumi.yaml
 */
export function readAsker(checkout: string, project: string): Asker {
  const commit = git(checkout, "rev-parse", "HEAD");
  const settings = createHash("sha256")
    .update(readFileSync(join(project, "Pulumi.yaml")))
    .digest("hex")
    .slice(0, 16);
  return {
    ...(commit ? { commit, dirty: git(checkout, "status", "--porcelain", "--untracked-files=no") !== "" } : {}),
    settings,
    user: user(),
  };
}

/** Whether a checkout is older than a commit; `unknown` if it does not have the commit. */
export function ageOf(checkout: string, commit: string): "older" | "not older" | "unknown" {
  const head = git(checkout, "rev-parse", "HEAD");
  // Without a repository there is nothing to be older than.
  if (head === undefined || head === commit) return "not older";
  if (git(checkout, "cat-file", "-e", `${commit}^{commit}`) === undefined) return "unknown";
  return git(checkout, "merge-base", "--is-ancestor", head, commit) === undefined ? "not older" : "older";
}
