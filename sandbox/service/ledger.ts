/**
 * The practice service: a virtual object that writes down every call that takes effect, one line after the other. It does
 * nothing by itself against calls that arrive twice: that each takes effect once is Restate's work, and two lines of one
 * call show where it does not.
 */
import { hostname } from "node:os";
import { handlers, type ObjectContext, type ObjectSharedContext, object, TerminalError } from "@restatedev/restate-sdk";
import {
  type Balance,
  balanceKey,
  type Entry,
  emptyBalance,
  type Line,
  ledgerName,
  linePrefix,
  type Receipt,
} from "./model";

async function add(ctx: ObjectContext, entry: Entry): Promise<Receipt> {
  if (typeof entry?.id !== "string" || entry.id === "" || !Number.isFinite(entry.amount)) {
    throw new TerminalError('an entry is {"id": "<text>", "amount": <number>}', { errorCode: 400 });
  }
  const { id, amount, pauseMs } = entry;
  const before = (await ctx.get<Balance>(balanceKey)) ?? emptyBalance;
  if (pauseMs) await ctx.sleep({ milliseconds: pauseMs });
  const after = { count: before.count + 1, sum: before.sum + amount };
  ctx.set<Line>(linePrefix + after.count, { id, amount });
  ctx.set(balanceKey, after);
  // Written down: another pod that goes on with the call, after its partition has moved, must answer the same.
  const pod = await ctx.run(hostname);
  return { id, ...after, pod };
}

async function read(ctx: ObjectSharedContext): Promise<Balance> {
  return (await ctx.get<Balance>(balanceKey)) ?? emptyBalance;
}

/** The virtual object; each key is an account. */
export const ledger = object({
  name: ledgerName,
  handlers: { add, read: handlers.object.shared(read) },
  // An account holds all its lines, of which a call needs none.
  options: { enableLazyState: true },
});

/** The virtual object's type, for its clients. */
export type Ledger = typeof ledger;
