/**
 * What the controllers share for talking to a region's API server: a live copy of all objects of a kind, a queue of keys
 * with retries, and Events.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ApiException,
  CoreV1Api,
  type Informer,
  KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  makeInformer,
  type ObjectCache,
} from "@kubernetes/client-node";
import { log } from "./log";

/** Reads the kubeconfig that the cluster's part writes, waiting until it is there and can be parsed. */
export async function kubeConfigWhenThere(path: string): Promise<KubeConfig> {
  for (;;) {
    try {
      const config = new KubeConfig();
      config.loadFromFile(path);
      if (config.getCurrentCluster()) return config;
    } catch {
      // Not written yet.
    }
    await sleep(500);
  }
}

/** Says whether an error is the API server's answer with this status code. */
export function hasStatus(error: unknown, code: number): boolean {
  return error instanceof ApiException && error.code === code;
}

/** An error as one line: for the API server's answers, its own message. */
export function messageOf(error: unknown): string {
  if (error instanceof ApiException) {
    try {
      const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
      return `${error.code} ${body.message}`;
    } catch {
      return `${error.code} ${String(error.body)}`;
    }
  }
  return error instanceof Error ? error.message : String(error);
}

/**
 * A live copy of all objects of one kind. When the API server goes away, the last copy stays, and a new one is made as
 * soon as it answers again.
 */
export class LiveList<T extends KubernetesObject> {
  private current: (Informer<T> & ObjectCache<T>) | undefined;
  private listeners: (() => void)[] = [];
  private announced = false;

  constructor(
    private readonly config: KubeConfig,
    private readonly path: string,
    private readonly list: () => Promise<KubernetesListObject<T>>,
  ) {}

  /** All objects, as of now. */
  all(): T[] {
    return (this.current?.list() as T[] | undefined) ?? [];
  }

  /** One object by name and namespace. */
  get(name: string, namespace = ""): T | undefined {
    return this.current?.get(name, namespace);
  }

  /** Calls `listener` after each change; changes that come together are announced once. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Starts, and returns once the first copy is complete. */
  async start(): Promise<void> {
    for (;;) {
      const failure = await this.connect();
      if (failure === undefined) return;
      log(`${this.path}: ${messageOf(failure)}; trying again`);
      await sleep(1000);
    }
  }

  private async connect(): Promise<unknown> {
    let failure: unknown;
    let live = false;
    const informer = makeInformer<T>(this.config, this.path, this.list);
    informer.on("error", (error) => {
      failure = error ?? new Error("the watch ended");
      if (!live) return;
      live = false;
      informer.stop();
      sleep(1000).then(() => this.start());
    });
    informer.on("change", () => this.announce());
    try {
      await informer.start();
    } catch (error) {
      failure = error;
    }
    if (failure !== undefined) {
      informer.stop();
      return failure;
    }
    live = true;
    this.current = informer as Informer<T> & ObjectCache<T>;
    this.announce();
    return undefined;
  }

  private announce(): void {
    if (this.announced) return;
    this.announced = true;
    setImmediate(() => {
      this.announced = false;
      for (const listener of this.listeners) listener();
    });
  }
}

/** Does work for keys, one at a time, each key at most once in the queue; after a failure again, later and later. */
export class WorkQueue {
  private waiting = new Set<string>();
  private failures = new Map<string, number>();
  private timers = new Map<string, NodeJS.Timeout>();
  private busy = false;

  /** `work` rejects when it must be done again. */
  constructor(
    private readonly work: (key: string) => Promise<void>,
    private readonly firstDelayMs = 1000,
    private readonly longestDelayMs = 30_000,
  ) {}

  /** Puts a key into the queue, now. */
  add(key: string): void {
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    this.waiting.add(key);
    void this.run();
  }

  /** Puts a key into the queue unless it is waiting for a retry. */
  addUnlessRetrying(key: string): void {
    if (!this.timers.has(key)) this.add(key);
  }

  private async run(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (const key of this.waiting) {
      this.waiting.delete(key);
      try {
        await this.work(key);
        this.failures.delete(key);
      } catch (error) {
        const count = (this.failures.get(key) ?? 0) + 1;
        this.failures.set(key, count);
        const delay = Math.min(this.firstDelayMs * 2 ** (count - 1), this.longestDelayMs);
        log(`${key}: ${messageOf(error)}; trying again in ${delay / 1000} s`);
        clearTimeout(this.timers.get(key));
        this.timers.set(
          key,
          setTimeout(() => this.add(key), delay),
        );
      }
    }
    this.busy = false;
  }
}

/** Which object an Event is about. */
export interface EventSubject {
  apiVersion: string;
  kind: string;
  name: string;
  namespace: string;
  uid: string;
}

/** Writes Events; the same one again is counted, not written anew. */
export class EventRecorder {
  private readonly api: CoreV1Api;

  constructor(
    config: KubeConfig,
    private readonly component: string,
  ) {
    this.api = config.makeApiClient(CoreV1Api);
  }

  /** Writes an Event. A failure to write is logged only: Events are for people. */
  async record(subject: EventSubject, type: "Normal" | "Warning", reason: string, message: string): Promise<void> {
    const text = message.length > 1024 ? `${message.slice(0, 1021)}...` : message;
    const hash = createHash("sha256").update(`${subject.uid}${type}${reason}${text}`).digest("hex").slice(0, 16);
    const name = `${subject.name}.${hash}`;
    const now = new Date();
    const namespace = subject.namespace || "default";
    try {
      try {
        await this.api.createNamespacedEvent({
          namespace,
          body: {
            metadata: { name, namespace },
            involvedObject: subject,
            type,
            reason,
            message: text,
            source: { component: this.component },
            firstTimestamp: now,
            lastTimestamp: now,
            count: 1,
          },
        });
      } catch (error) {
        if (!hasStatus(error, 409)) throw error;
        const before = await this.api.readNamespacedEvent({ name, namespace });
        before.count = (before.count ?? 1) + 1;
        before.lastTimestamp = now;
        await this.api.replaceNamespacedEvent({ name, namespace, body: before });
      }
    } catch (error) {
      log(`Event ${reason} on ${subject.kind} ${namespace}/${subject.name} not written: ${messageOf(error)}`);
    }
  }
}
