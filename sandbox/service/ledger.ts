/**
 * The practice service: a virtual object whose state says of each call how often it took effect. It does nothing by
 * itself against calls that arrive twice: that each takes effect once is Restate's work, and this makes it visible when
 * it does not.
 */
import { hostname } from "node:os";
import { handlers, type ObjectContext, type ObjectSharedContext, object, TerminalError } from "@restatedev/restate-sdk";
import {
  type Balance,
  balanceKey,
  type Entry,
  emptyBalance,
  ledgerName,
  type Receipt,
  type Trace,
  tracePrefix,
} from "./model";

async function add(ctx: ObjectContext, entry: Entry): Promise<Receipt> {
  if (typeof entry?.id !== "string" || entry.id === "" || !Number.isFinite(entry.amount)) {
    throw new TerminalError('an entry is {"id": "<text>", "amount": <number>}', { errorCode: 400 });
  }
  const { id, amount, pauseMs } = entry;
  const before = (await ctx.get<Balance>(balanceKey)) ?? emptyBalance;
  const trace = (await ctx.get<Trace>(tracePrefix + id)) ?? { times: 0, amount: 0 };
  if (pauseMs) await ctx.sleep({ milliseconds: pauseMs });
  const after = { count: before.count + 1, sum: before.sum + amount };
  ctx.set(tracePrefix + id, { times: trace.times + 1, amount: trace.amount + amount });
  ctx.set(balanceKey, after);
  return { id, ...after, pod: hostname() };
}

async function read(ctx: ObjectSharedContext): Promise<Balance> {
  return (await ctx.get<Balance>(balanceKey)) ?? emptyBalance;
}

/** The virtual object; each key is an account. */
export const ledger = object({
  name: ledgerName,
  handlers: { add, read: handlers.object.shared(read) },
  // An account holds an entry for each call, of which a call needs only its own.
  options: { enableLazyState: true },
});

/** The virtual object's type, for its clients. */
export type Ledger = typeof ledger;
