/** One line of log, with the time, to standard output: the supervisor keeps it in the part's log file. */
export function log(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
}
