/** `env`: what pulumi, kubectl, helm, aws and restatectl need to work with a region, as shell commands. */

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
  --unset   print what takes it all back

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
    else console.log(args.flags.unset ? unsetCommands(variables) : exportCommands(variables));
    return 0;
  },
};

/** Folders go before what PATH has, once, however often the commands are evaluated. */
const pathVariable = "PATH";

/** Shell commands that set the variables. The value of PATH is put before the shell's own. */
export function exportCommands(variables: Record<string, string>): string {
  return Object.entries(variables)
    .map(([name, value]) =>
      name === pathVariable
        ? `case ":$PATH:" in *:${shellQuote(value)}:*) ;; *) export PATH=${shellQuote(value)}:"$PATH" ;; esac`
        : `export ${name}=${shellQuote(value)}`,
    )
    .join("\n");
}

/** Shell commands that take back what `exportCommands` set. */
export function unsetCommands(variables: Record<string, string>): string {
  return Object.entries(variables)
    .map(([name, value]) =>
      name === pathVariable
        ? `PATH=":$PATH:"; PATH="\${PATH/:${escapePattern(value)}:/:}"; PATH="\${PATH#:}"; PATH="\${PATH%:}"`
        : `unset ${name}`,
    )
    .join("\n");
}

/** Inside `\${…/pattern/}` of a double-quoted word: everything is taken literally. */
function escapePattern(text: string): string {
  return text.replace(/[^\w.,:@+=-]/g, (c) => `\\${c}`);
}
