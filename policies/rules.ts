/** Every rule of the pack, by group. */
import { bucketRules } from "./buckets";
import { iamRules } from "./iam";
import { jobRules } from "./jobs";
import { loadBalancerRules } from "./loadBalancers";
import { releaseRules } from "./release";
import { replicationRules } from "./replication";
import type { Rule } from "./rule";
import { secretRules } from "./secrets";
import { stackRules } from "./stack";

/** The rules by group, in the order in which README.md shows them. */
export const groups: Readonly<Record<string, readonly Rule[]>> = {
  "Snapshot buckets": bucketRules,
  Replication: replicationRules,
  IAM: iamRules,
  "Load balancers of nodes": loadBalancerRules,
  "Restate's Helm release": releaseRules,
  Secrets: secretRules,
  "Jobs and CronJobs": jobRules,
  "The stack and its peer": stackRules,
};

/** Every rule. */
export const rules: readonly Rule[] = Object.values(groups).flat();
