/**
 * Previews both stacks with the policies and prints one comment in Markdown, for a pull request or a job's summary.
 *
 *     npm run --silent previews -- [--stacks region1,region2] [--commit SHA] [--policy-config FILE] [--refresh]
 *                                  [--expect-no-changes]
 *
 * Changes nothing. Exit code 0 if both previews went through, 1 if one failed, broke a mandatory policy or (with
 * --expect-no-changes) would change something; 2 if it could not begin. The comment is printed for 0 and 1.
 */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { EngineEvent } from "@pulumi/pulumi/automation";
import { type Preview, readPreview, renderComment } from "./preview-comment";
import { openStack, reasonOf, runCommand, twoStacks } from "./stacks";

const usage = `npm run --silent previews -- [options]: what an update of both stacks would change, as a comment for a pull request

  --stacks A,B          the two stacks, home region first (default: region1,region2)
  --commit SHA          says which commit was previewed
  --policy-config FILE  levels, parameters and exemptions of the policies (default: policies.json here, if it exists)
  --refresh             look at the world first: finds what was changed behind the program's back
  --expect-no-changes   exit code 1 if anything would change`;

const root = resolve(__dirname, "..");

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      stacks: { type: "string", default: "region1,region2" },
      commit: { type: "string" },
      "policy-config": { type: "string" },
      refresh: { type: "boolean", default: false },
      "expect-no-changes": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const [home, peer] = twoStacks(values.stacks);
  const usualConfig = join(root, "policies.json");
  const config = values["policy-config"] ? resolve(values["policy-config"]) : existsSync(usualConfig) && usualConfig;

  const preview = async (name: string): Promise<Preview> => {
    const stack = await openStack(name);
    const events: EngineEvent[] = [];
    let failure: unknown;
    try {
      await stack.preview({
        policyPacks: [join(root, "policies")],
        ...(config ? { policyPackConfigs: [config] } : {}),
        refresh: values.refresh,
        onEvent: (event) => void events.push(event),
        onOutput: (text) => void process.stderr.write(text),
      });
    } catch (error) {
      failure = error;
    }
    const made = readPreview(name, events);
    // A preview that ends without a word of its own must not look like one that found nothing.
    if (failure && made.succeeded) return { ...made, succeeded: false, errors: [reasonOf(failure)] };
    if (failure && made.errors.length + made.violations.length === 0) made.errors.push(reasonOf(failure));
    return made;
  };
  const previews = [await preview(home), await preview(peer)] as const;
  console.log(renderComment(previews, values.commit));
  if (previews.some(({ succeeded }) => !succeeded)) return 1;
  return values["expect-no-changes"] && previews.some(({ steps }) => steps.length > 0) ? 1 : 0;
}

runCommand(usage, main);
