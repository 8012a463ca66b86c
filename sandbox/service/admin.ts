/** What is asked of Restate's admin port: where services run, and what the ledger's state is. */
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { type Balance, balanceKey, emptyBalance, type Line, ledgerName, linePrefix } from "./model";

/** How long an answer may take, in milliseconds. */
const answerPatience = 30_000;

/** Asks an admin port, whose address looks like `http://127.0.0.1:9070`. */
async function ask(admin: string, path: string, body?: unknown): Promise<unknown> {
  const url = `${admin}${path}`;
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      headers: { accept: "application/json", "content-type": "application/json" },
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(answerPatience),
    });
    text = await response.text();
  } catch (error) {
    const { message, cause } = error as Error;
    throw new Error(`${url}: ${(cause instanceof Error && cause.message) || message}`);
  }
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text.slice(0, 500)}`);
  return JSON.parse(text);
}

const deploymentsSchema = z.object({
  deployments: z.array(z.object({ id: z.string(), uri: z.string().optional() })),
});

/** Id of the deployment at an address; undefined when Restate knows none there. */
export async function registeredDeployment(admin: string, uri: string): Promise<string | undefined> {
  const { deployments } = deploymentsSchema.parse(await ask(admin, "/deployments"));
  return deployments.find((one) => one.uri === uri)?.id;
}

/** Has Restate look at the services of an address, and call them there; returns the deployment's id. */
export async function registerDeployment(admin: string, uri: string): Promise<string> {
  // Forced: the program may have changed since it was last looked at, as that of a practice service may.
  const answer = await ask(admin, "/deployments", { uri, force: true });
  return z.object({ id: z.string() }).parse(answer).id;
}

/** An account as the state has it. */
export interface AccountState {
  balance: Balance;
  /** What was written down, by number. */
  lines: Map<number, Line>;
}

const stateRow = z.object({ service_key: z.string(), key: z.string(), value_utf8: z.string() });
const placeRow = z.object({ service_key: z.string(), partition_key: z.string() });

/** How long a query that fails is sent again, in milliseconds. */
const queryPatience = 30_000;

/**
 * A query's answer. A scan that is under way while a partition's leader moves ends with an error of the server's, such as
 * `No such scanner`: that says nothing about the data, and the query is sent again.
 */
async function rowsOf<T>(admin: string, query: string, row: z.ZodType<T>, patience: number): Promise<T[]> {
  const schema = z.object({ rows: z.array(row) });
  const deadline = Date.now() + patience;
  for (;;) {
    try {
      return schema.parse(await ask(admin, "/query", { query })).rows;
    } catch (error) {
      if (error instanceof z.ZodError || Date.now() > deadline) throw error;
      await sleep(200);
    }
  }
}

/** Selects the ledger's accounts whose names begin with `prefix`. */
function ofAccounts(prefix: string): string {
  if (!/^[\w-]*$/.test(prefix)) throw new Error(`accounts' names have letters, digits and hyphens, unlike ${prefix}`);
  return `where service_name = '${ledgerName}' and starts_with(service_key, '${prefix}')`;
}

/**
 * The partitions of all accounts whose names begin with `prefix`, by account, in a cluster with so many of them. Each has an
 * equal share of the keys, which are numbers of 64 bits.
 */
export async function readPartitions(admin: string, prefix: string, partitions: number): Promise<Map<string, number>> {
  const query = `select distinct service_key, cast(partition_key as varchar) as partition_key from state ${ofAccounts(prefix)}`;
  const rows = await rowsOf(admin, query, placeRow, queryPatience);
  const share = (1n << 64n) / BigInt(partitions);
  return new Map(rows.map(({ service_key: name, partition_key: key }) => [name, Number(BigInt(key) / share)]));
}

/**
 * The state of all accounts whose names begin with `prefix`, by account; read from the table `state`. A query that fails
 * is sent again for `patience` milliseconds.
 */
export async function readState(
  admin: string,
  prefix: string,
  patience = queryPatience,
): Promise<Map<string, AccountState>> {
  const rows = await rowsOf(
    admin,
    `select service_key, key, value_utf8 from state ${ofAccounts(prefix)}`,
    stateRow,
    patience,
  );
  const accounts = new Map<string, AccountState>();
  for (const { service_key: name, key, value_utf8: value } of rows) {
    const account = accounts.get(name) ?? { balance: emptyBalance, lines: new Map() };
    accounts.set(name, account);
    if (key === balanceKey) account.balance = JSON.parse(value) as Balance;
    else if (key.startsWith(linePrefix))
      account.lines.set(Number(key.slice(linePrefix.length)), JSON.parse(value) as Line);
    else throw new Error(`the state of account ${name} has a key ${key} that is none of the ledger's`);
  }
  return accounts;
}
