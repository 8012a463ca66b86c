/**
 * Clients that call the ledger through the regions' ingress, as many at a time as asked for: each keeps a call's
 * idempotency key until the call is answered, however often it has to ask and in whichever region.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { connect, HttpCallError, type Ingress, rpc } from "@restatedev/restate-sdk-clients";
import type { Ledger } from "./ledger";
import { ledgerName, type Receipt } from "./model";

/** A region's ingress, e.g. `http://127.0.0.1:21000`. */
interface IngressOfRegion {
  region: string;
  ingress: string;
}

/** One time that a call was sent. Times are in milliseconds since 1970, with fractions. */
interface Attempt {
  region: string;
  start: number;
  end: number;
  /** Why there was no answer; absent when there was. */
  error?: string;
}

/** One call, from its first attempt to its end. */
export interface CallRecord {
  /** Name of the call, which is its idempotency key as well. */
  key: string;
  client: number;
  account: string;
  amount: number;
  start: number;
  end: number;
  /** Where the answer came from, or the last attempt went. */
  region: string;
  /**
   * `acknowledged`: answered. `refused`: the service or Restate said no, for good. `open`: given up without an answer, so
   * nobody knows whether it took effect.
   */
  outcome: "acknowledged" | "refused" | "open";
  attempts: Attempt[];
  /** The answer. */
  receipt?: Receipt;
  /** The answer to the same call with the same key, sent once more after it was acknowledged. */
  repeated?: Receipt;
}

/** What the load is like. */
export interface LoadOptions {
  /** Where calls go; clients are spread over them in turn. */
  regions: readonly IngressOfRegion[];
  /** How many clients call at the same time, each one call after the other. */
  clients: number;
  /** Accounts that the clients choose from at random. */
  accounts: readonly string[];
  /** How many calls in all. Default: until it is stopped. */
  calls?: number;
  /** How long a client waits for an answer before it asks again, in milliseconds. Default 3000. */
  timeoutMs?: number;
  /** How long a client waits before it asks again, in milliseconds. Default 50. */
  retryMs?: number;
  /** How long a client keeps asking, in milliseconds. Default 60000. */
  giveUpMs?: number;
  /** Whether a client that gets no answer asks in the other regions too, in turn. Default true. */
  failover?: boolean;
  /** Share of the acknowledged calls that are sent again with the same key, through another region. Default 0. */
  repeatShare?: number;
  /** How long a client rests between two calls, in milliseconds. Default 0. */
  restMs?: number;
  /** Lets each call pause in the service, in milliseconds. Default 0. */
  pauseMs?: number;
  /** Told of each call that has ended. */
  onCall?: (call: CallRecord) => void;
}

/** Clients at work. */
export interface Load {
  /** The calls that have ended so far, in that order. */
  readonly calls: readonly CallRecord[];
  /** Begins no further calls; resolves with all of them when the last one has ended. */
  stop(): Promise<readonly CallRecord[]>;
  /** Resolves when the asked number of calls has ended. */
  done(): Promise<readonly CallRecord[]>;
}

/** Milliseconds since 1970, finer than Date's and never running backwards. */
const now = () => performance.timeOrigin + performance.now();

/** Starts the clients. `run` names them: it is the beginning of every call's key, and must not be used twice. */
export function startLoad(run: string, options: LoadOptions): Load {
  const { regions, clients, accounts, failover = true } = options;
  if (regions.length === 0 || accounts.length === 0 || clients < 1) {
    throw new Error("a load needs at least one region, one account and one client");
  }
  const ingresses = regions.map(({ region, ingress }) => ({ region, ingress: connect({ url: ingress }) }));
  const ended: CallRecord[] = [];
  let begun = 0;
  let stopped = false;
  const next = () => (stopped || begun >= (options.calls ?? Number.POSITIVE_INFINITY) ? undefined : begun++);

  async function client(number: number): Promise<void> {
    // Its own region first, then the others as they follow.
    const own = number % ingresses.length;
    const order = [...ingresses.slice(own), ...ingresses.slice(0, own)];
    for (let n = next(); n !== undefined; n = next()) {
      const account = accounts[Math.floor(Math.random() * accounts.length)]!;
      const order1 = failover ? order : order.slice(0, 1);
      const call = await makeCall(
        order1,
        { key: `${run}-${n}`, client: number, account, amount: 1 + (n % 100) },
        options,
      );
      if (call.outcome === "acknowledged" && Math.random() < (options.repeatShare ?? 0)) {
        const again = await makeCall([...order].reverse(), call, options);
        call.repeated = again.receipt;
      }
      ended.push(call);
      options.onCall?.(call);
      if (options.restMs) await sleep(options.restMs);
    }
  }

  const all = Promise.all(Array.from({ length: clients }, (_, i) => client(i))).then(() => ended);
  return {
    calls: ended,
    stop() {
      stopped = true;
      return all;
    },
    done: () => all,
  };
}

interface NamedIngress {
  region: string;
  ingress: Ingress;
}

async function makeCall(
  order: readonly NamedIngress[],
  { key, client, account, amount }: Pick<CallRecord, "key" | "client" | "account" | "amount">,
  options: LoadOptions,
): Promise<CallRecord> {
  const { timeoutMs = 3_000, retryMs = 50, giveUpMs = 60_000, pauseMs } = options;
  const start = now();
  const attempts: Attempt[] = [];
  const ended = (outcome: CallRecord["outcome"], receipt?: Receipt): CallRecord => {
    const last = attempts.at(-1)!;
    return { key, client, account, amount, start, end: last.end, region: last.region, outcome, attempts, receipt };
  };
  for (let n = 0; ; n++) {
    const { region, ingress } = order[n % order.length]!;
    const began = now();
    try {
      const receipt = await ingress
        .objectClient<Ledger>({ name: ledgerName }, account)
        .add({ id: key, amount, pauseMs }, rpc.opts({ idempotencyKey: key, timeout: timeoutMs }));
      attempts.push({ region, start: began, end: now() });
      return ended("acknowledged", receipt);
    } catch (error) {
      attempts.push({ region, start: began, end: now(), error: problem(error) });
      if (isFinal(error)) return ended("refused");
    }
    if (now() - start > giveUpMs) return ended("open");
    await sleep(retryMs);
  }
}

/**
 * Whether asking again cannot help. A node that has not yet heard of the service, as after its start, answers 404: that
 * is not final.
 */
function isFinal(error: unknown): boolean {
  return (
    error instanceof HttpCallError &&
    error.status >= 400 &&
    error.status < 500 &&
    ![404, 408, 409, 425, 429].includes(error.status)
  );
}

function problem(error: unknown): string {
  if (error instanceof HttpCallError) return `${error.status} ${error.responseText.slice(0, 200)}`;
  const { name, message, cause } = error as Error;
  if (name === "TimeoutError") return "no answer in time";
  if (cause instanceof Error) return cause.message || String((cause as NodeJS.ErrnoException).code ?? cause.name);
  return message;
}
