/**
 * The HTTPS server of the webhooks (pod identity of EKS, Services of the load balancer controller), and their
 * registration with each region's API server.
 */
import { chmodSync, mkdirSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { dirname, join } from "node:path";
import {
  AdmissionregistrationV1Api,
  type KubeConfig,
  type V1MutatingWebhook,
  type V1Pod,
  type V1Service,
  type V1ServiceAccount,
} from "@kubernetes/client-node";
import { generate } from "selfsigned";
import { z } from "zod";
import { readJson, writeAtomically } from "../world/files";
import { stateDir } from "../world/paths";
import type { WorldRegion } from "../world/regions";
import { hasStatus } from "./kubernetes";
import { log } from "./log";
import { type PatchStep, podPatch, servicePatch } from "./webhook-mutation";

/** Port of the webhooks, on every region's gateway address. */
const webhookPort = 9443;

const certificateSchema = z.object({ addresses: z.array(z.string()), key: z.string(), certificate: z.string() });

/** A key and a certificate that signs itself. */
export type Certificate = z.infer<typeof certificateSchema>;

/** The server's certificate for these addresses: the stored one, else a new one, which is stored. */
export async function webhookCertificate(
  addresses: string[],
  file = join(stateDir, "network", "webhook-certificate.json"),
): Promise<Certificate> {
  const stored = certificateSchema.safeParse(readJson(file));
  if (stored.success && stored.data.addresses.join() === addresses.join()) return stored.data;
  const notAfterDate = new Date();
  notAfterDate.setFullYear(notAfterDate.getFullYear() + 10);
  const made = await generate([{ name: "commonName", value: "sandbox-webhooks" }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notAfterDate,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", digitalSignature: true, keyCertSign: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: addresses.map((ip) => ({ type: 7 as const, ip })) },
    ],
  });
  const certificate = { addresses, key: made.private, certificate: made.cert };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeAtomically(file, JSON.stringify(certificate));
  chmodSync(file, 0o600);
  return certificate;
}

const reviewSchema = z.looseObject({
  request: z.looseObject({
    uid: z.string(),
    namespace: z.string().optional(),
    object: z.unknown(),
  }),
});

/** What the server asks of a region. */
export interface WebhookRegion {
  region: WorldRegion;
  /** Finds a service account, even one that has been made just now. */
  account(namespace: string, name: string): Promise<V1ServiceAccount | undefined>;
}

/** Answers reviews under `/<region>/pods` and `/<region>/services`. */
export async function serveWebhooks(
  certificate: Certificate,
  regionNamed: (name: string) => WebhookRegion | undefined,
  port = webhookPort,
): Promise<Server> {
  const review = async (path: string, text: string): Promise<unknown> => {
    const [, regionName, kind] = path.split("?")[0]!.split("/");
    const target = regionNamed(regionName ?? "");
    if (!target) throw new Error(`no region ${regionName}`);
    const body = reviewSchema.parse(JSON.parse(text));
    const { uid, namespace, object } = body.request;
    let steps: PatchStep[] = [];
    if (kind === "services") steps = servicePatch(object as V1Service);
    else if (kind === "pods") {
      const pod = object as V1Pod;
      const account = await target.account(namespace ?? "default", pod.spec?.serviceAccountName || "default");
      steps = podPatch(pod, account, target.region.awsRegion);
      if (steps.length > 0) {
        log(`${regionName} ${namespace}/${pod.metadata?.name ?? pod.metadata?.generateName}: given the role's token`);
      }
    } else throw new Error(`no webhook ${kind}`);
    const patch =
      steps.length > 0 ? { patchType: "JSONPatch", patch: Buffer.from(JSON.stringify(steps)).toString("base64") } : {};
    return { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview", response: { uid, allowed: true, ...patch } };
  };
  const server = createServer({ key: certificate.key, cert: certificate.certificate }, (request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      review(request.url ?? "", Buffer.concat(parts).toString("utf8")).then(
        (answer) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer)),
        (error: Error) => {
          log(`webhook ${request.url}: ${error.message}`);
          response.writeHead(400).end(error.message);
        },
      );
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "0.0.0.0", port }, () => {
      server.off("error", reject);
      resolve();
    });
  });
  return server;
}

/** Registers both webhooks with a region's API server, or brings the registration up to date. */
export async function registerWebhooks(
  config: KubeConfig,
  region: WorldRegion,
  certificate: Certificate,
): Promise<void> {
  const api = config.makeApiClient(AdmissionregistrationV1Api);
  const webhook = (name: string, kind: "pods" | "services", operations: string[]): V1MutatingWebhook => ({
    name,
    admissionReviewVersions: ["v1"],
    // As installed on EKS: an API server that cannot reach the webhook admits the object unchanged.
    failurePolicy: "Ignore",
    sideEffects: "None",
    timeoutSeconds: 10,
    reinvocationPolicy: "IfNeeded",
    clientConfig: {
      url: `https://${region.gatewayIp}:${webhookPort}/${region.name}/${kind}`,
      caBundle: Buffer.from(certificate.certificate).toString("base64"),
    },
    rules: [{ apiGroups: [""], apiVersions: ["v1"], operations, resources: [kind], scope: "Namespaced" }],
  });
  const wanted = [
    { name: "pod-identity-webhook", webhooks: [webhook("iam-for-pods.amazonaws.com", "pods", ["CREATE"])] },
    { name: "aws-load-balancer-webhook", webhooks: [webhook("mservice.elbv2.k8s.aws", "services", ["CREATE"])] },
  ];
  for (const { name, webhooks } of wanted) {
    const body = {
      apiVersion: "admissionregistration.k8s.io/v1",
      kind: "MutatingWebhookConfiguration",
      metadata: { name },
      webhooks,
    };
    try {
      await api.createMutatingWebhookConfiguration({ body });
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      const before = await api.readMutatingWebhookConfiguration({ name });
      before.webhooks = webhooks;
      await api.replaceMutatingWebhookConfiguration({ name, body: before });
    }
  }
}
