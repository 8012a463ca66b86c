/** Checks the targets of target groups, by TCP or HTTP, with the group's interval and thresholds. */
import { get } from "node:http";
import { connect } from "node:net";
import type { TargetGroupView } from "./routes";

/** A target's health as AWS names it. */
export type Health = "initial" | "healthy" | "unhealthy";

/** What one check is made against; undefined when there is no pod to ask. */
interface CheckAddress {
  ip: string;
  port: number;
  localAddress?: string;
}

/** Says whether a status code is within codes such as `200,204` or `200-399`. Pure. */
export function codeMatches(code: number, codes: string): boolean {
  return codes.split(",").some((part) => {
    const [low, high] = part.split("-");
    return code >= Number(low) && code <= Number(high ?? low);
  });
}

/** The counts of a target's checks. */
export interface HealthCount {
  health: Health;
  successes: number;
  failures: number;
}

/** The state after one more check. Pure. */
export function afterCheck(
  before: HealthCount,
  success: boolean,
  thresholds: { healthyThreshold: number; unhealthyThreshold: number },
): HealthCount {
  const successes = success ? before.successes + 1 : 0;
  const failures = success ? 0 : before.failures + 1;
  let { health } = before;
  if (successes >= thresholds.healthyThreshold) health = "healthy";
  if (failures >= thresholds.unhealthyThreshold) health = "unhealthy";
  return { health, successes, failures };
}

async function checkOnce(health: TargetGroupView["health"], address: CheckAddress | undefined): Promise<boolean> {
  if (!address) return false;
  const port = health.port === "traffic-port" ? address.port : Number(health.port);
  const timeout = health.timeoutSeconds * 1000;
  const { ip: host, localAddress } = address;
  if (health.protocol === "TCP") {
    return new Promise((resolve) => {
      const socket = connect({ host, port, localAddress, timeout });
      const done = (result: boolean): void => {
        socket.destroy();
        resolve(result);
      };
      socket.on("connect", () => done(true));
      socket.on("error", () => done(false));
      socket.on("timeout", () => done(false));
    });
  }
  return new Promise((resolve) => {
    const request = get({ host, port, localAddress, path: health.path || "/", timeout, agent: false }, (response) => {
      response.resume();
      resolve(codeMatches(response.statusCode ?? 0, health.successCodes || "200-399"));
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", () => resolve(false));
  });
}

interface Watched {
  group: TargetGroupView;
  address: () => CheckAddress | undefined;
  count: HealthCount;
  timer?: NodeJS.Timeout;
}

/** Watches the health of targets, each named by a key. */
export class HealthChecker {
  private readonly watched = new Map<string, Watched>();

  /** `onChange` is called when a target's health has changed. */
  constructor(private readonly onChange: (key: string, health: Health) => void) {}

  /** A target's health; `initial` for one that is not watched. */
  of(key: string): Health {
    return this.watched.get(key)?.count.health ?? "initial";
  }

  /** Watches exactly these targets among those whose key begins with `prefix`. */
  watch(
    prefix: string,
    targets: Map<string, { group: TargetGroupView; address: () => CheckAddress | undefined }>,
  ): void {
    for (const [key, entry] of this.watched) {
      if (!key.startsWith(prefix) || targets.has(key)) continue;
      clearTimeout(entry.timer);
      this.watched.delete(key);
    }
    for (const [key, target] of targets) {
      const existing = this.watched.get(key);
      if (existing) {
        existing.group = target.group;
        existing.address = target.address;
        continue;
      }
      const entry: Watched = { ...target, count: { health: "initial", successes: 0, failures: 0 } };
      this.watched.set(key, entry);
      void this.check(key, entry);
    }
  }

  private async check(key: string, entry: Watched): Promise<void> {
    const success = await checkOnce(entry.group.health, entry.address());
    if (this.watched.get(key) !== entry) return;
    const before = entry.count.health;
    entry.count = afterCheck(entry.count, success, entry.group.health);
    if (entry.count.health !== before) this.onChange(key, entry.count.health);
    entry.timer = setTimeout(() => void this.check(key, entry), entry.group.health.intervalSeconds * 1000);
  }
}
