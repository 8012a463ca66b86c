/** Rules about the replication of snapshots between the regions. */
import { coversAll, ownBuckets } from "./buckets";
import { type Report, type Resource, rule } from "./rule";
import { about, ofType, peerOf, types } from "./types";
import type { Value } from "./value";

/** Looks at each rule of a replication configuration, with the words to name it. */
function eachRule(look: (one: Value, id: string, report: Report) => void) {
  return {
    types: types.replication,
    check({ props }: Resource, report: Report) {
      for (const one of props.get("rules").list) {
        report.part(() => look(one, `the rule ${one.get("id").text ?? "without an id"}`, report));
      }
    },
  };
}

/** Days for which a lifecycle configuration keeps replaced versions. */
function noncurrentDays(lifecycle: Resource): number | undefined {
  const days = lifecycle.props
    .get("rules")
    .list.map((one) => one.get("noncurrentVersionExpiration", "noncurrentDays").number);
  return days.find((one) => one !== undefined);
}

export const replicationRules = [
  rule({
    id: "replication-configured",
    title: "Once the peer's bucket is known, every bucket is replicated to it.",
    why: "A region that is lost takes the snapshots with it that the other one does not have.",
    severity: "critical",
    level: "mandatory",
    standards: ["Security Hub S3.7", "CKV_AWS_144"],
    stack(stack, report) {
      if (!peerOf(stack)) return;
      for (const bucket of ofType(stack, types.bucket)) {
        report.part(() => {
          if (about(stack, bucket, types.replication).length === 0) {
            report.violation(
              "the bucket is not replicated",
              "add a BucketReplicationConfig to the peer's bucket",
              bucket,
            );
          }
        });
      }
    },
  }),

  rule({
    id: "replication-to-peer",
    title: "Replication goes from the region's own bucket to the peer's, and to no other.",
    why: "Snapshots that go elsewhere are missing where a failover looks for them, and may be read by others.",
    severity: "critical",
    level: "mandatory",
    standards: ["Security Hub S3.7"],
    resource: eachRule((one, id, report) => {
      const account = one.get("destination", "account").text;
      const owner = one.get("destination", "accessControlTranslation", "owner").text;
      if (account || owner) {
        report.violation(
          `${id} hands objects to the account ${account ?? owner}`,
          "take destination.account and accessControlTranslation out: both buckets belong to one account",
        );
      }
    }),
    stack(stack, report) {
      const peer = peerOf(stack);
      for (const config of ofType(stack, types.replication)) {
        report.part(() => {
          const expected = peer?.get("bucket", "arn").text;
          for (const one of config.props.get("rules").list) {
            const destination = one.get("destination", "bucket").text;
            if (destination !== expected) {
              report.violation(
                `objects go to ${destination ?? "no bucket"}, the peer's bucket is ${expected ?? "not known to this stack"}`,
                "take the destination from the peer's outputs",
                config,
              );
            }
          }
        });
        report.part(() => {
          const source = config.props.get("bucket").text ?? "";
          if (!ownBuckets(stack).includes(source)) {
            report.violation(
              `${source} is no bucket of this stack`,
              "each region configures its own outgoing side",
              config,
            );
          }
        });
      }
    },
  }),

  rule({
    id: "replication-rule-form",
    title: "Replication rules have an id, a priority and a filter, are on, and say what becomes of deletions.",
    why: "Without a filter S3 takes a rule for the old form, which replicates deletions and offers no metrics; alarms name rules by id.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: eachRule((one, id, report) => {
      const faults: [boolean, string, string][] = [
        [one.get("id").missing, "has no id", "give it a fixed id"],
        [one.get("priority").number === undefined, "has no priority", "set priority"],
        [one.get("filter").missing, "has no filter", 'set filter: { prefix: "" }'],
        [one.get("status").text !== "Enabled", "is not on", 'set status to "Enabled"'],
        [
          one.get("deleteMarkerReplication", "status").missing,
          "does not say whether deletions are replicated",
          "set deleteMarkerReplication.status",
        ],
      ];
      for (const [wrong, fault, remedy] of faults) if (wrong) report.violation(`${id} ${fault}`, remedy);
    }),
  }),

  rule({
    id: "replication-complete",
    title: "Replication covers every object of the bucket.",
    why: "A snapshot consists of several objects; a copy that lacks one cannot be restored.",
    severity: "high",
    level: "mandatory",
    standards: [],
    resource: {
      types: types.replication,
      check({ props }, report) {
        if (!props.get("rules").list.some(coversAll)) {
          report.violation("no rule covers the whole bucket", 'set filter: { prefix: "" } without tags');
        }
      },
    },
  }),

  rule({
    id: "replication-metrics",
    title: "Replication reports metrics.",
    why: "Without them nobody sees that snapshots lag behind, and failures are silent.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    resource: eachRule((one, id, report) => {
      if (one.get("destination", "metrics", "status").text !== "Enabled") {
        report.violation(`${id} reports no metrics`, 'set destination.metrics.status to "Enabled"');
      }
    }),
  }),

  rule({
    id: "replication-replica-modifications",
    title: "Changes of replicas are replicated back.",
    why: "With replication both ways, a change of a copy's metadata stays on one side otherwise.",
    severity: "low",
    level: "mandatory",
    standards: [],
    resource: eachRule((one, id, report) => {
      if (one.get("sourceSelectionCriteria", "replicaModifications", "status").text !== "Enabled") {
        report.violation(
          `${id} leaves changes of replicas out`,
          'set sourceSelectionCriteria.replicaModifications.status to "Enabled"',
        );
      }
    }),
  }),

  rule({
    id: "replication-after-versioning",
    title: "Replication waits for the versioning of its bucket.",
    why: "S3 refuses a replication configuration of a bucket without versions: the first update would fail half-way.",
    severity: "medium",
    level: "mandatory",
    standards: [],
    stack(stack, report) {
      for (const bucket of ofType(stack, types.bucket)) {
        report.part(() => {
          const versioning = about(stack, bucket, types.bucketVersioning);
          for (const config of about(stack, bucket, types.replication)) {
            if (!versioning.some((one) => config.dependsOn.has(one.urn))) {
              report.violation(
                "it does not wait for the bucket's versioning",
                "let it depend on the BucketVersioning",
                config,
              );
            }
          }
        });
      }
    },
  }),

  rule({
    id: "replication-same-lifecycle",
    title: "Both buckets keep replaced versions equally long.",
    why: "S3 does not replicate what lifecycle rules do: the buckets would drift apart, and a copy lack what the source still has. Advice only, since a change reaches one stack first.",
    severity: "medium",
    level: "advisory",
    standards: [],
    stack(stack, report) {
      const theirs = peerOf(stack)?.get("bucket", "noncurrentDays").number;
      // A peer that was last brought up by an older program does not say.
      if (theirs === undefined) return;
      for (const lifecycle of ofType(stack, types.bucketLifecycle)) {
        report.part(() => {
          const own = noncurrentDays(lifecycle);
          if (own !== theirs) {
            report.violation(
              `replaced versions are kept for ${own ?? "no"} days here and ${theirs} days in the peer's bucket`,
              "set restate:snapshots.noncurrentDays to the same value in both stacks, and bring both up",
              lifecycle,
            );
          }
        });
      }
    },
  }),
];
