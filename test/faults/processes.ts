/** Programs that are started to be killed: with all that they start, at a chosen moment. */
import { type ChildProcess, spawn } from "node:child_process";
import { resolve } from "node:path";
import { processTable, processTree } from "../../sandbox/world/processes";

const projectFolder = resolve(__dirname, "../..");

/** A process and all that came from it, parents first. */
export const descendants = (root: number): number[] => processTree(root, processTable());

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
