/** Replication of a region's snapshots to the peer's bucket. Each region owns its outgoing side. */
import * as iam from "@pulumi/aws/iam";
import * as s3 from "@pulumi/aws/s3";
import * as pulumi from "@pulumi/pulumi";
import { replicationAccess, replicationTrust } from "../aws/documents";

/** Id of the one replication rule; the alarms on it name it. */
export const replicationRuleId = "snapshots-to-peer";

/** Minutes within which S3 Replication Time Control copies objects; AWS offers this one value. */
const timeControlMinutes = 15;

export interface SnapshotReplicationArgs {
  /** Name of the role that S3 takes. */
  roleName: string;
  accountId: string;
  source: { name: pulumi.Input<string>; arn: pulumi.Input<string>; versioning: pulumi.Resource };
  /** The peer's bucket; its versioning is enabled before its stack exports it. */
  destinationArn: string;
  /** Replicate deletions, so that Restate's own clean-up reaches the copies. */
  deleteMarkers: boolean;
  timeControl: boolean;
  tags: Record<string, string>;
}

/** The role that S3 takes to copy, and the source bucket's replication configuration with its one rule. */
export class SnapshotReplication extends pulumi.ComponentResource {
  readonly roleArn: pulumi.Output<string>;
  readonly ruleId = replicationRuleId;
  readonly destination: string;

  constructor(name: string, args: SnapshotReplicationArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:SnapshotReplication", name, {}, opts);
    const child = { parent: this };

    const role = new iam.Role(
      `${name}-role`,
      {
        name: args.roleName,
        description: "Taken by S3 to replicate Restate snapshots to the peer region",
        assumeRolePolicy: replicationTrust(args.accountId),
        tags: args.tags,
      },
      child,
    );
    const permissions = new iam.RolePolicy(
      `${name}-permissions`,
      {
        name: "replicate-snapshots",
        role: role.name,
        policy: pulumi.output(args.source.arn).apply((source) => replicationAccess(source, args.destinationArn)),
      },
      child,
    );
    const enabled = (on: boolean) => ({ status: on ? "Enabled" : "Disabled" });
    new s3.BucketReplicationConfig(
      name,
      {
        bucket: args.source.name,
        role: role.arn,
        rules: [
          {
            id: replicationRuleId,
            priority: 1,
            status: "Enabled",
            filter: { prefix: "" },
            deleteMarkerReplication: enabled(args.deleteMarkers),
            sourceSelectionCriteria: { replicaModifications: enabled(true) },
            destination: {
              bucket: args.destinationArn,
              metrics: {
                status: "Enabled",
                ...(args.timeControl ? { eventThreshold: { minutes: timeControlMinutes } } : {}),
              },
              ...(args.timeControl
                ? { replicationTime: { status: "Enabled", time: { minutes: timeControlMinutes } } }
                : {}),
            },
          },
        ],
      },
      { ...child, dependsOn: [args.source.versioning, permissions] },
    );

    this.roleArn = role.arn;
    this.destination = args.destinationArn;
    this.registerOutputs({ roleArn: this.roleArn, ruleId: this.ruleId, destination: this.destination });
  }
}
