/** Runs operations/handover with the real bash and jq against a cluster that is played: see played-cluster.ts. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { handoverEnvironment, handoverFiles } from "../../restate/handover";
import { clusterNodes, provisionedReplication, type Serving, soloReplication } from "../../topology";
import { type Answer, copies, ownLeader, PlayedCluster } from "./played-cluster";

/**
 * restatectl and curl: hand over what they are asked, and give what is answered. They do not start any process: a
 * handover asks hundreds of times.
 */
const client = `#!/bin/bash
input=
for one; do case $one in - | @-) IFS= read -r -d '' input ;; esac; done
exec 3<>"/dev/tcp/127.0.0.1/$PLAY_PORT" || exit 1
printf '%s\\0' "$PLAY_RUN" "\${0##*/}" "$#" "$@" "$input" >&3
{ IFS= read -r -d '' code && IFS= read -r -d '' out && IFS= read -r -d '' err; } <&3 || exit 137
printf '%s' "$out"
printf '%s' "$err" >&2
exit "$code"
`;

/** How a run of handover.sh ended. */
export interface HandoverRun {
  /** Null if it was killed. */
  code: number | null;
  /** What it printed, without times. */
  out: string;
  /** The commands that changed the cluster, or were meant to, and how many documents it wrote. */
  commands: string[];
  writes: number;
}

/** A cluster that is played, and runs of handover.sh on it. */
export class HandoverStage {
  readonly cluster: PlayedCluster;
  private readonly folder = mkdtempSync(join(tmpdir(), "restate-handover-"));
  private readonly server;
  private readonly runs = new Map<string, ChildProcess>();
  private next = 1;

  private constructor(
    readonly replicas: number,
    partitions = 4,
  ) {
    const nodes = clusterNodes({ replicas, domain: "r.example" });
    this.cluster = new PlayedCluster(nodes, provisionedReplication(replicas), partitions);
    for (const [name, text] of Object.entries(handoverFiles())) writeFileSync(join(this.folder, name), text);
    mkdirSync(join(this.folder, "bin"));
    for (const name of ["restatectl", "curl"]) {
      writeFileSync(join(this.folder, "bin", name), client);
      chmodSync(join(this.folder, "bin", name), 0o755);
    }
    this.server = createServer((socket) => this.serve(socket));
  }

  /** A stage that is ready. */
  static async open(replicas: number, partitions?: number): Promise<HandoverStage> {
    const stage = new HandoverStage(replicas, partitions);
    await once(stage.server.listen(0, "127.0.0.1"), "listening");
    return stage;
  }

  close(): void {
    for (const run of this.runs.keys()) this.kill(run);
    this.server.close();
    this.cluster.close();
    rmSync(this.folder, { recursive: true });
  }

  /**
   * Runs it. `environment` replaces what the stack would set; where it says undefined, the variable is not there.
   */
  async run(
    target: Serving | string,
    environment: Record<string, string | undefined> = {},
    mode = "run",
  ): Promise<HandoverRun> {
    return this.start(target, environment, mode).ended;
  }

  /** Starts it; `signal` sends it a signal. */
  start(
    target: Serving | string,
    environment: Record<string, string | undefined> = {},
    mode = "run",
  ): { ended: Promise<HandoverRun>; signal: (name: NodeJS.Signals) => void } {
    const { cluster, replicas } = this;
    const run = String(this.next++);
    const before = { commands: cluster.commands.length, writes: cluster.writes };
    const setting = {
      cluster: "restate",
      region: target === "region2" ? "region2" : "region1",
      nodes: clusterNodes({ replicas, domain: "r.example" }),
      both: provisionedReplication(replicas),
      one: soloReplication(replicas),
      timeout: 600,
      maxUnsaved: 30_000,
      bucket: "receipts",
      awsRegion: "us-west-2",
      env: { AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "secret", AWS_ENDPOINT_URL: "http://s3.example" },
    };
    const child = spawn("bash", [join(this.folder, "handover.sh"), mode], {
      env: {
        ...handoverEnvironment(setting, { target, askedBy: { user: "alice" }, next: "pulumi up --stack one" }),
        HOSTNAME: `pod-${run}`,
        ...environment,
        PATH: `${join(this.folder, "bin")}${delimiter}${process.env.PATH}`,
        TMPDIR: this.folder,
        PLAY_PORT: String((this.server.address() as AddressInfo).port),
        PLAY_RUN: run,
      },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    this.runs.set(run, child);
    let out = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (data) => {
        out += data;
      });
    }
    const ended = new Promise<HandoverRun>((done) =>
      child.on("exit", (code) => {
        // What it started may outlive it by a moment, as its pipes do: it has no say any more.
        const told = this.runs.delete(run);
        const finish = () =>
          done({
            code: told ? code : null,
            out: out.replace(/^ *\d+s {2}/gm, ""),
            commands: cluster.commands.slice(before.commands),
            writes: cluster.writes - before.writes,
          });
        if (told) child.on("close", finish);
        else finish();
      }),
    );
    return { ended, signal: (name) => void child.kill(name) };
  }

  /** Kills a run, as a node does that loses its power: what it asks from now on is never answered. */
  private kill(run: string): void {
    const child = this.runs.get(run);
    this.runs.delete(run);
    if (child) process.kill(-child.pid!, "SIGKILL");
  }

  private serve(socket: Socket): void {
    let text = "";
    socket.setEncoding("utf8");
    // A client that was killed.
    socket.on("error", () => {});
    socket.on("data", (data: string) => {
      text += data;
      const parts = text.split("\0");
      const count = Number(parts[2]);
      // The last part is what follows the last separator.
      if (parts.length < 3 || parts.length < count + 5) return;
      const [run, program] = parts as [string, string];
      if (!this.runs.has(run)) {
        socket.destroy();
        return;
      }
      const { code, out = "", err = "" } = this.answer(run, program, parts.slice(3, 3 + count), parts[3 + count]!);
      if (this.runs.has(run)) socket.end(`${code}\0${out}\0${err}\0`);
      else socket.destroy();
    });
  }

  private answer(run: string, program: string, words: string[], input: string): Answer {
    const { cluster } = this;
    if (program === "curl") return cluster.curl(words, input);
    if (!/^--(single-)?address$/.test(words[0]!)) return cluster.restatectl("", words, input, () => this.kill(run));
    if (!cluster.reachable(words[1]!)) return { code: 1, err: `${words[1]} cannot be reached\n` };
    return cluster.restatectl(words[1]!, words.slice(2), input, () => this.kill(run));
  }
}

/** Steps of a handover in their order, by the commands that they consist of; `last` is the node that is withdrawn last. */
const drainOrder = [
  () => /^partitions leadership pin /,
  () => /^logs reconfigure (?!.*--nodeset)/,
  () => /^metadata-server remove-node /,
  (last: string) => new RegExp(`^nodes set-.*--nodes (?!${last} ).*(read-only|draining)$`),
  () => /^config set /,
  (last: string) => new RegExp(`^nodes set-.*--nodes ${last} .*(read-only|draining)$`),
  () => /^logs reconfigure .*--nodeset/,
  () => /^snapshots create$/,
];
const restoreOrder = [
  () => /^config set --partition-replication /,
  () => /^nodes set-worker-state .*active$/,
  () => /^nodes set-storage-state --nodes \w+ .*read-write$/,
  () => /^config set --log-replication /,
  () => /^nodes set-.*(read-write|active)$/,
  () => /^logs reconfigure /,
  () => /^metadata-server add-node /,
  () => /^partitions leadership (un)?pin /,
  () => /^snapshots create$/,
];

/**
 * Watches a cluster while `region` is drained or comes back; what it returns fills with everything that must never be, as
 * it is seen: a record could be written in that region alone, the metadata store has no majority, or a command forces,
 * or comes before one of an earlier step.
 */
export function watchHandover(cluster: PlayedCluster, region: string, direction: "drain" | "restore"): Set<string> {
  const faults = new Set<string>();
  const last = cluster.in(region).at(-1)!.id;
  const order = (direction === "drain" ? drainOrder : restoreOrder).map((pattern) => pattern(last));
  const begin = cluster.commands.length;
  let seen = begin;
  let reached = 0;
  cluster.changed = () => {
    for (const [i, command] of cluster.commands.slice(seen).entries()) {
      // A run that goes on where another was killed pins or unpins leaders, if that one did.
      const kind = /^partitions leadership \w+ /.exec(command)?.[0];
      if (kind && cluster.commands.slice(begin, seen + i).some((one) => one.startsWith(kind))) continue;
      if (command.includes("--force")) faults.add(`forced: ${command}`);
      // One that goes on where another was killed asks for both regions once more, and begins anew.
      if (direction === "drain" && /^config set .*--partition-replication \{region:2\}/.test(command)) {
        reached = 0;
        continue;
      }
      const place = order.findIndex((pattern, step) => step >= reached && pattern.test(command));
      if (place < 0) faults.add(`out of order: ${command}, with step ${reached} begun`);
      else reached = place;
    }
    seen = cluster.commands.length;
    const told = `after ${cluster.commands.at(-1) ?? "nothing"}`;
    if (!cluster.hasMajority()) faults.add(`the metadata store has no majority ${told}`);
    // Were the region lost now, nobody could tell how far the log is written, and the store would live on.
    if (cluster.in(region).some(({ metadata }) => metadata !== "member")) {
      const there = cluster.in(region).map(({ id }) => id);
      cluster.logs.forEach(({ sequencer }, log) => {
        if (there.includes(sequencer)) faults.add(`log ${log} is sequenced by ${sequencer} ${told}`);
      });
    }
    // Where each region has one node, two commands are between what both regions need and what one does: docs/decisions.md.
    for (const allowed of cluster.allowsOnlyIn(region)) {
      if (cluster.in(region).length > 1 || allowed.startsWith("log ")) faults.add(`${allowed} ${told}`);
    }
  };
  return faults;
}

/** How the cluster differs from one that `target` serves, one line each; without the script's own gates. */
export function differences(stage: HandoverStage, target: Serving): string[] {
  const { cluster, replicas } = stage;
  const isBoth = target === "both";
  const { log, partition } = isBoth ? provisionedReplication(replicas) : soloReplication(replicas);
  const found: string[] = [];
  const expect = (what: string, is: unknown, wanted: unknown) => {
    if (JSON.stringify(is) !== JSON.stringify(wanted)) found.push(`${what}: ${JSON.stringify(is)}`);
  };
  const serves = ({ location }: { location: string }) => isBoth || location === target;
  for (const node of cluster.nodes) {
    const states = [node.storage, node.worker, node.metadata];
    expect(node.name, states, serves(node) ? ["read-write", "active", "member"] : ["read-only", "draining", "standby"]);
  }
  expect("configuration", cluster.config, { log, partition });
  const ids = cluster.nodes.filter(serves).map(({ id }) => id);
  const regionsOf = (some: string[]) => [...new Set(some.map((id) => cluster.node(id).location))].sort();
  const wanted = isBoth ? ["region1", "region2"] : [target];
  cluster.logs.forEach((one, i) => {
    const strangers = one.nodeset.filter((id) => !ids.includes(id));
    expect(`log ${i}`, [one.replication, regionsOf(one.nodeset), strangers], [log, wanted, []]);
    // As many as the cluster would choose.
    expect(`nodes of log ${i}`, new Set(one.nodeset).size, Math.min(ids.length, 2 * copies(log).node - 1));
  });
  // Where both regions serve pins stay only where the cluster's own choice leads fewer than half from a region.
  const own = cluster.partitions.map(({ replicas }, p) => cluster.node(ownLeader(replicas, p)!).location);
  const needsPins = wanted.some((region) => own.filter((one) => one === region).length < Math.floor(own.length / 2));
  cluster.partitions.forEach((one, i) => {
    expect(`partition ${i}`, [regionsOf(one.replicas), one.next], [wanted, []]);
    if (isBoth && cluster.canPin && one.pinned) expect(`pin of partition ${i}`, one.pinned, needsPins && one.leader);
    if (!ids.includes(one.leader ?? "")) found.push(`partition ${i} is led by ${one.leader}`);
    // Later segments may begin while the snapshot is made; what was there before the handover is in it.
    if (one.archived < cluster.logs[i]!.base - 1) found.push(`partition ${i} is archived up to ${one.archived}`);
  });
  if (isBoth && cluster.canPin) {
    for (const region of wanted) {
      const led = cluster.partitions.filter(({ leader }) => cluster.node(leader!).location === region).length;
      if (led < Math.floor(cluster.partitions.length / 2)) found.push(`${region} leads ${led} partitions`);
    }
  }
  const fields: Record<string, unknown> = [...cluster.documents.values()][0]?.fields ?? {};
  expect("record", [fields.serving, fields.lock], [target, null]);
  const object = [...cluster.objects.values()].at(-1);
  expect("receipt", JSON.parse(object ?? "null"), fields.receipt);
  return found;
}
