/**
 * The environment of whoever calls the sandbox, without what would lead its tools elsewhere: a shell that has an account, a cluster,
 * a stack or a proxy chosen for its daily work is the usual one.
 */

/**
 * Accounts, endpoints, clusters, stacks and state. `PULUMI_HOME` is not one of them: installed plugins are looked for there, and the
 * sandbox's Pulumi always gets its own.
 */
const choices = /^(AWS_|HELM_|PULUMI_(?!HOME$)|KUBECONFIG$)/;

/** Names of a shell's own variables that `env` replaced or took away, separated by spaces; set in a shell that works with the sandbox. */
export const replacedVariable = "RESTATE_SANDBOX_REPLACED";

const proxies = /^(https?|all|grpc)_proxy$/i;

/** What is on this machine, where no proxy may come between: not even Pulumi's engine and its program would find each other. */
const local = ["127.0.0.1", "localhost"];

/** Names of the variables that would lead elsewhere, sorted. */
export function leadingElsewhere(caller: NodeJS.ProcessEnv): string[] {
  return Object.keys(caller)
    .filter((name) => choices.test(name))
    .sort();
}

/** What keeps proxies away from this machine's own addresses: nothing, where there are no proxies. */
export function withoutProxy(caller: NodeJS.ProcessEnv): Record<string, string> {
  if (!Object.keys(caller).some((name) => proxies.test(name))) return {};
  const hosts = (caller.NO_PROXY ?? caller.no_proxy ?? "").split(",").filter((host) => host !== "");
  const all = [...hosts, ...local.filter((host) => !hosts.includes(host))].join(",");
  return { NO_PROXY: all, no_proxy: all };
}

/** The caller's environment, without what would lead elsewhere. */
export function ownEnvironment(caller: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const kept = { ...caller, ...withoutProxy(caller) };
  for (const name of [...leadingElsewhere(caller), replacedVariable]) delete kept[name];
  return kept;
}
