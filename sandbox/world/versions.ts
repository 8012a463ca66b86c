/** The versions of Restate that the sandbox's stacks ask for: what its nodes have to be able to run. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultIn, readStackFile, stackFolder } from "./environment";
import { projectDir } from "./paths";
import { regions } from "./regions";

const setting = "restate:restateVersion";

/** Each version once: of a region's own file, else of Pulumi.yaml, the sandbox's or while there is none the clone's. */
export function askedRestateVersions(project = stackFolder): string[] {
  const file = [project, projectDir].map((folder) => join(folder, "Pulumi.yaml")).find((path) => existsSync(path))!;
  const ofBoth = defaultIn(readFileSync(file, "utf8"), setting);
  return [...new Set(regions.map(({ name }) => (readStackFile(name, project).config?.[setting] ?? ofBoth) as string))];
}
