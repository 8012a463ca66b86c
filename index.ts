/** The stack of one region: reads its settings, looks around, and deploys. */
import * as pulumi from "@pulumi/pulumi";
import { checkAccount, identityOf, lookUpEksCluster, lookUpSubnets } from "./aws/lookups";
import { askCluster, reasonsToKeep, refusal } from "./guard";
import { readKubeconfig } from "./kubernetes/access";
import { awaitPlacements, glancePlacements } from "./kubernetes/placement";
import { decidePeer, readPeer } from "./peer";
import { deployRegion } from "./region";
import { loadSettings, qualifiedStack } from "./settings";

export = async () => {
  const context = {
    stack: pulumi.getStack(),
    project: pulumi.getProject(),
    organization: pulumi.getOrganization(),
    awsRegion: new pulumi.Config("aws").get("region"),
  };
  const settings = loadSettings(pulumi.runtime.allConfig(), context);
  const { kubernetes, namespace, scheduling } = settings;

  // The peer first: the engine reads its state while it starts the plugin that the others wait for.
  const [peer, , eks, subnets] = await Promise.all([
    readPeer(settings.peer, qualifiedStack(context.stack, context)),
    checkAccount(settings),
    kubernetes.eksCluster ? lookUpEksCluster(kubernetes.eksCluster, settings.awsRegion) : undefined,
    lookUpSubnets(settings),
  ]);
  const access = eks ?? {
    kubeconfig: settings.kubeconfigContents ?? readKubeconfig(kubernetes.kubeconfig as string, process.cwd()),
    ...(kubernetes.context ? { context: kubernetes.context } : {}),
  };

  return deployRegion(settings, {
    cluster: { ...access, identifier: eks?.arn ?? kubernetes.context ?? "kubeconfig" },
    identity: identityOf(settings, eks ?? {}),
    subnets,
    peer: decidePeer({ stack: settings.peer, ...peer, forget: settings.forgetPeer !== undefined }),
    beforeDestroy: async (urn, buckets) => {
      const guarded = { region: settings.region, cluster: settings.cluster, stack: context.stack, buckets };
      const reasons = await reasonsToKeep(askCluster(access, namespace), guarded);
      if (reasons.length > 0) throw refusal(guarded, urn, reasons);
    },
    placements: (after, pods) =>
      pulumi.runtime.isDryRun()
        ? pulumi.output(glancePlacements(access, namespace, pods)).apply((seen) => seen ?? (pulumi.unknown as never))
        : after.id.apply(() =>
            awaitPlacements(
              access,
              namespace,
              pods,
              scheduling.timeout,
              (message) => void pulumi.log.info(message, after),
            ),
          ),
  });
};
