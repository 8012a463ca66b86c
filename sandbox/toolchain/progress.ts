/** Tells the user what takes long: a line that counts the seconds on a terminal, plain lines elsewhere. */

/** Where progress goes. */
export interface Progress {
  /** Says something once. */
  say(line: string): void;
  /** Runs a task under a title; `detail` replaces what is shown behind the title. */
  task<T>(title: string, run: (detail: (text: string) => void) => Promise<T>): Promise<T>;
}

/** What a progress writes to: a stream that may be a terminal. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** How often a plain stream hears that a task still runs, in seconds. */
const plainInterval = 60;

/** Time since a start, as `9s`, `2m05s`. */
export function elapsed(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, "0")}s`;
}

/** Progress on a stream, standard error unless told. Tasks run one after the other. */
export function streamProgress(stream: ProgressStream = process.stderr): Progress {
  const clear = stream.isTTY ? "\r\x1b[K" : "";
  return {
    say: (line) => stream.write(`${clear}${line}\n`),
    async task(title, run) {
      const start = Date.now();
      let detail = "";
      const show = () => {
        const line = `${title} ${elapsed(Date.now() - start)}`;
        if (!stream.isTTY) stream.write(`${line}\n`);
        else stream.write(`${clear}${(detail ? `${line}  ${detail}` : line).slice(0, (stream.columns ?? 80) - 1)}`);
      };
      if (!stream.isTTY) stream.write(`${title} ...\n`);
      const timer = setInterval(show, stream.isTTY ? 1000 : plainInterval * 1000);
      try {
        const result = await run((text) => {
          detail = text.replace(/\s+/g, " ").trim();
        });
        stream.write(`${clear}${title}: done in ${elapsed(Date.now() - start)}\n`);
        return result;
      } catch (error) {
        stream.write(`${clear}${title}: failed after ${elapsed(Date.now() - start)}\n`);
        throw error;
      } finally {
        clearInterval(timer);
      }
    },
  };
}

/** Progress that nobody sees. */
export const noProgress: Progress = { say: () => {}, task: (_title, run) => run(() => {}) };
