/** Faults that are in force, and the record of decisions. Both live as long as the gateway's process. */
import type { ActiveFault, AuditEntry, Fault } from "./control";

/** What a fault is matched against. */
export interface FaultTarget {
  service: string;
  action: string;
  region: string;
  caller: string;
  resource: string;
}

const effects: readonly string[] = ["fail", "throttle", "delay", "hang"] satisfies Fault["effect"][];

/** The faults in force. */
export class Faults {
  private readonly active = new Map<number, ActiveFault & { endsAt?: number }>();
  private next = 1;

  /** Throws when the fault is not a possible one. */
  add(fault: Fault): number {
    const { probability = 1, seconds, effect, delayMs } = fault;
    if (!effects.includes(effect)) throw new Error(`effect is ${effect}: write one of ${effects.join(", ")}`);
    if (!(probability >= 0 && probability <= 1)) throw new Error(`probability is ${probability}: write 0 to 1`);
    if (effect === "delay" && !(Number(delayMs) > 0))
      throw new Error("a delay needs delayMs, in milliseconds, above 0");
    if (seconds !== undefined && !(seconds > 0)) throw new Error(`seconds is ${seconds}: write a number above 0`);
    const id = this.next++;
    const endsAt = seconds === undefined ? undefined : Date.now() + seconds * 1000;
    this.active.set(id, {
      ...fault,
      id,
      hits: 0,
      ...(endsAt === undefined ? {} : { endsAt, until: new Date(endsAt).toISOString() }),
    });
    return id;
  }

  clear(id?: number): void {
    if (id === undefined) this.active.clear();
    else this.active.delete(id);
  }

  list(): ActiveFault[] {
    this.expire();
    return [...this.active.values()].map(({ endsAt: _endsAt, ...fault }) => fault);
  }

  /** The faults that this request meets: the dice are thrown here. */
  meet(target: FaultTarget, random: () => number = Math.random): Fault[] {
    if (this.active.size === 0) return [];
    this.expire();
    const met = [...this.active.values()].filter(
      (fault) =>
        (fault.service ?? target.service) === target.service &&
        (fault.action ?? target.action) === target.action &&
        (fault.region ?? target.region) === target.region &&
        target.caller.includes(fault.caller ?? "") &&
        target.resource.includes(fault.resource ?? "") &&
        random() < (fault.probability ?? 1),
    );
    for (const fault of met) fault.hits++;
    return met;
  }

  private expire(): void {
    for (const [id, { endsAt }] of this.active) {
      if (endsAt !== undefined && Date.now() >= endsAt) this.active.delete(id);
    }
  }
}

/** The last decisions. What was allowed is kept apart, so that it cannot push out the denials. */
export class Audit {
  private readonly allowed: AuditEntry[] = [];
  private readonly others: AuditEntry[] = [];

  constructor(private readonly size = 1000) {}

  add(entry: Omit<AuditEntry, "time">): void {
    const ring = entry.decision === "allowed" ? this.allowed : this.others;
    ring.push({ time: new Date().toISOString(), ...entry });
    if (ring.length > this.size) ring.shift();
  }

  list(only?: AuditEntry["decision"]): AuditEntry[] {
    return [...this.allowed, ...this.others]
      .filter((entry) => !only || entry.decision === only)
      .sort((a, b) => a.time.localeCompare(b.time));
  }
}
