/**
 * Handovers that are disturbed: every fault, at every step that the Job's log announces, while a region is drained and while
 * it comes back, under load. Each ends either done, or with nothing changed for the worse and a message that says what to
 * do; then the fault is mended and the same handover is asked for again, and every acknowledged call is counted. Takes hours,
 * and prints what was tried and what was found.
 *
 * `FAULTS=<regular expression>` tries only the cells whose name matches it, such as `FAULTS='^drain: region1 is killed'` or
 * `FAULTS='cut.*every log'`. A name is `<drain or restore>: <fault> at: <step>`. `FAULTS_PART=1/3` tries a third of them, 2/3
 * and 3/3 the others: each part has every fault, and every step with some of the faults.
 *
 * The drained region that is killed comes first: that is the proof of the first guarantee. Its nodes are killed with SIGKILL
 * and stay away; the handover is finished without them, and every call that was ever acknowledged has to be in the state
 * that the surviving region tells. At the step at which the metadata store still has half of its members in the killed
 * region there is nobody to ask (docs: with six nodes and no witness the majority goes with a region): there the region comes
 * back first.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Finding, type StatusView, table } from "../../commands/report";
import { awsControl } from "../../sandbox/aws/control";
import { askSocket } from "../../sandbox/network/control";
import { readState } from "../../sandbox/service/admin";
import { faultsOf, judgeCalls } from "../../sandbox/service/check";
import type { RegionPorts } from "../../sandbox/service/deploy";
import { type Load, startLoad } from "../../sandbox/service/load";
import { typescript } from "../../sandbox/world/paths";
import { changeServing } from "../../sandbox/world/serving";
import { eventually, Sandbox } from "../support/sandbox";
import { Running } from "./processes";

type Direction = "drain" | "restore";
/** Region1 is the one that is drained and comes back. */
type Target = "region2" | "both";

const steps: Record<Direction, string[]> = {
  drain: [
    "looking at what speaks against it",
    "every partition is led from region2",
    "every log is sequenced in region2",
    "the metadata store is in region2 alone",
    "no node of region1 is chosen any more",
    "every log is written in region2 alone",
    "every partition lives in region2 alone, and is led from there",
    "all of it still holds",
    "a snapshot holds what was written before",
  ],
  restore: [
    "looking at what speaks against it",
    "every partition lives in both regions",
    "nodes of region1 are chosen again",
    "every log is written in both regions",
    "the metadata store is in both regions",
    "each region leads half of the partitions",
    "all of it still holds",
    "a snapshot holds what was written before",
  ],
};
const targetOf = (direction: Direction): Target => (direction === "drain" ? "region2" : "both");
/** Where the Job runs: in the region that serves alone, and at home if both do. */
const leadOf = (target: Target) => (target === "region2" ? "region2" : "region1");

/** A fault: `begin` makes it, and gives what ends it. */
interface Disturbance {
  name: string;
  begin: (world: World, target: Target) => Promise<() => Promise<void>>;
}

/** A sandbox with both stacks up, the service in it, and what breaks it. */
class World {
  readonly sandbox = new Sandbox();
  ports: RegionPorts[] = [];
  private emergency: Record<string, Record<string, string>> = {};
  private readonly run = join(this.sandbox.folder, "run");
  readonly aws = awsControl(join(this.run, "aws-control.sock"));

  async start(): Promise<void> {
    await this.sandbox.command("up");
    this.ports = (JSON.parse(await this.sandbox.command("practice", "--json")) as { regions: RegionPorts[] }).regions;
    for (const region of ["region1", "region2"]) {
      // So that a run that cannot come to its end is not waited for long.
      await this.sandbox.must(region, "pulumi", "config", "set", "--path", "restate:handover.timeout", "60");
      await this.sandbox.up(region);
      this.emergency[region] = (await this.sandbox.outputs(region)).emergency as Record<string, string>;
    }
  }

  network = (path: string, body: unknown) =>
    askSocket<unknown>(join(this.run, "network-control.sock"), "PUT", path, body);
  part = (part: string, action: string) =>
    askSocket<unknown>(join(this.run, "control.sock"), "POST", "/parts", { part, action });

  /** Kills, as a crash does, the processes of this name with this in their environment or command line; how many there were. */
  async killProcesses(name: string, mark: string): Promise<number> {
    const script = `
      for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm" 2>/dev/null)" = "$1" ] || continue
        cat "$process/environ" "$process/cmdline" 2>/dev/null | tr '\\0' '\\n' | grep -qx -- "$2" || continue
        kill -9 "\${process#/proc/}" && echo killed
      done`;
    const { stdout } = await askSocket<{ stdout: string }>(join(this.run, "control.sock"), "POST", "/exec", {
      command: ["sh", "-c", script, "sh", name, mark],
    });
    return stdout.split("killed").length - 1;
  }

  /** Pauses, resumes or restarts the kubelets of a region. */
  async kubelets(region: string, action: "pause" | "resume" | "restart"): Promise<void> {
    const { parts } = await askSocket<{ parts: { name: string }[] }>(join(this.run, "control.sock"), "GET", "/status");
    const kubelets = parts.map(({ name }) => name).filter((name) => name.startsWith(`${region}/node-`));
    assert.equal(kubelets.length, 3);
    await Promise.all(kubelets.map((one) => this.part(one, action)));
  }

  /** Ends a region's nodes as a loss of power does, and lets nothing start them again until it is revived. */
  async killRegion(region: string): Promise<() => Promise<void>> {
    await this.kubelets(region, "pause");
    const killed = await this.killProcesses("restate-server", `RESTATE_LOCATION=${region}`);
    assert.equal(killed, 3, `${killed} nodes of ${region} were killed`);
    return async () => {
      // After a loss of power a kubelet starts anew, and knows of no back-off.
      for (const action of ["resume", "restart"] as const) await this.kubelets(region, action);
    };
  }

  /** Starts a handover, as the stack's output says to do without Pulumi: much quicker, and the same Job. */
  async handOver(target: Target): Promise<Running> {
    const region = leadOf(target);
    return new Running(["bash", "-c", this.emergency[region]![target]!], await this.sandbox.environment(region));
  }

  /** Starts `pulumi up` with another `serving`. */
  async up(target: Target): Promise<Running> {
    changeServing(target, join(this.sandbox.folder, "project"));
    return new Running(["pulumi", "up", "--yes", "--skip-preview"], await this.sandbox.environment(leadOf(target)));
  }

  /** Nodes as the surviving region tells of them. */
  nodes = () =>
    this.sandbox.query<Record<"name" | "location" | "state" | "storage" | "worker" | "metadata", string>>(
      "region2",
      "select name, location, state, storage_state as storage, worker_state as worker, metadata_server_state as metadata from nodes",
    );

  /** What `npm run status` tells. */
  async status(): Promise<Pick<StatusView, "cluster"> & { findings: Finding[] }> {
    const { stdout } = await this.sandbox.tool(
      "region1",
      process.execPath,
      ...typescript,
      "commands/status.ts",
      "--json",
    );
    return JSON.parse(stdout);
  }

  /** Partitions with more records since their last snapshot, as far as a node knows of one, than a handover begins with. */
  unsaved = () =>
    this.sandbox.query<{ partition_id: number }>(
      "region2",
      "select partition_id from partition_state group by partition_id having max(applied_log_lsn) - coalesce(max(archived_log_lsn), 0) > 30000",
    );

  /** What keeps the cluster from being served as asked, as its own tables tell; empty if nothing. */
  async differences(target: Target): Promise<string[]> {
    const serves = (location: string) => target === "both" || location === target;
    const found: string[] = [];
    const nodes = await this.nodes();
    for (const { name, location, storage, worker, metadata } of nodes) {
      const wanted = serves(location) ? "read-write active member" : "read-only draining standby";
      if (`${storage} ${worker} ${metadata}` !== wanted) found.push(`${name} is ${storage} ${worker} ${metadata}`);
    }
    const logs = await this.sandbox.query<{ log_id: number; replication: string; nodeset: string }>(
      "region2",
      "select log_id, replication, nodeset from logs_tail_segments",
    );
    const replication = target === "both" ? "{node: 3, region: 2}" : "{node: 2}";
    for (const log of logs) if (log.replication !== replication) found.push(`log ${log.log_id} is ${log.replication}`);
    const leaders = await this.sandbox.query<{ id: number; location: string | null }>(
      "region2",
      "select p.partition_id as id, n.location from partitions p left join nodes n on p.leader_plain_node_id = n.plain_node_id",
    );
    for (const { id, location } of leaders) if (!serves(location ?? "-")) found.push(`${id} is led from ${location}`);
    if (nodes.length !== 6 || logs.length !== 4 || leaders.length !== 4) found.push("the cluster does not tell of all");
    return found;
  }
}

const pausing = (part: (target: Target) => string, action: string): Disturbance["begin"] => {
  return async (world, target) => {
    await world.part(part(target), action);
    return async () => {};
  };
};
const cutting = (...targets: Record<string, string>[]): Disturbance["begin"] => {
  return async (world) => {
    for (const target of targets) await world.network("/cut", { mode: "drop", ...target });
    return async () => void (await world.network("/heal", {}));
  };
};

const regionKill: Disturbance = { name: "region1 is killed", begin: (world) => world.killRegion("region1") };

const disturbances: Disturbance[] = [
  {
    name: "the Job's pod is killed",
    begin: async (world) => {
      assert.ok((await world.killProcesses("bash", "/operations/handover.sh")) > 0, "no Job runs");
      return async () => {};
    },
  },
  {
    name: "a surviving node is killed and comes back",
    begin: async (world) => {
      assert.equal(await world.killProcesses("restate-server", "RESTATE_NODE_NAME=restate-1.region2"), 1);
      // Killed at one step after the other, its kubelet would have it wait longer and longer.
      return () => world.kubelets("region2", "restart");
    },
  },
  { name: "the link is cut both ways", begin: cutting({ region: "region1" }) },
  { name: "the link is cut from region1 to region2", begin: cutting({ from: "region1", to: "region2" }) },
  { name: "the link is cut from region2 to region1", begin: cutting({ from: "region2", to: "region1" }) },
  {
    name: "the link is 200 ms slow",
    begin: async (world) => {
      await world.network("/latency", { between: ["region1", "region2"], ms: 200 });
      return async () => void (await world.network("/reset", {}));
    },
  },
  {
    name: "the link flaps",
    begin: async (world) => {
      let ends = false;
      const flapping = (async () => {
        while (!ends) {
          await world.network("/cut", { mode: "drop", region: "region1" });
          await sleep(1500);
          await world.network("/heal", {});
          await sleep(1500);
        }
      })();
      return async () => {
        ends = true;
        await flapping;
      };
    },
  },
  {
    name: "S3 is unavailable",
    begin: async ({ aws }) => {
      const id = await aws.addFault({ service: "s3", effect: "fail" });
      return () => aws.clearFaults(id);
    },
  },
  {
    name: "replication is paused",
    begin: async ({ aws }) => {
      await aws.setCopier({ paused: true });
      return async () => void (await aws.setCopier({ paused: false }));
    },
  },
  {
    name: "the API server is restarted",
    begin: pausing((target) => `${leadOf(target)}/kube-apiserver`, "restart"),
  },
];

const only = new RegExp(process.env.FAULTS ?? "");
const [part, parts] = partOf(process.env.FAULTS_PART ?? "1/1");

/** `1/3`: the first of three parts. Throws if it is none. */
function partOf(text: string): [number, number] {
  const [, part, parts] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (!part || !parts || part > parts) throw new Error(`FAULTS_PART is ${text}, and should be like 1/3`);
  return [part, parts];
}

const cellName = (direction: Direction, fault: string, step: string) => `${direction}: ${fault} at: ${step}`;

/** How a run ended, from what it printed: done, refused or stopped with a message, or cut off. */
function howItEnded(output: string): { done: boolean; text: string } {
  if (/^ *\d+s {2}(done: |the cluster is served by \S+ already)/m.test(output)) return { done: true, text: "done" };
  const [, said] = /FAILED: ([\s\S]*)/.exec(output) ?? [];
  const text = said
    ? said
        .split("restatectl said last")[0]!
        .trim()
        .replace(/\s*\n\s*/g, " / ")
    : "cut off";
  return { done: false, text };
}

describe("handovers that are disturbed", { timeout: 12 * 3600_000 }, () => {
  const world = new World();
  const findings: string[][] = [["WHAT", "HOW IT ENDED", "WHAT FOLLOWED"]];
  let load: Load | undefined;
  before(() => world.start());
  after(async () => {
    console.log(table(findings));
    await load?.stop();
    await world.sandbox.stop();
  });

  /** Remembers a row of the table, and shows it at once. */
  function note(...row: string[]): void {
    findings.push(row);
    console.log(row.join(" | "));
  }

  /** Runs the handover until it is done; how often it was asked for. */
  async function finish(target: Target, most = 4): Promise<number> {
    for (let asked = 1; ; asked++) {
      const run = await world.handOver(target);
      await run.ended;
      if (howItEnded(run.output).done) return asked;
      if (asked === most) assert.fail(`not done after ${asked} runs:\n${run.output}`);
      await unstick();
      // Jobs are named after the second.
      await sleep(1000);
    }
  }

  /** Restarts what `npm run status` names where a processor gets no further, as the operator's guide says: after a second look. */
  async function unstick(): Promise<void> {
    const standing = async () => {
      const { cluster, findings } = await world.status();
      const rows = cluster?.partitions.filter(({ stands }) => stands) ?? [];
      return rows.map((row) => ({
        what: `partition ${row.partition_id} on ${row.node} has applied ${row.applied_log_lsn}`,
        next: findings.find(({ what }) => what.startsWith(`partition ${row.partition_id} `) && what.includes(row.node))
          ?.next,
      }));
    };
    const before = await standing();
    if (before.length === 0) return;
    await sleep(30_000);
    const stuck = (await standing()).find(({ what }) => before.some((was) => was.what === what));
    if (!stuck) return;
    const restarts = stuck.next?.match(/kubectl [^;]* delete pod [^;]+/g) ?? [];
    assert.ok(restarts.length > 0, `${stuck.what}, and what follows is: ${stuck.next}`);
    for (const restart of restarts) {
      await world.sandbox.must("region1", "bash", "-c", restart);
      const ready = restart.replace(/ delete pod (\S+)/, " wait --for=condition=Ready pod/$1 --timeout=120s");
      await eventually(
        120,
        () => world.sandbox.tool("region1", "bash", "-c", ready),
        ({ code }) => code === 0,
      );
    }
    note(`stuck: ${stuck.what}`, "the same half a minute later", `${restarts.length} pods were restarted`);
    await recovered();
  }

  /** All nodes are alive, and calls go on. */
  async function recovered(): Promise<void> {
    await eventually(
      120,
      async () => (await world.nodes().catch(() => [])).filter(({ state }) => state === "alive").length,
      (alive) => alive === 6,
    );
    await callsGoOn();
  }
  async function callsGoOn(): Promise<void> {
    const count = load!.calls.length;
    await eventually(
      120,
      async () => load!.calls.length - count,
      (more) => more >= 10,
    );
  }

  /** Brings the cluster to where a handover in that direction begins, whatever the cell before has left. */
  async function bringTo(target: Target): Promise<void> {
    await recovered();
    await unstick();
    // A node that has started anew looks within a minute which snapshots there are.
    await eventually(
      120,
      () => world.unsaved(),
      (partitions) => partitions.length === 0,
    );
    if ((await world.differences(target)).length > 0) await finish(target);
    assert.deepEqual(await world.differences(target), []);
  }

  /** Runs a handover up to a step, and disturbs it there; what ends the fault, once the run has ended. */
  async function disturb(fault: Disturbance, direction: Direction, step: string) {
    const target = targetOf(direction);
    await bringTo(direction === "drain" ? "both" : "region2");
    const run = await world.handOver(target);
    while (!run.over && !new RegExp(`^ *\\d+s {2}${step}$`, "m").test(run.output)) await sleep(10);
    assert.equal(run.over, false, `it ended before its step "${step}":\n${run.output}`);
    const end = await fault.begin(world, target);
    return { run, end, target };
  }

  /** Every call that the load was told to be done is in the state once; while calls go on, or when they have ended. */
  async function assertCounted(region: string, prefix: string, ended: boolean): Promise<number> {
    const calls = ended ? await load!.stop() : [...load!.calls];
    const { admin } = world.ports.find((one) => one.region === region)!;
    const verdict = judgeCalls(calls, await readState(admin, prefix));
    // Calls that are under way are in the state, and not among those that have ended.
    const faults = ended ? faultsOf(verdict) : faultsOf({ ...verdict, unsent: [] });
    assert.deepEqual(faults, []);
    return verdict.acknowledged;
  }

  function startCalls(prefix: string): void {
    const accounts = Array.from({ length: 16 }, (_, i) => `${prefix}${i}`);
    load = startLoad(prefix, {
      regions: world.ports,
      clients: 4,
      accounts,
      repeatShare: 0.02,
      pauseMs: 50,
      giveUpMs: 600_000,
    });
  }

  /**
   * One fault at the asked steps of both directions, by turns, so that a cell mostly begins where the one before ended; with a
   * load of its own, counted at the end.
   */
  function group(name: string, cell: (direction: Direction, step: string, prefix: string) => Promise<string[]>): void {
    const number = groups++;
    const prefix = `f${number}-`;
    const asked = steps.drain
      .flatMap((_, at) => [
        { at, direction: "drain" as const, step: steps.drain[at]! },
        ...(steps.restore[at] ? [{ at, direction: "restore" as const, step: steps.restore[at] }] : []),
      ])
      .map((one) => ({ ...one, title: cellName(one.direction, name, one.step) }))
      .filter(({ at, title }) => only.test(title) && (at + number) % parts === part - 1);
    if (asked.length === 0) return;
    describe(name, () => {
      before(() => startCalls(prefix));
      for (const { title, direction, step } of asked)
        test(title, async () => note(title, ...(await cell(direction, step, prefix))));
      test("every acknowledged call is there, once", async () => {
        const count = await assertCounted("region2", prefix, true);
        note(`${name}: all`, `${count} acknowledged calls`, "each in the state exactly once");
      });
    });
  }
  let groups = 0;

  group(regionKill.name, async (direction, step, prefix) => {
    const { run, end, target } = await disturb(regionKill, direction, step);
    if (leadOf(target) === "region1") {
      // The Job is lost with its region, and nobody is left to tell its log.
      await world.killProcesses("bash", "/operations/handover.sh");
      run.kill();
    }
    await run.ended;
    const first = howItEnded(run.output);
    const members = await world.nodes().catch(() => []);
    const inRegion2 = members.filter(({ location, metadata }) => location === "region2" && metadata === "member");
    const all = members.filter(({ metadata }) => metadata === "member");
    // The store lives on if those that are left are more than half.
    const survives = inRegion2.length * 2 > all.length && all.length > 0;
    let followed: string;
    if (direction === "drain" && survives) {
      const asked = first.done ? 0 : await finish(target);
      await callsGoOn();
      const count = await assertCounted("region2", prefix, false);
      followed = `${asked} more runs without region1; ${count} acknowledged calls, all found without it`;
      await end();
      await recovered();
    } else {
      await end();
      await recovered();
      const asked = await finish(target);
      followed = `${survives ? "" : "no majority until it was back; "}${asked} more runs with region1 back`;
    }
    assert.deepEqual(await world.differences(target), []);
    if (
      direction === "drain" &&
      steps.drain.indexOf(step) > steps.drain.indexOf("the metadata store is in region2 alone")
    )
      assert.ok(survives, "the metadata store had no majority left");
    return [first.text, followed];
  });

  for (const fault of disturbances) {
    group(fault.name, async (direction, step) => {
      const { run, end, target } = await disturb(fault, direction, step);
      await run.ended;
      const first = howItEnded(run.output);
      if (!first.done && first.text !== "cut off") assert.match(first.text, /Next: /, run.output);
      await end();
      // Nothing has changed for the worse: without any command, all goes on once the fault is gone.
      await recovered();
      const asked = first.done ? 0 : await finish(target);
      assert.deepEqual(await world.differences(target), []);
      return [first.text, asked ? `done by run ${asked + 1}` : ""];
    });
  }

  group("pulumi up is killed", async (direction, step) => {
    const target = targetOf(direction);
    const start: Target = direction === "drain" ? "both" : "region2";
    // What was done without Pulumi is known to both stacks before.
    await bringTo(start);
    changeServing(start, join(world.sandbox.folder, "project"));
    const all = [process.execPath, ...typescript, "commands/up.ts", "--yes"];
    await world.sandbox.must("region1", ...all);
    const began = new Date().toISOString();
    const run = await world.up(target);
    const region = leadOf(target);
    const log = async () =>
      (
        await world.sandbox.tool(
          region,
          ...["kubectl", "-n", `restate-${region}`, "logs", "--tail=-1", `--since-time=${began}`],
          ...["-l", "app.kubernetes.io/component=handover"],
        )
      ).stdout;
    while (!run.over && !(await log()).includes(step)) await sleep(100);
    const inTime = !run.over;
    run.kill();
    await run.ended;
    await callsGoOn();
    await world.sandbox.must("region1", ...all);
    assert.deepEqual(await world.differences(target), []);
    return [inTime ? "killed" : "ended before it was killed", "done by npm run up"];
  });
});
