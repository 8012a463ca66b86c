/** The plan of the cluster tests: two regions' clusters and nothing else, on a supervisor of their own. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootstrapCluster } from "../../sandbox/cluster/bootstrap";
import { apiServerPart, clusterParts } from "../../sandbox/cluster/parts";
import { gateNames } from "../../sandbox/world/access";
import { runDir } from "../../sandbox/world/paths";
import type { Item, Plan } from "../../sandbox/world/plan";
import { regions, type WorldRegion } from "../../sandbox/world/regions";

/** The table of images of the tests. */
const imagesFile = join(runDir, "images.json");

function items(region: WorldRegion): Item[] {
  const nodes = region.zones.map((zone, i) => ({ zone: zone.name, instanceId: `i-0000000000000000${i + 1}` }));
  return [
    ...clusterParts(region, { nodes, images: imagesFile }),
    {
      name: `${region.name}/bootstrap`,
      after: [apiServerPart(region)],
      run: async () => {
        await bootstrapCluster(region);
        return undefined;
      },
    },
  ];
}

/** Run by the supervisor, inside the namespaces. */
export const plan: Plan = {
  groups: {
    main: () => {
      mkdirSync(runDir, { recursive: true });
      const greeting = join(runDir, "greeting");
      writeFileSync(greeting, '#!/bin/bash\necho "$GREETING, $1, from $PWD"\n', { mode: 0o755 });
      writeFileSync(
        imagesFile,
        JSON.stringify([
          { image: "docker.io/library/bash:5", files: {}, entrypoint: ["bash"] },
          {
            image: "docker.io/sandbox/node:1",
            files: { "/usr/local/bin/node": process.execPath },
            entrypoint: ["node"],
          },
          {
            image: "docker.io/sandbox/greeter:1",
            files: { "/usr/local/bin/greet": greeting },
            entrypoint: ["greet"],
            command: ["world"],
            env: ["GREETING=Hello"],
            workdir: "/srv/greeter",
          },
        ]),
      );
      return regions.flatMap(items);
    },
  },
  gates: regions.map((region) => ({
    name: gateNames.api(region.name),
    target: async () => ({ host: region.apiServerIp, port: 6443 }),
  })),
};
