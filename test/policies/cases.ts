/** What breaks each rule: changes of what the program really makes, one rule at a time. */
import { type Recording, resource } from "../support/mocks";

// biome-ignore lint/suspicious/noExplicitAny: inputs of many types, which the changes reach into as they like
type Inputs = Record<string, any>;

/** One way to break a rule. */
export interface Case {
  rule: string;
  /** What is done, in words. */
  title: string;
  /** Scenario and region of the recording; usually the first region of the converged pair. */
  of?: [scenario: string, region: "region1" | "region2"];
  change(recording: Recording): void;
  /** What the message must say beside the rule's title. */
  says: RegExp;
  /** Rules that are broken by it as well, of necessity. */
  also?: string[];
}

/** Changes a resource's inputs. */
function edit(name: string, type: string, how: (inputs: Inputs) => void): Case["change"] {
  return (recording) => how(resource(recording, name, type).inputs as Inputs);
}

/** Changes a policy document. */
function editDocument(name: string, type: string, key: string, how: (statements: Inputs[]) => void): Case["change"] {
  return edit(name, type, (inputs) => {
    const document = JSON.parse(inputs[key]);
    how(document.Statement);
    inputs[key] = JSON.stringify(document);
  });
}

/** Takes a resource out. */
function without(name: string, type: string): Case["change"] {
  return (recording) => {
    const gone = resource(recording, name, type);
    recording.resources = recording.resources.filter((one) => one !== gone);
  };
}

/** Adds a resource that the guard depends on. */
function adding(type: string, name: string, inputs: Inputs): Case["change"] {
  return (recording) => {
    const urn = `urn:pulumi:region1::restate::${type}::${name}`;
    recording.resources.push({ type, name, dependsOn: [], inputs, graph: { urn, dependencies: [], reads: {} } });
    resource(recording, "destroy-guard").graph.dependencies.push(urn);
  };
}

const tags = { "restate:cluster": "restate", "restate:region": "region1" };
const annotations = "service.beta.kubernetes.io/aws-load-balancer-";
const lb = (how: (annotations: Inputs, inputs: Inputs) => void) =>
  edit("load-balancers-restate-0", "Service", (inputs) => how(inputs.metadata.annotations, inputs));
const lbAnnotation = (name: string, value: string | undefined) => lb((all) => (all[annotations + name] = value));
const release = (how: (values: Inputs, inputs: Inputs) => void) =>
  edit("restate", "helm.sh", (inputs) => how(inputs.values, inputs));
const env = (name: string, value: string | undefined) =>
  release((values) => {
    values.env = values.env.filter((one: Inputs) => one.name !== name);
    if (value !== undefined) values.env.push({ name, value });
  });
const replication = (how: (rule: Inputs, inputs: Inputs) => void) =>
  edit("replication", "BucketReplicationConfig", (inputs) => how(inputs.rules[0], inputs));
const job = (how: (spec: Inputs, inputs: Inputs) => void) =>
  edit("provisioning", "Job", (inputs) => how(inputs.spec, inputs));
const container = (how: (container: Inputs, pod: Inputs) => void) =>
  job((spec) => how(spec.template.spec.containers[0], spec.template.spec));
const nodePolicy = (how: (statements: Inputs[]) => void) =>
  editDocument("restate-role-permissions", "RolePolicy", "policy", how);
const nodeTrust = (how: (statements: Inputs[]) => void) =>
  editDocument("restate-role", "iam/role:", "assumeRolePolicy", how);
const bucketPolicy = (how: (statements: Inputs[]) => void) =>
  editDocument("snapshots-policy", "BucketPolicy", "policy", how);
const lifecycle = (how: (rule: Inputs) => void) =>
  edit("snapshots-lifecycle", "Lifecycle", (inputs) => how(inputs.rules[0]));
const outputs =
  (changes: Inputs): Case["change"] =>
  (recording) =>
    void Object.assign(recording.outputs, changes);
const peer = (how: (peer: Inputs) => void) => edit("peer", "Stash", (inputs) => how(inputs.input));

const issuer = "oidc.eks.us-east-1.amazonaws.com/id/REGION1";

/** A CronJob as a handover may have one. */
const cronJob = (changes: Inputs = {}) => {
  const inputs = {
    metadata: { name: "by-hand" },
    spec: {
      suspend: true,
      concurrencyPolicy: "Forbid",
      schedule: "0 0 1 1 *",
      jobTemplate: {
        spec: {
          activeDeadlineSeconds: 600,
          backoffLimit: 0,
          template: {
            spec: {
              automountServiceAccountToken: false,
              securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
              containers: [
                {
                  name: "failover",
                  image: "registry.example.com:5000/restate:1.7.12",
                  securityContext: {
                    allowPrivilegeEscalation: false,
                    readOnlyRootFilesystem: true,
                    capabilities: { drop: ["ALL"] },
                  },
                },
              ],
            },
          },
        },
      },
    },
  };
  Object.assign(inputs.spec, changes);
  return adding("kubernetes:batch/v1:CronJob", "by-hand", inputs);
};

/** Changes that no rule minds. */
export const harmless: Omit<Case, "rule" | "says">[] = [
  { title: "a suspended CronJob", change: cronJob() },
  {
    title: "an image by digest",
    change: release((values) => Object.assign(values.image, { tag: undefined, digest: `sha256:${"0a".repeat(32)}` })),
  },
  {
    title: "a KMS key",
    change: edit(
      "snapshots-encryption",
      "Encryption",
      (i) => (i.rules[0].applyServerSideEncryptionByDefault.sseAlgorithm = "aws:kms"),
    ),
  },
  { title: "a budget as a share", change: release((values) => (values.podDisruptionBudget = { minAvailable: "66%" })) },
  {
    title: "a secret by reference",
    change: release((values) =>
      values.env.push({ name: "API_TOKEN", valueFrom: { secretKeyRef: { name: "a", key: "b" } } }),
    ),
  },
  { title: "a secret as a file", change: env("RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE", "/keys/private.pem") },
  {
    title: "a ClusterIP Service with other ports",
    change: adding("kubernetes:core/v1:Service", "ingress", { spec: { type: "ClusterIP", ports: [{ port: 8080 }] } }),
  },
  {
    title: "a security group that admits the peer",
    change: adding("aws:ec2/securityGroup:SecurityGroup", "nodes", {
      tags,
      ingress: [{ protocol: "tcp", fromPort: 5122, toPort: 5122, cidrBlocks: ["10.0.0.0/8"] }],
    }),
  },
  {
    title: "a way out to the world",
    change: adding("aws:ec2/securityGroupRule:SecurityGroupRule", "out", {
      type: "egress",
      protocol: "-1",
      fromPort: 0,
      toPort: 0,
      cidrBlocks: ["0.0.0.0/0"],
    }),
  },
  {
    title: "another port for the world",
    change: adding("aws:ec2/securityGroupRule:SecurityGroupRule", "https", {
      type: "ingress",
      protocol: "tcp",
      fromPort: 443,
      toPort: 443,
      cidrBlocks: ["0.0.0.0/0"],
    }),
  },
  {
    title: "a release of something else",
    change: (recording) => {
      adding("kubernetes:helm.sh/v3:Release", "metrics", { chart: "metrics-server", values: {} })(recording);
      resource(recording, "metrics").protect = true;
    },
  },
];

/** Every rule, broken. */
export const cases: Case[] = [
  // Snapshot buckets
  ...["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"].map((flag) => ({
    rule: "bucket-public-access",
    title: `${flag} off`,
    change: edit("snapshots-access", "PublicAccessBlock", (inputs) => (inputs[flag] = false)),
    says: new RegExp(`snapshots-access: ${flag} is not on; set ${flag}: true`),
  })),
  {
    rule: "bucket-public-access",
    title: "no block",
    change: without("snapshots-access", "PublicAccessBlock"),
    says: /snapshots: the bucket has no public access block; add/,
  },
  {
    rule: "bucket-tls-only",
    title: "a condition that never holds",
    change: bucketPolicy(([deny]) => (deny!.Condition.Bool["aws:SecureTransport"] = "true")),
    says: /does not refuse requests without TLS/,
  },
  {
    rule: "bucket-tls-only",
    title: "the bucket alone, not its objects",
    change: bucketPolicy(([deny]) => deny!.Resource.pop()),
    says: /covers only arn:aws:s3:::restate-snapshots-region1-0a0a0a0a; let it cover the bucket and everything below/,
  },
  {
    rule: "bucket-tls-only",
    title: "one action only",
    change: bucketPolicy(([deny]) => (deny!.Action = "s3:GetObject")),
    says: /does not refuse/,
  },
  {
    rule: "bucket-tls-only",
    title: "a second condition that narrows it",
    change: bucketPolicy(([deny]) => (deny!.Condition.StringEquals = { "aws:PrincipalAccount": "123456789012" })),
    says: /does not refuse/,
  },
  {
    rule: "bucket-tls-only",
    title: "no policy",
    change: without("snapshots-policy", "BucketPolicy"),
    says: /has no policy/,
  },
  {
    rule: "bucket-policy-private",
    title: "reading for everyone",
    change: bucketPolicy((all) => all.push({ Effect: "Allow", Principal: "*", Action: "s3:GetObject", Resource: "*" })),
    says: /its policy allows s3:GetObject to \*; take the statement out/,
  },
  {
    rule: "bucket-encrypted",
    title: "another algorithm",
    change: edit("snapshots-encryption", "Encryption", (i) => (i.rules[0].applyServerSideEncryptionByDefault = {})),
    says: /default encryption is not set; set sseAlgorithm/,
  },
  {
    rule: "bucket-encrypted",
    title: "none",
    change: without("snapshots-encryption", "Encryption"),
    says: /no default encryption/,
  },
  {
    rule: "bucket-versioned",
    title: "suspended",
    change: edit("snapshots-versioning", "Versioning", (i) => (i.versioningConfiguration.status = "Suspended")),
    says: /versioning is Suspended; set its status to Enabled/,
  },
  {
    rule: "bucket-versioned",
    title: "none",
    change: without("snapshots-versioning", "Versioning"),
    says: /keeps no versions/,
    also: ["replication-after-versioning"],
  },
  {
    rule: "bucket-owner-enforced",
    title: "ACLs",
    change: edit("snapshots-ownership", "Ownership", (i) => (i.rule.objectOwnership = "BucketOwnerPreferred")),
    says: /objectOwnership is BucketOwnerPreferred; set it to BucketOwnerEnforced/,
  },
  {
    rule: "bucket-owner-enforced",
    title: "none",
    change: without("snapshots-ownership", "Ownership"),
    says: /who owns its objects/,
  },
  {
    rule: "bucket-lifecycle",
    title: "versions for ever",
    change: lifecycle((one) => delete one.noncurrentVersionExpiration),
    says: /replaced versions are kept for ever; set noncurrentVersionExpiration/,
    also: ["replication-same-lifecycle"],
  },
  {
    rule: "bucket-lifecycle",
    title: "uploads for ever",
    change: lifecycle((one) => delete one.abortIncompleteMultipartUpload),
    says: /parts of abandoned uploads are kept for ever/,
  },
  {
    rule: "bucket-lifecycle",
    title: "a rule for a part of the bucket",
    change: lifecycle((one) => (one.filter = { prefix: "old/" })),
    says: /kept for ever/,
  },
  {
    rule: "bucket-lifecycle",
    title: "a rule for small objects",
    change: lifecycle((one) => (one.filter = { objectSizeLessThan: 1 })),
    says: /kept for ever/,
  },
  {
    rule: "bucket-lifecycle",
    title: "a rule that is off",
    change: lifecycle((one) => (one.status = "Disabled")),
    says: /kept for ever/,
  },
  {
    rule: "bucket-lifecycle",
    title: "current objects expire",
    change: lifecycle((one) => (one.expiration.days = 30)),
    says: /the rule clean-up deletes current objects \(30\)/,
  },
  {
    rule: "bucket-lifecycle",
    title: "none",
    change: without("snapshots-lifecycle", "Lifecycle"),
    says: /has no lifecycle/,
  },
  {
    rule: "bucket-protected",
    title: "not protected",
    change: (recording) => void delete resource(recording, "snapshots", "s3/bucket:").protect,
    says: /the bucket is not protected; set restate:protect to true/,
  },
  {
    rule: "bucket-no-force-destroy",
    title: "force",
    change: edit("snapshots", "s3/bucket:", (i) => (i.forceDestroy = true)),
    says: /forceDestroy is on/,
  },

  // Replication
  {
    rule: "replication-configured",
    title: "none",
    change: without("replication", "BucketReplicationConfig"),
    says: /snapshots: the bucket is not replicated; add/,
  },
  {
    rule: "replication-to-peer",
    title: "to another bucket",
    change: replication((one) => (one.destination.bucket = "arn:aws:s3:::elsewhere")),
    says: /objects go to arn:aws:s3:::elsewhere, the peer's bucket is arn:aws:s3:::restate-snapshots-region2-0b0b0b0b/,
  },
  {
    rule: "replication-to-peer",
    title: "from another bucket",
    change: replication((_one, inputs) => (inputs.bucket = "restate-snapshots-region2-0b0b0b0b")),
    says: /is no bucket of this stack; each region configures its own outgoing side/,
  },
  {
    rule: "replication-to-peer",
    title: "to another account",
    change: replication((one) => (one.destination.account = "999999999999")),
    says: /hands objects to the account 999999999999/,
  },
  ...(
    [
      ["id", /without an id has no id/],
      ["priority", /has no priority; set priority/],
      ["deleteMarkerReplication", /does not say whether deletions are replicated/],
    ] as const
  ).map(([key, says]) => ({
    rule: "replication-rule-form",
    title: `no ${key}`,
    change: replication((one) => delete one[key]),
    says,
  })),
  {
    rule: "replication-rule-form",
    title: "no filter",
    change: replication((one) => delete one.filter),
    says: /has no filter; set filter/,
  },
  {
    rule: "replication-rule-form",
    title: "off",
    change: replication((one) => (one.status = "Disabled")),
    says: /is not on; set status/,
  },
  {
    rule: "replication-complete",
    title: "a part only",
    change: replication((one) => (one.filter = { prefix: "snapshots/1" })),
    says: /no rule covers the whole bucket/,
  },
  {
    rule: "replication-metrics",
    title: "no metrics",
    change: replication((one) => delete one.destination.metrics),
    says: /the rule snapshots-to-peer reports no metrics/,
  },
  {
    rule: "replication-replica-modifications",
    title: "left out",
    change: replication((one) => delete one.sourceSelectionCriteria),
    says: /leaves changes of replicas out/,
  },
  {
    rule: "replication-after-versioning",
    title: "no dependency",
    change: (recording) => {
      const { graph } = resource(recording, "replication", "BucketReplicationConfig");
      graph.dependencies = graph.dependencies.filter((urn) => !urn.includes("bucketVersioning"));
    },
    says: /replication: it does not wait for the bucket's versioning/,
  },
  {
    rule: "replication-same-lifecycle",
    title: "the peer keeps versions longer",
    change: peer((one) => (one.bucket.noncurrentDays = 30)),
    says: /kept for 7 days here and 30 days in the peer's bucket/,
  },

  // IAM
  {
    rule: "iam-no-wildcard-actions",
    title: "a whole service",
    change: nodePolicy((all) => (all[1]!.Action = "s3:*")),
    says: /it allows s3:\*; name the actions/,
  },
  {
    rule: "iam-no-wildcard-actions",
    title: "all but",
    change: nodePolicy((all) => {
      delete all[1]!.Action;
      all[1]!.NotAction = "s3:DeleteBucket";
    }),
    says: /it allows all but what it names/,
  },
  {
    rule: "iam-no-wildcard-actions",
    title: "inline in the role",
    change: edit(
      "restate-role",
      "iam/role:",
      (i) =>
        (i.inlinePolicies = [
          {
            policy: JSON.stringify({
              Statement: {
                Effect: "Allow",
                Action: "s3:Get*",
                Resource: "arn:aws:s3:::restate-snapshots-region1-0a0a0a0a/*",
              },
            }),
          },
        ]),
    ),
    says: /restate-role: it allows s3:Get\*/,
  },
  {
    rule: "iam-no-wildcard-resources",
    title: "every bucket",
    change: nodePolicy((all) => (all[0]!.Resource = "*")),
    says: /it is about \*; name the buckets' ARNs/,
  },
  {
    rule: "iam-no-wildcard-resources",
    title: "buckets by a pattern",
    change: nodePolicy((all) => (all[1]!.Resource = "arn:aws:s3:::restate-*/*")),
    says: /it is about arn:aws:s3:::restate-\*\/\*/,
  },
  {
    rule: "iam-needed-actions",
    title: "beyond Restate's needs",
    change: nodePolicy((all) => all[1]!.Action.push("s3:PutBucketPolicy")),
    says: /it allows s3:PutBucketPolicy, which Restate does not need/,
  },
  {
    rule: "iam-needed-actions",
    title: "beyond replication's needs",
    change: editDocument("replication-permissions", "RolePolicy", "policy", (all) =>
      all[2]!.Action.push("s3:DeleteObject"),
    ),
    says: /it allows s3:DeleteObject, which replication does not need/,
  },
  {
    rule: "iam-own-buckets",
    title: "another cluster's bucket",
    change: nodePolicy((all) => all[1]!.Resource.push("arn:aws:s3:::payroll/*")),
    says: /it reaches payroll; name only this region's bucket and the peer's/,
  },
  {
    rule: "iam-web-identity-exact",
    title: "no audience",
    change: nodeTrust(([one]) => delete one!.Condition.StringEquals[`${issuer}:aud`]),
    says: /tokens of oidc\.eks.*REGION1 are trusted for any audience/,
  },
  {
    rule: "iam-web-identity-exact",
    title: "another audience",
    change: nodeTrust(([one]) => (one!.Condition.StringEquals[`${issuer}:aud`] = "kubernetes")),
    says: /trusted for kubernetes; set StringEquals .*:aud to sts\.amazonaws\.com/,
  },
  {
    rule: "iam-web-identity-exact",
    title: "a pattern of subjects",
    change: nodeTrust(([one]) => {
      const { StringEquals } = one!.Condition;
      delete StringEquals[`${issuer}:sub`];
      one!.Condition.StringLike = { [`${issuer}:sub`]: "system:serviceaccount:*:restate" };
    }),
    says: /are trusted for any subject/,
    also: ["iam-trusted-service-accounts"],
  },
  {
    rule: "iam-web-identity-exact",
    title: "two providers in one statement",
    change: nodeTrust((all) => {
      const second = all.pop()!;
      all[0]!.Principal.Federated = [all[0]!.Principal.Federated, second.Principal.Federated];
      Object.assign(all[0]!.Condition.StringEquals, second.Condition.StringEquals);
    }),
    says: /a statement trusts arn:.*REGION1, arn:.*REGION2; write one statement for each/,
  },
  {
    rule: "iam-trusted-service-accounts",
    title: "another namespace",
    change: nodeTrust(
      ([one]) =>
        (one!.Condition.StringEquals[`${issuer}:sub`] = [
          "system:serviceaccount:restate-region1:restate",
          "system:serviceaccount:default:default",
        ]),
    ),
    says: /it trusts oidc.* system:serviceaccount:default:default, which is of neither region/,
  },
  {
    rule: "iam-trusted-service-accounts",
    title: "the peer forgotten",
    change: nodeTrust((all) => all.pop()),
    says: /the stack: no role trusts .*REGION2 system:serviceaccount:restate-region2:restate/,
  },
  {
    rule: "iam-pod-identity-scoped",
    title: "any namespace",
    of: ["pod-identity", "region1"],
    change: nodeTrust(([one]) => delete one!.Condition.StringEquals["aws:RequestTag/kubernetes-namespace"]),
    says: /pods are trusted for any kubernetes-namespace/,
  },
  {
    rule: "iam-service-trust-scoped",
    title: "S3 for any account",
    change: editDocument("replication-role", "iam/role:", "assumeRolePolicy", ([one]) => delete one!.Condition),
    says: /S3 is trusted for any account; set StringEquals aws:SourceAccount/,
  },
  {
    rule: "iam-service-trust-scoped",
    title: "another service",
    change: nodeTrust((all) =>
      all.push({ Effect: "Allow", Principal: { Service: "ec2.amazonaws.com" }, Action: "sts:AssumeRole" }),
    ),
    says: /it trusts the service ec2\.amazonaws\.com/,
  },
  {
    rule: "iam-trust-not-public",
    title: "everyone",
    change: nodeTrust((all) => all.push({ Effect: "Allow", Principal: "*", Action: "sts:AssumeRole" })),
    says: /its trust is for everyone; name the role/,
  },
  {
    rule: "iam-trust-not-public",
    title: "a whole account",
    change: nodeTrust((all) =>
      all.push({ Effect: "Allow", Principal: { AWS: "arn:aws:iam::123456789012:root" }, Action: "sts:AssumeRole" }),
    ),
    says: /its trust is for arn:aws:iam::123456789012:root/,
  },
  {
    rule: "iam-trust-own-account",
    title: "a role of another account",
    change: nodeTrust((all) =>
      all.push({ Effect: "Allow", Principal: { AWS: "arn:aws:iam::999999999999:role/a" }, Action: "sts:AssumeRole" }),
    ),
    says: /it trusts the account 999999999999; this stack is of 123456789012/,
  },
  {
    rule: "iam-trust-own-account",
    title: "S3 on behalf of another account",
    change: editDocument(
      "replication-role",
      "Role",
      "assumeRolePolicy",
      ([one]) => (one!.Condition.StringEquals["aws:SourceAccount"] = "999999999999"),
    ),
    says: /it trusts the account 999999999999/,
  },
  {
    rule: "iam-no-managed-policies",
    title: "in the role",
    change: edit(
      "restate-role",
      "iam/role:",
      (i) => (i.managedPolicyArns = ["arn:aws:iam::aws:policy/AmazonS3FullAccess"]),
    ),
    says: /it has arn:aws:iam::aws:policy\/AmazonS3FullAccess/,
  },
  {
    rule: "iam-no-managed-policies",
    title: "attached",
    change: adding("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "admin", {
      role: "restate-nodes",
      policyArn: "arn:aws:iam::aws:policy/AdministratorAccess",
    }),
    says: /admin: it attaches arn:aws:iam::aws:policy\/AdministratorAccess/,
  },
  {
    rule: "iam-no-long-lived-credentials",
    title: "an access key",
    change: adding("aws:iam/accessKey:AccessKey", "key", { user: "restate" }),
    says: /AccessKey makes credentials that do not expire/,
  },

  // Load balancers of nodes
  {
    rule: "lb-internal",
    title: "open",
    change: lbAnnotation("scheme", "internet-facing"),
    says: /load-balancers-restate-0: its scheme is internet-facing; set restate:loadBalancers\.scheme/,
  },
  { rule: "lb-internal", title: "not said", change: lbAnnotation("scheme", undefined), says: /its scheme is not set/ },
  {
    rule: "lb-class",
    title: "no class",
    change: lb((_all, i) => delete i.spec.loadBalancerClass),
    says: /loadBalancerClass is not set; set it to service\.k8s\.aws\/nlb/,
  },
  {
    rule: "lb-class",
    title: "no type",
    change: lbAnnotation("type", undefined),
    says: /the annotation type is not set/,
  },
  {
    rule: "lb-class",
    title: "no target type",
    change: lbAnnotation("nlb-target-type", "pod"),
    says: /nlb-target-type is pod/,
  },
  {
    rule: "lb-one-subnet",
    title: "two",
    change: lbAnnotation("subnets", "subnet-0a1,subnet-0b1"),
    says: /it has the subnets subnet-0a1, subnet-0b1; name the one/,
  },
  { rule: "lb-one-subnet", title: "none", change: lbAnnotation("subnets", undefined), says: /it has no subnet/ },
  {
    rule: "lb-zone",
    title: "no zone",
    change: lbAnnotation("target-node-labels", undefined),
    says: /its targets are limited to no zone/,
  },
  {
    rule: "lb-zone",
    title: "two zones",
    change: lbAnnotation(
      "target-node-labels",
      "topology.kubernetes.io/zone=us-east-1a,topology.kubernetes.io/zone=us-east-1b",
    ),
    says: /limited to topology.*us-east-1b; set target-node-labels/,
  },
  {
    rule: "lb-zone",
    title: "another zone than the pod's",
    change: lb((all) =>
      Object.assign(all, { [`${annotations}target-node-labels`]: "topology.kubernetes.io/zone=us-east-1d" }),
    ),
    says: /its targets are in us-east-1d, restate-0 runs in us-east-1a/,
  },
  {
    rule: "lb-zone",
    title: "another subnet than the pod's",
    change: lbAnnotation("subnets", "subnet-0b1"),
    says: /it is in subnet-0b1, the stack's outputs say subnet-0a1/,
  },
  {
    rule: "lb-zone",
    title: "one subnet for two zones",
    change: (recording) => {
      lb((all) => (all[`${annotations}subnets`] = "subnet-0b1"))(recording);
      (recording.outputs.nodes as Inputs[])[0]!.subnet = "subnet-0b1";
    },
    says: /subnet-0b1 is taken for us-east-1a and for us-east-1b/,
  },
  {
    rule: "lb-name",
    title: "too long",
    change: lbAnnotation("name", "n".repeat(33)),
    says: /has 33 characters, AWS takes 32/,
  },
  {
    rule: "lb-name",
    title: "a hyphen at its end",
    change: lbAnnotation("name", "restate-"),
    says: /restate- is no name/,
  },
  {
    rule: "lb-name",
    title: "AWS's own prefix",
    change: lbAnnotation("name", "internal-restate-0"),
    says: /begins with internal-/,
  },
  { rule: "lb-name", title: "none", change: lbAnnotation("name", undefined), says: /it has no name/ },
  {
    rule: "lb-name",
    title: "the same twice",
    change: lbAnnotation("name", "restate-region1-1"),
    says: /restate-region1-1 is also the name of load-balancers-restate-0/,
  },
  {
    rule: "lb-security-groups",
    title: "none",
    change: lbAnnotation("security-groups", undefined),
    says: /it has no security groups/,
  },
  {
    rule: "lb-security-groups",
    title: "a name",
    change: lbAnnotation("security-groups", "restate-nodes"),
    says: /restate-nodes is no security group's id/,
  },
  {
    rule: "lb-security-groups",
    title: "the controller's rules",
    change: lbAnnotation("manage-backend-security-group-rules", "true"),
    says: /the controller would change/,
  },
  {
    rule: "lb-not-open",
    title: "source ranges",
    change: lb((_all, i) => (i.spec.loadBalancerSourceRanges = ["0.0.0.0/0"])),
    says: /it admits 0\.0\.0\.0\/0; admit only the nodes/,
  },
  {
    rule: "lb-not-open",
    title: "source ranges in an annotation",
    change: lb((all) => (all["service.beta.kubernetes.io/load-balancer-source-ranges"] = "10.0.0.0/8, ::/0")),
    says: /its annotations admit ::\/0/,
  },
  {
    rule: "lb-not-open",
    title: "a security group",
    change: adding("aws:ec2/securityGroup:SecurityGroup", "nodes", {
      tags,
      ingress: [{ protocol: "tcp", fromPort: 5000, toPort: 6000, cidrBlocks: ["0.0.0.0/0"] }],
    }),
    says: /nodes: it admits 0\.0\.0\.0\/0 to port 5122/,
  },
  {
    rule: "lb-not-open",
    title: "a rule of a security group",
    change: adding("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "all", {
      ipProtocol: "-1",
      cidrIpv6: "::/0",
    }),
    says: /it admits ::\/0/,
  },
  {
    rule: "lb-health-check",
    title: "by HTTP",
    change: lbAnnotation("healthcheck-protocol", "HTTP"),
    says: /its health check is HTTP/,
  },
  {
    rule: "lb-health-check",
    title: "another port",
    change: lbAnnotation("healthcheck-port", "9070"),
    says: /asks port 9070/,
  },
  {
    rule: "lb-health-check",
    title: "slow",
    change: lbAnnotation("healthcheck-interval", "300"),
    says: /a dead node is noticed after 600 s/,
  },
  {
    rule: "lb-node-port-only",
    title: "the admin port too",
    change: lb((_all, i) => i.spec.ports.push({ port: 9070 })),
    says: /it carries 5122\/TCP, 9070\/TCP/,
  },
  {
    rule: "lb-one-pod",
    title: "any pod",
    change: lb((_all, i) => (i.spec.selector = { app: "restate" })),
    says: /its selector does not name one pod/,
  },
  {
    rule: "lb-one-pod",
    title: "ready pods only",
    change: lb((_all, i) => (i.spec.publishNotReadyAddresses = false)),
    says: /it leads to ready pods only/,
  },
  {
    rule: "lb-client-address",
    title: "kept",
    change: lbAnnotation("target-group-attributes", "preserve_client_ip.enabled=true"),
    says: /its target group has preserve_client_ip\.enabled=true/,
  },
  {
    rule: "lb-host-name",
    title: "none",
    change: lb((all) => {
      for (const key of Object.keys(all)) if (/external-dns/.test(key)) delete all[key];
    }),
    says: /it has no DNS name/,
  },
  {
    rule: "lb-host-name",
    title: "another one",
    change: lb((all) => (all["external-dns.kubernetes.io/hostname"] = "restate-0.example.com")),
    says: /it is called restate-0\.example\.com, its node advertises restate-0\.region1\.restate\.example\.com/,
  },

  // Restate's Helm release
  {
    rule: "release-pinned",
    title: "a range of chart versions",
    change: release((_values, i) => (i.version = "~1.7")),
    says: /the chart's version is ~1\.7/,
  },
  {
    rule: "release-pinned",
    title: "a moving tag",
    change: release((values) => (values.image.tag = "latest")),
    says: /the image's tag is latest/,
    also: ["release-known-version"],
  },
  {
    rule: "release-pinned",
    title: "no digest",
    change: release((values) => (values.image.digest = "sha256:0a")),
    says: /sha256:0a is no digest/,
  },
  {
    rule: "release-known-version",
    title: "of tomorrow",
    change: release((values) => (values.image.tag = "1.99.0")),
    says: /the settings of Restate 1\.99\.0 are not known; known are 1\.4\.0/,
  },
  {
    rule: "release-memory",
    title: "too much",
    change: env("RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE", "5GB"),
    says: /RocksDB has 78 % of the memory limit \(5GB of 6Gi\)/,
  },
  {
    rule: "release-memory",
    title: "not said",
    change: env("RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE", undefined),
    says: /RocksDB has its default of 6Gi/,
  },
  {
    rule: "release-resources",
    title: "no memory request",
    change: release((values) => delete values.resources.requests.memory),
    says: /there are no requests of memory; set restate:resources\.requests\.memory/,
  },
  {
    rule: "release-replicas",
    title: "two",
    change: release((values) => {
      values.replicaCount = 2;
      const addresses = values.env.find((one: Inputs) => one.name === "RESTATE_METADATA_CLIENT__ADDRESSES");
      addresses.value = JSON.stringify(JSON.parse(addresses.value).filter((one: string) => !one.includes("restate-2")));
    }),
    says: /it has 2 nodes/,
  },
  {
    rule: "release-zone-spread",
    title: "over machines",
    change: release((values) => (values.topologySpreadConstraints.topologyKey = "kubernetes.io/hostname")),
    says: /nodes are not spread over zones/,
  },
  {
    rule: "release-zone-spread",
    title: "unevenly",
    change: release((values) => (values.topologySpreadConstraints.maxSkew = 3)),
    says: /zones may differ by 3 nodes/,
  },
  {
    rule: "release-disruption-budget",
    title: "none",
    change: release((values) => delete values.podDisruptionBudget),
    says: /there is no disruption budget/,
  },
  {
    rule: "release-disruption-budget",
    title: "two at a time",
    change: release((values) => (values.podDisruptionBudget = { maxUnavailable: "50%" })),
    says: /maintenance may take 2 of 3 nodes/,
  },
  {
    rule: "release-disruption-budget",
    title: "one must stay",
    change: release((values) => (values.podDisruptionBudget = { minAvailable: 1 })),
    says: /may take 2 of 3/,
  },
  {
    rule: "release-zone-spread-strict",
    title: "anyway",
    of: ["shipped", "region1"],
    change: release((values) => (values.topologySpreadConstraints.whenUnsatisfiable = "ScheduleAnyway")),
    says: /placed with ScheduleAnyway/,
  },
  {
    rule: "release-storage-class",
    title: "the default",
    of: ["shipped", "region1"],
    change: release((values) => delete values.storage.storageClassName),
    says: /volumes get the cluster's default class/,
  },
  {
    rule: "release-members",
    title: "each provisions itself",
    change: env("RESTATE_AUTO_PROVISION", "true"),
    says: /nodes provision themselves/,
  },
  {
    rule: "release-members",
    title: "no metadata server",
    change: env("RESTATE_ROLES", '["worker","admin","log-server"]'),
    says: /nodes lack the roles metadata-server/,
  },
  {
    rule: "release-members",
    title: "one region only",
    change: release((values) => {
      const addresses = values.env.find((one: Inputs) => one.name === "RESTATE_METADATA_CLIENT__ADDRESSES");
      addresses.value = JSON.stringify(JSON.parse(addresses.value).slice(0, 3));
    }),
    says: /3 metadata addresses for 6 nodes/,
  },
  {
    rule: "release-members",
    title: "another address than the advertised",
    change: env("RESTATE_ADVERTISED_ADDRESS", "http://$(POD_NAME).restate:5122"),
    says: /http:\/\/restate-0\.restate:5122, .* is not among the metadata addresses/,
  },
  {
    rule: "release-members",
    title: "in the wrong region",
    change: env("RESTATE_LOCATION", "region2"),
    says: /nodes are called \$\(POD_NAME\)\.region1 and are in region2/,
  },
  {
    rule: "release-replication",
    title: "a default in one region",
    change: env("RESTATE_DEFAULT_REPLICATION", "{node: 2}"),
    says: /RESTATE_DEFAULT_REPLICATION is \{node: 2\}; let RESTATE_DEFAULT_REPLICATION have region: 2/,
  },
  {
    rule: "release-replication",
    title: "provisioned in one region",
    change: container((one) => (one.env.find((i: Inputs) => i.name === "PARTITION_REPLICATION").value = "2")),
    says: /provisioning: PARTITION_REPLICATION is 2/,
  },
  {
    rule: "release-replication",
    title: "more copies than nodes",
    change: container(
      (one) => (one.env.find((i: Inputs) => i.name === "LOG_REPLICATION").value = "{node: 7, region: 2}"),
    ),
    says: /LOG_REPLICATION wants 7 nodes of 6/,
  },
  {
    rule: "release-snapshots",
    title: "to a folder",
    change: env("RESTATE_WORKER__SNAPSHOTS__DESTINATION", "file:///tmp"),
    says: /snapshots go to file:\/\/\/tmp/,
  },
  {
    rule: "release-snapshots",
    title: "to the peer's bucket",
    change: env("RESTATE_WORKER__SNAPSHOTS__DESTINATION", "s3://restate-snapshots-region2-0b0b0b0b/snapshots"),
    says: /snapshots go to restate-snapshots-region2-0b0b0b0b, no bucket of this stack/,
  },
  {
    rule: "release-snapshots",
    title: "never",
    change: env("RESTATE_WORKER__SNAPSHOTS__SNAPSHOT_INTERVAL_NUM_RECORDS", undefined),
    says: /snapshots are never taken/,
  },
  {
    rule: "release-private",
    title: "published",
    change: release((values) => (values.service.type = "LoadBalancer")),
    says: /Service is of type LoadBalancer/,
  },
  {
    rule: "release-private",
    title: "a DNS name",
    change: release((values) => (values.service.annotations = { "external-dns.kubernetes.io/hostname": "a" })),
    says: /the chart's Services have the annotation external-dns/,
  },
  {
    rule: "release-unprivileged",
    title: "root",
    change: release((values) => (values.securityContext = { runAsUser: 0 })),
    says: /securityContext\.runAsUser gives nodes privileges/,
  },
  {
    rule: "release-not-awaited",
    title: "atomic",
    change: release((_values, i) => (i.atomic = true)),
    says: /it is atomic; set atomic: false/,
  },
  {
    rule: "release-not-awaited",
    title: "awaited",
    change: release((_values, i) => (i.skipAwait = false)),
    says: /it waits for its pods/,
  },
  {
    rule: "release-protected",
    title: "the release",
    change: (recording) => void delete resource(recording, "restate", "helm.sh").protect,
    says: /restate: it is not protected/,
  },
  {
    rule: "release-protected",
    title: "the namespace",
    change: (recording) => void delete resource(recording, "restate-namespace").protect,
    says: /restate-namespace: it is not protected/,
  },

  // Secrets
  {
    rule: "no-plain-secrets",
    title: "by its name",
    change: env("AWS_SECRET_ACCESS_KEY", "abc"),
    says: /the variable AWS_SECRET_ACCESS_KEY is given in plain text/,
  },
  {
    rule: "no-plain-secrets",
    title: "by its value",
    change: env("ENDPOINT", "https://restate:hunter2@example.com"),
    says: /ENDPOINT holds a password in a URL/,
  },
  {
    rule: "no-plain-secrets",
    title: "in a Job",
    change: container((one) => one.env.push({ name: "KEY", value: "AKIAABCDEFGHIJKLMNOP" })),
    says: /provisioning: the variable KEY holds an AWS access key/,
  },
  {
    rule: "no-plain-secrets",
    title: "in a ConfigMap",
    change: edit("provisioning-scripts", "ConfigMap", (i) => (i.data.pem = "-----BEGIN PRIVATE KEY-----\nx")),
    says: /pem holds a private key/,
  },

  // Jobs and CronJobs
  {
    rule: "job-deadline",
    title: "none",
    change: job((spec) => delete spec.activeDeadlineSeconds),
    says: /its deadline is not set/,
  },
  {
    rule: "job-deadline",
    title: "a day",
    change: job((spec) => (spec.activeDeadlineSeconds = 86400)),
    says: /its deadline is 86400 s; set activeDeadlineSeconds to at most 7200/,
  },
  {
    rule: "job-deadline",
    title: "longer than Pulumi waits",
    change: (recording) => void delete resource(recording, "provisioning", "Job").customTimeouts,
    says: /Pulumi waits 600 s for it, its deadline is 1020 s/,
  },
  {
    rule: "job-image-pinned",
    title: "latest",
    change: container((one) => (one.image = "docker.restate.dev/restatedev/restate")),
    says: /the container provision runs docker\.restate\.dev\/restatedev\/restate; name an exact version/,
  },
  {
    rule: "job-unprivileged",
    title: "root",
    change: container((_one, pod) => delete pod.securityContext.runAsNonRoot),
    says: /the container provision may run as root/,
  },
  {
    rule: "job-unprivileged",
    title: "user 0",
    change: container((_one, pod) => (pod.securityContext.runAsUser = 0)),
    says: /runs as root/,
  },
  {
    rule: "job-unprivileged",
    title: "privileged",
    change: container((one) => (one.securityContext.privileged = true)),
    says: /is privileged/,
  },
  {
    rule: "job-unprivileged",
    title: "escalation",
    change: container((one) => delete one.securityContext.allowPrivilegeEscalation),
    says: /may gain privileges/,
  },
  {
    rule: "job-unprivileged",
    title: "a root file system to write",
    change: container((one) => delete one.securityContext.readOnlyRootFilesystem),
    says: /can write its root file system/,
  },
  {
    rule: "job-unprivileged",
    title: "capabilities",
    change: container((one) => delete one.securityContext.capabilities),
    says: /keeps capabilities/,
  },
  {
    rule: "job-unprivileged",
    title: "no seccomp profile",
    change: container((_one, pod) => delete pod.securityContext.seccompProfile),
    says: /has no seccomp profile/,
  },
  {
    rule: "job-no-host",
    title: "the machine's network",
    change: container((_one, pod) => (pod.hostNetwork = true)),
    says: /it uses hostNetwork/,
  },
  {
    rule: "job-no-host",
    title: "the machine's files",
    change: container((_one, pod) => pod.volumes.push({ name: "root", hostPath: { path: "/" } })),
    says: /the volume root is a path of the machine/,
  },
  {
    rule: "job-no-ttl",
    title: "cleaned away",
    change: job((spec) => (spec.ttlSecondsAfterFinished = 3600)),
    says: /it is deleted 3600 s after its end/,
  },
  {
    rule: "job-bounded-retries",
    title: "the default",
    change: job((spec) => delete spec.backoffLimit),
    says: /as often as Kubernetes likes/,
  },
  {
    rule: "job-no-api-token",
    title: "a token",
    change: container((_one, pod) => delete pod.automountServiceAccountToken),
    says: /its pods get a token/,
  },
  {
    rule: "cronjob-by-hand",
    title: "by schedule",
    change: cronJob({ suspend: false }),
    says: /by-hand: it runs by its schedule/,
  },
  {
    rule: "cronjob-by-hand",
    title: "two at a time",
    change: cronJob({ concurrencyPolicy: "Allow" }),
    says: /two may run at a time \(Allow\)/,
  },

  // The stack and its peer
  {
    rule: "stack-tags",
    title: "a bucket",
    change: edit("snapshots", "s3/bucket:", (i) => (i.tags = { "restate:cluster": "restate" })),
    says: /snapshots: it lacks the tags restate:region/,
  },
  {
    rule: "stack-tags",
    title: "a load balancer",
    change: lbAnnotation("additional-resource-tags", "restate:cluster=restate"),
    says: /it lacks the tags restate:region/,
  },
  {
    rule: "stack-one-home",
    title: "both",
    of: ["converged", "region2"],
    change: (recording) => {
      adding("aws:iam/role:Role", "restate-role", {
        tags,
        assumeRolePolicy: JSON.stringify({
          Statement: [{ Effect: "Allow", Principal: { AWS: "arn:aws:iam::123456789012:role/a" } }],
        }),
      })(recording);
    },
    says: /the nodes' role is made in region2, home is region1/,
  },
  {
    rule: "stack-one-home",
    title: "the peer too",
    change: peer((one) => (one.role = { arn: "arn:aws:iam::123456789012:role/restate-nodes" })),
    says: /the peer's stack has the nodes' role as well/,
  },
  {
    rule: "stack-one-home",
    title: "none",
    change: without("restate-role", "iam/role:"),
    says: /the home region has 0 roles for nodes/,
  },
  {
    rule: "stack-one-home",
    title: "nowhere",
    change: outputs({ home: "region3" }),
    says: /the home region is region3/,
    also: ["stack-agrees"],
  },
  {
    rule: "stack-same-cluster",
    title: "another cluster",
    change: peer((one) => (one.cluster = "payments")),
    says: /cluster is restate here and payments at the peer/,
  },
  {
    rule: "stack-same-cluster",
    title: "another account",
    change: peer((one) => (one.accountId = "999999999999")),
    says: /accountId is 123456789012 here and 999999999999/,
  },
  {
    rule: "stack-same-cluster",
    title: "the same region",
    change: peer((one) => (one.region = "region1")),
    says: /both stacks are region1/,
  },
  {
    rule: "stack-same-cluster",
    title: "the same namespace",
    change: peer((one) => Object.assign(one.kubernetes, { cluster: "here", namespace: "restate-region1" })),
    says: /both regions are in the namespace restate-region1 of here/,
    also: ["iam-trusted-service-accounts"],
  },
  {
    rule: "stack-agrees",
    title: "before the peer is brought up",
    change: peer((one) => (one.replicas = 5)),
    says: /replicas is 3 here, the peer was last brought up with 5/,
  },
  {
    rule: "stack-handover-target",
    title: "nowhere",
    change: outputs({ serving: "region3" }),
    says: /serving is region3; set restate:serving to both/,
  },
  {
    rule: "stack-handover-target",
    title: "alone without a peer",
    of: ["first-up", "region1"],
    change: outputs({ serving: "region1" }),
    says: /this stack knows no peer/,
  },
  {
    rule: "stack-handover-target",
    title: "one node",
    of: ["one-replica", "region1"],
    change: outputs({ serving: "region2" }),
    says: /region2 is to serve alone with 1 nodes; raise restate:replicas to 3 first/,
  },
  {
    rule: "stack-guarded",
    title: "no guard",
    change: without("destroy-guard", "Stash"),
    says: /there is no destroy-guard/,
  },
  {
    rule: "stack-guarded",
    title: "something beside it",
    change: (recording) => {
      recording.resources.push({
        type: "aws:sns/topic:Topic",
        name: "alarms",
        dependsOn: [],
        inputs: { tags },
        graph: { urn: "urn:pulumi:region1::restate::aws:sns/topic:Topic::alarms", dependencies: [], reads: {} },
      });
    },
    says: /alarms: the guard does not depend on it/,
  },
  {
    rule: "kubernetes-cluster-identified",
    title: "by its address",
    change: edit("kubernetes", "providers", (i) => delete i.clusterIdentifier),
    says: /clusterIdentifier is not set/,
  },
];
