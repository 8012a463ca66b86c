/** Brings the practice service into both regions and tells Restate where it is. What is there already stays as it is. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { KubernetesObjectApi, V1Deployment } from "@kubernetes/client-node";
import { bundleProgram } from "../toolchain/pulumi";
import { gateNames, hostKubeconfig, portOf } from "../world/access";
import { isReady, type KubePod, kubeGet } from "../world/kube";
import { projectDir } from "../world/paths";
import { regions, type WorldRegion } from "../world/regions";
import { registerDeployment, registeredDeployment } from "./admin";
import { serviceBundle } from "./image";
import { serviceName, serviceNamespace, serviceObjects, serviceUri } from "./objects";

/** Where a region's Restate is reached from this machine. */
export interface RegionPorts {
  region: string;
  /** For callers, e.g. `http://127.0.0.1:21000`. */
  ingress: string;
  /** For operators. */
  admin: string;
}

/** The ports of both regions, from those that the sandbox keeps. */
export function portsOfRegions(ports: Record<string, number>): RegionPorts[] {
  const at = (gate: string) => `http://127.0.0.1:${portOf(ports, gate)}`;
  return regions.map(({ name }) => ({
    region: name,
    ingress: at(gateNames.ingress(name)),
    admin: at(gateNames.admin(name)),
  }));
}

/** What was done. */
export interface Deployed {
  /** Regions where something changed. */
  changed: string[];
  /** Whether Restate had to be told where the service is. */
  registered: boolean;
  /** Restate's id of the deployment. */
  deployment: string;
  uri: string;
}

/** How long all pods may take to be ready, or gone, in milliseconds. */
const patience = 90_000;

/**
 * Deploys the service to both regions, with so many pods in each, and registers it. `say` is told what is being waited for.
 */
export async function deployService(
  ports: Record<string, number>,
  options: { replicas?: number; say?: (what: string) => void } = {},
): Promise<Deployed> {
  const { replicas = 2, say = () => {} } = options;
  const program = await bundleService();
  say("objects");
  const changed = await Promise.all(regions.map((region) => applyObjects(region, program, replicas)));
  const deadline = Date.now() + patience;
  await Promise.all(regions.map((region) => untilAvailable(region, deadline, say)));
  say("registration");
  const { admin } = portsOfRegions(ports)[0]!;
  const before = await registeredDeployment(admin, serviceUri);
  const anew = before === undefined || changed.some(Boolean);
  return {
    changed: regions.filter((_, i) => changed[i]).map(({ name }) => name),
    registered: anew,
    deployment: anew ? await registerDeployment(admin, serviceUri) : before,
    uri: serviceUri,
  };
}

/**
 * Takes the service away again, and waits until it is gone. Restate keeps the ledger's state, and its calls wait for the
 * service to come back.
 */
export async function removeService(): Promise<void> {
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: serviceNamespace } };
  const deadline = Date.now() + patience;
  await Promise.all(
    regions.map(async (region) => {
      const api = await objectApi(region);
      const isGone = (error: unknown): true => {
        // By its number: the client's library, loaded in two ways, has two classes of that error.
        if ((error as { code?: unknown }).code !== 404) throw error;
        return true;
      };
      let gone = (await api.delete(namespace).catch(isGone)) === true;
      while (!gone) {
        gone = (await api.read(namespace).catch(isGone)) === true;
        if (!gone && Date.now() > deadline) {
          throw new Error(
            `namespace ${serviceNamespace} of ${region.name} is still there after ${patience / 1000} s. ` +
              `Next: kubectl get namespace ${serviceNamespace} -o yaml`,
          );
        }
        if (!gone) await sleep(300);
      }
    }),
  );
}

/** Bundles the program; returns a hash of what its pods run. */
async function bundleService(): Promise<string> {
  await bundleProgram(join(projectDir, "sandbox/service/main.ts"), serviceBundle, {});
  return createHash("sha256").update(process.version).update(readFileSync(serviceBundle)).digest("hex").slice(0, 16);
}

async function objectApi(region: WorldRegion): Promise<KubernetesObjectApi> {
  // Loaded only here: every command of the sandbox would wait for it.
  const { KubeConfig, KubernetesObjectApi } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromFile(hostKubeconfig(region.name));
  return KubernetesObjectApi.makeApiClient(config);
}

/** Applies the objects in a region; says whether the Deployment is another one than before. */
async function applyObjects(region: WorldRegion, program: string, replicas: number): Promise<boolean> {
  const { PatchStrategy } = await import("@kubernetes/client-node");
  const api = await objectApi(region);
  let changed = false;
  for (const object of serviceObjects(program, replicas)) {
    const applied = await api.patch(object, undefined, undefined, "sandbox", true, PatchStrategy.ServerSideApply);
    if (applied.kind === "Deployment") {
      const { metadata, status } = applied as V1Deployment;
      changed = metadata?.generation !== status?.observedGeneration;
    }
  }
  return changed;
}

async function untilAvailable(region: WorldRegion, deadline: number, say: (what: string) => void): Promise<void> {
  const kubeconfig = hostKubeconfig(region.name);
  for (;;) {
    const deployment = await kubeGet<V1Deployment>(
      kubeconfig,
      `/apis/apps/v1/namespaces/${serviceNamespace}/deployments/${serviceName}`,
    );
    const wanted = deployment.spec?.replicas ?? 0;
    const { status } = deployment;
    const settled = status?.observedGeneration === deployment.metadata?.generation;
    const available = settled ? Math.min(status?.updatedReplicas ?? 0, status?.availableReplicas ?? 0) : 0;
    if (settled && available >= wanted && status?.replicas === wanted) return;
    say(`${region.name}: ${available} of ${wanted} pods`);
    if (Date.now() > deadline) {
      throw new Error(
        `the practice service is not up in ${region.name} after ${patience / 1000} s: ${await podTroubles(kubeconfig)}. ` +
          `Next: kubectl -n ${serviceNamespace} describe pods`,
      );
    }
    await sleep(200);
  }
}

/** What keeps the service's pods from being ready, in words. */
async function podTroubles(kubeconfig: string): Promise<string> {
  type Pod = KubePod & {
    status?: { containerStatuses?: { state?: { waiting?: { reason?: string; message?: string } } }[] };
  };
  const { items } = await kubeGet<{ items: Pod[] }>(kubeconfig, `/api/v1/namespaces/${serviceNamespace}/pods`);
  const troubles = items
    .filter((pod) => !isReady(pod))
    .map((pod) => {
      const waiting = pod.status?.containerStatuses?.find((one) => one.state?.waiting)?.state?.waiting;
      const why = waiting ? [waiting.reason, waiting.message].filter(Boolean).join(": ") : pod.status?.phase;
      return `${pod.metadata.name} is not ready (${why ?? "unknown"})`;
    });
  return troubles.join("; ") || `${items.length} pods are there`;
}
