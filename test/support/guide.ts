/**
 * The operator's guide as tests read it: its sections, the commands that they tell people to type, and the output that they
 * show. And scenes: what a test types of a section, and in which situation. The commands themselves are in the guide alone.
 */
import type { Sandbox } from "./sandbox";

/** A section of a document, up to the next heading of any level. */
export interface Section {
  heading: string;
  /** Everything between its heading and the next one. */
  text: string;
  /** Commands in indented blocks, without comments, in their order, each once. */
  blocks: string[];
  /** Commands in running text and tables, each once. */
  inline: string[];
  /** Output that is shown: the lines of each indented block that are no commands, where there are any. */
  shown: string[][];
}

/** How a line begins that is typed, where output stands in blocks as well. */
const typed = /^(npm|pulumi|kubectl|aws|git|eval|export|job=)/;

/** Whether code in running text can be typed as it stands, and is no mere name of a command (`pulumi up`, `pulumi state delete`). */
function isCommand(code: string): boolean {
  if (code.includes("…")) return false;
  const words = code.split(/\s+/);
  return words[0] === "pulumi" ? words.length > 3 : words.length > 1 && typed.test(code);
}

const once = <T>(all: readonly T[]) => [...new Set(all)];

/** Sections of a document, in their order. Blocks are indented by four columns from the text around them, as in Markdown. */
export function sectionsOf(document: string): Section[] {
  return document
    .split(/^(?=#+ )/m)
    .filter((part) => part.startsWith("#"))
    .map((part) => {
      const [title, ...lines] = part.split("\n");
      const commands: string[] = [];
      const prose: string[] = [];
      const shown: string[][] = [];
      let inBlock = false;
      let output: string[] = [];
      let margin = 0;
      for (const [i, line] of lines.entries()) {
        const indent = line.search(/\S/);
        const was: boolean = inBlock;
        inBlock = indent >= margin + 4 && (was || lines[i - 1] === "");
        if (inBlock && !was) output = [];
        if (!inBlock) {
          // What belongs to a list is indented by its marker.
          if (indent >= 0) margin = indent + (/^(\d+\.|-) +/.exec(line.trimStart())?.[0].length ?? 0);
          prose.push(line);
          continue;
        }
        const text = line.slice(margin + 4);
        if (typed.test(text)) commands.push(text.replace(/\s+# .*$/, "").trim());
        else {
          if (output.length === 0) shown.push(output);
          output.push(text);
        }
      }
      const code = [...prose.join("\n").matchAll(/`([^`]+)`/g)].map(([, words]) => words!.replace(/\s+/g, " "));
      return {
        heading: title!.replace(/^#+ /, ""),
        text: lines.join("\n"),
        blocks: once(commands),
        inline: once(code.filter(isCommand)),
        shown,
      };
    });
}

/**
 * What a line that is shown may be in truth: numbers, times, hashes and who asked vary, and the space between words.
 * Everything else has to be there.
 */
export function patternOf(line: string): RegExp {
  const varying: [RegExp, string][] = [
    [/\d{4}-\d\d-\d\dT[\d:.]+Z/y, "\\S+Z"],
    [/\S+ at [0-9a-f]{12}( with changes)?/y, ".*"],
    [/(?<=-)[0-9a-f]{8}\b/y, "[0-9a-f]{8}"],
    [/\bN\d+\b/y, "N\\d+"],
    [/(?<![\w-])\d+(\.\d+)?(?![\w-]*[a-z]{2})/y, "[\\d.]+"],
    [/\s+/y, "\\s+"],
  ];
  let pattern = "";
  for (let at = 0; at < line.length; ) {
    let found = "";
    for (const [shape, stands] of varying) {
      shape.lastIndex = at;
      found = shape.exec(line)?.[0] ?? "";
      if (found) {
        pattern += stands;
        break;
      }
    }
    if (!found) pattern += line[at]!.replace(/[^\w ]/, "\\$&");
    at += found.length || 1;
  }
  return new RegExp(pattern);
}

/** The world that a scene is played in. */
export interface Stage {
  readonly sandbox: Sandbox;
  /** What the last command that was typed has printed. */
  readonly printed: string;
  /** What stands for the words of the scene's `instead`, as it was when the scene began. */
  readonly stands: Readonly<Record<string, string>>;
}

/** What stands for something that the guide has as an example. */
export type Instead = Record<string, string | ((stage: Stage) => string | Promise<string>)>;

/** An act in which the situation is brought about, or what must hold is looked at. */
interface Does {
  does: string;
  by(stage: Stage): Promise<unknown>;
}

/** An act in which commands of the guide are typed. */
interface Types {
  /** Words by which each command is known, in the scene's section or else in the whole guide. */
  types: string[];
  /** It is refused, as the guide says. */
  fails?: boolean;
  /** All of them are typed again and again until this holds; none of them need succeed then. Not more than some minutes. */
  until?(stage: Stage): Promise<boolean> | boolean;
  /** Words in the first line of each block of output that the guide shows for it, which the last command prints. */
  prints?: string[];
  /** What stands for words of these commands in this act. */
  instead?: Instead;
  /** What is typed when the commands ask. */
  answers?: Instead[string];
  /** Variables that the commands need besides those of every shell. */
  environment?: Record<string, string>;
  /** Flags that the last command needs in the sandbox, as the guide says. */
  adds?: string;
}

/** One thing after the other. */
export type Act = Does | Types;

/** What is played of a section. */
export interface Scene {
  /** Its heading. */
  section: string;
  /** What it is about, where a section has several. */
  about?: string;
  /** What stands for words of the section's commands, such as the name of a bucket. */
  instead?: Instead;
  acts: Act[];
  /** How it ends, unless all is well. */
  leaves?: string;
}

/** An act of a scene: the situation is brought about, or what must hold is looked at. */
export const does = (what: string, by: Does["by"]): Does => ({ does: what, by });

/** An act of a scene: commands of the guide are typed, each known by some of its words. */
export const types = (words: string | string[], how: Omit<Types, "types"> = {}): Types => ({
  types: [words].flat(),
  ...how,
});

/** A command or shown output of the guide that no scene has, with the reason. */
export interface Left {
  section: string;
  /** Words that it is known by. */
  words: string;
  why: string;
}

/** The one command that is known by these words: of the section, or else of the whole guide. Throws if there is not exactly one. */
export function commandBy(words: string, section: Section, guide: readonly Section[]): string {
  for (const where of [[section], guide]) {
    const all = once(where.flatMap(({ blocks, inline }) => [...blocks, ...inline]));
    const found = all.includes(words) ? [words] : all.filter((command) => command.includes(words));
    if (found.length === 1) return found[0]!;
    if (found.length > 1) throw new Error(`${section.heading}: "${words}" can be any of ${found.join("; ")}`);
  }
  throw new Error(`${section.heading}: no command of the guide has "${words}"`);
}

/** The block of output of a section that is known by words of its first line. Throws if there is not exactly one. */
export function shownBy(words: string, section: Section): string[] {
  const found = section.shown.filter(([first]) => first!.includes(words));
  if (found.length !== 1) throw new Error(`${section.heading}: ${found.length} blocks of output begin with "${words}"`);
  return found[0]!;
}

/**
 * What of the guide is neither played nor left out with a reason, and what the scenes and reasons have that is not in the guide;
 * empty if each command of a block is typed by a scene of its section, each in running text by any scene, and
 * each block of output is looked for. Pure.
 */
export function unplayed(guide: readonly Section[], scenes: readonly Scene[], left: readonly Left[]): string[] {
  const faults: string[] = [];
  const tried = <T>(what: () => T): T[] => {
    try {
      return [what()];
    } catch (error) {
      faults.push((error as Error).message);
      return [];
    }
  };
  const everywhere = new Set<string>();
  const here = new Map<string, Set<unknown>>(guide.map(({ heading }) => [heading, new Set()]));
  for (const { section: heading, acts, instead } of scenes) {
    const section = guide.find((one) => one.heading === heading);
    if (!section) {
      faults.push(`${heading}: no section of the guide has this heading`);
      continue;
    }
    const scene: string[] = [];
    for (const act of acts) {
      if ("does" in act) continue;
      const commands = act.types.flatMap((words) => tried(() => commandBy(words, section, guide)));
      for (const words of Object.keys(act.instead ?? {}))
        if (!commands.some((command) => command.includes(words)))
          faults.push(`${heading}: ${words} stands in no command`);
      for (const command of commands) {
        scene.push(command);
        everywhere.add(command);
        here.get(heading)!.add(command);
      }
      for (const words of act.prints ?? [])
        for (const block of tried(() => shownBy(words, section))) here.get(heading)!.add(block);
    }
    for (const words of Object.keys(instead ?? {}))
      if (![...scene, section.text].some((text) => text.includes(words)))
        faults.push(`${heading}: ${words} stands nowhere in it`);
  }
  const dead = new Set(left);
  for (const { heading, blocks, inline, shown } of guide) {
    const played = here.get(heading)!;
    const missing = [
      ...blocks.filter((command) => !played.has(command)),
      ...inline.filter((command) => !everywhere.has(command)),
      ...shown.filter((block) => !played.has(block)).map(([first]) => first!),
    ];
    for (const one of once(missing)) {
      const reason = left.find(({ section, words }) => section === heading && one.includes(words));
      if (reason) dead.delete(reason);
      else faults.push(`${heading}: no scene has ${one}`);
    }
  }
  for (const { section, words } of dead) faults.push(`${section}: nothing that is left out has "${words}"`);
  return faults;
}
