/**
 * Command line of the toolchain, for development and tests:
 * `node --require ./tools/typescript.cjs sandbox/toolchain/main.ts [--json] ensure [tool...] | list | prerequisites | home FOLDER`
 */
import { parseArgs } from "node:util";
import {
  describeMissing,
  describeToolchain,
  ensureToolchain,
  missingPrerequisites,
  preparePulumiHome,
  streamProgress,
  type ToolName,
  toolNames,
} from ".";

const usage = `usage: node --require ./tools/typescript.cjs sandbox/toolchain/main.ts [--json] COMMAND
  ensure [TOOL...]   build or install tools; all that every sandbox needs unless named
                     (${toolNames.join(", ")})
  list               which tools there are, in which version and from where
  prerequisites      what is missing on this machine, given what is built already
  home FOLDER        make a PULUMI_HOME`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ options: { json: { type: "boolean" } }, allowPositionals: true });
  const [command, ...names] = positionals;
  const print = (value: unknown, text: string) => console.log(values.json ? JSON.stringify(value, undefined, 2) : text);
  switch (command) {
    case "ensure": {
      const unknown = names.filter((name) => !toolNames.some((tool) => tool === name));
      if (unknown.length > 0) throw new Error(`no tool ${unknown.join(", ")}: there are ${toolNames.join(", ")}`);
      await ensureToolchain(names.length > 0 ? (names as ToolName[]) : "all", streamProgress());
      return 0;
    }
    case "list": {
      const rows = describeToolchain();
      const lines = rows.map((row) =>
        [row.tool.padEnd(18), row.version.padEnd(10), row.source.padEnd(9), row.path ?? "-"].join(" ").trimEnd(),
      );
      print(rows, lines.join("\n"));
      return 0;
    }
    case "prerequisites": {
      const missing = missingPrerequisites();
      print(missing, missing.length > 0 ? describeMissing(missing) : "nothing is missing");
      return missing.length > 0 ? 1 : 0;
    }
    case "home": {
      if (!names[0]) throw new Error(usage);
      await preparePulumiHome(names[0]);
      return 0;
    }
    default:
      throw new Error(usage);
  }
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  },
);
