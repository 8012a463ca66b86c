/** Sabotaged variants of the program, each with the rule that must stop it. */
import type { Variant } from "../support/variants";

/** A variant, and what it must be stopped by. */
export interface Sabotage extends Variant {
  rule: string;
  /** Rules that it breaks as well, of necessity. */
  also?: string[];
}

export const sabotages: Sabotage[] = [
  {
    rule: "bucket-public-access",
    title: "public policies are let through",
    file: "components/snapshotBucket.ts",
    from: "blockPublicPolicy: true",
    to: "blockPublicPolicy: false",
  },
  {
    rule: "bucket-tls-only",
    title: "TLS is refused instead of plain HTTP",
    file: "aws/documents.ts",
    from: '"aws:SecureTransport": "false"',
    to: '"aws:SecureTransport": "true"',
  },
  {
    rule: "bucket-owner-enforced",
    title: "ACLs count",
    file: "components/snapshotBucket.ts",
    from: "BucketOwnerEnforced",
    to: "ObjectWriter",
  },
  {
    rule: "bucket-versioned",
    title: "versioning is suspended",
    file: "components/snapshotBucket.ts",
    from: 'versioningConfiguration: { status: "Enabled" }',
    to: 'versioningConfiguration: { status: "Suspended" }',
  },
  {
    rule: "bucket-lifecycle",
    title: "abandoned uploads stay",
    file: "components/snapshotBucket.ts",
    from: "abortIncompleteMultipartUpload: { daysAfterInitiation: abandonedUploadDays },",
    to: "",
  },
  {
    rule: "bucket-protected",
    title: "the bucket is not protected",
    file: "components/snapshotBucket.ts",
    from: "        tags: args.tags,\n      },\n      kept,",
    to: "        tags: args.tags,\n      },\n      child,",
  },
  {
    rule: "replication-configured",
    title: "nothing is replicated",
    file: "region.ts",
    from: "const replication = peer\n",
    to: "const replication = peer && peer.region === region\n",
  },
  {
    rule: "replication-to-peer",
    title: "the bucket is replicated to another one",
    file: "components/snapshotReplication.ts",
    from: "bucket: args.destinationArn,",
    to: 'bucket: args.destinationArn + "-old",',
  },
  {
    rule: "replication-metrics",
    title: "replication reports nothing",
    file: "components/snapshotReplication.ts",
    from: '                status: "Enabled",\n                ...(args.timeControl',
    to: '                status: "Disabled",\n                ...(args.timeControl',
  },
  {
    rule: "replication-rule-form",
    title: "a replication rule of the old form",
    file: "components/snapshotReplication.ts",
    from: '            filter: { prefix: "" },\n',
    to: "",
  },
  {
    rule: "iam-no-wildcard-actions",
    title: "the nodes may do anything with the buckets",
    file: "aws/documents.ts",
    from: '["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]',
    to: '"s3:*"',
  },
  {
    rule: "iam-no-wildcard-resources",
    title: "the nodes reach every bucket",
    file: "aws/documents.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    from: "Resource: bucketArns.map((arn) => `${arn}/*`)",
    to: 'Resource: "arn:aws:s3:::*/*"',
  },
  {
    rule: "iam-needed-actions",
    title: "the nodes may change the bucket's policy",
    file: "aws/documents.ts",
    from: '"s3:AbortMultipartUpload"],',
    to: '"s3:AbortMultipartUpload", "s3:PutBucketPolicy"],',
  },
  {
    rule: "iam-web-identity-exact",
    title: "tokens for any audience are taken",
    file: "aws/documents.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    from: '[`${issuer}:aud`]: "sts.amazonaws.com",',
    to: "",
  },
  {
    rule: "iam-trusted-service-accounts",
    title: "the default namespace is trusted",
    file: "aws/documents.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    from: "`system:serviceaccount:${r.namespace}:${r.serviceAccount}`",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    to: "`system:serviceaccount:default:${r.serviceAccount}`",
  },
  {
    rule: "iam-service-trust-scoped",
    title: "S3 may use the role for any account",
    file: "aws/documents.ts",
    from: 'Condition: { StringEquals: { "aws:SourceAccount": accountId } },',
    to: "",
  },
  {
    rule: "lb-internal",
    title: "load balancers face the internet",
    file: "components/nodeLoadBalancers.ts",
    from: "scheme: input.scheme,",
    to: 'scheme: "internet-facing",',
  },
  {
    rule: "lb-class",
    title: "no load balancer class",
    file: "components/nodeLoadBalancers.ts",
    from: "            loadBalancerClass,\n",
    to: "",
  },
  {
    rule: "lb-one-subnet",
    title: "two subnets for each load balancer",
    file: "components/nodeLoadBalancers.ts",
    from: "subnets: input.subnet,",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    to: "subnets: `${input.subnet},subnet-0f`,",
  },
  {
    rule: "lb-zone",
    title: "targets in the first zone, whatever the node's",
    file: "components/nodeLoadBalancers.ts",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: text of the program
    from: "`topology.kubernetes.io/zone=${input.zone}`",
    to: '"topology.kubernetes.io/zone=us-east-1a"',
  },
  {
    rule: "lb-security-groups",
    title: "no security groups",
    file: "components/nodeLoadBalancers.ts",
    from: '"security-groups": input.securityGroups.join(","),',
    to: "",
  },
  {
    rule: "lb-one-pod",
    title: "only ready nodes are reached",
    file: "components/nodeLoadBalancers.ts",
    from: "publishNotReadyAddresses: true,",
    to: "publishNotReadyAddresses: false,",
  },
  {
    rule: "release-members",
    title: "each region provisions itself",
    file: "restate/values.ts",
    from: '["RESTATE_AUTO_PROVISION", "false"]',
    to: '["RESTATE_AUTO_PROVISION", "true"]',
  },
  {
    rule: "release-memory",
    title: "RocksDB gets nearly all memory",
    file: "restate/quantity.ts",
    from: "const rocksdbShare = 0.45;",
    to: "const rocksdbShare = 0.9;",
  },
  {
    rule: "release-pinned",
    title: "whatever chart is the newest",
    file: "components/restateRelease.ts",
    from: "{ version: args.chartVersion }",
    to: "{}",
  },
  {
    rule: "release-not-awaited",
    title: "the release is rolled back when pods do not become ready",
    file: "components/restateRelease.ts",
    from: "atomic: false,",
    to: "atomic: true,",
  },
  {
    rule: "release-private",
    title: "administration is published",
    file: "restate/values.ts",
    from: 'service: { type: "ClusterIP" },',
    to: 'service: { type: "LoadBalancer" },',
  },
  {
    rule: "release-replication",
    title: "copies in one region are enough",
    file: "topology.ts",
    from: 'partition: "{region: 2}"',
    to: 'partition: "{node: 2}"',
  },
  {
    rule: "job-deadline",
    title: "Jobs may hang for ever",
    file: "components/clusterJob.ts",
    from: "activeDeadlineSeconds: args.timeout + podGrace,",
    to: "",
  },
  {
    rule: "job-no-ttl",
    title: "Jobs are cleaned away",
    file: "components/clusterJob.ts",
    from: "backoffLimit: 0,",
    to: "backoffLimit: 0, ttlSecondsAfterFinished: 3600,",
  },
  {
    rule: "job-unprivileged",
    title: "Jobs run as root",
    file: "components/clusterJob.ts",
    from: "runAsNonRoot: true,\n          runAsUser: 1000,",
    to: "runAsUser: 0,",
  },
  {
    rule: "stack-one-home",
    title: "both regions own the role",
    file: "region.ts",
    from: "const isHome = settings.home === region;",
    to: "const isHome = true;",
  },
  {
    rule: "stack-guarded",
    title: "the guard depends on nothing",
    file: "region.ts",
    from: "dependsOn: all.filter((one) => one !== undefined),",
    to: "",
  },
  {
    rule: "stack-tags",
    title: "nothing says which region it is of",
    file: "region.ts",
    from: '"restate:region": region, ',
    to: "",
  },
  {
    rule: "kubernetes-cluster-identified",
    title: "the cluster is known by its address",
    file: "region.ts",
    from: "    clusterIdentifier: around.cluster.identifier,\n",
    to: "",
  },
];
