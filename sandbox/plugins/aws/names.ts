/** Names made from a prefix. */
import { randomInt } from "node:crypto";

/** The prefix and 26 digits: the time to the millisecond and a random part, so that names made later sort later. */
export function uniqueName(prefix: string): string {
  const time = new Date().toISOString().replace(/\D/g, "");
  return `${prefix}${time}${String(randomInt(1e9)).padStart(26 - time.length, "0")}`;
}
