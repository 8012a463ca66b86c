/** Types of resources that rules look at, and how to find them. Names of older provider versions count as well. */
import type { Resource, Stack } from "./rule";
import type { Value } from "./value";

/** An S3 type by its present name, and as versions of the AWS provider before 7 called it. */
function s3(name: string): readonly string[] {
  const typed = (token: string) => `aws:s3/${token}:${token[0]?.toUpperCase()}${token.slice(1)}`;
  return [typed(name), typed(`${name}V2`)];
}

export const types = {
  bucket: s3("bucket"),
  publicAccessBlock: s3("bucketPublicAccessBlock"),
  bucketPolicy: s3("bucketPolicy"),
  bucketEncryption: s3("bucketServerSideEncryptionConfiguration"),
  bucketVersioning: s3("bucketVersioning"),
  bucketOwnership: s3("bucketOwnershipControls"),
  bucketLifecycle: s3("bucketLifecycleConfiguration"),
  replication: ["aws:s3/bucketReplicationConfig:BucketReplicationConfig"],
  role: ["aws:iam/role:Role"],
  rolePolicy: ["aws:iam/rolePolicy:RolePolicy"],
  managedPolicy: ["aws:iam/policy:Policy"],
  policyAttachment: [
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "aws:iam/policyAttachment:PolicyAttachment",
    "aws:iam/rolePolicyAttachmentsExclusive:RolePolicyAttachmentsExclusive",
  ],
  longLivedCredentials: ["aws:iam/user:User", "aws:iam/accessKey:AccessKey"],
  securityGroup: ["aws:ec2/securityGroup:SecurityGroup"],
  ingressRule: [
    "aws:ec2/securityGroupRule:SecurityGroupRule",
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
  ],
  service: ["kubernetes:core/v1:Service"],
  release: ["kubernetes:helm.sh/v3:Release"],
  namespace: ["kubernetes:core/v1:Namespace"],
  job: ["kubernetes:batch/v1:Job"],
  cronJob: ["kubernetes:batch/v1:CronJob"],
  configMap: ["kubernetes:core/v1:ConfigMap"],
  stash: ["pulumi:index:Stash"],
} as const;

/** The resources of a stack that are of a type. */
export function ofType(stack: Stack, wanted: readonly string[]): Resource[] {
  return stack.resources.filter((one) => wanted.includes(one.type));
}

/**
 * The resources of a type that are about a bucket. A preview may not know the bucket's name yet, so what they were made
 * from counts first.
 */
export function about(stack: Stack, bucket: Resource, wanted: readonly string[]): Resource[] {
  return ofType(stack, wanted).filter(
    (one) =>
      one.madeFrom.bucket?.includes(bucket.urn) || one.props.get("bucket").text === bucket.props.get("bucket").text,
  );
}

/** What the stack remembers of its peer, if it has seen it. */
export function peerOf(stack: Stack) {
  const memory = ofType(stack, types.stash).find((one) => one.name === "peer");
  return memory?.props.get("input");
}

/** Specification of a Job, or of the Jobs that a CronJob makes. */
export function jobSpec({ type, props }: Resource): Value {
  const own = (types.cronJob as readonly string[]).includes(type) ? props.get("spec", "jobTemplate") : props;
  return own.get("spec");
}

/** Specification of the pods of a Job or CronJob. */
export function podSpec(resource: Resource): Value {
  return jobSpec(resource).get("template", "spec");
}
