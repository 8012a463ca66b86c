/** The stack of one region: reads its settings, looks around, and deploys. */
import * as pulumi from "@pulumi/pulumi";
import { checkAccount, identityOf, lookUpEksCluster, lookUpSubnets } from "./aws/lookups";
import { askCluster, reasonsToKeep, refusal } from "./guard";
import { ageOf, readAsker } from "./handover/asker";
import { planHandover } from "./handover/plan";
import { checkHandover, handoverInWords } from "./handover/preview";
import { lastHandover, readReceipt } from "./handover/receipts";
import { handoverSetting } from "./handover/setting";
import { standbyNow } from "./handover/standby";
import { readKubeconfig } from "./kubernetes/access";
import { followJob } from "./kubernetes/jobLog";
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

  const ownStack = qualifiedStack(context.stack, context);
  const seenPeer = decidePeer({ stack: settings.peer, ...peer, forget: settings.forgetPeer !== undefined });
  const handover = planHandover({
    settings,
    remembered: await lastHandover(ownStack, settings, seenPeer.state === "seen" ? seenPeer.outputs : undefined),
    peer: seenPeer.outputs,
    asker: () => readAsker(__dirname, process.cwd()),
    age: (commit) => ageOf(__dirname, commit),
  });
  if (pulumi.runtime.isDryRun() && handover.order && !handover.order.done) {
    const { order } = handover;
    const check = await checkHandover(access, namespace, { ...handoverSetting(settings), bucket: "-" }, order).catch(
      (error: Error) => error.message,
    );
    const words = handoverInWords(order, check);
    if (typeof check !== "string" && check.obstacles.length === 0) pulumi.log.info(words);
    else pulumi.log.warn(words);
  }
  if (handover.runningReplicas < settings.replicas) {
    const now = await standbyNow(askCluster(access, namespace), {
      region: settings.region,
      stack: context.stack,
      namespace,
      replicas: settings.replicas,
      standbyReplicas: handover.runningReplicas,
    });
    handover.runningReplicas = now.replicas;
    if (now.pending) handover.pending.push(now.pending);
  }
  const standby = (pods: readonly string[]) => pods.slice(handover.runningReplicas);

  return deployRegion(settings, {
    cluster: { ...access, identifier: eks?.arn ?? kubernetes.context ?? "kubeconfig" },
    identity: identityOf(settings, eks ?? {}),
    subnets,
    peer: seenPeer,
    handover,
    receipt: (job, name) =>
      pulumi.runtime.isDryRun()
        ? (pulumi.unknown as never)
        : pulumi.all([job.id, name]).apply(([, jobName]) => readReceipt(access, namespace, jobName)),
    follow: (job, told, until) => {
      if (pulumi.runtime.isDryRun()) return;
      // The component's log: the Job itself has none before it exists.
      const stop = followJob(access, namespace, job, (line) => void pulumi.log.info(line, told));
      until.apply(stop);
    },
    beforeDestroy: async (urn, buckets) => {
      const guarded = { region: settings.region, cluster: settings.cluster, stack: context.stack, buckets };
      const reasons = await reasonsToKeep(askCluster(access, namespace), guarded);
      if (reasons.length > 0) throw refusal(guarded, urn, reasons);
    },
    placements: (after, pods) =>
      pulumi.runtime.isDryRun()
        ? pulumi
            .output(glancePlacements(access, namespace, pods, { standby: standby(pods) }))
            .apply((seen) => seen ?? (pulumi.unknown as never))
        : after.id.apply(() =>
            awaitPlacements(
              access,
              namespace,
              pods,
              scheduling.timeout,
              (message) => void pulumi.log.info(message, after),
              standby(pods),
            ),
          ),
  });
};
