/**
 * A Restate cluster that a test plays, for operations/handover: a small model of nodes, logs, partitions, configuration and
 * the metadata store. Questions in SQL are answered by a real engine (SQLite) over tables that have the cluster's names;
 * commands are checked as the real restatectl checks them, noted, and change the model. What a cluster does by itself
 * (choosing replica sets and leaders, applying records) it does a little of at each question.
 */
import { Database } from "node-sqlite3-wasm";
import type { NodeIdentity } from "../../topology";

/** One node. Words are those of the table `nodes`. */
export interface PlayedNode {
  id: string;
  name: string;
  location: string;
  address: string;
  /** Address that the node says is its own, where that is another one. */
  says?: string;
  state: "alive" | "dead";
  /** Whether it answers those who dial its address. */
  answers: boolean;
  storage: "read-write" | "read-only" | "provisioning";
  worker: "active" | "draining" | "provisioning";
  metadata: "member" | "standby" | "provisioning";
  version: string;
}

/** The newest segment of a log. */
export interface PlayedLog {
  segment: number;
  base: number;
  /** Last record. */
  tail: number;
  /** Null while it is sealed. */
  replication: string | null;
  nodeset: string[];
  /** Node that knows for certain how far it is written. */
  sequencer: string;
  /** Questions that were answered since it was begun. */
  questions: number;
}

/** One partition; log and partition have the same number. */
export interface PlayedPartition {
  leader: string | null;
  pinned?: string;
  replicas: string[];
  /** Nodes of the replica set that is on its way. */
  next: string[];
  /** Last record that each processor has applied. */
  applied: Record<string, number>;
  archived: number;
}

/** What restatectl or curl answer. */
export interface Answer {
  code: number;
  out?: string;
  err?: string;
}

/** What a test has happen to a command that changes the cluster: `lost` is answered as done, and nothing comes of it. */
export type Fate = "done" | "lost" | "killed before" | "killed after";

/** Of itself the cluster leads from one that the set of a partition's processors decides, wherever the leader was. */
export const ownLeader = (processors: readonly string[], partition: number): string | undefined =>
  processors[partition % processors.length];

/** `{node: 3, region: 2}` in numbers; what is not said is 1. */
export function copies(replication: string): { node: number; region: number } {
  const number = (word: string) => Number(new RegExp(`${word}: *(\\d+)`).exec(replication)?.[1] ?? 1);
  return { region: number("region"), node: Math.max(number("node"), number("region")) };
}

/** Replication as restatectl prints it. */
function printed(replication: string): string {
  return replication.replace(/: */g, ": ").replace(/, */g, ", ");
}

const failed = (err: string): Answer => ({ code: 1, err: `${err}\n` });

export class PlayedCluster {
  readonly nodes: PlayedNode[];
  readonly logs: PlayedLog[];
  readonly partitions: PlayedPartition[];
  config: { log: string; partition: string };
  /** Documents of the metadata store, by key. */
  readonly documents = new Map<string, { version: number; fields: Record<string, unknown> }>();
  /** Objects that were written to buckets, by URL. */
  readonly objects = new Map<string, string>();
  /** Commands that changed the cluster, and those that were meant to; without those that write documents. */
  readonly commands: string[] = [];
  /** Documents that were written, or meant to be. */
  writes = 0;
  /** Decides what becomes of a command, which is as in `commands`, or "metadata put" with the document that is to be written. */
  fate: (command: string, document?: Record<string, unknown>) => Fate = () => "done";
  /** Told after everything that may have changed. */
  changed: () => void = () => {};
  /** Answers in place of the usual ones. */
  instead: (words: string[]) => Answer | undefined = () => undefined;
  /** Whether restatectl can pin leaders: since 1.7. */
  canPin = true;
  /** Nodes whose processors apply nothing, though they seem to be at work. */
  readonly frozen = new Set<string>();
  /** Whether snapshots can be written. */
  saves = true;
  /** Questions after which a log that is sequenced elsewhere than its partition is led from follows the leader; unless said, never. */
  sequencersFollowAfter = Number.POSITIVE_INFINITY;
  private readonly database = new Database();

  constructor(
    identities: readonly NodeIdentity[],
    replication: { log: string; partition: string },
    partitions: number,
  ) {
    // Numbers as nodes get them: as they come, not region by region.
    const joined = [...identities].sort((a, b) => a.index - b.index || (a.region < b.region ? -1 : 1));
    this.nodes = joined.map(({ name, region, address }, i) => ({
      id: `N${i + 1}`,
      name,
      location: region,
      address,
      state: "alive",
      answers: true,
      storage: "read-write",
      worker: "active",
      metadata: "member",
      version: "1.7.12",
    }));
    this.config = { ...replication };
    this.partitions = Array.from({ length: partitions }, () => ({
      leader: null,
      replicas: [],
      next: [],
      applied: {},
      archived: 100,
    }));
    this.logs = this.partitions.map(() => ({
      segment: 0,
      base: 1,
      tail: 100,
      replication: replication.log,
      nodeset: this.nodes.slice(0, 2 * copies(replication.log).node - 1).map(({ id }) => id),
      sequencer: this.nodes[0]!.id,
      questions: 0,
    }));
    this.database.function("least", (a, b) => (a === null || b === null ? (a ?? b) : a < b ? a : b), {
      deterministic: true,
    });
    this.database.exec(`
      create table nodes (plain_node_id, name, location, state, storage_state, worker_state, metadata_server_state, binary_version);
      create table partitions (partition_id, log_id, leader_plain_node_id);
      create table partition_replica_set (partition_id, plain_node_id, membership);
      create table partition_state (partition_id, plain_node_id, replay_status, applied_log_lsn, archived_log_lsn);
      create table logs_tail_segments (log_id, segment_index, base_lsn, replication, nodeset, sequencer);`);
    for (let i = 0; i < 4; i++) this.live();
    // Each region leads half, as after provisioning, and leaders sequence their logs.
    this.partitions.forEach((one, i) => {
      one.leader = one.replicas[i % one.replicas.length]!;
      this.logs[i]!.sequencer = one.leader;
    });
  }

  /** Ends it. */
  close(): void {
    this.database.close();
  }

  node(id: string): PlayedNode {
    const found = this.nodes.find((one) => one.id === id || one.name === id);
    if (!found) throw new Error(`there is no node ${id}`);
    return found;
  }

  /** Kills a node: it answers nobody. */
  kill(name: string): void {
    Object.assign(this.node(name), { state: "dead", answers: false });
  }

  /** Nodes of a region. */
  in(region: string): PlayedNode[] {
    return this.nodes.filter(({ location }) => location === region);
  }

  /**
   * Where a record could be written to nodes of one region alone: logs whose nodeset allows it now, and, under `cluster`,
   * whether a log that the cluster begins by itself could. Empty if nowhere.
   */
  allowsOnlyIn(region: string): string[] {
    const enough = (replication: string, nodes: PlayedNode[]) => {
      const { node, region: regions } = copies(replication);
      return regions < 2 && nodes.length >= node;
    };
    // A node that is read-only still takes records of the nodesets that it is in.
    const found = this.logs.flatMap(({ replication, nodeset }, log) =>
      replication !== null &&
      enough(
        replication,
        this.in(region).filter(({ id }) => nodeset.includes(id)),
      )
        ? [`log ${log} is replicated ${replication} on ${nodeset.join(", ")}`]
        : [],
    );
    const chosen = this.in(region).filter(({ storage }) => storage === "read-write");
    return enough(this.config.log, chosen)
      ? [
          ...found,
          `the cluster may begin logs replicated ${this.config.log} on ${chosen.map(({ id }) => id).join(", ")}`,
        ]
      : found;
  }

  /** What a cluster does by itself, a little of it. */
  live(): void {
    const { node: count, region: regions } = copies(this.config.partition);
    const candidates = this.nodes.filter(({ worker, state }) => worker === "active" && state === "alive");
    this.partitions.forEach((one, p) => {
      const log = this.logs[p]!;
      if (log.replication !== null) log.tail += 1;
      if (log.questions++ >= this.sequencersFollowAfter) log.sequencer = one.leader ?? log.sequencer;
      if (one.next.length > 0) {
        one.replicas = one.next;
        one.next = [];
      } else {
        const wanted = chosen(one.replicas, candidates, count, regions, p);
        // Where no set can be made, nothing moves.
        if (wanted && wanted.join() !== one.replicas.join()) one.next = wanted;
      }
      const able = one.replicas.filter((id) => this.node(id).state === "alive");
      const can = this.takesRecords(log) ? able : [];
      if (one.pinned && can.includes(one.pinned)) one.leader = one.pinned;
      else if (can.length > 0) one.leader = ownLeader(can, p)!;
      else if (!one.leader || !able.includes(one.leader)) one.leader = null;
      for (const id of able) one.applied[id] = this.frozen.has(id) ? (one.applied[id] ?? 0) : log.tail;
      for (const id of Object.keys(one.applied)) if (!one.replicas.includes(id)) delete one.applied[id];
    });
    this.changed();
  }

  /** Whether enough nodes of a log's nodeset are alive: without, nobody can begin to lead its partition. */
  private takesRecords({ replication, nodeset }: { replication: string | null; nodeset: string[] }): boolean {
    if (replication === null) return true;
    const { node, region } = copies(replication);
    const alive = this.nodes.filter(({ id, state }) => nodeset.includes(id) && state === "alive");
    return alive.length >= node && new Set(alive.map(({ location }) => location)).size >= region;
  }

  /** Rows of a question. */
  query(sql: string): Record<string, unknown>[] {
    this.live();
    const insert = (table: string, rows: (string | number | null)[][]) => {
      this.database.exec(`delete from ${table}`);
      for (const row of rows) this.database.run(`insert into ${table} values (${row.map(() => "?").join()})`, row);
    };
    insert(
      "nodes",
      this.nodes.map((n) => [n.id, n.name, n.location, n.state, n.storage, n.worker, n.metadata, n.version]),
    );
    insert(
      "partitions",
      this.partitions.map(({ leader }, p) => [p, p, leader]),
    );
    insert(
      "partition_replica_set",
      this.partitions.flatMap(({ replicas, next }, p) => [
        ...replicas.map((id) => [p, id, "current"]),
        ...next.map((id) => [p, id, "next"]),
      ]),
    );
    insert(
      "partition_state",
      this.partitions.flatMap(({ applied, archived }, p) =>
        Object.entries(applied).map(([id, lsn]) => [p, id, "active", lsn, archived]),
      ),
    );
    insert(
      "logs_tail_segments",
      this.logs.map(({ segment, base, replication, nodeset, sequencer }, l) => [
        l,
        segment,
        base,
        replication,
        replication === null ? null : `[${nodeset.join(", ")}]`,
        replication === null ? null : `${sequencer}:1`,
      ]),
    );
    // SQLite names a list of values' columns itself.
    const understood = sql.replace(
      /\(values (.*?)\) as a \(partition_id, lsn\)/,
      "(select column1 as partition_id, column2 as lsn from (values $1)) as a",
    );
    return this.database.all(understood) as Record<string, unknown>[];
  }

  /** restatectl, at an address; `kill` is what a fate of that name does. */
  restatectl(address: string, words: string[], input: string, kill: () => void): Answer {
    const instead = this.instead(words);
    if (instead) return instead;
    const [first, second] = words;
    const command = words.filter((word) => word !== "--yes").join(" ");
    if (command === "partitions leadership pin --help") return { code: this.canPin ? 0 : 2 };
    if (first === "sql") return { code: 0, out: `${JSON.stringify(this.query(words[2]!))}\n` };
    if (command === "config get") {
      const { log, partition } = this.config;
      return { code: 0, out: ` ├ Partition replication: ${partition}\n └ Log replication: ${log}\n` };
    }
    if (first === "metadata" && second === "get") return this.document(flag(words, "--key"));
    const isDocument = first === "metadata" && second === "put";
    const fate = this.fate(isDocument ? "metadata put" : command, isDocument ? JSON.parse(input) : undefined);
    if (isDocument) this.writes++;
    else this.commands.push(command);
    if (fate === "lost") return { code: 0, out: "done\n" };
    if (fate === "killed before") {
      kill();
      return failed("killed");
    }
    const answer = isDocument ? this.put(words, input) : this.change(words, address);
    this.changed();
    if (fate === "killed after") kill();
    return answer;
  }

  private document(key: string): Answer {
    if (!this.hasMajority()) return failed("metadata store: no answer");
    const found = this.documents.get(key);
    return { code: 0, out: `${JSON.stringify(found ? { version: found.version, ...found.fields } : null)}\n` };
  }

  private put(words: string[], input: string): Answer {
    if (!this.hasMajority()) return failed("metadata store: no answer");
    const key = flag(words, "--key");
    const version = this.documents.get(key)?.version ?? 0;
    if (Number(flag(words, "--version")) !== version) return failed("version mismatch");
    const { version: _, ...fields } = JSON.parse(input) as Record<string, unknown>;
    this.documents.set(key, { version: version + 1, fields });
    return { code: 0 };
  }

  /** Whether the metadata store takes writes: more than half of its members are alive. */
  hasMajority(): boolean {
    const members = this.nodes.filter(({ metadata }) => metadata === "member");
    return members.filter(({ state }) => state === "alive").length > members.length / 2;
  }

  /** A command that changes the cluster, with the checks of the real one. */
  private change(words: string[], address: string): Answer {
    const command = words.slice(0, 2).join(" ");
    if (command === "metadata-server remove-node" || command === "metadata-server add-node") {
      const node = this.node(words[2]!);
      if (!this.hasMajority()) return failed("no majority");
      if (words[1] === "add-node" && !node.answers) return failed(`failed connecting to node ${node.id}`);
      node.metadata = words[1] === "add-node" ? "member" : "standby";
      return { code: 0 };
    }
    if (command === "nodes set-storage-state" || command === "nodes set-worker-state") return this.setState(words);
    if (command === "config set") {
      // What is not said stays as it was.
      for (const kind of ["log", "partition"] as const) {
        const name = `--${kind}-replication`;
        if (words.includes(name)) this.config[kind] = printed(flag(words, name));
      }
      return { code: 0 };
    }
    if (command === "logs reconfigure") return this.reconfigure(words, address);
    if (command === "partitions leadership") {
      // It is noted, and whoever controls the cluster does not know what it is.
      if (this.nodes.some(({ version }) => version.startsWith("1.6."))) return { code: 0 };
      const pin = words[2] === "pin";
      const node = pin ? flag(words, "--node") : undefined;
      for (const p of numbers(words.slice(pin ? 5 : 3).filter((word) => /^[\d-]+$/.test(word)))) {
        this.partitions[p]!.pinned = node;
      }
      return { code: 0 };
    }
    if (command === "snapshots create") {
      if (!this.saves) return { code: 0, out: "failed to create a snapshot\n" };
      for (const one of this.partitions) one.archived = Math.max(...Object.values(one.applied));
      return { code: 0 };
    }
    return { code: 2, err: `error: unrecognized subcommand '${words.join(" ")}'\n` };
  }

  private setState(words: string[]): Answer {
    const ids = flag(words, "--nodes").split(",");
    const storage = words[1] === "set-storage-state";
    const wanted = flag(words, storage ? "--storage-state" : "--worker-state");
    const known = storage ? ["read-write", "read-only"] : ["active", "draining"];
    if (!known.includes(wanted)) return failed(`invalid value '${wanted}'`);
    if (wanted !== known[0] && !words.includes("--force")) {
      const left = this.nodes.filter(
        (one) => !ids.includes(one.id) && (storage ? one.storage === "read-write" : one.worker === "active"),
      );
      const { node, region } = copies(storage ? this.config.log : this.config.partition);
      if (left.length < node || new Set(left.map(({ location }) => location)).size < region) {
        return failed(
          storage
            ? "Safety-check failed: lost the ability to generate nodesets"
            : "Safety-check failed: Can no longer create new replica sets with worker-state changes.",
        );
      }
    }
    for (const id of ids) Object.assign(this.node(id), storage ? { storage: wanted } : { worker: wanted });
    return { code: 0 };
  }

  /**
   * Seals the newest segment and begins another; says that it worked whether it did or not. How far a segment is written is known to
   * its sequencer, if that is who is asked; others have to find enough copies of the last record.
   */
  private reconfigure(words: string[], address: string): Answer {
    const log = this.logs[Number(flag(words, "--log-id"))]!;
    const asked = (name: string) => (words.includes(name) ? flag(words, name) : undefined);
    // With a provider, which is always named, what is not said stays as it was.
    flag(words, "--provider");
    const sequencer = this.node(asked("--sequencer") ?? log.sequencer);
    const known = this.node(log.sequencer).address === address || this.takesRecords(log);
    if (sequencer.state !== "alive" || !known) return { code: 0, err: "Failed to reconfigure log\n" };
    Object.assign(log, {
      segment: log.segment + 1,
      base: log.tail + 1,
      replication: printed(asked("--replication") ?? log.replication ?? this.config.log),
      nodeset: asked("--nodeset")?.split(",") ?? log.nodeset,
      sequencer: sequencer.id,
      questions: 0,
    });
    return { code: 0 };
  }

  /** curl: the nodes' health, and writing objects. */
  curl(words: string[], input: string): Answer {
    const url = words.find((word) => /^https?:/.test(word)) ?? "";
    const instead = this.instead(["curl", ...words]);
    if (instead) return instead;
    if (words.includes("PUT")) {
      this.objects.set(url, input);
      return { code: 0, out: "\n200" };
    }
    const node = this.nodes.find((one) => `${one.address}/health` === url);
    if (!node?.answers) return { code: 7, err: `curl: (7) Failed to connect to ${url}\n` };
    const own = { name: "message-fabric-server", address: `${node.says ?? node.address}/` };
    const health = { advertised_addresses: [{ name: "http-ingress", address: "http://10.0.0.1:8080/" }, own] };
    return { code: 0, out: words.includes("--output") ? "" : JSON.stringify(health) };
  }

  /** Whether a node answers at an address, as restatectl needs it. */
  reachable(address: string): boolean {
    return this.nodes.some((one) => one.address === address && one.answers);
  }
}

/** Value of a flag. */
function flag(words: string[], name: string): string {
  const at = words.indexOf(name);
  if (at < 0) throw new Error(`${words.join(" ")} has no ${name}`);
  return words[at + 1]!;
}

/** Numbers of a list of numbers and ranges. */
function numbers(words: string[]): number[] {
  return words.flatMap((word) => {
    const [first, last = first] = word.split("-").map(Number) as [number, number?];
    return Array.from({ length: last! - first + 1 }, (_, i) => first + i);
  });
}

/** A replica set as it should be: what can stay stays. Undefined if there are too few nodes for one. */
function chosen(
  now: string[],
  candidates: PlayedNode[],
  count: number,
  regions: number,
  turn: number,
): string[] | undefined {
  const first = turn % Math.max(1, candidates.length);
  const order = [
    ...now.flatMap((id) => candidates.filter((one) => one.id === id)),
    ...[...candidates.slice(first), ...candidates.slice(0, first)].filter(({ id }) => !now.includes(id)),
  ];
  const set: PlayedNode[] = [];
  const wanted = Math.max(count, regions);
  for (const one of order) {
    const missing = regions - new Set(set.map(({ location }) => location)).size;
    const isNew = !set.some(({ location }) => location === one.location);
    if (set.length < wanted && (isNew || wanted - set.length > missing)) set.push(one);
  }
  const enough = set.length >= wanted && new Set(set.map(({ location }) => location)).size >= regions;
  return enough ? set.map(({ id }) => id) : undefined;
}
