/**
 * Lets Node.js load the program's TypeScript: `node --require ./tools/typescript.cjs`. Pulumi.yaml has it in `nodeargs`.
 *
 * It looks at the project's own `.ts` files and leaves packages alone. Line numbers stay as they are, so that errors point
 * to the right line without source maps.
 */
const { addHook } = require("sucrase/dist/register");

addHook(".ts", {
  transforms: ["imports", "typescript"],
  // As Node.js understands both, and packages that are ES modules need a true `import()`.
  disableESTransforms: true,
  preserveDynamicImport: true,
});
