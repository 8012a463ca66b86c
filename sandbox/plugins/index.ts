/** The provider plugins of this folder, for whoever sets up a PULUMI_HOME. */
import { join } from "node:path";
import { version as awsVersion } from "@pulumi/aws/package.json";
import { version as randomVersion } from "@pulumi/random/package.json";

/** One provider plugin. */
export interface ProviderPlugin {
  /** Name of the package, e.g. `aws`. */
  name: string;
  /** Version of the official plugin that it stands in for: that of the SDK package in use. */
  version: string;
  /**
   * What the engine starts. A link to it under `PULUMI_HOME/plugins/resource-<name>-v<version>/` (a real folder: the
   * engine overlooks links to folders) installs it.
   */
  executable: string;
}

/** All provider plugins of the sandbox. */
export const providerPlugins: readonly ProviderPlugin[] = [
  { name: "aws", version: awsVersion, executable: join(__dirname, "aws", "pulumi-resource-aws") },
  { name: "random", version: randomVersion, executable: join(__dirname, "random", "pulumi-resource-random") },
];
