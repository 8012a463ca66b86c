/** IAM and bucket policy documents, and the names that they speak of. Pure. */
import type { PeerOutputs } from "../outputs";

/** One statement of a policy document. */
interface Statement {
  Sid?: string;
  Effect: "Allow" | "Deny";
  Action: string | string[];
  Resource?: string | string[];
  Principal?: string | Record<string, string | string[]>;
  Condition?: Record<string, Record<string, string | string[]>>;
}

/** A policy document as AWS reads it. */
function document(statements: Statement[]): string {
  return JSON.stringify({ Version: "2012-10-17", Statement: statements });
}

/** ARN partition of a region: `aws`, `aws-cn` or `aws-us-gov`. */
export function partition(awsRegion: string): string {
  if (awsRegion.startsWith("cn-")) return "aws-cn";
  if (awsRegion.startsWith("us-gov-")) return "aws-us-gov";
  return "aws";
}

/** Name of the role that the Restate nodes of both regions take. */
export function nodeRoleName(cluster: string): string {
  return `${cluster}-nodes`;
}

/** ARN of the nodes' role: known before the role exists, so that either region can be brought up first. */
export function nodeRoleArn(accountId: string, awsRegion: string, cluster: string): string {
  return `arn:${partition(awsRegion)}:iam::${accountId}:role/${nodeRoleName(cluster)}`;
}

/**
 * What Restate does with the snapshots' buckets and no more: list, read, write, abort a multipart upload that failed,
 * and (from 1.7) delete snapshots that it no longer retains.
 */
export function snapshotAccess(bucketArns: string[]): string {
  return document([
    { Sid: "ListSnapshots", Effect: "Allow", Action: "s3:ListBucket", Resource: bucketArns },
    {
      Sid: "ReadAndWriteSnapshots",
      Effect: "Allow",
      Action: ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
      Resource: bucketArns.map((arn) => `${arn}/*`),
    },
  ]);
}

/** A region as the role's trust sees it. */
export interface TrustedRegion {
  accountId: string;
  awsRegion: string;
  namespace: string;
  serviceAccount: string;
  identity: PeerOutputs["identity"];
}

/** One value as itself, several as a list: the form in which AWS itself keeps such conditions. */
function oneOrMore(values: string[]): string | string[] {
  const distinct = [...new Set(values)];
  return distinct.length === 1 ? distinct[0]! : distinct;
}

/** Who may take the nodes' role: exactly the service accounts of the given regions. */
export function nodeTrust(regions: TrustedRegion[]): string {
  const statements: Statement[] = [];
  const byIssuer = new Map<string, TrustedRegion[]>();
  for (const region of regions) {
    const { mode, oidcIssuer, eksClusterArn } = region.identity;
    if (mode === "oidc") {
      const issuer = required(oidcIssuer, "oidcIssuer").replace(/^https:\/\//, "");
      byIssuer.set(issuer, [...(byIssuer.get(issuer) ?? []), region]);
    } else if (mode === "podIdentity") {
      statements.push({
        Effect: "Allow",
        Principal: { Service: "pods.eks.amazonaws.com" },
        Action: ["sts:AssumeRole", "sts:TagSession"],
        Condition: {
          StringEquals: {
            "aws:RequestTag/eks-cluster-arn": required(eksClusterArn, "eksClusterArn"),
            "aws:RequestTag/kubernetes-namespace": region.namespace,
            "aws:RequestTag/kubernetes-service-account": region.serviceAccount,
          },
        },
      });
    }
  }
  for (const [issuer, trusted] of byIssuer) {
    const { accountId, awsRegion } = trusted[0]!;
    statements.push({
      Effect: "Allow",
      Principal: { Federated: `arn:${partition(awsRegion)}:iam::${accountId}:oidc-provider/${issuer}` },
      Action: "sts:AssumeRoleWithWebIdentity",
      Condition: {
        StringEquals: {
          [`${issuer}:aud`]: "sts.amazonaws.com",
          [`${issuer}:sub`]: oneOrMore(trusted.map((r) => `system:serviceaccount:${r.namespace}:${r.serviceAccount}`)),
        },
      },
    });
  }
  const kiamRoles = regions.flatMap((r) => (r.identity.mode === "kiam" ? [r.identity.kiamNodeRoleArn] : []));
  if (kiamRoles.length > 0) {
    statements.push({
      Effect: "Allow",
      Principal: { AWS: oneOrMore(kiamRoles.map((arn) => required(arn, "kiamNodeRoleArn"))) },
      Action: "sts:AssumeRole",
    });
  }
  return document(statements);
}

function required(value: string | undefined, what: string): string {
  if (value === undefined)
    throw new Error(`the region's identity lacks ${what}; run pulumi up for it with this program`);
  return value;
}

/** S3 takes the replication role, and only for buckets of this account. */
export function replicationTrust(accountId: string): string {
  return document([
    {
      Effect: "Allow",
      Principal: { Service: "s3.amazonaws.com" },
      Action: "sts:AssumeRole",
      Condition: { StringEquals: { "aws:SourceAccount": accountId } },
    },
  ]);
}

/** What S3 needs to copy a bucket's objects, deletions and tags to another bucket. */
export function replicationAccess(sourceArn: string, destinationArn: string): string {
  return document([
    { Effect: "Allow", Action: ["s3:GetReplicationConfiguration", "s3:ListBucket"], Resource: sourceArn },
    {
      Effect: "Allow",
      Action: ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"],
      Resource: `${sourceArn}/*`,
    },
    {
      Effect: "Allow",
      Action: ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
      Resource: `${destinationArn}/*`,
    },
  ]);
}

/** Refuses every access to a bucket that does not use TLS. */
export function tlsOnly(bucketArn: string): string {
  return document([
    {
      Sid: "TlsOnly",
      Effect: "Deny",
      Principal: "*",
      Action: "s3:*",
      Resource: [bucketArn, `${bucketArn}/*`],
      Condition: { Bool: { "aws:SecureTransport": "false" } },
    },
  ]);
}
