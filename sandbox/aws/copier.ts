/**
 * Copies versions between buckets as their replication configurations say: what S3 replication does.
 *
 * moto keeps, with each version, the rules that still have to be settled (moto/replication.py); that is the queue. The copier only
 * decides when, and whether the role may. So it can be killed, paused or slowed at any moment and loses nothing.
 *
 * Differences to S3: a copy appears within milliseconds unless a delay is set; replicas keep their version's id and time; a missing
 * permission fails a version at once (S3 tries for a while first); KMS keys are not looked at; Replication Time Control changes nothing.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { accountId } from "../world/regions";
import { authorize, trustsService, withoutReason } from "./authorize";
import type { IdentityCache } from "./callers";
import type { CopierSettings, CopierState, RuleMetrics } from "./control";
import type { Audit } from "./faults";
import type { Metric, Moto, ReplicationConfiguration, WaitingVersion } from "./moto";
import type { Need } from "./request";

/** What the copier does unless told otherwise. */
export const defaultCopierSettings: CopierSettings = {
  paused: false,
  delayMs: 0,
  bytesPerSecond: null,
  order: "written",
  hold: [],
};

/** How often the queue is looked at when no write announced itself, in milliseconds. */
const pollMs = 2000;
const metricsEveryMs = 60_000;

/** What waits and may be copied now, in the order in which to copy it. */
export function due(waiting: readonly WaitingVersion[], settings: CopierSettings, now: number): WaitingVersion[] {
  if (settings.paused) return [];
  const free = waiting.filter((version) => !settings.hold.some((part) => version.key.includes(part)));
  const ripe = free.filter((version) => now - version.since >= settings.delayMs);
  if (settings.order === "written" || ripe.length === 0) return ripe;
  // Versions of one key keep their order among each other only by their times: their places do not depend on it.
  return [...free].sort((a, b) => b.since - a.since);
}

/** The permissions that S3 needs to copy a version, on the source first. */
export function neededToCopy(version: WaitingVersion, destination: string): Need[] {
  const source = `arn:aws:s3:::${version.bucket}`;
  const on = (action: string, resource: string): Need => ({ action: `s3:${action}`, resource, context: {} });
  const object = `${source}/${version.key}`;
  const target = `arn:aws:s3:::${destination}/${version.key}`;
  const base = [on("GetReplicationConfiguration", source), on("ListBucket", source)];
  if (version.kind === "deleteMarker") return [...base, on("ReplicateDelete", target)];
  return [
    ...base,
    on("GetObjectVersionForReplication", object),
    on("GetObjectVersionAcl", object),
    ...(version.tagged ? [on("GetObjectVersionTagging", object)] : []),
    on("ReplicateObject", target),
    ...(version.tagged || version.kind === "modification" ? [on("ReplicateTags", target)] : []),
  ];
}

type Rule = ReplicationConfiguration["rules"][number];

/** The copier. One for all buckets. */
export class Copier {
  settings: CopierSettings;
  private running = false;
  private wake: (() => void) | undefined;
  private woken = false;
  private finished: Promise<void> | undefined;
  private readonly counts = new Map<string, { failed: number; replicated: number }>();
  private readonly failures: CopierState["failures"] = [];
  private metricsSentAt = 0;
  private lastTrouble: string | undefined;

  constructor(
    private readonly moto: Moto,
    private readonly identities: IdentityCache,
    private readonly audit: Audit,
    settings: Partial<CopierSettings> = {},
  ) {
    this.settings = { ...defaultCopierSettings, ...settings };
  }

  start(): void {
    this.running = true;
    this.finished = this.run();
  }

  async stop(): Promise<void> {
    this.running = false;
    this.nudge();
    await this.finished;
  }

  /** To be called when something was written to S3, or the settings have changed. */
  nudge(): void {
    this.woken = true;
    this.wake?.();
  }

  /** Throws when a value is not a possible one. */
  set(change: Partial<CopierSettings>): CopierSettings {
    const settings = { ...this.settings, ...change };
    if (!(settings.delayMs >= 0)) throw new Error(`delayMs is ${settings.delayMs}: write milliseconds, 0 or more`);
    if (settings.bytesPerSecond !== null && !(settings.bytesPerSecond > 0)) {
      throw new Error(`bytesPerSecond is ${settings.bytesPerSecond}: write a number above 0, or null for no limit`);
    }
    if (settings.order !== "written" && settings.order !== "newestFirst") {
      throw new Error(`order is ${settings.order}: write written or newestFirst`);
    }
    if (!Array.isArray(settings.hold)) throw new Error("hold is not a list of strings");
    this.settings = settings;
    this.nudge();
    return settings;
  }

  async state(): Promise<CopierState> {
    return { settings: this.settings, rules: await this.metrics(), failures: this.failures };
  }

  private async metrics(): Promise<RuleMetrics[]> {
    const { configurations, waiting } = await this.moto.replication();
    const now = Date.now();
    return configurations.flatMap(({ bucket, rules }) =>
      rules.map((rule) => {
        const pending = waiting.filter((v) => v.bucket === bucket && v.rules.includes(rule.id));
        const counts = this.counts.get(`${bucket}/${rule.id}`);
        return {
          sourceBucket: bucket,
          destinationBucket: rule.destination,
          ruleId: rule.id,
          replicationLatency: Math.max(0, ...pending.map((v) => (now - v.since) / 1000)),
          bytesPendingReplication: pending.reduce((sum, v) => sum + (v.kind === "object" ? v.size : 0), 0),
          operationsPendingReplication: pending.length,
          operationsFailedReplication: counts?.failed ?? 0,
          operationsReplicated: counts?.replicated ?? 0,
        };
      }),
    );
  }

  private async run(): Promise<void> {
    while (this.running) {
      let next = pollMs;
      try {
        next = await this.round();
        await this.sendMetrics();
        this.lastTrouble = undefined;
      } catch (error) {
        const { message } = error as Error;
        // Once, not twice a second for as long as moto is away.
        if (message !== this.lastTrouble) console.error(`replication: ${message}; trying again until it works`);
        this.lastTrouble = message;
        next = 500;
      }
      if (!this.woken) {
        await Promise.race([
          sleep(next),
          new Promise<void>((resolve) => {
            this.wake = resolve;
          }),
        ]);
      }
      this.woken = false;
    }
  }

  /** Copies what is due; gives the milliseconds until something else may be. */
  private async round(): Promise<number> {
    this.woken = false;
    if (this.settings.paused) return pollMs;
    const { configurations, waiting } = await this.moto.replication();
    for (const version of due(waiting, this.settings, Date.now())) {
      for (const id of version.rules) {
        // Pausing takes effect at once, not after all that is due.
        if (!this.running || this.settings.paused) return pollMs;
        const configuration = configurations.find((c) => c.bucket === version.bucket);
        const rule = configuration?.rules.find((r) => r.id === id);
        await this.settle(version, id, configuration, rule);
      }
      const { bytesPerSecond } = this.settings;
      if (bytesPerSecond && version.kind === "object") await sleep((version.size / bytesPerSecond) * 1000);
    }
    const oldest = Math.min(...waiting.map((v) => v.since + this.settings.delayMs - Date.now()).filter((ms) => ms > 0));
    return Math.min(pollMs, Math.max(5, oldest));
  }

  private async settle(
    version: WaitingVersion,
    ruleId: string,
    configuration: ReplicationConfiguration | undefined,
    rule: Rule | undefined,
  ): Promise<void> {
    const task = { bucket: version.bucket, key: version.key, versionId: version.versionId, rule: ruleId };
    const refused =
      configuration && rule
        ? await this.refusal(version, configuration, rule)
        : `bucket ${version.bucket} has no rule ${ruleId} any more`;
    let reason = refused;
    if (refused === undefined) {
      const { done, reason: why } = await this.moto.apply(task);
      if (!done) reason = why;
    } else {
      await this.moto.fail({ ...task, reason: refused });
    }
    const counts = this.counts.get(`${version.bucket}/${ruleId}`) ?? { failed: 0, replicated: 0 };
    this.counts.set(`${version.bucket}/${ruleId}`, counts);
    if (reason === undefined) {
      counts.replicated++;
      return;
    }
    counts.failed++;
    this.failures.push({ time: new Date().toISOString(), ...task, reason });
    if (this.failures.length > 200) this.failures.shift();
  }

  /** Why S3 may not copy this version; undefined when it may. */
  private async refusal(
    version: WaitingVersion,
    configuration: ReplicationConfiguration,
    rule: Rule,
  ): Promise<string | undefined> {
    const identities = await this.identities.get();
    const role = identities.roles.find((r) => r.arn === configuration.role);
    if (!role) return `the role ${configuration.role} does not exist`;
    const trusted = trustsService(role, "s3.amazonaws.com");
    if (!trusted.allowed) {
      const denied = { action: "sts:AssumeRole", resource: role.arn };
      this.audit.add({
        principal: "s3.amazonaws.com",
        ...denied,
        decision: "denied",
        reason: trusted.reason,
      });
      return withoutReason(`the role ${role.name} does not trust s3.amazonaws.com for this account`, trusted);
    }
    const session = `arn:aws:sts::${accountId}:assumed-role/${role.name}/s3-replication`;
    for (const need of neededToCopy(version, rule.destination)) {
      const bucketName = need.resource.replace("arn:aws:s3:::", "").split("/")[0];
      const policy = identities.buckets.find((b) => b.name === bucketName)?.policy ?? null;
      const { policies, boundary } = role;
      const decision = authorize({ arn: session, role: role.arn, policies, boundary }, need, policy);
      if (!decision.allowed) {
        const { action, resource } = need;
        this.audit.add({ principal: role.arn, action, resource, decision: "denied", reason: decision.reason });
        return withoutReason(`the role ${role.name} may not ${action} on ${resource}`, decision);
      }
    }
    return undefined;
  }

  /** Gives CloudWatch the metrics of the rules that have metrics enabled, each minute, as S3 does. */
  private async sendMetrics(): Promise<void> {
    if (Date.now() - this.metricsSentAt < metricsEveryMs) return;
    this.metricsSentAt = Date.now();
    const { configurations } = await this.moto.replication();
    const metrics = await this.metrics();
    for (const { bucket, region, rules } of configurations) {
      const shown = metrics.filter(
        (m) => m.sourceBucket === bucket && rules.some((r) => r.id === m.ruleId && r.metrics),
      );
      const data: Metric[] = shown.flatMap((m) => {
        const dimensions = { SourceBucket: bucket, DestinationBucket: m.destinationBucket, RuleId: m.ruleId };
        return [
          { name: "ReplicationLatency", value: m.replicationLatency, dimensions },
          { name: "BytesPendingReplication", value: m.bytesPendingReplication, dimensions },
          { name: "OperationsPendingReplication", value: m.operationsPendingReplication, dimensions },
          { name: "OperationsFailedReplication", value: m.operationsFailedReplication, dimensions },
        ];
      });
      if (data.length > 0) await this.moto.putMetrics(region, "AWS/S3", data);
    }
  }
}
