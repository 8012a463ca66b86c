/** What every handover of a stack's cluster is made of. Pure. */
import type { HandoverSetting } from "../restate/handover";
import type { Settings } from "../settings";
import { clusterNodes, provisionedReplication, soloReplication } from "../topology";

/** What of the nodes' environment says where AWS is: scripts that use the nodes' role need it as well. */
function awsEnvironment(env: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter(([name]) => /^AWS_|__AWS_/.test(name)));
}

/** All but the bucket, whose name only the state knows. */
export function handoverSetting(settings: Settings): Omit<HandoverSetting, "bucket"> {
  return {
    cluster: settings.cluster,
    region: settings.region,
    nodes: clusterNodes(settings),
    both: provisionedReplication(settings.replicas),
    one: soloReplication(settings.replicas),
    timeout: settings.handover.timeout,
    maxUnsaved: settings.handover.maxUnsavedRecords ?? 3 * settings.snapshots.intervalRecords,
    awsRegion: settings.awsRegion,
    env: awsEnvironment(settings.env),
  };
}
