/** `env`: what pulumi, kubectl, helm, aws and restatectl need to work with a region, as shell commands. */

import { leadingElsewhere, replacedVariable } from "../toolchain";
import { operatorEnvironment } from "../world/environment";
import { regionNamed } from "../world/regions";
import { type Command, UsageError } from "./command";
import { shellQuote } from "./text";

/** Prints the environment of a region. */
export const env: Command = {
  name: "env",
  summary: "Print what pulumi, kubectl, helm and aws need to work with a region",
  usage: "<region> [--unset]",
  help: `
  --unset   print what takes it all back: what your shell had before is there again

  eval "$(npm run -s sandbox -- env region1)"`,
  options: { unset: { type: "boolean" } },
  positionals: { min: 1, max: 1 },
  async run(args) {
    let region: ReturnType<typeof regionNamed>;
    try {
      region = regionNamed(args.positionals[0]!);
    } catch (error) {
      throw new UsageError((error as Error).message, env);
    }
    const variables = operatorEnvironment(region);
    if (args.json) console.log(JSON.stringify(variables, null, 2));
    else console.log((args.flags.unset ? unsetCommands : exportCommands)(variables, process.env));
    return 0;
  },
};

/** Folders go before what PATH has, once, however often the commands are evaluated. */
const pathVariable = "PATH";

/** Where the shell keeps the value of a variable that is replaced or taken away, for itself alone. */
const before = (name: string) => `before_sandbox_${name}`;

/**
 * Shell commands that set the variables, and take away those with which the caller's shell leads elsewhere. The value of PATH is put
 * before the shell's own. What was there is kept in the shell, by its name: no value of the caller's is printed.
 */
export function exportCommands(variables: Record<string, string>, caller: NodeJS.ProcessEnv): string {
  const replaced = replacedIn(caller);
  const away = leadingElsewhere(caller).filter((name) => !(name in variables));
  const touched = replaced ? away : [...Object.keys(variables).filter((name) => name !== pathVariable), ...away];
  const present = touched.filter((name) => caller[name] !== undefined);
  const all = [...new Set([...(replaced ?? []), ...present])].sort();
  return [
    ...present.map((name) => `${before(name)}="$${name}"`),
    ...away.map((name) => `unset ${name}`),
    ...Object.entries(variables).map(([name, value]) =>
      name === pathVariable
        ? `case ":$PATH:" in *:${shellQuote(value)}:*) ;; *) export PATH=${shellQuote(value)}:"$PATH" ;; esac`
        : `export ${name}=${shellQuote(value)}`,
    ),
    `export ${replacedVariable}=${shellQuote(all.join(" "))}`,
  ].join("\n");
}

/** Shell commands that take back what `exportCommands` did. */
export function unsetCommands(variables: Record<string, string>, caller: NodeJS.ProcessEnv): string {
  const names = new Set([...Object.keys(variables), ...(replacedIn(caller) ?? []), replacedVariable]);
  names.delete(pathVariable);
  const path = variables[pathVariable];
  return [
    ...[...names].map(
      (name) =>
        `if [ -n "\${${before(name)}+kept}" ]; then export ${name}="$${before(name)}"; unset ${before(name)}; else unset ${name}; fi`,
    ),
    ...(path === undefined
      ? []
      : [`PATH=":$PATH:"; PATH="\${PATH/:${escapePattern(path)}:/:}"; PATH="\${PATH#:}"; PATH="\${PATH%:}"`]),
  ].join("\n");
}

/** What of the shell's own was replaced; undefined in one that does not work with the sandbox yet. */
function replacedIn(caller: NodeJS.ProcessEnv): string[] | undefined {
  return caller[replacedVariable]?.split(" ").filter((name) => name !== "");
}

/** Inside `\${…/pattern/}` of a double-quoted word: everything is taken literally. */
function escapePattern(text: string): string {
  return text.replace(/[^\w.,:@+=-]/g, (c) => `\\${c}`);
}
