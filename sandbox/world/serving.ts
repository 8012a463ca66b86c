/**
 * Changing `restate:serving` in the sandbox, as a pull request would: in Pulumi.yaml, for both stacks at once. The sandbox's
 * project has a link to the clone's file; a copy with another value takes its place, and the clone's stays as it is.
 */
import { lstatSync, readFileSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { type Serving, servingValues } from "../../topology";
import { defaultIn, readStackFile, stackFolder } from "./environment";
import { writeAtomically } from "./files";
import { regions } from "./regions";

const setting = "restate:serving";
const fileIn = (project: string) => join(project, "Pulumi.yaml");

/** What a Pulumi.yaml sets `serving` to. Pure. Throws if it is none of the values. */
export function servingIn(text: string): Serving {
  const value = defaultIn(text, setting);
  const found = servingValues.find((one) => one === value);
  if (!found) throw new Error(`${setting} in Pulumi.yaml is ${value}, not one of ${servingValues.join(", ")}`);
  return found;
}

/** A Pulumi.yaml with another value of `serving`. Pure. */
export function withServing(text: string, serving: Serving): string {
  const document = parseDocument(text);
  document.setIn(["config", setting, "default"], serving);
  return document.toString({ lineWidth: 120 });
}

/** What the sandbox's project sets `serving` to, for both stacks. Throws where a stack's own file sets it to something else. */
export function readServing(project = stackFolder): Serving {
  const serving = servingIn(readFileSync(fileIn(project), "utf8"));
  const own = regions.filter(({ name }) => readStackFile(name, project).config?.[setting] !== undefined);
  if (own.length === 0) return serving;
  throw new Error(
    own
      .map(
        ({ name }) =>
          `${setting} is set in Pulumi.${name}.yaml, where a change in Pulumi.yaml has no effect. Next: pulumi config rm ${setting} --stack ${name}`,
      )
      .join("\n"),
  );
}

/** Sets `serving` for both stacks. */
export function changeServing(serving: Serving, project = stackFolder): void {
  const file = fileIn(project);
  writeAtomically(file, withServing(readFileSync(file, "utf8"), serving), 0o644);
}

/** Remembers the project's Pulumi.yaml as it is, a link or a file; the returned function brings it back. */
export function rememberServing(project = stackFolder): () => void {
  const file = fileIn(project);
  if (lstatSync(file).isSymbolicLink()) {
    const target = readlinkSync(file);
    return () => {
      const draft = `${file}.${process.pid}.new`;
      rmSync(draft, { force: true });
      symlinkSync(target, draft);
      renameSync(draft, file);
    };
  }
  const text = readFileSync(file, "utf8");
  return () => writeAtomically(file, text, 0o644);
}
