/**
 * Provider `aws`: the sandbox's stand-in for the official plugin, used only where that is not installed.
 *
 * It calls the AWS APIs with the AWS SDK and honours the official provider's configuration, so it knows nothing about the
 * sandbox either. It has the resource types and functions listed below; any other is refused by name. What a type does not
 * do is said in its own file.
 */
import { version } from "@pulumi/aws/package.json";
import type { AnyFields } from "../provider/fields";
import type { ProviderDefinition } from "../provider/resource";
import type { Properties } from "../provider/values";
import { type Configuration, checkConfiguration, configuration } from "./configuration";
import { AwsContext } from "./context";
import { podIdentityAssociation } from "./eks/podIdentityAssociation";
import { getCallerIdentity } from "./functions/getCallerIdentity";
import { getCluster } from "./functions/getCluster";
import { getOpenIdConnectProvider } from "./functions/getOpenIdConnectProvider";
import { getPartition } from "./functions/getPartition";
import { getRegion } from "./functions/getRegion";
import { getSubnet } from "./functions/getSubnet";
import { getSubnets } from "./functions/getSubnets";
import { openIdConnectProvider } from "./iam/openIdConnectProvider";
import { role } from "./iam/role";
import { rolePolicy } from "./iam/rolePolicy";
import { bucket } from "./s3/bucket";
import { bucketLifecycleConfiguration } from "./s3/bucketLifecycleConfiguration";
import { bucketOwnershipControls } from "./s3/bucketOwnershipControls";
import { bucketPolicy } from "./s3/bucketPolicy";
import { bucketPublicAccessBlock } from "./s3/bucketPublicAccessBlock";
import { bucketReplicationConfig } from "./s3/bucketReplicationConfig";
import { bucketServerSideEncryptionConfiguration } from "./s3/bucketServerSideEncryptionConfiguration";
import { bucketVersioning } from "./s3/bucketVersioning";

/** The provider `aws`. */
export const provider: ProviderDefinition<AwsContext> = {
  name: "aws",
  version,
  configuration: configuration as AnyFields,
  checkConfiguration: (settings: Properties) => checkConfiguration(settings as unknown as Configuration),
  async configure(settings) {
    const context = new AwsContext(settings as unknown as Configuration);
    await context.validate();
    return context;
  },
  resources: [
    bucket,
    bucketLifecycleConfiguration,
    bucketOwnershipControls,
    bucketPolicy,
    bucketPublicAccessBlock,
    bucketReplicationConfig,
    bucketServerSideEncryptionConfiguration,
    bucketVersioning,
    openIdConnectProvider,
    podIdentityAssociation,
    role,
    rolePolicy,
  ],
  functions: [getCallerIdentity, getCluster, getOpenIdConnectProvider, getPartition, getRegion, getSubnet, getSubnets],
};
