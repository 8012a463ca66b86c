/** What every resource and function of the provider works with: clients by region, the account, default tags. */
import type { EC2Client } from "@aws-sdk/client-ec2";
import type { EKSClient } from "@aws-sdk/client-eks";
import type { IAMClient } from "@aws-sdk/client-iam";
import type { S3Client } from "@aws-sdk/client-s3";
import type { STSClient } from "@aws-sdk/client-sts";
import { type Configuration, endpointOf, regionOf, type Service } from "./configuration";
import { fault } from "./errors";

/** Who the credentials belong to. */
export interface Caller {
  accountId: string;
  arn: string;
  userId: string;
}

/** The partition that a region belongs to, with its domain names. */
export function partitionOf(region: string): { partition: string; dnsSuffix: string; reverseDnsPrefix: string } {
  if (region.startsWith("cn-"))
    return { partition: "aws-cn", dnsSuffix: "amazonaws.com.cn", reverseDnsPrefix: "cn.com.amazonaws" };
  const partition = region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
  return { partition, dnsSuffix: "amazonaws.com", reverseDnsPrefix: "com.amazonaws" };
}

/** Made once from the provider's configuration. Each SDK is loaded when its first client is needed. */
export class AwsContext {
  readonly region: string;
  private readonly clients = new Map<string, Promise<unknown>>();
  private callerAsked: Promise<Caller> | undefined;

  constructor(readonly settings: Configuration) {
    this.region = regionOf(settings) ?? "";
    if (this.region === "") throw new Error("no AWS region: set aws:region or AWS_REGION");
    // Read by the SDK's credential chain.
    if (settings.skipMetadataApiCheck !== false) process.env.AWS_EC2_METADATA_DISABLED = "true";
    if (settings.sharedConfigFiles?.[0]) process.env.AWS_CONFIG_FILE = settings.sharedConfigFiles[0];
    if (settings.sharedCredentialsFiles?.[0])
      process.env.AWS_SHARED_CREDENTIALS_FILE = settings.sharedCredentialsFiles[0];
  }

  /** S3 in a region. */
  s3(region: string | undefined): Promise<S3Client> {
    return this.client("s3", region, async (options) => {
      const { S3Client } = await import("@aws-sdk/client-s3");
      return new S3Client({ ...options, forcePathStyle: this.settings.s3UsePathStyle === true });
    });
  }

  /** IAM, which is the same in all regions. */
  iam(): Promise<IAMClient> {
    return this.client(
      "iam",
      undefined,
      async (options) => new (await import("@aws-sdk/client-iam")).IAMClient(options),
    );
  }

  /** STS. */
  sts(): Promise<STSClient> {
    const region = this.settings.stsRegion;
    return this.client("sts", region, async (options) => new (await import("@aws-sdk/client-sts")).STSClient(options));
  }

  /** EC2 in a region. */
  ec2(region: string | undefined): Promise<EC2Client> {
    return this.client("ec2", region, async (options) => new (await import("@aws-sdk/client-ec2")).EC2Client(options));
  }

  /** EKS in a region. */
  eks(region: string | undefined): Promise<EKSClient> {
    return this.client("eks", region, async (options) => new (await import("@aws-sdk/client-eks")).EKSClient(options));
  }

  /** Who the credentials belong to; asked once. */
  caller(): Promise<Caller> {
    this.callerAsked ??= (async () => {
      const { GetCallerIdentityCommand } = await import("@aws-sdk/client-sts");
      const answer = await (await this.sts()).send(new GetCallerIdentityCommand({}));
      return { accountId: answer.Account ?? "", arn: answer.Arn ?? "", userId: answer.UserId ?? "" };
    })();
    return this.callerAsked;
  }

  /** Checks credentials and account as the settings ask, before anything else is done. */
  async validate(): Promise<void> {
    const { allowedAccountIds, forbiddenAccountIds, skipCredentialsValidation, skipRequestingAccountId } =
      this.settings;
    const guarded = (allowedAccountIds?.length ?? 0) > 0 || (forbiddenAccountIds?.length ?? 0) > 0;
    if (guarded && skipRequestingAccountId)
      throw new Error("aws:allowedAccountIds and aws:forbiddenAccountIds need aws:skipRequestingAccountId to be false");
    if (!guarded && skipCredentialsValidation) return;
    let accountId: string;
    try {
      accountId = (await this.caller()).accountId;
    } catch (error) {
      throw fault(
        "AWS credentials are missing or not valid: set aws:profile, aws:accessKey and aws:secretKey, or AWS_PROFILE, " +
          "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        error,
      );
    }
    if (allowedAccountIds?.length && !allowedAccountIds.includes(accountId))
      throw new Error(
        `AWS account ID not allowed: ${accountId} (aws:allowedAccountIds: ${allowedAccountIds.join(", ")})`,
      );
    if (forbiddenAccountIds?.includes(accountId))
      throw new Error(`AWS account ID not allowed: ${accountId} is in aws:forbiddenAccountIds`);
  }

  private client<Client>(
    service: Service,
    region: string | undefined,
    make: (options: object) => Promise<Client>,
  ): Promise<Client> {
    const at = region ?? this.region;
    const key = `${service}/${at}`;
    let client = this.clients.get(key) as Promise<Client> | undefined;
    if (!client) {
      client = make(this.options(service, at));
      this.clients.set(key, client);
    }
    return client;
  }

  private options(service: Service, region: string): object {
    const { accessKey, secretKey, token, profile, maxRetries, retryMode, useDualstackEndpoint, useFipsEndpoint } =
      this.settings;
    const endpoint = endpointOf(this.settings, service);
    return {
      region,
      maxAttempts: (maxRetries ?? 25) + 1,
      ...(retryMode && { retryMode }),
      ...(endpoint && { endpoint }),
      ...(profile && { profile }),
      ...(useDualstackEndpoint !== undefined && { useDualstackEndpoint }),
      ...(useFipsEndpoint !== undefined && { useFipsEndpoint }),
      ...(accessKey && {
        credentials: { accessKeyId: accessKey, secretAccessKey: secretKey, ...(token && { sessionToken: token }) },
      }),
    };
  }
}
