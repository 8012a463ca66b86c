/** The contract between the two stacks: what a region exports, and what its peer reads from it. */
import { z } from "zod";
import { regionNames, type Serving, servingValues } from "./topology";

/** Raised when the shape of `RegionOutputs` changes in a way that an older peer cannot read. */
export const contractVersion = 1;

const nodeSchema = z.object({
  /** Restate's node name, e.g. `restate-0.region1`. */
  name: z.string(),
  pod: z.string(),
  /** What other nodes dial. */
  address: z.string(),
  /** Zone of the pod's volume, or of its Kubernetes node where the volume has none. */
  zone: z.string(),
  subnet: z.string(),
  loadBalancer: z.object({
    name: z.string(),
    /** DNS name that AWS gave the load balancer. */
    hostname: z.string(),
  }),
});

const tailSchema = z.object({
  log: z.number(),
  /** Index of the newest segment, and the first LSN in it. */
  segment: z.number(),
  base: z.number(),
  replication: z.string().nullish(),
  nodeset: z.string().nullish(),
  /** Last LSN that the partition's processors had applied. */
  applied: z.number().nullable(),
});

/** What a handover leaves behind: operations/handover/receipt.sh writes it. */
export const receiptSchema = z.object({
  /** Counted from 1 over the cluster's life. */
  number: z.number().int(),
  from: z.enum(servingValues),
  to: z.enum(servingValues),
  /** Times in UTC, ISO 8601 with milliseconds. The first step begins with the run, and each where the one before it ends. */
  began: z.string(),
  ended: z.string(),
  seconds: z.number(),
  /** Commit, user and hash of the settings; what the one who started it by hand said. */
  askedBy: z.record(z.string(), z.unknown()),
  /** Region where it ran. */
  ranIn: z.string(),
  steps: z.array(z.object({ step: z.string(), seconds: z.number(), changes: z.number() })),
  /** Commands that changed the cluster. */
  changes: z.number(),
  nodes: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      region: z.string(),
      storage: z.string(),
      worker: z.string(),
      metadata: z.string(),
    }),
  ),
  logsBefore: z.array(tailSchema),
  logsAfter: z.array(tailSchema),
  /** Whether snapshots hold all records from before it, so that nothing depends on drained nodes. */
  saved: z.boolean(),
});

/** The receipt of one handover. */
export type Receipt = z.infer<typeof receiptSchema>;

/** The part of a region's outputs that its peer builds from. */
export const peerOutputsSchema = z.object({
  contract: z.literal(contractVersion),
  region: z.enum(regionNames),
  cluster: z.string(),
  home: z.enum(regionNames),
  /** The regions that were to serve when it was last brought up. */
  serving: z.enum(servingValues).optional(),
  replicas: z.number().int(),
  domain: z.string(),
  awsRegion: z.string(),
  accountId: z.string(),
  kubernetes: z.object({
    /** EKS cluster or context; two regions with the same one are namespaces of one cluster. */
    cluster: z.string(),
    namespace: z.string(),
    serviceAccount: z.string(),
  }),
  identity: z.object({
    mode: z.enum(["oidc", "podIdentity", "kiam"]),
    oidcIssuer: z.string().optional(),
    eksClusterArn: z.string().optional(),
    kiamNodeRoleArn: z.string().optional(),
  }),
  bucket: z.object({
    name: z.string(),
    arn: z.string(),
    /** Days that replaced snapshots are kept, for comparing; absent from regions that an older program brought up. */
    noncurrentDays: z.number().int().optional(),
  }),
  /** The role's ARN, once it exists in the home region. */
  role: z.object({ arn: z.string() }).optional(),
  nodes: z.array(nodeSchema),
  /** Restate nodes that run now: fewer than `replicas` in a region that stands by. */
  runningReplicas: z.number().int().optional(),
  /** The last handover that this stack knows of; absent while there was none. */
  handover: z.object({ receipt: receiptSchema }).optional(),
});

/** What this stack knows of its peer: plain data, small enough to be remembered in this stack's own state. */
export type PeerOutputs = z.infer<typeof peerOutputsSchema>;

/** One node with the load balancer that leads to it. */
export type NodeOutputs = z.infer<typeof nodeSchema>;

/** All that a region's stack exports. */
export interface RegionOutputs extends PeerOutputs {
  serving: Serving;
  lead: PeerOutputs["region"];
  release: { name: string; chart: string; chartVersion: string; restateVersion: string };
  /** The outgoing side of the snapshots' replication; absent while the peer has no bucket. */
  replication?: { ruleId: string; destination: string; roleArn: string };
  /** The Job that provisioned the cluster or found it provisioned; absent in the region that is not home. */
  provisioning?: { job: string };
  /** How a handover is started without Pulumi: a command by the regions that shall serve. */
  emergency: Record<string, string>;
  /** What could not be done yet, each with the stack that it waits for and the next command. */
  pending: string[];
}
