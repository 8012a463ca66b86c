/** How a stack reaches its Kubernetes cluster: a kubeconfig, from a file, from the settings or made for an EKS cluster. */

import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { RunError } from "@pulumi/pulumi/errors";

/** What is needed to reach one cluster. */
export interface ClusterAccess {
  /** Contents of a kubeconfig (YAML or JSON). */
  kubeconfig: string;
  context?: string;
}

/** An EKS cluster, as far as a kubeconfig needs it. */
export interface EksEndpoint {
  name: string;
  awsRegion: string;
  endpoint: string;
  /** Base64. */
  certificateAuthority: string;
}

/** A kubeconfig that obtains its tokens from `aws eks get-token`; holds no credentials itself. */
export function eksKubeconfig(cluster: EksEndpoint): string {
  const { name } = cluster;
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": name,
    clusters: [
      { name, cluster: { server: cluster.endpoint, "certificate-authority-data": cluster.certificateAuthority } },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    users: [
      {
        name,
        user: {
          exec: {
            apiVersion: "client.authentication.k8s.io/v1beta1",
            command: "aws",
            args: ["eks", "get-token", "--cluster-name", name, "--region", cluster.awsRegion, "--output", "json"],
            interactiveMode: "Never",
          },
        },
      },
    ],
  });
}

/** Reads the file that the setting `kubernetes.kubeconfig` names (`~` and paths relative to the folder work). */
export function readKubeconfig(setting: string, workingFolder: string): string {
  const path = resolve(workingFolder, setting.replace(/^~(?=\/)/, homedir()));
  if (!existsSync(path)) {
    throw new RunError(
      `restate:kubernetes.kubeconfig: there is no file ${path}. Correct the path, or give restate:kubeconfigContents`,
    );
  }
  return readFileSync(path, "utf8");
}
