/** The real world: which parts and steps there are, in which order, and which doors the host gets. */
import { awsPartNames, awsParts } from "../aws/parts";
import { networkParts } from "../network/parts";
import { gateNames, insideKubeconfig } from "./access";
import { readyPodAddress } from "./kube";
import type { Gate, Item, Plan } from "./plan";
import { awsEndpoint, regions, type WorldRegion, witnessRegion } from "./regions";

/** Where the gates of a region lead to, in its cluster. */
export const restatePods = (region: WorldRegion) => ({
  namespace: `restate-${region.name}`,
  labelSelector: "app=restate",
});

function gatesOf(region: WorldRegion): Gate[] {
  const pod = (port: number) => async () => ({
    host: await readyPodAddress(insideKubeconfig(region.name), restatePods(region)),
    port,
  });
  return [
    { name: gateNames.api(region.name), target: async () => ({ host: region.apiServerIp, port: 6443 }) },
    { name: gateNames.ingress(region.name), target: pod(8080) },
    { name: gateNames.admin(region.name), target: pod(9070) },
  ];
}

/** The plan that `up` runs. */
export const plan: Plan = {
  groups: {
    main: (): Item[] => [...awsParts(), ...networkParts()],
    witness: (): Item[] => [],
  },
  gates: [
    { name: gateNames.aws, target: async () => ({ host: awsEndpoint.ip, port: awsEndpoint.port }) },
    ...[...regions, witnessRegion].flatMap(gatesOf),
  ],
};
void awsPartNames;
