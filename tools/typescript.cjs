/**
 * Lets Node.js load the program's TypeScript: `node --require ./tools/typescript.cjs`. Pulumi.yaml has it in `nodeargs`.
 *
 * It compiles the project's own `.ts` files and leaves packages alone. What it has compiled is kept in
 * `node_modules/.cache/program`, by content. Line numbers stay as they are, so that errors point to the right line without
 * source maps.
 */
const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");
const { version } = require("sucrase/package.json");

const cache = join(__dirname, "..", "node_modules", ".cache", "program");

/** As Node.js understands what is newer, it stays; packages that are ES modules need a true `import()`. */
const options = { transforms: ["imports", "typescript"], disableESTransforms: true, preserveDynamicImport: true };

require.extensions[".ts"] = (module, file) => {
  const source = readFileSync(file, "utf8");
  const hash = createHash("sha256")
    .update(`${version}\0${JSON.stringify(options)}\0${source}`)
    .digest("hex");
  const kept = join(cache, `${hash}.js`);
  let code;
  try {
    code = readFileSync(kept, "utf8");
  } catch {
    code = require("sucrase").transform(source, { ...options, filePath: file }).code;
    keep(kept, code);
  }
  module._compile(code, file);
};

/** Writes a file in one step; where that cannot be, it is compiled again the next time. */
function keep(path, content) {
  try {
    mkdirSync(cache, { recursive: true });
    const next = `${path}.${process.pid}`;
    writeFileSync(next, content);
    renameSync(next, path);
  } catch {}
}

// Pulumi notes a stack trace for every promise, and looks up each line of it in source maps: a tenth of a preview. There
// is nothing to look up in the program's own files, and in packages the lines of what really runs will do.
createRequire(require.resolve("@pulumi/pulumi"))("source-map-support").install({
  overrideRetrieveSourceMap: true,
  retrieveSourceMap: () => null,
});
