/** Writes what policies/README.md says of the rules, from the rules: a part of `npm run docs`. */
import { join } from "node:path";
import { groups } from "../policies/rules";
import { between } from "./markers";

/** The file that is written. */
export const policyReadme = join(__dirname, "..", "policies", "README.md");

/** A cell of a table. */
const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("<", "\\<");

function tables(): string {
  return Object.entries(groups)
    .map(([group, rules]) => {
      const rows = rules.map(({ id, level, severity, title, why, standards, parameters = {} }) => {
        const settings = Object.entries(parameters).map(
          ([name, { about, default: value }]) => ` \`${name}\` (${JSON.stringify(value)}): ${about}`,
        );
        return `| \`${id}\` | ${level}, ${severity} | ${cell(title)} ${cell(why)}${cell(settings.join(""))} | ${standards.join(", ")} |`;
      });
      return [
        `### ${group}`,
        "",
        "| rule | level, severity | what must hold, and why | standards |",
        "|---|---|---|---|",
        ...rows,
      ].join("\n");
    })
    .join("\n\n");
}

/** policies/README.md with the rules' tables made anew. */
export function documentPolicies(text: string): string {
  return between(text, "policies/README.md", "rules", `\n${tables()}\n`);
}
