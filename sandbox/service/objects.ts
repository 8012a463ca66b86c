/**
 * The practice service in Kubernetes: the same objects in each region's cluster. Its name resolves to the pods of the
 * region where it is asked for, so one address does for both: Restate has one for each deployment, and a region that is
 * lost takes no calls of the other with it. Pure.
 */
import type { V1Deployment, V1Namespace, V1PodDisruptionBudget, V1Service } from "@kubernetes/client-node";

/** Namespace of the service. */
export const serviceNamespace = "practice";

/** Name of its Deployment and its Service. */
export const serviceName = "ledger";

/** The port on which Restate calls it. */
const servicePort = 9080;

/** The image, as the nodes' table of images names it. */
export const serviceImage = "docker.io/practice/ledger:1";

/** Its address, as Restate is told. */
export const serviceUri = `http://${serviceName}.${serviceNamespace}.svc.cluster.local:${servicePort}/`;

/** Annotation that says which program a pod runs. */
const programAnnotation = "practice/program";

const labels = { app: serviceName };

/** An object that can be applied. */
export type ServiceObject = V1Namespace | V1Deployment | V1Service | V1PodDisruptionBudget;

/** The objects, for pods that run the program with this hash. */
export function serviceObjects(program: string, replicas: number): ServiceObject[] {
  const metadata = { name: serviceName, namespace: serviceNamespace, labels };
  const namespace: V1Namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: serviceNamespace } };
  const deployment: V1Deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata,
    spec: {
      replicas,
      selector: { matchLabels: labels },
      // Never fewer than wanted, also while the program is replaced.
      strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
      template: {
        metadata: { labels, annotations: { [programAnnotation]: program } },
        spec: {
          automountServiceAccountToken: false,
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: "topology.kubernetes.io/zone",
              whenUnsatisfiable: "ScheduleAnyway",
              labelSelector: { matchLabels: labels },
            },
          ],
          containers: [
            {
              name: serviceName,
              image: serviceImage,
              env: [{ name: "PORT", value: String(servicePort) }],
              ports: [{ name: "http2", containerPort: servicePort }],
              readinessProbe: { tcpSocket: { port: "http2" }, periodSeconds: 1 },
              resources: { requests: { cpu: "50m", memory: "64Mi" } },
              securityContext: {
                readOnlyRootFilesystem: true,
                allowPrivilegeEscalation: false,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  };
  const service: V1Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata,
    spec: {
      selector: labels,
      ports: [{ name: "http2", port: servicePort, targetPort: "http2", appProtocol: "kubernetes.io/h2c" }],
    },
  };
  const budget: V1PodDisruptionBudget = {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata,
    spec: { maxUnavailable: 1, selector: { matchLabels: labels } },
  };
  return [namespace, deployment, service, budget];
}
