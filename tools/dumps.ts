/** Writes test/dumps anew from the program: `npm run dumps`, then read the difference before committing it. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { dumpsFolder, dumpsOf, playAll } from "../test/support/dumps";

async function main(): Promise<void> {
  const dumps = dumpsOf(await playAll());
  rmSync(dumpsFolder, { recursive: true, force: true });
  for (const [path, text] of dumps) {
    mkdirSync(dirname(join(dumpsFolder, path)), { recursive: true });
    writeFileSync(join(dumpsFolder, path), text);
  }
  console.log(`${dumps.size} dumps in ${dumpsFolder}`);
}

void main();
