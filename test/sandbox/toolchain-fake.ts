/** A tool for tests of the cache. As a program, ensures it in a cache: `toolchain-fake.ts CACHE`. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { streamProgress } from "../../sandbox/toolchain";
import { type EntryRecipe, ensureEntry } from "../../sandbox/toolchain/cache";

/** A tool whose making is written down in `made.log`; where a file `hold` is, it does not end before that is gone. */
export function fakeTool(root: string): EntryRecipe {
  return {
    name: "fake",
    hash: "0123456789abcdef",
    variant: "test",
    files: ["bin/fake"],
    title: "making fake",
    async make(target) {
      writeFileSync(join(root, "made.log"), `${process.pid}\n`, { flag: "a" });
      while (existsSync(join(root, "hold"))) await delay(20);
      mkdirSync(join(target, "bin"));
      writeFileSync(join(target, "bin/fake"), "fake tool");
    },
  };
}

if (require.main === module) {
  const root = process.argv[2] ?? "";
  ensureEntry(fakeTool(root), streamProgress(), root).catch((error) => {
    console.error(error);
    process.exitCode = 1;
  });
}
