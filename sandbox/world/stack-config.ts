/** The stack configuration of a region of the sandbox: the program's own settings and the official AWS provider's. Pure. */
import { adminCredentials } from "../aws/credentials";
import type { SeededRegion } from "../aws/seed";
import { gateNames, portOf } from "./access";
import { accountId, awsEndpoint, type WorldRegion } from "./regions";

/** AWS services that the stack calls, as the provider's setting `endpoints` names them. */
const services = ["acm", "cloudwatch", "ec2", "eks", "elbv2", "iam", "kms", "logs", "route53", "s3", "sts"] as const;

/** The AWS APIs, as programs on the host reach them. */
export function hostAwsEndpoint(ports: Record<string, number>): string {
  return `http://127.0.0.1:${portOf(ports, gateNames.aws)}`;
}

/** The AWS APIs, as pods and the sandbox's own parts reach them. */
export const insideAwsEndpoint = `http://${awsEndpoint.ip}:${awsEndpoint.port}`;

/** The content of a stack's configuration file. */
export function sandboxStackConfig(
  region: WorldRegion,
  seeded: Pick<SeededRegion, "subnets" | "securityGroupId">,
  ports: Record<string, number>,
  kubeconfig: string,
): { config: Record<string, unknown> } {
  const endpoint = hostAwsEndpoint(ports);
  return {
    config: {
      "aws:region": region.awsRegion,
      "aws:endpoints": [Object.fromEntries(services.map((service) => [service, endpoint]))],
      "aws:accessKey": adminCredentials.accessKeyId,
      "aws:secretKey": adminCredentials.secretAccessKey,
      "aws:s3UsePathStyle": true,
      "aws:skipMetadataApiCheck": true,
      "restate:accountId": accountId,
      "restate:domain": "restate.sandbox.test",
      "restate:kubernetes": { kubeconfig },
      "restate:identity": { mode: "oidc", oidcIssuer: region.oidcIssuer },
      "restate:subnets": { byZone: seeded.subnets },
      "restate:loadBalancers": { securityGroups: [seeded.securityGroupId], readyTimeout: 120 },
      "restate:scheduling": { timeout: 120 },
      "restate:provisionTimeout": 120,
      // Small enough for six nodes on one machine.
      "restate:resources": {
        requests: { cpu: "100m", memory: "256Mi" },
        limits: { cpu: "2", memory: "1Gi" },
      },
      "restate:rocksdbMemory": "256MiB",
      "restate:storage": { size: "2Gi" },
      // Credentials come by web identity; only where to get them, and where S3 is, differs from AWS.
      "restate:env": {
        AWS_ENDPOINT_URL: insideAwsEndpoint,
        RESTATE_WORKER__SNAPSHOTS__AWS_ENDPOINT_URL: insideAwsEndpoint,
        RESTATE_WORKER__SNAPSHOTS__AWS_ALLOW_HTTP: "true",
      },
      "restate:protect": false,
      "restate:forceDestroy": true,
    },
  };
}
