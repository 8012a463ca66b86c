/** EKS Pod Identity: tells one EKS cluster that a service account may take the nodes' role. */
import * as eks from "@pulumi/aws/eks";
import * as pulumi from "@pulumi/pulumi";

export interface PodIdentityArgs {
  eksCluster: string;
  namespace: string;
  serviceAccount: string;
  roleArn: pulumi.Input<string>;
  tags: Record<string, string>;
}

/** The association of one region's service account with the nodes' role; only for the identity mode `podIdentity`. */
export class PodIdentity extends pulumi.ComponentResource {
  readonly associationArn: pulumi.Output<string>;

  constructor(name: string, args: PodIdentityArgs, opts?: pulumi.ComponentResourceOptions) {
    super("restate:index:PodIdentity", name, {}, opts);
    const association = new eks.PodIdentityAssociation(
      name,
      {
        clusterName: args.eksCluster,
        namespace: args.namespace,
        serviceAccount: args.serviceAccount,
        roleArn: args.roleArn,
        tags: args.tags,
      },
      { parent: this },
    );
    this.associationArn = association.associationArn;
    this.registerOutputs({ associationArn: this.associationArn });
  }
}
