/**
 * Writes what is said of the settings elsewhere from `settings.ts`: the `config` section of Pulumi.yaml and the table in
 * docs/settings.md. `npm run docs`; a unit test fails while either is out of step.
 *
 * In Pulumi.yaml a setting without a default is required by Pulumi itself, so optional settings without one are not
 * declared there. Defaults of settings that both stacks share are the operator's to edit there and are kept.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isMap, parseDocument, YAMLMap } from "yaml";
import type { z } from "zod";
import { baseKind, fields, projectName, type Scope } from "../settings";
import { between } from "./markers";
import { documentPolicies, policyReadme } from "./policy-docs";

/** The files that are written, by what they hold. */
export const documentedFiles = {
  project: join(__dirname, "..", "Pulumi.yaml"),
  settings: join(__dirname, "..", "docs", "settings.md"),
};

interface Field {
  schema: z.ZodType;
  about: { scope: Scope; description: string; secret?: boolean };
}

/** Kinds of values as Pulumi names them. */
const pulumiTypes: Record<string, string> = {
  string: "string",
  enum: "string",
  number: "integer",
  boolean: "boolean",
  object: "object",
  record: "object",
};

function typeOf({ schema }: Field): string {
  const kind = baseKind(schema);
  const type = pulumiTypes[kind];
  if (!type) throw new Error(`tools/settings-docs.ts knows no Pulumi type for ${kind}; add it to pulumiTypes`);
  return type;
}

/**
 * A setting's default: `required` if it has none, `optional` if it may be missing. A map's own defaults are filled in by
 * the schema, so that a stack may set a part of it; its default is the empty map.
 */
function defaultOf(field: Field): { kind: "required" | "optional" } | { kind: "static"; value: unknown } {
  const result = field.schema.safeParse(undefined);
  if (!result.success) return { kind: "required" };
  if (result.data === undefined) return { kind: "optional" };
  return { kind: "static", value: typeOf(field) === "object" ? {} : result.data };
}

/** Pulumi.yaml with its `config` section made from the settings, and everything else as it was. */
export function documentProject(text: string): string {
  const document = parseDocument(text);
  const before = document.get("config");
  const config = new YAMLMap();
  const undeclared: string[] = [];
  for (const [key, field] of Object.entries(fields) as [string, Field][]) {
    const name = `${projectName}:${key}`;
    const fallback = defaultOf(field);
    if (fallback.kind === "optional") {
      undeclared.push(key);
      continue;
    }
    const old = isMap(before) ? before.get(name) : undefined;
    const edited = field.about.scope === "project" && isMap(old) ? old.toJSON().default : undefined;
    const value = edited ?? (fallback.kind === "static" ? fallback.value : undefined);
    const declared = document.createNode({
      type: typeOf(field),
      description: field.about.description,
      ...(value === undefined ? {} : { default: value }),
      ...(field.about.secret ? { secret: true } : {}),
    });
    config.set(document.createNode(name), declared);
  }
  config.commentBefore =
    " Made from settings.ts by npm run docs, but for the defaults of the settings that both stacks share: edit those here.\n" +
    ` Not declared, since Pulumi would require them: ${undeclared.join(", ")}.`;
  document.set("config", config);
  return document.toString({ lineWidth: 120 });
}

/** The table of docs/settings.md. */
function settingsTable(): string {
  const rows = (Object.entries(fields) as [string, Field][]).map(([key, field]) => {
    const fallback = defaultOf(field);
    const shown =
      fallback.kind === "required"
        ? "required"
        : fallback.kind === "static" && typeOf(field) !== "object"
          ? `\`${fallback.value}\``
          : "";
    const where = field.about.scope === "project" ? "Pulumi.yaml" : "stack file";
    const meaning = field.about.description.replaceAll("|", "\\|").replaceAll("<", "\\<");
    const type = field.about.secret ? `${typeOf(field)}, secret` : typeOf(field);
    return `| \`${key}\` | ${type} | ${shown} | ${where} | ${meaning} |`;
  });
  return ["| setting | type | default | where | meaning |", "|---|---|---|---|---|", ...rows].join("\n");
}

/** docs/settings.md with the table between its two markers made anew. */
export function documentSettings(text: string): string {
  return between(text, "docs/settings.md", "settings", settingsTable());
}

if (require.main === module) {
  for (const [file, write] of [
    [documentedFiles.project, documentProject],
    [documentedFiles.settings, documentSettings],
    [policyReadme, documentPolicies],
  ] as const) {
    writeFileSync(file, write(readFileSync(file, "utf8")));
  }
}
