/**
 * Shows what a command is doing, on standard error: on a terminal live lines with the seconds so far, elsewhere a plain
 * line with the time at each beginning and end.
 */
import { colours, duration } from "./text";

/** One thing that goes on. */
export interface Task {
  /** Says what it is at now. */
  update(detail: string): void;
  done(detail?: string): void;
  fail(detail?: string): void;
}

interface Line {
  label: string;
  detail: string;
  begun: number;
}

/** A view of tasks that may go on at the same time. */
export class Progress {
  private readonly begun = Date.now();
  private readonly lines = new Set<Line>();
  private drawn = 0;
  private timer: NodeJS.Timeout | undefined;
  private readonly live: boolean;
  private readonly paint: ReturnType<typeof colours>;

  constructor(private readonly stream: NodeJS.WriteStream = process.stderr) {
    this.live = stream.isTTY === true && process.env.TERM !== "dumb";
    this.paint = colours(stream);
  }

  /** Begins a task. */
  task(label: string): Task {
    const line: Line = { label, detail: "", begun: Date.now() };
    this.lines.add(line);
    if (this.live) {
      this.timer ??= setInterval(() => this.draw(), 100).unref();
      this.draw();
    } else this.print(`${label} …`);
    const end = (mark: string, detail = ""): void => {
      if (!this.lines.delete(line)) return;
      const took = this.paint.dim(duration(Date.now() - line.begun));
      this.print([mark, label, detail, took].filter(Boolean).join("  "));
      if (this.lines.size === 0) this.stop();
    };
    return {
      update: (detail) => {
        line.detail = detail;
      },
      done: (detail) => end(this.paint.green("✓"), detail),
      fail: (detail) => end(this.paint.red("✗"), detail),
    };
  }

  /** Prints a line that stays. */
  note(text: string): void {
    this.print(text);
  }

  /** Ends the live view; tasks still open are shown as given up. */
  close(): void {
    for (const line of this.lines) this.print(`${this.paint.yellow("–")} ${line.label}  ${line.detail}`.trimEnd());
    this.lines.clear();
    this.stop();
  }

  /** Milliseconds since this view began. */
  get elapsed(): number {
    return Date.now() - this.begun;
  }

  private print(text: string): void {
    this.erase();
    const time = this.live ? "" : `${(this.elapsed / 1_000).toFixed(1).padStart(6)} s  `;
    this.stream.write(`${time}${text}\n`);
    if (this.live) this.draw();
  }

  private erase(): void {
    if (this.drawn > 0) this.stream.write(`\x1b[${this.drawn}A\x1b[J`);
    this.drawn = 0;
  }

  private draw(): void {
    this.erase();
    const width = (this.stream.columns ?? 80) - 1;
    for (const line of this.lines) {
      const text = `· ${line.label}  ${((Date.now() - line.begun) / 1_000).toFixed(1)} s  ${line.detail}`;
      this.stream.write(`${text.slice(0, width)}\n`);
      this.drawn++;
    }
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.erase();
  }
}
