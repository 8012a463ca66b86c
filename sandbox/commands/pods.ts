/** Finding pods of both regions from the host, and running kubectl on them. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { toolPath } from "../toolchain";
import { hostKubeconfig } from "../world/access";
import { type KubePod, kubeGet } from "../world/kube";
import { regions, witnessRegion } from "../world/regions";

/** A pod that was found. */
export interface FoundPod {
  region: string;
  namespace: string;
  name: string;
  ip?: string;
}

/** The pod of that name, written `pod`, `region/pod` or `region/namespace/pod`; undefined when there is none. */
export async function findPod(text: string): Promise<FoundPod | undefined> {
  const words = text.split("/");
  const name = words.at(-1)!;
  const [region, namespace] = words.length === 3 ? words : words.length === 2 ? [words[0], undefined] : [];
  const found: FoundPod[] = [];
  for (const candidate of [...regions, witnessRegion]) {
    if (region !== undefined && candidate.name !== region) continue;
    const kubeconfig = hostKubeconfig(candidate.name);
    if (!existsSync(kubeconfig)) continue;
    try {
      const { items } = await kubeGet<{ items: KubePod[] }>(
        kubeconfig,
        `/api/v1/pods?fieldSelector=metadata.name%3D${encodeURIComponent(name)}`,
      );
      for (const pod of items) {
        if (namespace !== undefined && pod.metadata.namespace !== namespace) continue;
        const { name, namespace: inside } = pod.metadata;
        found.push({ region: candidate.name, namespace: inside, name, ip: pod.status?.podIP });
      }
    } catch {
      // A region that does not answer has no pods to offer; the other may.
    }
  }
  if (found.length > 1) {
    const names = found.map((pod) => `${pod.region}/${pod.namespace}/${pod.name}`);
    throw new Error(`there are ${found.length} pods named ${name}; say which: ${names.join(", ")}`);
  }
  return found[0];
}

/** Runs kubectl in a region with this terminal; returns its exit code. */
export function runKubectl(region: string, args: string[]): Promise<number> {
  return runHere(toolPath("kubectl"), ["--kubeconfig", hostKubeconfig(region), ...args]);
}

/** Runs a program with this terminal; returns its exit code. */
export function runHere(program: string, args: string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "inherit", env });
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? (signal ? 130 : 1)));
  });
}
