/** CloudWatch alarms on the replication of snapshots, in both directions as far as S3 tells of them in this region. */
import * as cloudwatch from "@pulumi/aws/cloudwatch";
import * as pulumi from "@pulumi/pulumi";

export interface ReplicationAlarmsArgs {
  /** What the alarms' names begin with. */
  namePrefix: string;
  /** Names of this region's bucket and of the peer's. */
  ownBucket: pulumi.Input<string>;
  peerBucket: string;
  /** Id of the one replication rule of either bucket. */
  ruleId: string;
  /** Seconds that copies may lag behind. */
  lag: number;
  /** SNS topic of this region that is told when an alarm begins and ends. */
  topicArn?: string;
  tags: Record<string, string>;
}

/** Seconds between two looks at a metric; S3 publishes one value a minute. */
const period = 300;

/**
 * S3 publishes what waits to be copied, and how far it lags, in the region of the destination, and what failed in the region
 * of the source (S3 user guide, "Using S3 Replication metrics"). So each region watches what it is to receive and what it
 * sends: if one is lost, the other still tells what it lacks.
 */
export class ReplicationAlarms extends pulumi.ComponentResource {
  constructor(name: string, args: ReplicationAlarmsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:ReplicationAlarms", name, {}, opts);

    const actions = args.topicArn ? [args.topicArn] : [];
    const alarm = (
      what: string,
      source: pulumi.Input<string>,
      destination: pulumi.Input<string>,
      about: { metricName: string; statistic: string; threshold: number; evaluationPeriods: number; says: string },
    ) => {
      const { says, ...metric } = about;
      new cloudwatch.MetricAlarm(
        `${name}-${what}`,
        {
          name: `${args.namePrefix}-replication-${what}`,
          alarmDescription: `${says} Next: npm run status; docs/operations.md#snapshots-are-behind`,
          namespace: "AWS/S3",
          dimensions: { SourceBucket: source, DestinationBucket: destination, RuleId: args.ruleId },
          comparisonOperator: "GreaterThanThreshold",
          period,
          // Where nothing is copied S3 may tell nothing.
          treatMissingData: "notBreaching",
          alarmActions: actions,
          okActions: actions,
          tags: args.tags,
          ...metric,
        },
        { parent: this },
      );
    };
    // S3 needs some time for whatever is new, and more may come meanwhile.
    const waits = Math.max(1, Math.ceil((2 * args.lag) / period));
    alarm("lag", args.peerBucket, args.ownBucket, {
      metricName: "ReplicationLatency",
      statistic: "Maximum",
      threshold: args.lag,
      evaluationPeriods: 1,
      says: `Snapshots of the peer arrive more than ${args.lag} seconds late.`,
    });
    alarm("pending", args.peerBucket, args.ownBucket, {
      metricName: "OperationsPendingReplication",
      // The least of a period's values: not one minute was without something that waited.
      statistic: "Minimum",
      threshold: 0,
      evaluationPeriods: waits,
      says: `For ${waits * period} seconds there was always something of the peer's snapshots that waited to be copied.`,
    });
    alarm("failed", args.ownBucket, args.peerBucket, {
      metricName: "OperationsFailedReplication",
      statistic: "Sum",
      threshold: 0,
      evaluationPeriods: 1,
      says: "S3 gave up copying some of this region's snapshots to the peer; it does not try again.",
    });
    this.registerOutputs();
  }
}
