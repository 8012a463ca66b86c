/** Parts of documents that are made from code, between two comments. */

/**
 * A text with what is between `<!-- name:begin -->` and `<!-- name:end -->` replaced. Throws, naming the file, where the two
 * are not there in this order.
 */
export function between(text: string, file: string, name: string, made: string): string {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${file} needs the lines ${begin} and ${end}, in this order`);
  return `${text.slice(0, from + begin.length)}\n${made}\n${text.slice(to)}`;
}
