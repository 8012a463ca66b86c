/** IAM and bucket policy documents, exactly. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  nodeRoleArn,
  nodeTrust,
  partition,
  replicationAccess,
  replicationTrust,
  snapshotAccess,
  type TrustedRegion,
  tlsOnly,
} from "../../aws/documents";

const accountId = "123456789012";
const eastIssuer = "oidc.eks.us-east-1.amazonaws.com/id/EAST";
const westIssuer = "oidc.eks.us-west-2.amazonaws.com/id/WEST";
const region = (number: 1 | 2, identity: TrustedRegion["identity"]): TrustedRegion => ({
  accountId,
  awsRegion: number === 1 ? "us-east-1" : "us-west-2",
  namespace: `restate-region${number}`,
  serviceAccount: "restate",
  identity,
});
const oidc = (number: 1 | 2, issuer: string) => region(number, { mode: "oidc", oidcIssuer: `https://${issuer}` });
const podIdentity = (number: 1 | 2) =>
  region(number, { mode: "podIdentity", eksClusterArn: `arn:aws:eks:us-east-1:${accountId}:cluster/c${number}` });
const kiam = (number: 1 | 2, role: string) =>
  region(number, { mode: "kiam", kiamNodeRoleArn: `arn:aws:iam::${accountId}:role/${role}` });

const subject = (number: 1 | 2) => `system:serviceaccount:restate-region${number}:restate`;
const oidcStatement = (issuer: string, subjects: string | string[]) => ({
  Effect: "Allow",
  Principal: { Federated: `arn:aws:iam::${accountId}:oidc-provider/${issuer}` },
  Action: "sts:AssumeRoleWithWebIdentity",
  Condition: { StringEquals: { [`${issuer}:aud`]: "sts.amazonaws.com", [`${issuer}:sub`]: subjects } },
});
const podIdentityStatement = (number: 1 | 2) => ({
  Effect: "Allow",
  Principal: { Service: "pods.eks.amazonaws.com" },
  Action: ["sts:AssumeRole", "sts:TagSession"],
  Condition: {
    StringEquals: {
      "aws:RequestTag/eks-cluster-arn": `arn:aws:eks:us-east-1:${accountId}:cluster/c${number}`,
      "aws:RequestTag/kubernetes-namespace": `restate-region${number}`,
      "aws:RequestTag/kubernetes-service-account": "restate",
    },
  },
});
const kiamStatement = (roles: string | string[]) => ({
  Effect: "Allow",
  Principal: { AWS: roles },
  Action: "sts:AssumeRole",
});

const role = (name: string) => `arn:aws:iam::${accountId}:role/${name}`;

describe("trust of the nodes' role", () => {
  const cases: [string, TrustedRegion[], object[]][] = [
    ["one region", [oidc(1, eastIssuer)], [oidcStatement(eastIssuer, subject(1))]],
    [
      "two issuers",
      [oidc(1, eastIssuer), oidc(2, westIssuer)],
      [oidcStatement(eastIssuer, subject(1)), oidcStatement(westIssuer, subject(2))],
    ],
    [
      "one issuer with two subjects",
      [oidc(1, eastIssuer), oidc(2, eastIssuer)],
      [oidcStatement(eastIssuer, [subject(1), subject(2)])],
    ],
    ["Pod Identity", [podIdentity(1), podIdentity(2)], [podIdentityStatement(1), podIdentityStatement(2)]],
    ["kiam, one nodes' role", [kiam(1, "nodes"), kiam(2, "nodes")], [kiamStatement(role("nodes"))]],
    ["kiam, two nodes' roles", [kiam(1, "a"), kiam(2, "b")], [kiamStatement([role("a"), role("b")])]],
    [
      "Pod Identity and OIDC",
      [oidc(1, eastIssuer), podIdentity(2)],
      [podIdentityStatement(2), oidcStatement(eastIssuer, subject(1))],
    ],
    [
      "OIDC and kiam",
      [kiam(1, "nodes"), oidc(2, westIssuer)],
      [oidcStatement(westIssuer, subject(2)), kiamStatement(role("nodes"))],
    ],
  ];
  for (const [name, regions, statements] of cases) {
    test(name, () =>
      assert.deepEqual(JSON.parse(nodeTrust(regions)), { Version: "2012-10-17", Statement: statements }),
    );
  }

  for (const [mode, lacking] of [
    ["oidc", "oidcIssuer"],
    ["podIdentity", "eksClusterArn"],
    ["kiam", "kiamNodeRoleArn"],
  ] as const) {
    test(`${mode} without its ${lacking}`, () => {
      assert.throws(() => nodeTrust([region(2, { mode })]), {
        message: `the region's identity lacks ${lacking}; run pulumi up for it with this program`,
      });
    });
  }

  test("names no principal but those given, and no wildcard", () => {
    const one = (number: 1 | 2) => fc.constantFrom(oidc(number, eastIssuer), podIdentity(number), kiam(number, "n"));
    fc.assert(
      fc.property(one(1), one(2), (first, second) => {
        const text = nodeTrust([first, second]);
        assert.doesNotMatch(text, /\*|StringLike/);
        for (const statement of JSON.parse(text).Statement) assert.notEqual(statement.Principal.AWS, "*");
      }),
    );
  });
});

test("access to the snapshots", () => {
  assert.deepEqual(JSON.parse(snapshotAccess(["arn:aws:s3:::a", "arn:aws:s3:::b"])), {
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "ListSnapshots",
        Effect: "Allow",
        Action: "s3:ListBucket",
        Resource: ["arn:aws:s3:::a", "arn:aws:s3:::b"],
      },
      {
        Sid: "ReadAndWriteSnapshots",
        Effect: "Allow",
        Action: ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        Resource: ["arn:aws:s3:::a/*", "arn:aws:s3:::b/*"],
      },
    ],
  });
});

test("S3's trust and access for the replication", () => {
  assert.deepEqual(JSON.parse(replicationTrust(accountId)), {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Principal: { Service: "s3.amazonaws.com" },
        Action: "sts:AssumeRole",
        Condition: { StringEquals: { "aws:SourceAccount": accountId } },
      },
    ],
  });
  assert.deepEqual(JSON.parse(replicationAccess("arn:aws:s3:::a", "arn:aws:s3:::b")), {
    Version: "2012-10-17",
    Statement: [
      {
        Effect: "Allow",
        Action: ["s3:GetReplicationConfiguration", "s3:ListBucket"],
        Resource: "arn:aws:s3:::a",
      },
      {
        Effect: "Allow",
        Action: ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"],
        Resource: "arn:aws:s3:::a/*",
      },
      {
        Effect: "Allow",
        Action: ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
        Resource: "arn:aws:s3:::b/*",
      },
    ],
  });
});

test("a bucket that takes TLS only", () => {
  assert.deepEqual(JSON.parse(tlsOnly("arn:aws:s3:::a")), {
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "TlsOnly",
        Effect: "Deny",
        Principal: "*",
        Action: "s3:*",
        Resource: ["arn:aws:s3:::a", "arn:aws:s3:::a/*"],
        Condition: { Bool: { "aws:SecureTransport": "false" } },
      },
    ],
  });
});

describe("partitions", () => {
  for (const [awsRegion, expected] of [
    ["us-east-1", "aws"],
    ["cn-north-1", "aws-cn"],
    ["us-gov-west-1", "aws-us-gov"],
  ] as const) {
    test(awsRegion, () => {
      assert.equal(partition(awsRegion), expected);
      assert.equal(nodeRoleArn(accountId, awsRegion, "c"), `arn:${expected}:iam::${accountId}:role/c-nodes`);
    });
  }
});
