/**
 * Stand-in for the AWS Load Balancer Controller, for Services of class `service.k8s.aws/nlb`: makes, changes and
 * removes network load balancers in the AWS API, and reports faults as Events with the real controller's reasons.
 * What carries the traffic is not here: the data plane reads the load balancers from the AWS API.
 *
 * What exists is recognised by its tags, so the controller keeps no state and can be killed at any moment.
 * Not done: ingresses, TargetGroupBindings, TLS and UDP, rules in the nodes' security groups.
 */
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
} from "@aws-sdk/client-ec2";
import {
  AddTagsCommand,
  CreateListenerCommand,
  CreateLoadBalancerCommand,
  CreateTargetGroupCommand,
  DeleteListenerCommand,
  DeleteLoadBalancerCommand,
  DeleteTargetGroupCommand,
  DeregisterTargetsCommand,
  DescribeLoadBalancerAttributesCommand,
  DescribeTargetGroupAttributesCommand,
  DescribeTargetHealthCommand,
  type LoadBalancer,
  ModifyListenerCommand,
  ModifyLoadBalancerAttributesCommand,
  ModifyTargetGroupAttributesCommand,
  ModifyTargetGroupCommand,
  RegisterTargetsCommand,
  RemoveTagsCommand,
  SetSecurityGroupsCommand,
  SetSubnetsCommand,
  type TargetGroup,
} from "@aws-sdk/client-elastic-load-balancing-v2";
import {
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1EndpointSlice,
  type V1Node,
  type V1Service,
} from "@kubernetes/client-node";
import type { WorldRegion } from "../world/regions";
import {
  finalizer,
  generatedName,
  type HealthCheckPlan,
  isServed,
  type ListenerPlan,
  type LoadBalancerPlan,
  readPlan,
} from "./annotations";
import {
  type AwsClients,
  allListeners,
  allLoadBalancers,
  allTargetGroups,
  awsMessage,
  hasCode,
  readVpcFacts,
  tagList,
  tagsOf,
} from "./aws";
import { EventRecorder, type EventSubject, hasStatus, type LiveList, messageOf, WorkQueue } from "./kubernetes";
import { log } from "./log";
import {
  instanceId,
  loadBalancerChange,
  resolveSecurityGroups,
  resolveSubnets,
  targetNodes,
  type VpcFacts,
  type ZonedSubnet,
} from "./nlb-model";
import { endpointAddresses } from "./routes";

const clusterTag = "elbv2.k8s.aws/cluster";
const stackTag = "service.k8s.aws/stack";
const resourceTag = "service.k8s.aws/resource";

/** A fault that an Event has been written about. */
class Reported extends Error {}

/** What the controller needs of its surroundings. */
interface NlbControllerOptions {
  region: WorldRegion;
  config: KubeConfig;
  aws: AwsClients;
  services: LiveList<V1Service>;
  nodes: LiveList<V1Node>;
  slices: LiveList<V1EndpointSlice>;
  /** Called after AWS has been changed, so that the data plane looks at once. */
  onAwsChange(): void;
}

interface Owned {
  loadBalancer?: LoadBalancer;
  loadBalancerTags: Record<string, string>;
  targetGroups: { group: TargetGroup; tags: Record<string, string> }[];
  /** All load balancers of the region, with the stack tag of each. */
  others: { name: string; stack?: string; cluster?: string }[];
}

/** The controller of one region. */
export class NlbController {
  private readonly core: CoreV1Api;
  private readonly events: EventRecorder;
  private readonly queue = new WorkQueue((key) => this.reconcile(key));
  private lastTargets = new Map<string, string>();
  private lastSeen = new Map<string, string>();
  private reconciled = new Map<string, string>();

  constructor(private readonly options: NlbControllerOptions) {
    this.core = options.config.makeApiClient(CoreV1Api);
    this.events = new EventRecorder(options.config, "service");
  }

  /** Starts to work on what there is and on each change. */
  start(): void {
    const { services, nodes, slices } = this.options;
    services.onChange(() => this.servicesChanged());
    nodes.onChange(() => this.targetsChanged());
    slices.onChange(() => this.targetsChanged());
    this.servicesChanged();
    // What was changed in AWS behind the controller's back is repaired, as by the real one's periodic look.
    setInterval(() => {
      for (const service of this.relevant()) this.queue.addUnlessRetrying(keyOf(service));
    }, 600_000).unref();
  }

  private relevant(): V1Service[] {
    return this.options.services.all().filter((s) => isServed(s) || s.metadata?.finalizers?.includes(finalizer));
  }

  private servicesChanged(): void {
    for (const service of this.relevant()) {
      // Only what the plan is made of counts: the controller's own writing of the status must not wake it again.
      const { annotations, deletionTimestamp, finalizers, uid } = service.metadata!;
      const seen = JSON.stringify([uid, annotations, deletionTimestamp, finalizers, service.spec]);
      const key = keyOf(service);
      if (this.lastSeen.get(key) === seen) continue;
      this.lastSeen.set(key, seen);
      this.queue.add(key);
    }
  }

  private targetsChanged(): void {
    for (const service of this.relevant()) {
      const plan = readPlan(service).plan;
      if (!plan) continue;
      const key = keyOf(service);
      const targets = JSON.stringify(plan.listeners.map((listener) => this.targets(service, plan, listener)));
      if (this.lastTargets.get(key) === targets) continue;
      this.lastTargets.set(key, targets);
      this.queue.addUnlessRetrying(key);
    }
  }

  private targets(service: V1Service, plan: LoadBalancerPlan, listener: ListenerPlan): { Id: string; Port: number }[] {
    if (plan.targetType === "instance") {
      return targetNodes(this.options.nodes.all(), plan.targetNodeLabels)
        .map((node) => ({ Id: instanceId(node)!, Port: listener.nodePort! }))
        .sort((a, b) => a.Id.localeCompare(b.Id));
    }
    return endpointAddresses(this.options.slices.all(), service, listener.name)
      .map((endpoint) => ({ Id: endpoint.ip, Port: endpoint.port }))
      .sort((a, b) => a.Id.localeCompare(b.Id));
  }

  private async reconcile(key: string): Promise<void> {
    const [namespace, name] = key.split("/") as [string, string];
    const service = this.options.services.get(name, namespace);
    if (!service) {
      for (const map of [this.lastSeen, this.lastTargets, this.reconciled]) map.delete(key);
      return;
    }
    if (service.metadata!.deletionTimestamp || !isServed(service)) {
      if (service.metadata!.finalizers?.includes(finalizer)) await this.cleanUp(service);
      return;
    }
    const reading = readPlan(service);
    const subject = subjectOf(service);
    // The real controller says nothing of these; here a typing error is to be noticed.
    for (const warning of reading.warnings)
      await this.events.record(subject, "Warning", "AnnotationWithoutEffect", warning);
    if (!reading.plan) return this.fail(subject, "FailedBuildModel", "build", reading.faults.join("; "));
    if (!service.metadata!.finalizers?.includes(finalizer)) {
      await this.patchFinalizers(service, [...(service.metadata!.finalizers ?? []), finalizer]);
    }
    let facts: VpcFacts;
    let owned: Owned;
    try {
      [facts, owned] = await Promise.all([readVpcFacts(this.options.region, this.options.aws.ec2), this.owned(key)]);
    } catch (error) {
      return this.fail(subject, "FailedBuildModel", "build", awsMessage(error));
    }
    const plan = reading.plan;
    const subnets = resolveSubnets(plan, facts);
    const groups = Array.isArray(plan.securityGroups)
      ? resolveSecurityGroups(plan.securityGroups, facts)
      : { ids: [], faults: [] };
    const faults = [...subnets.faults, ...groups.faults];
    if (faults.length > 0) return this.fail(subject, "FailedBuildModel", "build", faults.join("; "));
    if (plan.targetType === "instance" && targetNodes(this.options.nodes.all(), plan.targetNodeLabels).length === 0) {
      const labels = Object.entries(plan.targetNodeLabels).map(([k, v]) => `${k}=${v}`);
      const which = labels.length > 0 ? `ready node has the labels ${labels.join(", ")}` : "node is ready";
      await this.events.record(subject, "Warning", "NoTargets", `no ${which}: the load balancer has no targets`);
    }
    let changes: string[];
    let hostname: string;
    try {
      ({ changes, hostname } = await this.deploy(service, plan, facts, owned, subnets.subnets, groups.ids));
    } catch (error) {
      return this.fail(subject, "FailedDeployModel", "deploy", awsMessage(error));
    } finally {
      this.options.onAwsChange();
    }
    if (service.status?.loadBalancer?.ingress?.[0]?.hostname !== hostname) {
      try {
        await this.core.patchNamespacedServiceStatus(
          { name, namespace, body: { status: { loadBalancer: { ingress: [{ hostname }] } } } },
          setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
        );
      } catch (error) {
        return this.fail(subject, "FailedUpdateStatus", "update status", messageOf(error));
      }
    }
    if (changes.length > 0 || this.reconciled.get(key) !== service.metadata!.uid) {
      this.reconciled.set(key, service.metadata!.uid!);
      log(`${this.options.region.name} ${key}: ${changes.join(", ") || "nothing to change"}`);
      await this.events.record(subject, "Normal", "SuccessfullyReconciled", "Successfully reconciled");
    }
  }

  private async fail(subject: EventSubject, reason: string, action: string, message: string): Promise<never> {
    await this.events.record(subject, "Warning", reason, `Failed ${action} model due to ${message}`);
    throw new Reported(`${reason}: ${message}`);
  }

  private async patchFinalizers(service: V1Service, finalizers: string[]): Promise<void> {
    const { name, namespace, resourceVersion } = service.metadata!;
    try {
      const changed = await this.core.patchNamespacedService(
        { name: name!, namespace: namespace!, body: { metadata: { finalizers, resourceVersion } } },
        setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
      );
      service.metadata!.finalizers = changed.metadata?.finalizers;
    } catch (error) {
      if (hasStatus(error, 404)) return;
      const reason = finalizers.includes(finalizer) ? "FailedAddFinalizer" : "FailedRemoveFinalizer";
      await this.events.record(subjectOf(service), "Warning", reason, messageOf(error));
      throw new Reported(`${reason}: ${messageOf(error)}`);
    }
  }

  private ownTags(key: string, resource: string): Record<string, string> {
    return { [clusterTag]: this.options.region.eksClusterName, [stackTag]: key, [resourceTag]: resource };
  }

  private async owned(key: string): Promise<Owned> {
    const { elb } = this.options.aws;
    const [loadBalancers, targetGroups] = await Promise.all([allLoadBalancers(elb), allTargetGroups(elb)]);
    const tags = await tagsOf(elb, [
      ...loadBalancers.map((lb) => lb.LoadBalancerArn!),
      ...targetGroups.map((tg) => tg.TargetGroupArn!),
    ]);
    const isOwn = (arn: string) =>
      tags.get(arn)?.[clusterTag] === this.options.region.eksClusterName && tags.get(arn)?.[stackTag] === key;
    const loadBalancer = loadBalancers.find((lb) => isOwn(lb.LoadBalancerArn!));
    return {
      loadBalancer,
      loadBalancerTags: loadBalancer ? tags.get(loadBalancer.LoadBalancerArn!)! : {},
      targetGroups: targetGroups
        .filter((tg) => isOwn(tg.TargetGroupArn!))
        .map((group) => ({ group, tags: tags.get(group.TargetGroupArn!)! })),
      others: loadBalancers
        .filter((lb) => lb !== loadBalancer)
        .map((lb) => ({
          name: lb.LoadBalancerName!,
          stack: tags.get(lb.LoadBalancerArn!)?.[stackTag],
          cluster: tags.get(lb.LoadBalancerArn!)?.[clusterTag],
        })),
    };
  }

  /** Brings AWS to the plan; gives the host name and what was changed. */
  private async deploy(
    service: V1Service,
    plan: LoadBalancerPlan,
    facts: VpcFacts,
    owned: Owned,
    subnets: ZonedSubnet[],
    givenGroups: string[],
  ): Promise<{ hostname: string; changes: string[] }> {
    const { elb } = this.options.aws;
    const key = keyOf(service);
    const changes: string[] = [];
    const managedGroup = facts.securityGroups.find(
      (g) => g.tags[clusterTag] === this.options.region.eksClusterName && g.tags[stackTag] === key,
    );
    let groupIds = givenGroups;
    if (plan.securityGroups === "managed") {
      groupIds = [managedGroup?.id ?? (await this.createSecurityGroup(service, plan, facts.vpcId))];
      if (!managedGroup) changes.push("security group created");
    }

    let loadBalancer = owned.loadBalancer;
    if (loadBalancer) {
      const change = loadBalancerChange(
        {
          arn: loadBalancer.LoadBalancerArn!,
          name: loadBalancer.LoadBalancerName!,
          type: loadBalancer.Type!,
          scheme: loadBalancer.Scheme!,
          subnets: (loadBalancer.AvailabilityZones ?? []).map((z) => ({ id: z.SubnetId!, zone: z.ZoneName! })),
          securityGroups: loadBalancer.SecurityGroups ?? [],
        },
        { scheme: plan.scheme, subnets, securityGroups: groupIds },
      );
      const arn = loadBalancer.LoadBalancerArn!;
      if (change.replace) {
        await this.deleteLoadBalancer(arn, loadBalancer.LoadBalancerName!);
        changes.push(`load balancer deleted because ${change.replace}`);
        loadBalancer = undefined;
      } else {
        if (change.faults.length > 0) throw new Error(change.faults.join("; "));
        if (change.setSubnets) {
          await elb.send(new SetSubnetsCommand({ LoadBalancerArn: arn, Subnets: change.setSubnets }));
          changes.push(`subnets set to ${change.setSubnets.join(", ")}`);
        }
        if (change.setSecurityGroups) {
          await elb.send(
            new SetSecurityGroupsCommand({ LoadBalancerArn: arn, SecurityGroups: change.setSecurityGroups }),
          );
          changes.push(`security groups set to ${change.setSecurityGroups.join(", ")}`);
        }
      }
    }
    if (!loadBalancer) {
      const holder = owned.others.find((other) => other.name === plan.name);
      if (holder) {
        const owner = holder.stack ? `Service ${holder.stack} of cluster ${holder.cluster}` : "something else";
        throw new Error(
          `DuplicateLoadBalancerName: a load balancer with the name '${plan.name}' exists in ${this.options.region.awsRegion} and belongs to ${owner}`,
        );
      }
      const created = await elb.send(
        new CreateLoadBalancerCommand({
          Name: plan.name,
          Type: "network",
          Scheme: plan.scheme,
          IpAddressType: "ipv4",
          Subnets: subnets.map((s) => s.id),
          ...(groupIds.length > 0 ? { SecurityGroups: groupIds } : {}),
          Tags: tagList({ ...plan.tags, ...this.ownTags(key, "LoadBalancer") }),
        }),
      );
      loadBalancer = created.LoadBalancers![0]!;
      changes.push(`load balancer ${plan.name} created`);
    } else {
      const wanted = { ...plan.tags, ...this.ownTags(key, "LoadBalancer") };
      if (await this.reconcileTags(loadBalancer.LoadBalancerArn!, owned.loadBalancerTags, wanted)) {
        changes.push("tags of the load balancer changed");
      }
    }
    const arn = loadBalancer.LoadBalancerArn!;
    if (Object.keys(plan.loadBalancerAttributes).length > 0) {
      const now = tagRecordOf(
        (await elb.send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn: arn }))).Attributes,
      );
      const different = Object.entries(plan.loadBalancerAttributes).filter(([k, v]) => now[k] !== v);
      if (different.length > 0) {
        const Attributes = tagList(Object.fromEntries(different));
        await elb.send(new ModifyLoadBalancerAttributesCommand({ LoadBalancerArn: arn, Attributes }));
        changes.push(`attributes set: ${different.map(([k, v]) => `${k}=${v}`).join(", ")}`);
      }
    }

    const listeners = await allListeners(elb, arn);
    const kept = new Set<string>();
    for (const listenerPlan of plan.listeners) {
      const groupArn = await this.deployTargetGroup(service, plan, listenerPlan, facts.vpcId, owned, changes);
      kept.add(groupArn);
      const listener = listeners.find((l) => l.Port === listenerPlan.port);
      const DefaultActions = [{ Type: "forward" as const, TargetGroupArn: groupArn }];
      if (!listener) {
        await elb.send(
          new CreateListenerCommand({
            LoadBalancerArn: arn,
            Port: listenerPlan.port,
            Protocol: "TCP",
            DefaultActions,
            Tags: tagList({ ...plan.tags, ...this.ownTags(key, String(listenerPlan.port)) }),
          }),
        );
        changes.push(`listener ${listenerPlan.port} created`);
      } else if (listener.Protocol !== "TCP" || listener.DefaultActions?.[0]?.TargetGroupArn !== groupArn) {
        await elb.send(
          new ModifyListenerCommand({ ListenerArn: listener.ListenerArn, Protocol: "TCP", DefaultActions }),
        );
        changes.push(`listener ${listenerPlan.port} changed`);
      }
    }
    for (const listener of listeners) {
      if (plan.listeners.some((l) => l.port === listener.Port)) continue;
      await elb.send(new DeleteListenerCommand({ ListenerArn: listener.ListenerArn }));
      changes.push(`listener ${listener.Port} deleted`);
    }
    for (const { group } of owned.targetGroups) {
      if (kept.has(group.TargetGroupArn!)) continue;
      await elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: group.TargetGroupArn }));
      changes.push(`target group ${group.TargetGroupName} deleted`);
    }
    if (managedGroup && plan.securityGroups !== "managed") {
      await this.options.aws.ec2.send(new DeleteSecurityGroupCommand({ GroupId: managedGroup.id }));
      changes.push("security group deleted");
    }
    return { hostname: loadBalancer.DNSName!, changes };
  }

  private async deployTargetGroup(
    service: V1Service,
    plan: LoadBalancerPlan,
    listener: ListenerPlan,
    vpcId: string,
    owned: Owned,
    changes: string[],
  ): Promise<string> {
    const { elb } = this.options.aws;
    const key = keyOf(service);
    const resource = `${key}:${listener.port}`;
    const port =
      plan.targetType === "instance"
        ? listener.nodePort!
        : typeof listener.targetPort === "number"
          ? listener.targetPort
          : 1;
    const wantedTags = { ...plan.tags, ...this.ownTags(key, resource) };
    const check = healthCheckInput(plan.healthCheck);
    const found = owned.targetGroups.find(
      ({ group, tags }) =>
        tags[resourceTag] === resource &&
        group.TargetType === plan.targetType &&
        group.Protocol === "TCP" &&
        group.Port === port &&
        group.VpcId === vpcId,
    );
    let arn: string;
    if (found) {
      arn = found.group.TargetGroupArn!;
      if (await this.reconcileTags(arn, found.tags, wantedTags)) changes.push("tags of the target group changed");
      const now = found.group as unknown as Record<string, unknown>;
      const same = Object.entries(check).every(
        ([field, value]) => field === "Matcher" || String(now[field]) === String(value),
      );
      if (!same || (check.Matcher && found.group.Matcher?.HttpCode !== check.Matcher.HttpCode)) {
        await elb.send(new ModifyTargetGroupCommand({ TargetGroupArn: arn, ...check }));
        changes.push(`health check of port ${listener.port} changed`);
      }
    } else {
      // The name holds all that cannot be changed, so that a successor never meets its predecessor's name.
      const name = generatedName(
        service.metadata!.namespace!,
        service.metadata!.name!,
        this.options.region.eksClusterName,
        service.metadata!.uid!,
        String(listener.port),
        plan.targetType,
        String(port),
      );
      const created = await elb.send(
        new CreateTargetGroupCommand({
          Name: name,
          Protocol: "TCP",
          Port: port,
          VpcId: vpcId,
          TargetType: plan.targetType,
          ...check,
          Tags: tagList(wantedTags),
        }),
      );
      arn = created.TargetGroups![0]!.TargetGroupArn!;
      changes.push(`target group ${name} created`);
    }
    if (Object.keys(plan.targetGroupAttributes).length > 0) {
      const now = tagRecordOf(
        (await elb.send(new DescribeTargetGroupAttributesCommand({ TargetGroupArn: arn }))).Attributes,
      );
      const different = Object.entries(plan.targetGroupAttributes).filter(([k, v]) => now[k] !== v);
      if (different.length > 0) {
        const Attributes = tagList(Object.fromEntries(different));
        await elb.send(new ModifyTargetGroupAttributesCommand({ TargetGroupArn: arn, Attributes }));
        changes.push(`attributes of the target group set: ${different.map(([k, v]) => `${k}=${v}`).join(", ")}`);
      }
    }
    const health = await elb.send(new DescribeTargetHealthCommand({ TargetGroupArn: arn }));
    const registered = (health.TargetHealthDescriptions ?? [])
      .filter((d) => d.TargetHealth?.State !== "draining")
      .map((d) => ({ Id: d.Target!.Id!, Port: d.Target!.Port! }));
    const wanted = this.targets(service, plan, listener);
    const same = (a: { Id: string; Port: number }, b: { Id: string; Port: number }) =>
      a.Id === b.Id && a.Port === b.Port;
    const surplus = registered.filter((t) => !wanted.some((w) => same(t, w)));
    const missing = wanted.filter((w) => !registered.some((t) => same(t, w)));
    if (surplus.length > 0) {
      await elb.send(new DeregisterTargetsCommand({ TargetGroupArn: arn, Targets: surplus }));
      changes.push(`targets deregistered: ${surplus.map((t) => t.Id).join(", ")}`);
    }
    if (missing.length > 0) {
      await elb.send(new RegisterTargetsCommand({ TargetGroupArn: arn, Targets: missing }));
      changes.push(`targets registered: ${missing.map((t) => t.Id).join(", ")}`);
    }
    return arn;
  }

  private async reconcileTags(
    arn: string,
    now: Record<string, string>,
    wanted: Record<string, string>,
  ): Promise<boolean> {
    const { elb } = this.options.aws;
    const surplus = Object.keys(now).filter((k) => wanted[k] === undefined && !k.startsWith("aws:"));
    const different = Object.entries(wanted).filter(([k, v]) => now[k] !== v);
    if (surplus.length > 0) await elb.send(new RemoveTagsCommand({ ResourceArns: [arn], TagKeys: surplus }));
    if (different.length > 0) {
      await elb.send(new AddTagsCommand({ ResourceArns: [arn], Tags: tagList(Object.fromEntries(different)) }));
    }
    return surplus.length + different.length > 0;
  }

  private async createSecurityGroup(service: V1Service, plan: LoadBalancerPlan, vpcId: string): Promise<string> {
    const { ec2 } = this.options.aws;
    const { namespace, name } = service.metadata!;
    const created = await ec2.send(
      new CreateSecurityGroupCommand({
        GroupName: generatedName(namespace!, name!, this.options.region.eksClusterName),
        Description: `[k8s] Managed security group of the load balancer of Service ${namespace}/${name}`,
        VpcId: vpcId,
        TagSpecifications: [
          {
            ResourceType: "security-group",
            Tags: tagList({ ...plan.tags, ...this.ownTags(keyOf(service), "ManagedLBSecurityGroup") }),
          },
        ],
      }),
    );
    const ranges = service.spec?.loadBalancerSourceRanges ?? ["0.0.0.0/0"];
    await ec2.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: created.GroupId,
        IpPermissions: plan.listeners.map((listener) => ({
          IpProtocol: "tcp",
          FromPort: listener.port,
          ToPort: listener.port,
          IpRanges: ranges.map((CidrIp) => ({ CidrIp })),
        })),
      }),
    );
    return created.GroupId!;
  }

  private async deleteLoadBalancer(arn: string, name: string): Promise<void> {
    const { elb } = this.options.aws;
    const attributes = await elb.send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn: arn }));
    if (tagRecordOf(attributes.Attributes)["deletion_protection.enabled"] === "true") {
      throw new Error(
        `OperationNotPermitted: load balancer '${name}' cannot be deleted because deletion protection is enabled`,
      );
    }
    await elb.send(new DeleteLoadBalancerCommand({ LoadBalancerArn: arn }));
  }

  private async cleanUp(service: V1Service): Promise<void> {
    const { elb, ec2 } = this.options.aws;
    const key = keyOf(service);
    const { name, namespace } = service.metadata!;
    try {
      const owned = await this.owned(key);
      if (owned.loadBalancer) {
        const arn = owned.loadBalancer.LoadBalancerArn!;
        await this.deleteLoadBalancer(arn, owned.loadBalancer.LoadBalancerName!);
      }
      for (const { group } of owned.targetGroups) {
        await elb.send(new DeleteTargetGroupCommand({ TargetGroupArn: group.TargetGroupArn }));
      }
      const facts = await readVpcFacts(this.options.region, ec2);
      for (const group of facts.securityGroups) {
        if (group.tags[clusterTag] !== this.options.region.eksClusterName || group.tags[stackTag] !== key) continue;
        await ec2.send(new DeleteSecurityGroupCommand({ GroupId: group.id })).catch((error) => {
          if (!hasCode(error, "InvalidGroup.NotFound")) throw error;
        });
      }
    } catch (error) {
      return this.fail(subjectOf(service), "FailedDeployModel", "deploy", awsMessage(error));
    } finally {
      this.options.onAwsChange();
    }
    log(`${this.options.region.name} ${key}: load balancer and all that belonged to it deleted`);
    if (!service.metadata!.deletionTimestamp && service.status?.loadBalancer?.ingress) {
      try {
        await this.core.patchNamespacedServiceStatus(
          { name: name!, namespace: namespace!, body: { status: { loadBalancer: null } } },
          setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
        );
      } catch (error) {
        return this.fail(subjectOf(service), "FailedCleanupStatus", "clean up status of", messageOf(error));
      }
    }
    await this.patchFinalizers(
      service,
      service.metadata!.finalizers!.filter((f) => f !== finalizer),
    );
  }
}

function keyOf(service: V1Service): string {
  return `${service.metadata!.namespace}/${service.metadata!.name}`;
}

function subjectOf(service: V1Service): EventSubject {
  const { name, namespace, uid } = service.metadata!;
  return { apiVersion: "v1", kind: "Service", name: name!, namespace: namespace!, uid: uid! };
}

function tagRecordOf(attributes: { Key?: string; Value?: string }[] | undefined): Record<string, string> {
  return Object.fromEntries((attributes ?? []).map((a) => [a.Key ?? "", String(a.Value ?? "")]));
}

function healthCheckInput(check: HealthCheckPlan) {
  return {
    HealthCheckProtocol: check.protocol,
    HealthCheckPort: String(check.port),
    HealthCheckIntervalSeconds: check.intervalSeconds,
    HealthCheckTimeoutSeconds: check.timeoutSeconds,
    HealthyThresholdCount: check.healthyThreshold,
    UnhealthyThresholdCount: check.unhealthyThreshold,
    ...(check.protocol === "HTTP"
      ? { HealthCheckPath: check.path, Matcher: { HttpCode: check.successCodes } }
      : ({} as { HealthCheckPath?: string; Matcher?: { HttpCode?: string } })),
  };
}
