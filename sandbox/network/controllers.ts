/**
 * Process `network/controllers`: the load balancer controller, the volume provisioner and the webhooks, for all regions.
 * A region joins as soon as its kubeconfig is there. Keeps no state but the webhooks' certificate.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CoreV1Api } from "@kubernetes/client-node";
import { regions, type WorldRegion, witnessRegion } from "../world/regions";
import { awsClients } from "./aws";
import { regionConfig, serviceAccountList, trafficLists, volumeLists } from "./cluster";
import { askSocket, controllersSocket, networkSocket } from "./control";
import { serveSocket } from "./control-server";
import { hasStatus, messageOf } from "./kubernetes";
import { log } from "./log";
import { NlbController } from "./nlb-controller";
import { VolumeProvisioner } from "./volumes";
import { registerWebhooks, serveWebhooks, type WebhookRegion, webhookCertificate } from "./webhook";

const world: readonly WorldRegion[] = [...regions, witnessRegion];

async function main(): Promise<void> {
  const ready = new Set<string>();
  const webhookRegions = new Map<string, WebhookRegion>();
  await serveSocket(controllersSocket, {
    "GET /ready": () => ({ ready: regions.every((r) => ready.has(r.name)) }),
    "GET /status": () => ({ regions: [...ready] }),
  });
  const certificate = await webhookCertificate(world.map((region) => region.gatewayIp));
  await serveWebhooks(certificate, (name) => webhookRegions.get(name));

  const serve = async (region: WorldRegion): Promise<void> => {
    const config = await regionConfig(region.name);
    const core = config.makeApiClient(CoreV1Api);
    const accounts = serviceAccountList(config);
    const traffic = trafficLists(config);
    const volumes = volumeLists(config);
    const lists = [...Object.values(traffic), ...Object.values(volumes), accounts];
    await Promise.all(lists.map((list) => list.start()));
    webhookRegions.set(region.name, {
      region,
      async account(namespace, name) {
        // The live list may be behind by an account that was made, or annotated, a moment ago: ask when in doubt.
        const listed = accounts.get(name, namespace);
        if (listed?.metadata?.annotations?.["eks.amazonaws.com/role-arn"]) return listed;
        return core.readNamespacedServiceAccount({ name, namespace }).catch((error) => {
          if (hasStatus(error, 404)) return undefined;
          throw error;
        });
      },
    });
    for (;;) {
      try {
        await registerWebhooks(config, region, certificate);
        break;
      } catch (error) {
        log(`${region.name}: webhooks not registered: ${messageOf(error)}; trying again`);
        await sleep(1000);
      }
    }
    const aws = awsClients(region);
    new NlbController({
      region,
      config,
      aws,
      ...traffic,
      onAwsChange: () =>
        // The data plane looks by itself, too, only later.
        void askSocket(networkSocket, "PUT", "/refresh", { region: region.name }).catch(() => {}),
    }).start();
    new VolumeProvisioner({ region, config, aws, nodes: traffic.nodes, ...volumes }).start();
    ready.add(region.name);
    log(`${region.name}: at work`);
  };
  for (const region of world) {
    serve(region).catch((error) => {
      log(`${region.name}: ${error instanceof Error ? error.stack : error}`);
      process.exit(1);
    });
  }
}

main().catch((error) => {
  log(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exit(1);
});
