/** Programs that are started to be killed: with all that they start, at a chosen moment. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";

const projectFolder = resolve(__dirname, "../..");

/** A process and all that came from it, parents first. Reads /proc. */
export function descendants(root: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // Ended since it was listed.
    }
  }
  const found = [root];
  for (let i = 0; i < found.length; i++) found.push(...(children.get(found[i]!) ?? []));
  return found;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Kills a process and all that came from it, as a power cut would: none of them sees another one's end. */
function killTree(root: number): void {
  // Frozen first, so that nothing is started, or does anything more, meanwhile.
  for (const pid of descendants(root)) signal(pid, "SIGSTOP");
  for (const pid of descendants(root)) signal(pid, "SIGKILL");
}

/** A program that runs. */
export class Running {
  /** All that it has printed so far. */
  output = "";
  /** Resolves with its exit code; null once it was killed. */
  readonly ended: Promise<number | null>;
  over = false;
  private readonly child: ChildProcess;

  constructor(command: string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(command[0]!, command.slice(1), { cwd: projectFolder, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout!, this.child.stderr!]) {
      stream.on("data", (data: Buffer) => {
        this.output += data;
      });
    }
    this.ended = new Promise((done) =>
      this.child.on("close", (code) => {
        this.over = true;
        done(code);
      }),
    );
  }

  kill(): void {
    if (!this.over) killTree(this.child.pid!);
  }

  /** One signal to the program alone, as `kill` sends it. */
  signal(name: NodeJS.Signals): void {
    signal(this.child.pid!, name);
  }
}
