/** The stack configuration of a region of the sandbox: the program's own settings and the official AWS provider's. Pure. */
import { join } from "node:path";
import { adminCredentials } from "../aws/credentials";
import type { SeededRegion } from "../aws/seed";
import { gateNames, portOf } from "./access";
import { projectDir } from "./paths";
import { accountId, awsEndpoint, type WorldRegion } from "./regions";

/** AWS services that the stack calls, as the provider's setting `endpoints` names them. */
const services = ["acm", "cloudwatch", "ec2", "eks", "elbv2", "iam", "kms", "logs", "route53", "s3", "sts"] as const;

/** The AWS APIs, as programs on the host reach them. */
export function hostAwsEndpoint(ports: Record<string, number>): string {
  return `http://127.0.0.1:${portOf(ports, gateNames.aws)}`;
}

/** The AWS APIs, as pods and the sandbox's own parts reach them. */
export const insideAwsEndpoint = `http://${awsEndpoint.ip}:${awsEndpoint.port}`;

/** Settings that say where things are in a world: they follow it, whatever an operator has set. */
export const worldKeys: ReadonlySet<string> = new Set([
  "aws:endpoints",
  "restate:kubernetes",
  "restate:identity",
  "restate:subnets",
  "restate:loadBalancers",
]);

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
      "restate:kubernetes": { kubeconfig, context: region.name },
      "restate:identity": { mode: "oidc", oidcIssuer: region.oidcIssuer },
      "restate:subnets": { byZone: seeded.subnets },
      "restate:loadBalancers": { securityGroups: [seeded.securityGroupId], readyTimeout: 300 },
      // Every zone gets a node, as there are three of each.
      "restate:scheduling": {
        topologySpread: { whenUnsatisfiable: "DoNotSchedule" },
        timeout: 300,
      },
      // The sandbox's own chart, since a registry may be out of reach.
      "restate:chart": { folder: join(projectDir, "sandbox", "chart") },
      "restate:partitions": 4,
      // For eighteen nodes on a machine that has more to do; they need seconds when it has not.
      "restate:provisionTimeout": 600,
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
