/** A sandbox in which deployments are disturbed, and what there is in it afterwards. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { KubeConfig, type KubernetesListObject, type V1Secret, Watch } from "@kubernetes/client-node";
import { type AwsControl, awsControl, type Fault } from "../../sandbox/aws/control";
import { typescript } from "../../sandbox/world/paths";
import { eventually, Sandbox } from "../support/sandbox";
import { Running } from "./processes";

/** The stacks, home region first. */
export const stacks = ["region1", "region2"] as const;
type StackName = (typeof stacks)[number];

/** The moment at which a run is killed. */
export type Moment =
  /** It, or what works for it, has made this call to AWS, which is answered 10 s later: never, to one that was killed. */
  | { call: Pick<Fault, "service" | "action" | "region"> }
  /** It has printed this. */
  | { printed: RegExp }
  /** Helm has recorded that it begins something in this stack's cluster. */
  | { helm: StackName; status: string }
  /** This time after its start, in milliseconds. */
  | { after: number };

/** Names of what there is, by kind; the random suffix of buckets is left out. */
export type Inventory = Record<string, string[]>;

const pause = (milliseconds: number) => new Promise<void>((done) => setTimeout(done, milliseconds));

/** The world of both regions, with no stack deployed to begin with. */
export class FaultWorld {
  readonly sandbox = new Sandbox();
  readonly aws: AwsControl = awsControl(join(this.sandbox.folder, "run", "aws-control.sock"));

  async start(): Promise<void> {
    await this.sandbox.command("up", "--world-only");
    // Asked for once, before anything is measured by time.
    for (const stack of stacks) await this.sandbox.environment(stack);
  }

  stop(): Promise<void> {
    return this.sandbox.stop();
  }

  /** Starts `npm run up`, without npm. */
  async up(): Promise<Running> {
    const { PULUMI_STACK: _, ...env } = await this.sandbox.environment("region1");
    return new Running([process.execPath, ...typescript, "commands/up.ts", "--yes"], env);
  }

  /** Starts a command of Pulumi's on one stack. */
  async pulumi(stack: StackName, ...args: string[]): Promise<Running> {
    return new Running(["pulumi", ...args, "--yes", "--skip-preview"], await this.sandbox.environment(stack));
  }

  /** Starts the destruction of a stack, also while the cluster needs it: its guard is taken away first. */
  async destroy(stack: StackName): Promise<Running> {
    await this.sandbox.takeGuardAway(stack);
    return this.pulumi(stack, "destroy");
  }

  /** Kills a run at a moment; false if it ended before that. */
  async killAt(run: Running, moment: Moment): Promise<boolean> {
    const reached = await this.watchFor(run, moment);
    while (!run.over && !(await reached.now())) await pause(20);
    const inTime = !run.over;
    run.kill();
    await run.ended;
    await reached.end();
    return inTime;
  }

  /** Waits until a run comes to a moment, or ends. */
  async reaches(run: Running, moment: Moment): Promise<void> {
    const reached = await this.watchFor(run, moment);
    while (!run.over && !(await reached.now())) await pause(20);
    await reached.end();
  }

  /** `npm run recover` for one stack: what it printed. */
  async recover(stack: StackName): Promise<string> {
    const env = await this.sandbox.environment(stack);
    const command = [process.execPath, ...typescript, "commands/recover.ts", "--stack", stack];
    return this.finish(Promise.resolve(new Running(command, env)));
  }

  private async watchFor(
    run: Running,
    moment: Moment,
  ): Promise<{ now(): Promise<boolean> | boolean; end(): Promise<void> }> {
    if ("call" in moment) {
      const id = await this.aws.addFault({ ...moment.call, effect: "delay", delayMs: 10_000 });
      return {
        now: async () => (await this.aws.faults()).some((fault) => fault.id === id && fault.hits > 0),
        end: () => this.aws.clearFaults(id),
      };
    }
    if ("printed" in moment) return { now: () => moment.printed.test(run.output), end: async () => {} };
    if ("after" in moment) {
      const at = Date.now() + moment.after;
      return { now: () => Date.now() >= at, end: async () => {} };
    }
    let seen = false;
    const config = new KubeConfig();
    config.loadFromFile((await this.sandbox.environment(moment.helm)).KUBECONFIG!);
    const watching = await new Watch(config).watch(
      "/api/v1/secrets",
      { labelSelector: `owner=helm,status=${moment.status}` },
      () => {
        // At once: it may be finished within milliseconds.
        if (!seen) run.kill();
        seen = true;
      },
      () => {},
    );
    return { now: () => seen, end: async () => watching.abort() };
  }

  /** Runs to the end; throws with what was printed unless it succeeds. */
  async finish(starting: Promise<Running>): Promise<string> {
    const run = await starting;
    const code = await run.ended;
    assert.equal(code, 0, run.output);
    return run.output;
  }

  /** Everything in AWS and Kubernetes that could have been made by the stacks. */
  async inventory(): Promise<Inventory> {
    const aws = async (region: string, query: string, ...args: string[]) =>
      (JSON.parse(await this.sandbox.must(region, "aws", ...args, "--query", query, "--output", "json")) ??
        []) as string[];
    const found: Inventory = {
      buckets: (await aws("region1", "Buckets[].Name", "s3api", "list-buckets")).map((name) =>
        name.replace(/-[0-9a-f]{8}$/, ""),
      ),
      roles: (await aws("region1", "Roles[].RoleName", "iam", "list-roles")).filter((name) => /^restate/.test(name)),
    };
    for (const role of found.roles!) {
      found[`policies of ${role}`] = await aws(
        "region1",
        "PolicyNames",
        ...["iam", "list-role-policies", "--role-name", role],
      );
    }
    for (const stack of stacks) {
      found[`${stack}: load balancers`] = await aws(
        stack,
        "LoadBalancers[].LoadBalancerName",
        ...["elbv2", "describe-load-balancers"],
      );
      found[`${stack}: target groups`] = (
        await aws(stack, "TargetGroups[].TargetGroupArn", ...["elbv2", "describe-target-groups"])
      ).map(() => "target group");
      Object.assign(found, await this.kubernetes(stack));
    }
    for (const names of Object.values(found)) names.sort();
    return found;
  }

  private async kubernetes(stack: StackName): Promise<Inventory> {
    const list = async (...args: string[]) =>
      (
        JSON.parse(
          await this.sandbox.must(stack, "kubectl", "get", "-o", "json", ...args),
        ) as KubernetesListObject<V1Secret>
      ).items;
    // The provisioning Job is named after what it does.
    const names = (items: V1Secret[]) =>
      items.map((item) => `${item.kind}/${item.metadata!.name}`.replace(/-[0-9a-f]{10}$/, ""));
    const found: Inventory = {
      [`${stack}: namespaces`]: names(await list("namespaces")).filter((name) => name.includes("restate")),
    };
    const kinds = [
      "services,statefulsets,jobs,cronjobs,serviceaccounts,poddisruptionbudgets,persistentvolumeclaims,configmaps",
    ].join();
    const all = names(await list(kinds, "-n", `restate-${stack}`));
    found[`${stack}: objects`] = all.filter(
      (name) => !["ConfigMap/kube-root-ca.crt", "ServiceAccount/default"].includes(name),
    );
    const records = await list("secrets", "-n", `restate-${stack}`, "-l", "owner=helm,status!=superseded");
    found[`${stack}: Helm releases`] = records.map(
      ({ metadata }) => `${metadata!.labels!.name} ${metadata!.labels!.status}`,
    );
    return found;
  }

  /** Demands that there is just this, once no load balancer is left behind by Services that are gone. */
  async settles(expected: Inventory): Promise<void> {
    const found = await eventually(
      60,
      () => this.inventory(),
      (seen) => isDeepStrictEqual(seen, expected),
    ).catch(() => this.inventory());
    assert.deepEqual(found, expected);
  }
}

/** What two deployed regions of the sandbox consist of, nothing more and nothing less. */
export const deployed: Inventory = {
  buckets: ["restate-snapshots-region1", "restate-snapshots-region2"],
  roles: ["restate-nodes", "restate-region1-replication", "restate-region2-replication"],
  "policies of restate-nodes": ["snapshots"],
  "policies of restate-region1-replication": ["replicate-snapshots"],
  "policies of restate-region2-replication": ["replicate-snapshots"],
  ...Object.assign(
    {},
    ...stacks.map((stack) => ({
      [`${stack}: load balancers`]: [0, 1, 2].map((i) => `restate-${stack}-${i}`),
      [`${stack}: target groups`]: ["target group", "target group", "target group"],
      [`${stack}: namespaces`]: [`Namespace/restate-${stack}`],
      [`${stack}: objects`]: [
        "ConfigMap/restate-handover",
        ...(stack === "region1" ? ["ConfigMap/restate-provision", "Job/restate-provision"] : []),
        ...["both", stack].map((target) => `CronJob/restate-serve-${target}`),
        ...[0, 1, 2].map((i) => `PersistentVolumeClaim/storage-restate-${i}`),
        "PodDisruptionBudget/restate",
        "Service/restate",
        ...[0, 1, 2].map((i) => `Service/restate-${i}`),
        "Service/restate-cluster",
        "ServiceAccount/restate",
        "StatefulSet/restate",
      ].sort(),
      [`${stack}: Helm releases`]: ["restate deployed"],
    })),
  ),
};

/** What there is before the first deployment and after the last. */
export const nothing: Inventory = {
  buckets: [],
  roles: [],
  ...Object.assign(
    {},
    ...stacks.map((stack) => ({
      [`${stack}: load balancers`]: [],
      [`${stack}: target groups`]: [],
      [`${stack}: namespaces`]: [],
      [`${stack}: objects`]: [],
      [`${stack}: Helm releases`]: [],
    })),
  ),
};
