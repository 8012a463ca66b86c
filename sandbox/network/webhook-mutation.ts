/**
 * What the EKS pod-identity webhook changes in a pod, as a JSON patch: the role's environment variables and the projected
 * token, for pods whose service account names a role. Also the AWS Load Balancer Controller's change of Services: a new
 * one of type LoadBalancer without a class gets the controller's. Pure.
 */
import type { V1Container, V1EnvVar, V1Pod, V1Service, V1ServiceAccount } from "@kubernetes/client-node";
import { loadBalancerClass } from "./annotations";

/** One step of a JSON patch. */
export interface PatchStep {
  op: "add" | "replace";
  path: string;
  value: unknown;
}

const annotationPrefix = "eks.amazonaws.com/";
const volumeName = "aws-iam-token";
const mountPath = "/var/run/secrets/eks.amazonaws.com/serviceaccount";

/** Seconds for which a token is valid when nothing else is asked for; the API server allows no less than 600. */
const defaultExpiration = 86_400;

/** The steps for a pod; none when its service account has no role. */
export function podPatch(pod: V1Pod, account: V1ServiceAccount | undefined, awsRegion: string): PatchStep[] {
  const annotations = account?.metadata?.annotations ?? {};
  const role = annotations[`${annotationPrefix}role-arn`];
  if (!role) return [];
  const podAnnotations = pod.metadata?.annotations ?? {};
  const skipped = new Set(
    (podAnnotations[`${annotationPrefix}skip-containers`] ?? "").split(",").map((name) => name.trim()),
  );
  const regional = annotations[`${annotationPrefix}sts-regional-endpoints`] !== "false";
  const asked = Number(
    podAnnotations[`${annotationPrefix}token-expiration`] ?? annotations[`${annotationPrefix}token-expiration`],
  );
  const expirationSeconds = Number.isInteger(asked) && asked > 0 ? Math.max(600, asked) : defaultExpiration;

  const environment: V1EnvVar[] = [
    ...(regional ? [{ name: "AWS_STS_REGIONAL_ENDPOINTS", value: "regional" }] : []),
    { name: "AWS_DEFAULT_REGION", value: awsRegion },
    { name: "AWS_REGION", value: awsRegion },
    { name: "AWS_ROLE_ARN", value: role },
    { name: "AWS_WEB_IDENTITY_TOKEN_FILE", value: `${mountPath}/token` },
  ];
  // A pod that sets a region, or the role's variables, itself keeps what it set.
  const groups = [["AWS_DEFAULT_REGION", "AWS_REGION"]];
  const mutate = (container: V1Container): V1Container => {
    if (skipped.has(container.name)) return container;
    const set = new Set((container.env ?? []).map((variable) => variable.name));
    const added = environment.filter(
      ({ name }) => !set.has(name) && !groups.some((group) => group.includes(name) && group.some((n) => set.has(n))),
    );
    const mounted = (container.volumeMounts ?? []).some((mount) => mount.name === volumeName);
    return {
      ...container,
      env: [...(container.env ?? []), ...added],
      volumeMounts: [
        ...(container.volumeMounts ?? []),
        ...(mounted ? [] : [{ name: volumeName, mountPath, readOnly: true }]),
      ],
    };
  };
  const steps: PatchStep[] = [];
  const volumes = pod.spec?.volumes ?? [];
  if (!volumes.some((volume) => volume.name === volumeName)) {
    const volume = {
      name: volumeName,
      projected: {
        sources: [
          {
            serviceAccountToken: {
              audience: annotations[`${annotationPrefix}audience`] ?? "sts.amazonaws.com",
              expirationSeconds,
              path: "token",
            },
          },
        ],
      },
    };
    steps.push({ op: pod.spec?.volumes ? "replace" : "add", path: "/spec/volumes", value: [volume, ...volumes] });
  }
  steps.push({ op: "replace", path: "/spec/containers", value: (pod.spec?.containers ?? []).map(mutate) });
  if (pod.spec?.initContainers) {
    steps.push({ op: "replace", path: "/spec/initContainers", value: pod.spec.initContainers.map(mutate) });
  }
  return steps;
}

/** The steps for a new Service. */
export function servicePatch(service: V1Service): PatchStep[] {
  if (service.spec?.type !== "LoadBalancer" || service.spec.loadBalancerClass) return [];
  return [{ op: "add", path: "/spec/loadBalancerClass", value: loadBalancerClass }];
}
