/** Text for people: tables, times, sizes, colour. */

/** Colours for a stream; none when it is not a terminal, or NO_COLOR is set. */
export function colours(stream: {
  isTTY?: boolean;
}): Record<"red" | "green" | "yellow" | "dim" | "bold", (s: string) => string> {
  const on = stream.isTTY === true && !process.env.NO_COLOR;
  const wrap = (code: number) => (text: string) => (on ? `\x1b[${code}m${text}\x1b[0m` : text);
  return { red: wrap(31), green: wrap(32), yellow: wrap(33), dim: wrap(2), bold: wrap(1) };
}

/** Rows as columns, each as wide as its widest cell. Escape sequences take no room. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, i) => Math.max(...all.map((row) => visibleLength(row[i] ?? ""))));
  return all
    .map((row) =>
      row
        .map((cell, i) => cell + " ".repeat(widths[i]! - visibleLength(cell)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function visibleLength(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what an escape sequence begins with
  return text.replace(/\x1b\[\d+m/g, "").length;
}

/** Milliseconds as people say them: 850 ms, 12.3 s, 4 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(milliseconds: number): string {
  const seconds = milliseconds / 1_000;
  if (seconds < 1) return `${Math.round(milliseconds)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 3_600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

/** Bytes as people say them: 512 KiB, 34 MiB, 1.2 GiB. */
export function size(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  if (bytes >= 2 ** 20) return `${Math.round(bytes / 2 ** 20)} MiB`;
  return `${Math.round(bytes / 2 ** 10)} KiB`;
}

/** Quotes a word for a POSIX shell; words that need no quotes stay as they are. */
export function shellQuote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
