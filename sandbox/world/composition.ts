/** The real world: which parts and steps there are, in which order, and which doors the host gets. */
import { join } from "node:path";
import { awsPartNames, awsParts } from "../aws/parts";
import { apiServerPart, clusterParts } from "../cluster/parts";
import { networkParts } from "../network/parts";
import { ledgerImage } from "../service/image";
import { type ProgramImage, restateImage, restateVersions, toolPath } from "../toolchain";
import { gateNames, insideKubeconfig } from "./access";
import { readJson, writeAtomically } from "./files";
import { readyPodAddress, serviceAddress } from "./kube";
import { runDir, stateDir } from "./paths";
import type { Gate, Item, Plan, Step } from "./plan";
import { bundledCommand } from "./programs";
import { awsEndpoint, regions, type WorldRegion, witnessRegion } from "./regions";

/** Which pods the doors to Restate lead to. */
export const restatePods = (region: WorldRegion) => ({
  namespace: `restate-${region.name}`,
  labelSelector: "app=restate",
});

const imagesFile = join(runDir, "images.json");

/** The Service in front of a region's Restate nodes. */
const restateService = (region: WorldRegion) => ({ namespace: `restate-${region.name}`, name: "restate" });

/**
 * Writes the table of images that nodes know: every version of Restate that has been installed here, and the practice
 * service.
 */
function writeImages(): void {
  const images = restateVersions.flatMap((version): ProgramImage[] => {
    try {
      return [restateImage(version)];
    } catch {
      return [];
    }
  });
  writeAtomically(imagesFile, JSON.stringify([...images, ledgerImage()]));
}

/** Instance ids by region and zone. */
type Instances = Record<string, Record<string, string>>;

/** The instances that an earlier seed made; none on the first start. */
function knownInstances(): Instances {
  const world = readJson(join(stateDir, "aws", "world.json")) as
    | { regions: Record<string, { instances: Record<string, string> }> }
    | undefined;
  return Object.fromEntries(Object.entries(world?.regions ?? {}).map(([name, region]) => [name, region.instances]));
}

/** A region's cluster with the nodes whose instances are known, and what it gets before anything is deployed. */
function regionItems(region: WorldRegion, binary: string, instances: Instances): Item[] {
  const nodes = Object.entries(instances[region.name] ?? {}).map(([zone, instanceId]) => ({ zone, instanceId }));
  const bootstrap: Step = {
    name: `${region.name}/bootstrap`,
    after: [apiServerPart(region)],
    run: async () => {
      const { bootstrapCluster } = require("../cluster/bootstrap") as typeof import("../cluster/bootstrap");
      await bootstrapCluster(region);
      return undefined;
    },
  };
  // The API server keeps nothing to itself, and would wait for its clients to hang up.
  const parts = clusterParts(region, { nodes, images: imagesFile, binary }).map((part) =>
    part.name === apiServerPart(region) ? { ...part, stopSeconds: 1 } : part,
  );
  return [...parts, bootstrap];
}

function seedStep(binary: string, used: Instances): Step {
  return {
    name: "seed",
    after: [awsPartNames.gateway],
    run: async () => {
      const { seedAws } = require("../aws/seed") as typeof import("../aws/seed");
      const { regions: seeded } = await seedAws();
      const now = Object.fromEntries(Object.entries(seeded).map(([name, { instances }]) => [name, instances]));
      for (const { name } of regions) {
        // A node cannot become another instance: Kubernetes keeps its provider id.
        if (used[name] && JSON.stringify(used[name]) !== JSON.stringify(now[name])) {
          throw new Error(
            `AWS has lost the instances of ${name}. Next: npm run sandbox -- down --delete-state, then npm run sandbox -- up`,
          );
        }
      }
      return regions.flatMap((region) => regionItems(region, binary, now));
    },
  };
}

function gatesOf(region: WorldRegion): Gate[] {
  const pod = (port: number) => async () => ({
    host: await readyPodAddress(insideKubeconfig(region.name), restatePods(region)),
    port,
  });
  return [
    { name: gateNames.api(region.name), target: async () => ({ host: region.apiServerIp, port: 6443 }) },
    // Callers go to any node that is ready, as they would through whatever a region has in front of them.
    {
      name: gateNames.ingress(region.name),
      target: async () => ({
        host: await serviceAddress(insideKubeconfig(region.name), restateService(region)),
        port: 8080,
      }),
    },
    { name: gateNames.admin(region.name), target: pod(9070) },
  ];
}

/** Makes the plan; `clusterBinary` gives the program of the Kubernetes clusters. */
export function makePlan(clusterBinary: () => string): Plan {
  // The same one for as long as this world runs, also when the clone's sources have changed meanwhile.
  let found: string | undefined;
  const binaryOnce = (): string => {
    found ??= clusterBinary();
    return found;
  };
  return {
    groups: {
      main: () => {
        writeImages();
        const binary = binaryOnce();
        const instances = knownInstances();
        return [
          ...regions.flatMap((region) => regionItems(region, binary, instances)),
          ...awsParts().map((part) => ({ ...part, command: bundledCommand(part.command) })),
          ...networkParts().map((part) => ({ ...part, command: bundledCommand(part.command) })),
          seedStep(binary, instances),
        ];
      },
      witness: () => {
        const instances = knownInstances();
        if (!instances[witnessRegion.name]) throw new Error("AWS has no instance for the witness: run `up` first");
        return regionItems(witnessRegion, binaryOnce(), instances);
      },
    },
    gates: [
      { name: gateNames.aws, target: async () => ({ host: awsEndpoint.ip, port: awsEndpoint.port }) },
      ...[...regions, witnessRegion].flatMap(gatesOf),
    ],
  };
}

/** The plan that `up` runs. */
export const plan: Plan = makePlan(() => toolPath("cluster"));
