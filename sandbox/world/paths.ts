/** Where the sandbox keeps its files: everything of one clone is under `.sandbox/`, what is expensive in the user's cache. */
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The clone's top folder. In a bundled program, whose place says nothing, the bundler has written it here. */
export const projectDir = process.env.RESTATE_SANDBOX_PROJECT ?? resolve(__dirname, "../..");

/** Arguments of Node.js with which it loads this project's TypeScript. */
export const typescript = ["--require", join(projectDir, "tools/typescript.cjs")] as const;

/** Root of all that one sandbox writes. */
export const sandboxDir = resolve(process.env.RESTATE_SANDBOX_DIR ?? join(projectDir, ".sandbox"));

/** Survives `down`: etcd data, keys, volumes, AWS state, the Pulumi state backend. */
export const stateDir = join(sandboxDir, "state");

/** Made anew by each `up`: sockets, process ids, generated configuration. */
export const runDir = join(sandboxDir, "run");

/** One log file a part. */
export const logDir = join(sandboxDir, "logs");

/** Built and fetched tools, keyed by content, shared by all clones of a user. */
export const cacheDir =
  process.env.RESTATE_SANDBOX_CACHE ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "restate-two-regions");
