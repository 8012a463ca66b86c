/** What the Pulumi engine starts: loads the pack's TypeScript as the program's is loaded, and serves it. */
require("../tools/typescript.cjs");
require("./index.ts");
