/** The IAM role that the Restate nodes of both regions take. Owned by the home region. */
import * as iam from "@pulumi/aws/iam";
import * as pulumi from "@pulumi/pulumi";
import { nodeTrust, snapshotAccess, type TrustedRegion } from "../aws/documents";

export interface RestateRoleArgs {
  roleName: string;
  /** The regions whose service accounts may take the role. */
  trusted: TrustedRegion[];
  /** The snapshot buckets that exist so far. */
  bucketArns: pulumi.Input<pulumi.Input<string>[]>;
  tags: Record<string, string>;
}

/** One role with the snapshots' permissions, trusted by exactly the given service accounts. */
export class RestateRole extends pulumi.ComponentResource {
  readonly arn: pulumi.Output<string>;
  /** What a node needs before it can use the role. */
  readonly permissions: iam.RolePolicy;

  constructor(name: string, args: RestateRoleArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:RestateRole", name, {}, opts);
    const child = { parent: this };

    const role = new iam.Role(
      name,
      {
        name: args.roleName,
        description: "Taken by Restate nodes to read and write snapshots",
        assumeRolePolicy: nodeTrust(args.trusted),
        tags: args.tags,
      },
      child,
    );
    this.permissions = new iam.RolePolicy(
      `${name}-permissions`,
      { name: "snapshots", role: role.name, policy: pulumi.output(args.bucketArns).apply(snapshotAccess) },
      child,
    );

    this.arn = role.arn;
    this.registerOutputs({ arn: this.arn });
  }
}
