/** What the practice service and its clients agree on, without the SDK of either. */

/** The service's name, as Restate knows it. */
export const ledgerName = "ledger";

/** An entry to make in an account. */
export interface Entry {
  /** The caller's name for the call, once and for all. */
  id: string;
  amount: number;
  /** Lets the call pause between reading the account and writing it, in milliseconds. */
  pauseMs?: number;
}

/** What an account adds up to. */
export interface Balance {
  /** How many entries have been made. */
  count: number;
  /** Sum of their amounts. */
  sum: number;
}

/** The answer to an entry: what the account added up to right after it, and the pod that made it. */
export interface Receipt extends Balance {
  id: string;
  pod: string;
}

/** What the state holds of an entry. */
export type Line = Pick<Entry, "id" | "amount">;

/** Key of an account's balance in its state. */
export const balanceKey = "balance";

/** What the keys of entries begin with; the number of the entry in its account follows, from 1. */
export const linePrefix = "entry/";

/** What an account is before its first entry. */
export const emptyBalance: Balance = { count: 0, sum: 0 };
