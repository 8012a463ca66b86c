/** Rules about IAM: who may take which role, and what the roles may do. */
import { ownBuckets } from "./buckets";
import { accountOf, bucketOfArn, conditionValues, type Statement, statements } from "./documents";
import { type Report, type Resource, rule, type Stack } from "./rule";
import { ofType, peerOf, types } from "./types";

/** What Restate does with its snapshots. */
const nodeActions = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"];

/** What S3 needs to replicate a bucket to another one of the same account. */
const replicationActions = [
  "s3:GetReplicationConfiguration",
  "s3:ListBucket",
  "s3:GetObjectVersionForReplication",
  "s3:GetObjectVersionAcl",
  "s3:GetObjectVersionTagging",
  "s3:ReplicateObject",
  "s3:ReplicateDelete",
  "s3:ReplicateTags",
];

/** Actions that only replication uses: a policy with one of them is measured by what replication needs. */
const replicationOnly = replicationActions.filter((action) => !nodeActions.includes(action));

/** Looks at each statement that allows something, in every kind of permission policy. */
function eachPermission(look: (one: Statement, report: Report, all: Statement[]) => void) {
  return {
    types: [...types.rolePolicy, ...types.managedPolicy, ...types.role],
    check({ props }: Resource, report: Report) {
      const inline = props.get("inlinePolicies").list.map((one) => one.get("policy"));
      for (const document of [props.get("policy"), ...inline]) {
        report.part(() => {
          const allowing = statements(document).filter((one) => one.effect === "Allow");
          for (const one of allowing) look(one, report, allowing);
        });
      }
    },
  };
}

/** Looks at each statement of a role's trust that allows something. */
function eachTrust(look: (one: Statement, report: Report) => void) {
  return {
    types: types.role,
    check({ props }: Resource, report: Report) {
      for (const one of statements(props.get("assumeRolePolicy"))) if (one.effect === "Allow") look(one, report);
    },
  };
}

/** Who a statement names, of one kind. */
function principals(one: Statement, kind: string): string[] {
  return one.principals.filter((principal) => principal.kind === kind).flatMap(({ who }) => who);
}

const wildcard = /[*?]/;

/** The issuer of an IAM OIDC provider, by its ARN. */
function issuerOf(provider: string): string | undefined {
  return /:oidc-provider\/(.+)$/.exec(provider)?.[1];
}

/** Every subject that the roles of a stack trust, as issuer and subject in one text. */
function trustedSubjects(stack: Stack): Map<string, Resource> {
  const trusted = new Map<string, Resource>();
  for (const role of ofType(stack, types.role)) {
    for (const one of statements(role.props.get("assumeRolePolicy"))) {
      for (const issuer of principals(one, "Federated").flatMap((provider) => issuerOf(provider) ?? [])) {
        for (const subject of conditionValues(one, "StringEquals", `${issuer}:sub`)) {
          trusted.set(`${issuer} ${subject}`, role);
        }
      }
    }
  }
  return trusted;
}

export const iamRules = [
  rule({
    id: "iam-no-wildcard-actions",
    title: "No policy allows actions by a wildcard or by exclusion.",
    why: "A wildcard allows what AWS adds tomorrow.",
    severity: "critical",
    level: "mandatory",
    standards: ["FSBP IAM.1", "FSBP IAM.21", "CIS AWS 1.16", "CKV_AWS_62", "CKV_AWS_63", "AVD-AWS-0057"],
    resource: eachPermission((one, report) => {
      const wide = one.actions.filter((action) => wildcard.test(action));
      if (wide.length > 0) report.violation(`it allows ${wide.join(", ")}`, "name the actions");
      if (one.inverted) report.violation("it allows all but what it names", "name what it allows");
    }),
  }),

  rule({
    id: "iam-no-wildcard-resources",
    title: "No policy is about every resource, or about buckets by a pattern.",
    why: "The nodes' role would reach buckets that have nothing to do with the cluster.",
    severity: "high",
    level: "mandatory",
    standards: ["FSBP IAM.1", "CKV_AWS_290", "CKV_AWS_355", "AVD-AWS-0057"],
    resource: eachPermission((one, report) => {
      if (one.resources.length === 0) report.violation("it names no resource", "name the buckets' ARNs");
      for (const arn of one.resources) {
        const bucket = bucketOfArn(arn);
        if (bucket === undefined ? wildcard.test(arn) : wildcard.test(bucket)) {
          report.violation(`it is about ${arn}`, "name the buckets' ARNs");
        }
      }
    }),
  }),

  rule({
    id: "iam-needed-actions",
    title: "Roles may do what Restate or replication needs, and nothing else.",
    why: "Whoever takes over a pod has the role: it must not reach further than the snapshots.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_288", "CKV_AWS_289"],
    parameters: {
      moreActions: { about: "Further actions that roles may have.", type: "array", default: [] as string[] },
    },
    resource: {
      types: [...types.rolePolicy, ...types.managedPolicy, ...types.role],
      check(resource, report, { moreActions }) {
        const needed = eachPermission((one, into, all) => {
          const replicates = all.some(({ actions }) => actions.some((action) => replicationOnly.includes(action)));
          const allowed = [...(replicates ? replicationActions : nodeActions), ...moreActions];
          // Wildcards are the business of iam-no-wildcard-actions.
          const beyond = one.actions.filter((action) => !wildcard.test(action) && !allowed.includes(action));
          if (beyond.length > 0) {
            into.violation(
              `it allows ${beyond.join(", ")}, which ${replicates ? "replication" : "Restate"} does not need`,
              "take that out, or add it to moreActions in the pack's configuration",
            );
          }
        });
        needed.check(resource, report);
      },
    },
  }),

  rule({
    id: "iam-own-buckets",
    title: "Roles reach the buckets of this cluster, and no others.",
    why: "One role for many buckets is one leak for many clusters.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_288"],
    stack(stack, report) {
      for (const policy of [...ofType(stack, types.rolePolicy), ...ofType(stack, types.managedPolicy)]) {
        report.part(() => {
          const arns = statements(policy.props.get("policy")).flatMap((one) =>
            one.effect === "Allow" ? one.resources : [],
          );
          const named = [...new Set(arns.flatMap((arn) => bucketOfArn(arn) ?? []))].filter(
            (one) => !wildcard.test(one),
          );
          if (named.length === 0) return;
          const own = [...ownBuckets(stack), peerOf(stack)?.get("bucket", "name").text];
          const foreign = named.filter((bucket) => !own.includes(bucket));
          if (foreign.length > 0) {
            report.violation(
              `it reaches ${foreign.join(", ")}`,
              "name only this region's bucket and the peer's",
              policy,
            );
          }
        });
      }
    },
  }),

  rule({
    id: "iam-web-identity-exact",
    title: "Web identities are trusted by exact audience and exact service accounts.",
    why: "Without aud and sub, or with a pattern in them, every pod of the cluster can take the role.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_AWS_60"],
    resource: eachTrust((one, report) => {
      const providers = principals(one, "Federated");
      if (providers.length === 0 && !one.actions.includes("sts:AssumeRoleWithWebIdentity")) return;
      const issuers = providers.flatMap((provider) => issuerOf(provider) ?? []);
      if (issuers.length !== 1 || providers.length !== 1) {
        report.violation(
          `a statement trusts ${providers.join(", ") || "no provider"}`,
          "write one statement for each IAM OIDC provider",
        );
        return;
      }
      const [issuer] = issuers;
      const audiences = conditionValues(one, "StringEquals", `${issuer}:aud`);
      if (audiences.length !== 1 || audiences[0] !== "sts.amazonaws.com") {
        report.violation(
          `tokens of ${issuer} are trusted for ${audiences.join(", ") || "any audience"}`,
          `set StringEquals ${issuer}:aud to sts.amazonaws.com`,
        );
      }
      const subjects = conditionValues(one, "StringEquals", `${issuer}:sub`);
      const inexact = subjects.filter((subject) => !/^system:serviceaccount:[^:*?]+:[^:*?]+$/.test(subject));
      if (subjects.length === 0 || inexact.length > 0) {
        report.violation(
          `tokens of ${issuer} are trusted for ${inexact.join(", ") || "any subject"}`,
          `set StringEquals ${issuer}:sub to system:serviceaccount:<namespace>:<service account>`,
        );
      }
    }),
  }),

  rule({
    id: "iam-trusted-service-accounts",
    title: "The nodes' role trusts the service accounts of the two regions, and no others.",
    why: "A service account that is not of this cluster could read and overwrite its snapshots.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_AWS_60"],
    stack(stack, report) {
      const trusted = trustedSubjects(stack);
      if (trusted.size === 0) return;
      const regions = [stack.outputs, peerOf(stack)].flatMap((region) => {
        if (region?.get("identity", "mode").text !== "oidc") return [];
        const issuer = region.get("identity", "oidcIssuer").text?.replace(/^https:\/\//, "");
        const namespace = region.get("kubernetes", "namespace").text;
        return [`${issuer} system:serviceaccount:${namespace}:${region.get("kubernetes", "serviceAccount").text}`];
      });
      for (const [subject, role] of trusted) {
        if (!regions.includes(subject)) {
          report.violation(`it trusts ${subject}, which is of neither region`, "take it out of the role's trust", role);
        }
      }
      for (const subject of regions) {
        if (!trusted.has(subject)) {
          report.violation(
            `no role trusts ${subject}`,
            "add it to the trust of the nodes' role: its pods get no credentials",
          );
        }
      }
    },
  }),

  rule({
    id: "iam-pod-identity-scoped",
    title: "EKS Pod Identity is trusted for named clusters, namespaces and service accounts only.",
    why: "Without these tags any association in the account can use the role.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_60"],
    resource: eachTrust((one, report) => {
      if (!principals(one, "Service").includes("pods.eks.amazonaws.com")) return;
      for (const tag of ["eks-cluster-arn", "kubernetes-namespace", "kubernetes-service-account"]) {
        const values = conditionValues(one, "StringEquals", `aws:RequestTag/${tag}`);
        if (values.length === 0 || values.some((value) => wildcard.test(value))) {
          report.violation(
            `pods are trusted for ${values.join(", ") || "any"} ${tag}`,
            `set StringEquals aws:RequestTag/${tag} to exact values`,
          );
        }
      }
    }),
  }),

  rule({
    id: "iam-service-trust-scoped",
    title: "Only S3 and EKS Pod Identity are trusted as services, and S3 only for this account.",
    why: "Without aws:SourceAccount a bucket of another account can have S3 use the role (confused deputy).",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_60", "CKV_AWS_61"],
    resource: eachTrust((one, report) => {
      for (const service of principals(one, "Service")) {
        if (service === "pods.eks.amazonaws.com") continue;
        if (service !== "s3.amazonaws.com") {
          report.violation(`it trusts the service ${service}`, "take the service out: nothing here needs it");
          continue;
        }
        const accounts = conditionValues(one, "StringEquals", "aws:SourceAccount");
        if (accounts.length !== 1 || !/^\d{12}$/.test(accounts[0]!)) {
          report.violation(
            `S3 is trusted for ${accounts.join(", ") || "any account"}`,
            "set StringEquals aws:SourceAccount to this account's id",
          );
        }
      }
    }),
  }),

  rule({
    id: "iam-trust-not-public",
    title: "No role can be taken by everyone, by a whole account or by exclusion.",
    why: "Such a trust leaves the decision to policies elsewhere.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_AWS_60", "CKV_AWS_61"],
    resource: eachTrust((one, report) => {
      const wide = one.principals
        .flatMap(({ who }) => who)
        .filter((who) => wildcard.test(who) || /^\d{12}$|:root$/.test(who));
      if (one.inverted) report.violation("its trust is for all but some", "name who may take the role");
      for (const who of wide) {
        report.violation(`its trust is for ${who === "*" ? "everyone" : who}`, "name the role that may take it");
      }
    }),
  }),

  rule({
    id: "iam-trust-own-account",
    title: "Roles are trusted within the cluster's own account only.",
    why: "Whoever administers another account would reach the snapshots.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_AWS_60"],
    stack(stack, report) {
      for (const role of ofType(stack, types.role)) {
        report.part(() => {
          const allowing = statements(role.props.get("assumeRolePolicy")).filter((one) => one.effect === "Allow");
          const named = allowing.flatMap((one) => [
            ...[...principals(one, "AWS"), ...principals(one, "Federated")].flatMap((who) => accountOf(who) ?? []),
            ...conditionValues(one, "StringEquals", "aws:SourceAccount"),
          ]);
          if (named.length === 0) return;
          const own = stack.outputs.get("accountId").text;
          for (const account of new Set(named)) {
            if (account !== own) {
              report.violation(
                `it trusts the account ${account}; this stack is of ${own ?? "an account that its outputs do not name"}`,
                "take the other account out",
                role,
              );
            }
          }
        });
      }
    },
  }),

  rule({
    id: "iam-no-managed-policies",
    title: "Roles have no managed policies.",
    why: "What a managed policy allows is decided elsewhere, and AWS changes its own at any time.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_274"],
    resource: {
      types: [...types.role, ...types.policyAttachment],
      check({ type, props }, report) {
        const remedy = "write what the role needs into its own RolePolicy";
        if (!(types.role as readonly string[]).includes(type)) {
          report.violation(`it attaches ${props.get("policyArn").text ?? "managed policies"}`, remedy);
          return;
        }
        const attached = props.get("managedPolicyArns").texts;
        if (attached.length > 0) report.violation(`it has ${attached.join(", ")}`, remedy);
      },
    },
  }),

  rule({
    id: "iam-no-long-lived-credentials",
    title: "There are no IAM users and no access keys.",
    why: "Keys leak and do not expire; pods get their credentials by identity.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_273"],
    resource: {
      types: types.longLivedCredentials,
      check({ type }, report) {
        report.violation(`${type} makes credentials that do not expire`, "use restate:identity instead");
      },
    },
  }),
];
