/**
 * Lets Node.js load the program's TypeScript: `node --require ./tools/typescript.cjs`. Pulumi.yaml has it in `nodeargs`.
 *
 * It compiles the project's own `.ts` files and leaves packages alone. What it has compiled is kept in
 * `node_modules/.cache/program`, by content. Line numbers stay as they are, so that errors point to the right line without
 * source maps.
 */
const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
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

// Node.js 22 and newer can keep what it made of packages, too.
Module.enableCompileCache?.(join(cache, "v8"));

const sdk = Module.createRequire(require.resolve("@pulumi/pulumi"));

// Pulumi notes a stack trace for every promise, and formats it with the help of source maps: a tenth of a preview. There is
// nothing to look up in the program's own files, and in packages the lines of what really runs will do. What has been
// installed is not installed again.
sdk("source-map-support").install();
Error.prepareStackTrace = undefined;

// Pulumi loads the TypeScript compiler and npm's solver of dependencies with its SDK: half of what loading the program
// takes. They are needed where functions are serialized, which this program does not do: they wait until they are used.
for (const name of ["typescript", "@npmcli/arborist"]) {
  const file = sdk.resolve(name);
  const real = () => {
    if (require.cache[file] === later) delete require.cache[file];
    return sdk(name);
  };
  const later = new Module(file);
  later.loaded = true;
  later.exports = new Proxy(
    {},
    {
      // As an import of it sees it: a default is there in any case.
      get: (_, key) => key === "__esModule" || (real()[key] ?? (key === "default" ? real() : undefined)),
      has: (_, key) => key in real(),
    },
  );
  require.cache[file] = later;
}
