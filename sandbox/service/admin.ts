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

const rowsSchema = z.object({
  rows: z.array(z.object({ service_key: z.string(), key: z.string(), value_utf8: z.string() })),
});

/** How long a query that fails is sent again, in milliseconds. */
const queryPatience = 30_000;

/**
 * A query's answer. A scan that is under way while a partition's leader moves ends with an error of the server's, such as
 * `No such scanner`: that says nothing about the data, and the query is sent again.
 */
async function rowsOf(admin: string, query: string, patience: number): Promise<z.infer<typeof rowsSchema>["rows"]> {
  const deadline = Date.now() + patience;
  for (;;) {
    try {
      return rowsSchema.parse(await ask(admin, "/query", { query })).rows;
    } catch (error) {
      if (error instanceof z.ZodError || Date.now() > deadline) throw error;
      await sleep(200);
    }
  }
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
  if (!/^[\w-]*$/.test(prefix)) throw new Error(`accounts' names have letters, digits and hyphens, unlike ${prefix}`);
  const query =
    `select service_key, key, value_utf8 from state where service_name = '${ledgerName}' ` +
    `and starts_with(service_key, '${prefix}')`;
  const rows = await rowsOf(admin, query, patience);
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
