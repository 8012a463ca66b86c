/** What `random.RandomString` and `random.RandomPassword` share: their arguments, and drawing the characters. */
import { randomInt } from "node:crypto";
import type { RandomStringArgs } from "@pulumi/random";
import { boolean, type Failure, type Fields, number, type Plain, text, texts } from "../provider/fields";

/** Any change of an argument draws anew. */
export const inputs: Fields<RandomStringArgs> = {
  keepers: texts({ replaces: true }),
  length: number({ required: true, replaces: true }),
  lower: boolean({ default: true, replaces: true }),
  minLower: number({ default: 0, replaces: true }),
  minNumeric: number({ default: 0, replaces: true }),
  minSpecial: number({ default: 0, replaces: true }),
  minUpper: number({ default: 0, replaces: true }),
  number: boolean({ computed: true, replaces: true, conflictsWith: ["numeric"] }),
  numeric: boolean({ computed: true, replaces: true, conflictsWith: ["number"] }),
  overrideSpecial: text({ replaces: true }),
  special: boolean({ default: true, replaces: true }),
  upper: boolean({ default: true, replaces: true }),
};

const digits = "0123456789";
const lowers = "abcdefghijklmnopqrstuvwxyz";
const uppers = lowers.toUpperCase();
const specials = "!@#$%&*()-_=+[]{}<>:?";

/** The classes of characters that the arguments allow, and how many of each must occur. */
function classes(args: Partial<Plain<RandomStringArgs>>): { characters: string; atLeast: number }[] {
  const on = (flag: boolean | undefined) => flag ?? true;
  return [
    { characters: on(args.lower) ? lowers : "", atLeast: args.minLower ?? 0 },
    { characters: on(args.upper) ? uppers : "", atLeast: args.minUpper ?? 0 },
    { characters: on(args.numeric ?? args.number) ? digits : "", atLeast: args.minNumeric ?? 0 },
    { characters: on(args.special) ? args.overrideSpecial || specials : "", atLeast: args.minSpecial ?? 0 },
  ];
}

/** Faults that hold whatever is drawn. */
export function check(args: Partial<Plain<RandomStringArgs>>): Failure[] {
  const { length } = args;
  if (typeof length !== "number") return [];
  const minimum = classes(args).reduce((sum, { atLeast }) => sum + (typeof atLeast === "number" ? atLeast : 0), 0);
  if (!Number.isInteger(length) || length < Math.max(1, minimum))
    return [{ property: "length", reason: `length must be a whole number of at least ${Math.max(1, minimum)}` }];
  if (classes(args).every(({ characters }) => characters === ""))
    return [{ property: "special", reason: "lower, upper, numeric and special cannot all be false" }];
  return [];
}

/** Draws a text as the arguments ask for, every choice made by the cryptographic generator. */
export function draw(args: Plain<RandomStringArgs>): string {
  const pick = (characters: string) => characters[randomInt(characters.length)]!;
  const drawn = classes(args).flatMap(({ characters, atLeast }) =>
    characters === "" ? [] : Array.from({ length: atLeast }, () => pick(characters)),
  );
  const all = classes(args)
    .map(({ characters }) => characters)
    .join("");
  while (drawn.length < args.length) drawn.push(pick(all));
  for (let i = drawn.length - 1; i > 0; i--) {
    const j = randomInt(i + 1);
    [drawn[i], drawn[j]] = [drawn[j]!, drawn[i]!];
  }
  return drawn.join("");
}

/** What an imported text says about the arguments. */
export function argumentsOf(result: string): Partial<Plain<RandomStringArgs>> {
  return {
    length: result.length,
    lower: true,
    upper: true,
    special: true,
    numeric: true,
    number: true,
    minLower: 0,
    minNumeric: 0,
    minSpecial: 0,
    minUpper: 0,
  };
}

/** The state after drawing. */
export function stateOf(args: Plain<RandomStringArgs>, result: string) {
  const numeric = args.numeric ?? args.number ?? true;
  return { ...args, numeric, number: numeric, result };
}
