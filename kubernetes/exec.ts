/** Runs a program in a pod, through the Kubernetes API. */
import { PassThrough } from "node:stream";
import type { ClusterAccess } from "./access";
import { configOf } from "./client";
import { within } from "./deadline";

/** One container of a pod. */
export interface Target {
  namespace: string;
  pod: string;
  container: string;
}

/**
 * Runs a program in a container and returns what it printed. Rejects with the last line of its standard error if it
 * fails, or once the deadline has passed.
 *
 * @param input what the program reads from standard input
 * @param milliseconds the deadline
 */
export async function runInPod(
  access: ClusterAccess,
  { namespace, pod, container }: Target,
  command: string[],
  milliseconds: number,
  input?: string,
): Promise<string> {
  const { Exec } = await import("@kubernetes/client-node");
  const exec = new Exec(await configOf(access));
  const chunks: Buffer[] = [];
  const errors: Buffer[] = [];
  const stdout = new PassThrough().on("data", (data: Buffer) => void chunks.push(data));
  const stderr = new PassThrough().on("data", (data: Buffer) => void errors.push(data));
  const stdin = input === undefined ? null : new PassThrough().end(input);
  let close: (() => void) | undefined;
  const ended = new Promise<void>((done, reject) => {
    exec
      .exec(namespace, pod, container, command, stdout, stderr, stdin, false, (status) =>
        status.status === "Success"
          ? done()
          : reject(
              new Error(Buffer.concat(errors).toString().trim().split("\n").at(-1) || (status.message ?? "it failed")),
            ),
      )
      .then((socket) => {
        close = () => socket.close();
      }, reject);
  });
  try {
    await within(milliseconds, ended);
  } catch (error) {
    close?.();
    throw error;
  }
  return Buffer.concat(chunks).toString();
}
