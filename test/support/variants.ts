/** Variants of the program: copies of its files in a folder of their own, with a piece of text replaced. */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(__dirname, "../..");

/** What the program consists of. */
const parts = [
  "Pulumi.yaml",
  "package.json",
  "aws",
  "components",
  "guard.ts",
  "handover",
  "index.ts",
  "kubernetes",
  "monitoring",
  "operations",
  "outputs.ts",
  "peer.ts",
  "region.ts",
  "restate",
  "settings.ts",
  "tools",
  "topology.ts",
];

/** A change of one file of the program. */
export interface Variant {
  /** What is done, in words. */
  title: string;
  file: string;
  /** Text of the file, which must be there exactly once. */
  from: string;
  to: string;
}

/** A copy of the program with a change in it. */
export class ProgramCopy {
  private constructor(readonly folder: string) {}

  static of({ title, file, from, to }: Variant): ProgramCopy {
    const folder = mkdtempSync(join(tmpdir(), "restate-variant-"));
    for (const part of parts) cpSync(join(root, part), join(folder, part), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    const path = join(folder, file);
    const pieces = readFileSync(path, "utf8").split(from);
    if (pieces.length !== 2) {
      rmSync(folder, { recursive: true });
      throw new Error(
        `the variant "${title}" does not fit: ${file} has its text ${pieces.length - 1} times instead of once: ${from}`,
      );
    }
    writeFileSync(path, pieces.join(to));
    return new ProgramCopy(folder);
  }

  /** Its program, loaded. */
  get program(): () => unknown {
    return require(join(this.folder, "index.ts"));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
