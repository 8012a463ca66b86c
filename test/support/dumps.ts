/** Recordings as readable YAML, for the committed dumps. */
import { join } from "node:path";
import { stringify } from "yaml";
import type { RegionName } from "../../topology";
import type { Recording } from "./mocks";
import { scenarios, World } from "./scenarios";

/** Folder of the dumps. */
export const dumpsFolder = join(__dirname, "..", "dumps");

/** Policy documents as structures; what changes with the script or the checkout alone as words. */
function legible(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(legible);
  if (value !== null && typeof value === "object") {
    if ("name" in value && value.name === "ASKED") return { ...value, value: "[who asked]" };
    return Object.fromEntries(
      Object.entries(value).map(([key, one]) => [key, key === "askedBy" ? "[who asked]" : legible(one)]),
    );
  }
  if (typeof value !== "string") return value;
  if (value.startsWith('{"Version"')) return JSON.parse(value);
  // Everything of several lines is a script, a part of one, or a gate.
  if (value.includes("\n")) return "[script]";
  return value.replace(/^(restate-(provision|handover)-(\d+-\w+-)?)[0-9a-f]{10}$/, "$1[fingerprint]");
}

/** One region's dump. */
function dump(name: string, region: RegionName, { resources, outputs }: Recording): string {
  const head =
    `# ${scenarios[name]?.about}\n` +
    `# Every resource of ${region} with its exact inputs, as the program gives them. Written by npm run dumps; policy\n` +
    "# documents are shown as structures, secrets as [secret], scripts, their fingerprints and who asked as words.\n";
  const listed = resources.map(({ dependsOn, outputs: registered, inputs, graph: _, ...rest }) => ({
    ...rest,
    ...(dependsOn.length > 0 ? { dependsOn } : {}),
    ...(Object.keys(inputs).length > 0 ? { inputs: legible(inputs) } : {}),
    ...(registered && Object.keys(registered).length > 0 ? { outputs: legible(registered) } : {}),
  }));
  return (
    head + stringify({ resources: listed, outputs: legible(outputs) }, { lineWidth: 0, aliasDuplicateObjects: false })
  );
}

/** The last run of each region in every scenario. */
export type Recordings = Map<string, Record<RegionName, Recording>>;

/** Plays scenarios: every one unless some are named. */
export async function playAll(names = Object.keys(scenarios)): Promise<Recordings> {
  const world = await World.start();
  try {
    const recordings: Recordings = new Map();
    for (const name of names) recordings.set(name, await world.play(scenarios[name]!));
    return recordings;
  } finally {
    await world.stop();
  }
}

/** Every dump by its path below the dumps' folder. */
export function dumpsOf(recordings: Recordings): Map<string, string> {
  return new Map(
    [...recordings].flatMap(([name, regions]) =>
      Object.entries(regions).map(
        ([region, recording]) => [join(name, `${region}.yaml`), dump(name, region as RegionName, recording)] as const,
      ),
    ),
  );
}
