/** Rules about the snapshot buckets. */
import { statements } from "./documents";
import { type Report, type Resource, rule, type Stack } from "./rule";
import { about, ofType, types } from "./types";
import type { Value } from "./value";

/** Every bucket must have what a rule about its companion looks at: without it the rule would have nothing to say. */
function eachBucketHas(wanted: readonly string[], fault: string, remedy: string) {
  return (stack: Stack, report: Report) => {
    for (const bucket of ofType(stack, types.bucket)) {
      report.part(() => {
        if (about(stack, bucket, wanted).length === 0) report.violation(fault, remedy, bucket);
      });
    }
  };
}

/** Whether a lifecycle or replication rule is about every object. */
export function coversAll(one: Value): boolean {
  const narrowed = ["tag", "and", "objectSizeGreaterThan", "objectSizeLessThan"].some(
    (key) => !one.get("filter", key).missing,
  );
  return !narrowed && (one.get("filter", "prefix").text ?? one.get("prefix").text ?? "") === "";
}

const flags = ["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"] as const;

export const bucketRules = [
  rule({
    id: "bucket-public-access",
    title: "Every bucket blocks public access in all four ways.",
    why: "Snapshots hold the state of every service; one wrong ACL or policy would publish them.",
    severity: "critical",
    level: "mandatory",
    standards: [
      "FSBP S3.8",
      "CIS AWS 2.1.4",
      "CKV_AWS_53",
      "CKV_AWS_54",
      "CKV_AWS_55",
      "CKV_AWS_56",
      "CKV2_AWS_6",
      "AVD-AWS-0086",
      "AVD-AWS-0087",
      "AVD-AWS-0091",
      "AVD-AWS-0093",
      "AVD-AWS-0094",
    ],
    resource: {
      types: types.publicAccessBlock,
      check({ props }, report) {
        for (const flag of flags) {
          report.part(() => {
            if (!props.get(flag).isTrue) report.violation(`${flag} is not on`, `set ${flag}: true`);
          });
        }
      },
    },
    stack: eachBucketHas(
      types.publicAccessBlock,
      "the bucket has no public access block",
      "add a BucketPublicAccessBlock with its four flags on",
    ),
  }),

  rule({
    id: "bucket-tls-only",
    title: "Every bucket refuses requests without TLS.",
    why: "Without it a client with the wrong endpoint sends snapshots and credentials in the clear.",
    severity: "high",
    level: "mandatory",
    standards: ["FSBP S3.5", "CIS AWS 2.1.1", "CKV_AWS_379"],
    resource: {
      types: types.bucketPolicy,
      check({ props }, report) {
        const refusing = statements(props.get("policy")).filter(
          (one) =>
            one.effect === "Deny" &&
            !one.inverted &&
            one.actions.some((action) => action === "s3:*" || action === "*") &&
            one.principals.some(({ who }) => who.includes("*")) &&
            one.conditions.length === 1 &&
            one.conditions[0]!.operator === "Bool" &&
            one.conditions[0]!.key.toLowerCase() === "aws:securetransport" &&
            one.conditions[0]!.values.includes("false"),
        );
        const resources = refusing.flatMap((one) => one.resources);
        const covered = (arn: (resource: string) => boolean) => resources.some((one) => one === "*" || arn(one));
        if (refusing.length === 0) {
          report.violation(
            "the bucket policy does not refuse requests without TLS",
            'add a statement that denies s3:* to everyone under Bool aws:SecureTransport "false"',
          );
        } else if (!covered((arn) => !arn.includes("/")) || !covered((arn) => arn.endsWith("/*"))) {
          report.violation(
            `the statement that refuses requests without TLS covers only ${resources.join(", ") || "nothing"}`,
            "let it cover the bucket and everything below it",
          );
        }
      },
    },
    stack: eachBucketHas(
      types.bucketPolicy,
      "the bucket has no policy",
      "add a BucketPolicy that refuses requests without TLS",
    ),
  }),

  rule({
    id: "bucket-policy-private",
    title: "No bucket policy allows anything to everyone or to another account.",
    why: "Who may read snapshots is decided by the nodes' role alone.",
    severity: "critical",
    level: "mandatory",
    standards: ["FSBP S3.2", "FSBP S3.3", "FSBP S3.6", "CKV_AWS_70"],
    resource: {
      types: types.bucketPolicy,
      check({ props }, report) {
        for (const one of statements(props.get("policy"))) {
          if (one.effect !== "Allow") continue;
          const who = one.principals.flatMap((principal) => principal.who);
          report.violation(
            `its policy allows ${one.actions.join(", ") || "everything but some actions"} to ${who.join(", ") || "everyone but some"}`,
            "take the statement out and give the permission to the role that needs it",
          );
        }
      },
    },
  }),

  rule({
    id: "bucket-encrypted",
    title: "Every bucket encrypts what it keeps.",
    why: "Snapshots hold what services were given, secrets too.",
    severity: "high",
    level: "mandatory",
    standards: ["CKV_AWS_19", "AVD-AWS-0088"],
    resource: {
      types: types.bucketEncryption,
      check({ props }, report) {
        const rules = props.get("rules").list;
        const algorithms = rules.map((one) => one.get("applyServerSideEncryptionByDefault", "sseAlgorithm").text);
        if (!algorithms.some((one) => one === "AES256" || one?.startsWith("aws:kms"))) {
          report.violation(
            `its default encryption is ${algorithms.filter(Boolean).join(", ") || "not set"}`,
            "set sseAlgorithm to AES256 or aws:kms",
          );
        }
      },
    },
    stack: eachBucketHas(
      types.bucketEncryption,
      "the bucket has no default encryption of its own",
      "add a BucketServerSideEncryptionConfiguration",
    ),
  }),

  rule({
    id: "bucket-versioned",
    title: "Every bucket keeps versions.",
    why: "Replication needs versions at both ends, and an overwritten or deleted snapshot comes back only from a version.",
    severity: "high",
    level: "mandatory",
    standards: ["Security Hub S3.14", "CKV_AWS_21", "AVD-AWS-0090"],
    resource: {
      types: types.bucketVersioning,
      check({ props }, report) {
        const status = props.get("versioningConfiguration", "status").text;
        if (status !== "Enabled") report.violation(`versioning is ${status ?? "not set"}`, "set its status to Enabled");
      },
    },
    stack: eachBucketHas(
      types.bucketVersioning,
      "the bucket keeps no versions",
      "add a BucketVersioning with status Enabled",
    ),
  }),

  rule({
    id: "bucket-owner-enforced",
    title: "Every bucket has ACLs disabled: its owner owns every object.",
    why: "With ACLs, an object can be readable to others whatever the policies say.",
    severity: "medium",
    level: "mandatory",
    standards: ["FSBP S3.12", "CKV2_AWS_65"],
    resource: {
      types: types.bucketOwnership,
      check({ props }, report) {
        const ownership = props.get("rule", "objectOwnership").text;
        if (ownership !== "BucketOwnerEnforced") {
          report.violation(`objectOwnership is ${ownership ?? "not set"}`, "set it to BucketOwnerEnforced");
        }
      },
    },
    stack: eachBucketHas(
      types.bucketOwnership,
      "the bucket does not say who owns its objects",
      "add BucketOwnershipControls with BucketOwnerEnforced",
    ),
  }),

  rule({
    id: "bucket-lifecycle",
    title: "Every bucket lets replaced versions and abandoned uploads expire, and nothing else.",
    why: "Versions and upload parts pile up without an end; an expiry of current objects would delete snapshots in use.",
    severity: "medium",
    level: "mandatory",
    standards: ["Security Hub S3.10", "FSBP S3.13", "CKV2_AWS_61", "CKV_AWS_300"],
    parameters: {
      mostNoncurrentDays: {
        about: "Longest that replaced versions may be kept, in days.",
        type: "integer",
        default: 90,
      },
      leastNoncurrentDays: {
        about: "Shortest that replaced versions must be kept, in days: time to notice and go back.",
        type: "integer",
        default: 3,
      },
      mostUploadDays: {
        about: "Longest that parts of an abandoned upload may be kept, in days.",
        type: "integer",
        default: 7,
      },
    },
    resource: {
      types: types.bucketLifecycle,
      check({ props }, report, { mostNoncurrentDays, leastNoncurrentDays, mostUploadDays }) {
        const rules = props.get("rules").list.filter((one) => one.get("status").text === "Enabled");
        const whole = rules.filter(coversAll);
        const number = (...keys: string[]) =>
          whole.map((one) => one.get(...keys).number).find((days) => days !== undefined);
        report.part(() => {
          const days = number("noncurrentVersionExpiration", "noncurrentDays");
          if (days === undefined || days > mostNoncurrentDays || days < leastNoncurrentDays) {
            report.violation(
              `replaced versions are kept for ${days === undefined ? "ever" : `${days} days`}`,
              `set noncurrentVersionExpiration.noncurrentDays of a rule for the whole bucket to ${leastNoncurrentDays} to ${mostNoncurrentDays}`,
            );
          }
        });
        report.part(() => {
          const days = number("abortIncompleteMultipartUpload", "daysAfterInitiation");
          if (days === undefined || days > mostUploadDays) {
            report.violation(
              `parts of abandoned uploads are kept for ${days === undefined ? "ever" : `${days} days`}`,
              `set abortIncompleteMultipartUpload.daysAfterInitiation of a rule for the whole bucket to at most ${mostUploadDays}`,
            );
          }
        });
        for (const one of rules) {
          report.part(() => {
            const expires = one.get("expiration", "days").number ?? one.get("expiration", "date").text;
            // 0 and "" are how providers write what is not set.
            if (expires) {
              report.violation(
                `the rule ${one.get("id").text ?? ""} deletes current objects (${expires})`,
                "take expiration.days and expiration.date out: Restate itself deletes snapshots that it no longer needs",
              );
            }
          });
        }
      },
    },
    stack: eachBucketHas(types.bucketLifecycle, "the bucket has no lifecycle", "add a BucketLifecycleConfiguration"),
  }),

  rule({
    id: "bucket-protected",
    title: "Every bucket is protected from deletion by Pulumi.",
    why: "A renamed resource or a destroy in the wrong directory would take the snapshots with it.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: types.bucket,
      check({ protect }, report) {
        if (!protect) report.violation("the bucket is not protected", "set restate:protect to true");
      },
    },
  }),

  rule({
    id: "bucket-no-force-destroy",
    title: "No bucket is deleted with what it holds.",
    why: "forceDestroy empties the bucket, versions and all, when it is replaced or destroyed.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: types.bucket,
      check({ props }, report) {
        if (props.get("forceDestroy").isTrue) {
          report.violation("forceDestroy is on", "set restate:forceDestroy to false");
        }
      },
    },
  }),
];

/** Names of the stack's own buckets. Throws where one is not known yet. */
export function ownBuckets(stack: Stack): string[] {
  return ofType(stack, types.bucket).flatMap((bucket: Resource) => bucket.props.get("bucket").text ?? []);
}
