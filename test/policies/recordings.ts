/** Recordings of the program for the policies' tests: every scenario, and the stacks as they are shipped. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import type { RegionName } from "../../topology";
import { playAll, type Recordings } from "../support/dumps";
import type { Recording } from "../support/mocks";
import { World } from "../support/scenarios";

const root = join(__dirname, "../..");

/** The settings of a shipped stack file, but for where the AWS provider works. */
export function shippedSettings(region: RegionName): Record<string, unknown> {
  const { config } = parse(readFileSync(join(root, `Pulumi.${region}.yaml`), "utf8")) as {
    config: Record<string, unknown>;
  };
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) =>
      key.startsWith("restate:") ? [[key.slice("restate:".length), value]] : [],
    ),
  );
}

/** Scenarios (every one unless some are named), and `shipped`: the stack files as they are. */
export async function record(names?: string[]): Promise<Recordings> {
  const recordings = await playAll(names);
  const world = await World.start();
  try {
    recordings.set("shipped", await world.play({ about: "as shipped", settings: shippedSettings }));
  } finally {
    await world.stop();
  }
  return recordings;
}

/** A copy to change. */
export function copied(recording: Recording): Recording {
  return structuredClone(recording);
}
