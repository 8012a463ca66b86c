/** A region as `npm run status` sees it. */
import type { RegionView } from "../../commands/report";
import { defaultVersion } from "../../restate/versions";
import type { RegionName } from "../../topology";
import { peerOutputs } from "./peer-outputs";

/** A region without fault, as its stack and its Kubernetes cluster tell. */
export function regionView(region: RegionName, changes: Partial<RegionView> = {}): RegionView {
  const { nodes } = peerOutputs(region);
  return {
    stack: region,
    region,
    namespace: `ns-${region}`,
    pending: [],
    nodes,
    restateVersion: defaultVersion,
    pods: nodes.map(({ pod }) => ({
      name: pod,
      phase: "Running",
      ready: true,
      restarts: 0,
      kubernetesNode: `ip-${pod}`,
    })),
    loadBalancers: Object.fromEntries(nodes.map(({ pod, loadBalancer }) => [pod, loadBalancer.hostname])),
    ...changes,
  };
}
