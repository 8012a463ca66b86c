/** What must be on the machine before the sandbox can start; all that is missing is told at once, with its remedy. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { findOnPath, outputOf } from "./host";
import { compareVersions } from "./pulumi";

/** What is asked for: running the sandbox, or one of the ways by which tools are made. */
export type Need = "run" | "go" | "npm" | "python";

/** What was found on the machine. Undefined: not there. */
export interface Machine {
  /** `process.platform` and `process.arch`. */
  platform: string;
  arch: string;
  /** Version of Node.js that runs this. */
  node: string;
  /** Versions of programs that have a lower limit. */
  go: string | undefined;
  python: string | undefined;
  /** Whether `python3 -m venv` can make environments with pip in them. */
  pythonVenv: boolean;
  /** Other programs that are on PATH. */
  programs: ReadonlySet<string>;
  /** What `unshare` said when it was tried; undefined if it worked or is missing itself. */
  namespacesRefused: string | undefined;
  /** Kernel settings that can forbid user namespaces, as far as they exist. */
  settings: {
    apparmorRestrict?: string;
    unprivilegedClone?: string;
    maxUserNamespaces?: string;
  };
}

/** Something that is missing. */
export interface Missing {
  what: string;
  /** What to type or do, a line each. */
  remedy: string[];
}

/** Lower limits. Go's is that of the `go` lines in the modules that are built. */
const limits = { node: "20.19.0", go: "1.26.0", python: "3.10.0" } as const;

/** Programs and the packages that hold them: Debian and Ubuntu, then Fedora. */
const packages: Record<string, [need: Need, debian: string, fedora: string]> = {
  unshare: ["run", "util-linux", "util-linux"],
  nsenter: ["run", "util-linux", "util-linux"],
  flock: ["run", "util-linux", "util-linux-core"],
  mount: ["run", "mount", "util-linux-core"],
  ip: ["run", "iproute2", "iproute"],
  sysctl: ["run", "procps", "procps-ng"],
  bash: ["run", "bash", "bash"],
  curl: ["run", "curl", "curl"],
  npm: ["npm", "npm", "nodejs-npm"],
};

const install = (debian: string, fedora: string) => [
  `Debian, Ubuntu: sudo apt-get install ${debian}`,
  `Fedora: sudo dnf install ${fedora}`,
];

/** Decides what is missing for what is needed. Pure. */
export function findMissing(machine: Machine, needs: readonly Need[]): Missing[] {
  const missing: Missing[] = [];
  const add = (what: string, remedy: string[]) => missing.push({ what, remedy });
  const older = (version: string | undefined, limit: string) =>
    version === undefined || compareVersions(version, limit) < 0;
  const found = (version: string | undefined) => (version === undefined ? "none was found" : `${version} was found`);

  if (machine.platform !== "linux" || !["x64", "arm64"].includes(machine.arch)) {
    add(`Linux on x64 or arm64; this is ${machine.platform} on ${machine.arch}`, [
      "Use a Linux machine, or a virtual machine with Linux (WSL 2, Lima, Multipass)",
    ]);
  }
  if (older(machine.node, limits.node)) {
    add(`Node.js ${limits.node} or newer; ${found(machine.node)}`, ["Install it from your distribution, nvm or fnm"]);
  }
  if (needs.includes("go") && older(machine.go, limits.go)) {
    add(`Go ${limits.go} or newer, to build what is not in the cache yet; ${found(machine.go)}`, [
      "Install the current release as go.dev/doc/install says; distributions often have an older one",
    ]);
  }
  if (needs.includes("python") || needs.includes("npm") || needs.includes("run")) {
    if (older(machine.python, limits.python)) {
      add(`Python ${limits.python} or newer; ${found(machine.python)}`, install("python3 python3-venv", "python3"));
    } else if (needs.includes("python") && !machine.pythonVenv) {
      add("Python's venv module with ensurepip", install("python3-venv", "python3"));
    }
  }
  const lacking = Object.entries(packages).filter(
    ([name, [need]]) => needs.includes(need) && !machine.programs.has(name),
  );
  for (const [name, [, debian, fedora]] of lacking) add(`the program ${name}`, install(debian, fedora));
  if (needs.includes("run") && machine.arch !== "x64") {
    for (const name of ["kubectl", "helm"].filter((program) => !machine.programs.has(program))) {
      add(`the program ${name}, which the sandbox brings along for x64 only`, [
        `Install ${name} ${name === "helm" ? "4" : "1.35"} as its web site says`,
      ]);
    }
  }
  if (needs.includes("run") && machine.namespacesRefused !== undefined) {
    add(
      `user namespaces without privileges; unshare said: ${machine.namespacesRefused}`,
      namespaceRemedy(machine.settings),
    );
  }
  return missing;
}

/** What to type so that user namespaces work, by the kernel settings that forbid them. */
function namespaceRemedy(settings: Machine["settings"]): string[] {
  const remedy: string[] = [];
  const set = (setting: string, value: string, why: string) =>
    remedy.push(`sudo sysctl -w ${setting}=${value}    # ${why}; put it into /etc/sysctl.d/ to keep it`);
  if (settings.apparmorRestrict === "1") {
    set("kernel.apparmor_restrict_unprivileged_userns", "0", "Ubuntu 23.10 and later restrict them by AppArmor");
  }
  if (settings.unprivilegedClone === "0") {
    set("kernel.unprivileged_userns_clone", "1", "older Debian kernels forbid them");
  }
  if (settings.maxUserNamespaces === "0") {
    set("user.max_user_namespaces", "15000", "the limit is none at all");
  }
  if (remedy.length === 0) {
    remedy.push("Allow them: inside a container, start it with --privileged or a seccomp profile that permits unshare");
  }
  return remedy;
}

/** The text that tells all that is missing. */
export function describeMissing(missing: readonly Missing[]): string {
  const parts = missing.map(({ what, remedy }) => `  - ${what}\n${remedy.map((line) => `      ${line}`).join("\n")}`);
  return `The sandbox needs what this machine does not have:\n${parts.join("\n")}`;
}

const setting = (name: string): string | undefined => {
  try {
    return readFileSync(`/proc/sys/${name}`, "utf8").trim();
  } catch {
    return undefined;
  }
};

/** Looks at the machine. */
function inspectMachine(): Machine {
  const version = (program: string, args: string[]) =>
    findOnPath(program) && outputOf(program, args)?.match(/\d+\.\d+(\.\d+)?/)?.[0];
  const unshare = findOnPath("unshare");
  return {
    platform: process.platform,
    arch: process.arch,
    node: process.versions.node,
    go: version("go", ["version"]),
    python: version("python3", ["--version"]),
    pythonVenv: outputOf("python3", ["-c", "import venv, ensurepip"]) !== undefined,
    programs: new Set([...Object.keys(packages), "kubectl", "helm"].filter((name) => findOnPath(name))),
    namespacesRefused: unshare ? tryNamespaces() : undefined,
    settings: {
      apparmorRestrict: setting("kernel/apparmor_restrict_unprivileged_userns"),
      unprivilegedClone: setting("kernel/unprivileged_userns_clone"),
      maxUserNamespaces: setting("user/max_user_namespaces"),
    },
  };
}

/** Makes the namespaces that the sandbox uses and does in them what it does first; returns what went wrong. */
function tryNamespaces(): string | undefined {
  const script = "mount -t tmpfs none /mnt && ip link set lo up && ip link add br0 type bridge";
  const flags = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"];
  const result = spawnSync("unshare", [...flags, "sh", "-c", script], { encoding: "utf8", timeout: 20_000 });
  if (result.status === 0) return undefined;
  return (result.error?.message ?? result.stderr).trim().split("\n")[0] || `exit code ${result.status}`;
}

/** All that is missing on this machine for what is needed. */
export function checkPrerequisites(needs: readonly Need[]): Missing[] {
  return findMissing(inspectMachine(), needs);
}

/** Throws one error that names all that is missing. */
export function requirePrerequisites(needs: readonly Need[]): void {
  if (needs.length === 0) return;
  const missing = checkPrerequisites(needs);
  if (missing.length > 0) throw new Error(describeMissing(missing));
}
