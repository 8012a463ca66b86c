/**
 * The provider's configuration: the official provider's own settings, what they mean here, and which are refused.
 *
 * Credentials come from `aws:accessKey`/`secretKey`/`token`, `aws:profile`, or else the SDK's usual chain (environment,
 * shared files, web identity, container, and the instance's metadata only if `aws:skipMetadataApiCheck` is false).
 */
import type { ProviderArgs, types } from "@pulumi/aws";
import {
  boolean,
  type Failure,
  type Field,
  type Fields,
  list,
  number,
  object,
  type Plain,
  refused,
  set,
  text,
  texts,
} from "../provider/fields";

type EndpointName = keyof types.input.ProviderEndpoint;

/** Services that the stand-in calls itself. */
const services = ["s3", "iam", "sts", "ec2", "eks"] as const satisfies readonly EndpointName[];
/** A service that the stand-in calls. */
export type Service = (typeof services)[number];

/** Services that a stack's settings may well name for others, and that are accepted here without being used. */
const otherServices = [
  "acm",
  "autoscaling",
  "cloudwatch",
  "cloudwatchlogs",
  "dynamodb",
  "ecr",
  "elb",
  "elbv2",
  "kms",
  "lambda",
  "logs",
  "resourcegroupstaggingapi",
  "route53",
  "s3control",
  "secretsmanager",
  "sns",
  "sqs",
  "ssm",
] as const satisfies readonly EndpointName[];

const notHere = "leave it out, or install the official plugin";
const credentialsOnly = "give aws:accessKey and aws:secretKey, aws:profile, or credentials in the environment";

/** All settings of the official provider. */
export const configuration: Fields<ProviderArgs> = {
  accessKey: text(),
  allowedAccountIds: set(text(), { conflictsWith: ["forbiddenAccountIds"] }),
  assumeRoleWithWebIdentity: refused(credentialsOnly),
  assumeRoles: refused(credentialsOnly),
  customCaBundle: refused(notHere),
  defaultTags: object<types.input.ProviderDefaultTags>({ tags: texts() }),
  ec2MetadataServiceEndpoint: refused(notHere),
  ec2MetadataServiceEndpointMode: refused(notHere),
  // The names of the services are checked below: the official type has one member for each of some 300.
  endpoints: list(texts() as Field<Plain<types.input.ProviderEndpoint>>),
  forbiddenAccountIds: set(text(), { conflictsWith: ["allowedAccountIds"] }),
  httpProxy: refused(notHere),
  httpsProxy: refused(notHere),
  ignoreTags: refused(notHere),
  insecure: refused(notHere),
  maxRetries: number({ default: 25 }),
  noProxy: refused(notHere),
  profile: text(),
  region: text(),
  retryMode: text({ oneOf: ["standard", "adaptive"] }),
  s3UsEast1RegionalEndpoint: text({ oneOf: ["regional"] }),
  s3UsePathStyle: boolean({ default: false }),
  secretKey: text(),
  sharedConfigFiles: list(text()),
  sharedCredentialsFiles: list(text()),
  skipCredentialsValidation: boolean({ default: false }),
  skipMetadataApiCheck: boolean({ default: true }),
  skipRegionValidation: boolean({ default: true }),
  skipRequestingAccountId: boolean({ default: false }),
  stsRegion: text(),
  tagPolicyCompliance: refused(notHere),
  token: text(),
  tokenBucketRateLimiterCapacity: refused(notHere),
  useDualstackEndpoint: boolean(),
  useFipsEndpoint: boolean(),
  userAgents: refused(notHere),
};

/** The configuration after check. */
export type Configuration = Plain<ProviderArgs>;

/** Faults that need more than one setting, or more than its type. */
export function checkConfiguration(settings: Configuration): Failure[] {
  const failures: Failure[] = [];
  const fail = (property: string, reason: string) => failures.push({ property, reason });
  if (!regionOf(settings))
    fail("region", "no AWS region: set aws:region (pulumi config set aws:region us-east-1) or AWS_REGION");
  if ((settings.accessKey === undefined) !== (settings.secretKey === undefined))
    fail(settings.accessKey ? "secretKey" : "accessKey", "aws:accessKey and aws:secretKey must be given together");
  for (const key of ["sharedConfigFiles", "sharedCredentialsFiles"] as const)
    if ((settings[key]?.length ?? 0) > 1) fail(key, `the sandbox's stand-in takes one file in aws:${key}`);
  const known: string[] = [...services, ...otherServices];
  for (const [i, endpoints] of (settings.endpoints ?? []).entries())
    for (const [service, url] of Object.entries(endpoints as Record<string, string>)) {
      const at = `endpoints[${i}].${service}`;
      if (!known.includes(service))
        fail(at, `the sandbox's stand-in knows no service ${service}; it knows ${known.join(", ")}`);
      else if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ""))
        fail(at, `aws:endpoints: ${service} must be a URL such as http://127.0.0.1:4566, not ${JSON.stringify(url)}`);
    }
  return failures;
}

/** The region of the provider: the setting, else the environment. */
export function regionOf(settings: Configuration): string | undefined {
  return settings.region || process.env.AWS_REGION || process.env.AWS_DEFAULT_REGION;
}

/** The endpoint set for a service, if any. */
export function endpointOf(settings: Configuration, service: Service): string | undefined {
  return settings.endpoints?.map((endpoints) => endpoints[service]).find((url) => url !== undefined && url !== "");
}
