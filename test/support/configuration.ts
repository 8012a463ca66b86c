/** A stack's configuration that is right, as Pulumi hands it over, for tests to change. */
import type { SettingsContext } from "../../settings";

/** Every setting that has no default, and a way into the cluster. */
export const leastConfiguration: Record<string, unknown> = {
  domain: "restate.example.com",
  accountId: "123456789012",
  kubernetes: { eksCluster: "production-east" },
  subnets: { byZone: { "us-east-1a": "subnet-0a1", "us-east-1b": "subnet-0b1", "us-east-1c": "subnet-0c1" } },
  loadBalancers: { securityGroups: ["sg-0a1"] },
};

/** What the settings are read in, for the stack `region1`. */
export const context: SettingsContext = {
  stack: "region1",
  organization: "organization",
  project: "restate",
  awsRegion: "us-east-1",
};

/** Writes values as Pulumi hands them over: texts as they are, everything else as JSON; leaves out what is undefined. */
export function asConfigured(values: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, typeof value === "string" ? value : JSON.stringify(value)]],
    ),
  );
}

/** The least configuration with some settings changed; one that is changed to undefined is left out. */
export function configuration(changes: Record<string, unknown> = {}): Record<string, string> {
  return asConfigured({ ...leastConfiguration, ...changes });
}
