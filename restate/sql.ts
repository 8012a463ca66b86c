/** Reading a cluster with restatectl, whose only output for programs is that of `sql --json`. */

/** The command that asks a question of the cluster, to be run in a node's container. */
export const sqlCommand = (query: string): string[] => ["restatectl", "sql", "--json", query];

/** The rows in what that command printed: some versions print how long the query took before them. */
export function sqlRows<T>(printed: string): T[] {
  const begin = printed.indexOf("[");
  if (begin < 0) throw new Error(`restatectl sql printed no rows: ${printed.trim()}`);
  return JSON.parse(printed.slice(begin)) as T[];
}
