/** What the language host reads from requests and makes of it: runtime options, command lines, configuration. Pure. */
import type { ProgramInfo, RunRequest } from "@pulumi/pulumi/proto/language_pb";

/** The options of `runtime: {name: nodejs, options: {...}}` in Pulumi.yaml, as the official host understands them. */
export interface RuntimeOptions {
  /** Whether the SDK loads TypeScript itself, by ts-node. Default true. */
  typescript: boolean;
  /** Arguments for `node` itself, in front of the program. */
  nodeargs: string[];
  /** Path of a tsconfig other than the program folder's, for ts-node. */
  tsconfig: string | undefined;
  /** What installs dependencies. Default npm. */
  packagemanager: "npm" | "pnpm" | "yarn" | "bun";
}

const packageManagers = ["npm", "pnpm", "yarn", "bun"] as const;

/** Reads the runtime options of a program; an unusable value is an error that names the option. */
export function runtimeOptions(info: ProgramInfo | undefined): RuntimeOptions {
  const raw = info?.getOptions()?.toJavaScript() ?? {};
  const typescript = raw.typescript ?? true;
  if (typescript !== true && typescript !== false) {
    throw new Error(`Pulumi.yaml: runtime.options.typescript must be true or false, not ${JSON.stringify(typescript)}`);
  }
  const packagemanager = packageManagers.find((name) => name === (raw.packagemanager ?? "npm"));
  if (!packagemanager) {
    throw new Error(
      `Pulumi.yaml: runtime.options.packagemanager must be one of ${packageManagers.join(", ")}, ` +
        `not ${JSON.stringify(raw.packagemanager)}`,
    );
  }
  return {
    typescript,
    nodeargs: splitArguments(text("nodeargs", raw.nodeargs) ?? ""),
    tsconfig: text("tsconfig", raw.tsconfig),
    packagemanager,
  };
}

function text(option: string, value: unknown): string | undefined {
  if (value === undefined || value === null || typeof value === "string") return value || undefined;
  throw new Error(`Pulumi.yaml: runtime.options.${option} must be a string, not ${JSON.stringify(value)}`);
}

/** Splits a command line at blanks; single and double quotes keep blanks. */
export function splitArguments(line: string): string[] {
  const words = line.match(/(?:[^\s"']|"[^"]*"|'[^']*')+/g) ?? [];
  if (words.join("").length !== line.replace(/("[^"]*"|'[^']*')|\s+/g, (_, quoted) => quoted ?? "").length) {
    throw new Error(`Pulumi.yaml: runtime.options.nodeargs has a quote that is not closed: ${line}`);
  }
  return words.map((word) => word.replace(/"([^"]*)"|'([^']*)'/g, (_, double, single) => double ?? single));
}

/** Environment of a program that follows from the runtime options. */
export function optionsEnvironment(options: RuntimeOptions): Record<string, string> {
  return {
    ...(options.typescript ? { PULUMI_NODEJS_TYPESCRIPT: "true" } : {}),
    ...(options.tsconfig ? { PULUMI_NODEJS_TSCONFIG_PATH: options.tsconfig } : {}),
  };
}

/** A configuration key as the SDK expects it in PULUMI_CONFIG: `aws:region` becomes `aws:config:region`. */
export function sdkConfigKey(key: string): string {
  const parts = key.split(":");
  return parts.length === 2 ? `${parts[0]}:config:${parts[1]}` : key;
}

/** Environment of a program that carries the stack's configuration. */
export function configEnvironment(request: RunRequest): Record<string, string> {
  const config: Record<string, string> = {};
  for (const [key, value] of request.getConfigMap().toArray()) config[sdkConfigKey(key)] = value;
  return {
    PULUMI_CONFIG: JSON.stringify(config),
    PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList().map(sdkConfigKey)),
  };
}

/** Arguments for `node` that run a Pulumi program through the SDK's `cmd/run`. */
export function runArguments(
  request: RunRequest,
  runModule: string,
  engineAddress: string,
  options: RuntimeOptions,
): string[] {
  const flag = (name: string, value: string) => (value ? [`--${name}`, value] : []);
  const info = request.getInfo();
  return [
    ...options.nodeargs,
    runModule,
    ...flag("monitor", request.getMonitorAddress()),
    ...flag("engine", engineAddress),
    ...flag("organization", request.getOrganization()),
    ...flag("project", request.getProject()),
    ...flag("root-directory", info?.getRootDirectory() ?? ""),
    ...flag("stack", request.getStack()),
    ...flag("pwd", request.getPwd()),
    ...(request.getDryrun() ? ["--dry-run"] : []),
    ...flag("parallel", String(request.getParallel())),
    info?.getEntryPoint() || ".",
    ...request.getArgsList(),
  ];
}
