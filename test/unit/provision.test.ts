/**
 * operations/provision.sh against a cluster that a test plays: `curl` and `restatectl` are small scripts that answer from
 * files. The real binaries are used by the sandbox's tests.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { clusterNodes } from "../../topology";

const script = join(__dirname, "..", "..", "operations", "provision.sh");
const nodes = clusterNodes({ replicas: 1, domain: "r.example" });
const [one, two] = nodes.map((node) => node.hostname) as [string, string];

/** `curl ... http://HOST:5122/health` gives the file health/HOST, or fails as curl does; late/HOST is there next time. */
const curl = `#!/usr/bin/env bash
host=\${!#}; host=\${host#http://}; host=\${host%%:*}
if [ -e "$PLAY/health/$host" ]; then cat "$PLAY/health/$host"; else
  [ ! -e "$PLAY/late/$host" ] || mv "$PLAY/late/$host" "$PLAY/health/$host"
  echo "curl: (7) Failed to connect to $host" >&2; exit 7
fi
`;

/** Notes its arguments; \`provision\` lets the folder \`after\` become true; \`sql\` gives the file of the first table. */
const restatectl = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$PLAY/calls"
case " $* " in
  *" provision "*) [ ! -d "$PLAY/after" ] || cp -r "$PLAY/after/." "$PLAY/" ;;
  *" from nodes"*) cat "$PLAY/nodes" ;;
  *" from logs_tail_segments"*) cat "$PLAY/logs" ;;
  *" from partitions "*) cat "$PLAY/partitions" ;;
esac
exit 0
`;

/** A node's answer: provisioned if it has an id. */
const health = (host: string, id: string | null = null, cluster = "restate") =>
  JSON.stringify({
    cluster_name: cluster,
    node_id: id,
    advertised_addresses: [
      { name: "http-ingress", address: "http://10.0.0.1:8080/" },
      { name: "message-fabric-server", address: `http://${host}:5122/` },
    ],
  });
const members = (changes: Record<string, string> = {}) =>
  nodes.map(({ name }) => ({ name, state: "alive", metadata_server_state: "member", ...changes }));
const logs = (replication: string | null = "{region: 2, node: 2}") => [0, 1].map((log_id) => ({ log_id, replication }));
const partitions = (mode: string | null = "Leader") =>
  [0, 1].map((partition_id) => ({ partition_id, effective_mode: mode }));

/** Files by their paths; structures are written as JSON. */
type Files = Record<string, unknown>;
const answering: Files = { [`health/${one}`]: health(one), [`health/${two}`]: health(two) };
const provisioned: Files = { [`health/${one}`]: health(one, "N1"), [`health/${two}`]: health(two, "N2") };
const complete: Files = { nodes: members(), logs: logs(), partitions: partitions() };

describe("provision.sh", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "restate-provision-"));
    for (const [name, text] of Object.entries({ curl, restatectl })) {
      mkdirSync(join(folder, "bin"), { recursive: true });
      writeFileSync(join(folder, "bin", name), text);
      chmodSync(join(folder, "bin", name), 0o755);
    }
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const write = (files: Files, below = "") => {
    for (const [path, value] of Object.entries(files)) {
      const file = join(folder, below, path);
      mkdirSync(join(file, ".."), { recursive: true });
      writeFileSync(file, typeof value === "string" ? value : JSON.stringify(value));
    }
  };

  /** Runs the script with what is true now, and what becomes true once it provisions. */
  async function run(
    now: Files,
    after: Files = {},
    timeout = 0,
  ): Promise<{ code: number; out: string; calls: string[] }> {
    write(now);
    write(after, "after");
    const child = spawn("bash", [script], {
      env: {
        PATH: `${join(folder, "bin")}${delimiter}${process.env.PATH}`,
        PLAY: folder,
        CLUSTER: "restate",
        NODES: JSON.stringify(nodes.map(({ name, address }) => ({ name, address }))),
        LOG_REPLICATION: "{node: 2, region: 2}",
        PARTITION_REPLICATION: "{region: 2}",
        PARTITIONS: "2",
        TIMEOUT: String(timeout),
      },
    });
    let out = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      out += chunk;
    });
    const code = await new Promise<number>((done) => child.on("close", done));
    const calls = existsSync(join(folder, "calls"))
      ? readFileSync(join(folder, "calls"), "utf8").trim().split("\n")
      : [];
    return { code, out: out.replace(/^ *\d+s/gm, "Ts"), calls };
  }
  const provisions = (calls: string[]) => calls.filter((call) => call.includes("provision"));

  test("all nodes answer: provisions with the given replication, verifies, and is done", async () => {
    const { code, out, calls } = await run(answering, { ...provisioned, ...complete });
    assert.equal(
      out,
      "Ts  all 2 nodes answer\n" +
        "Ts  provisioning: logs {node: 2, region: 2}, partitions {region: 2}, 2 partitions\n" +
        "Ts  done: 2 nodes in cluster restate\n",
    );
    assert.equal(code, 0);
    assert.deepEqual(provisions(calls), [
      `--address http://${one}:5122 provision --yes --num-partitions 2 --log-provider replicated --log-replication {node: 2, region: 2} --partition-replication {region: 2}`,
    ]);
  });

  test("provisioned already, and handed over since: changes nothing", async () => {
    const { code, out, calls } = await run({
      ...provisioned,
      ...complete,
      nodes: members({ metadata_server_state: "standby" }),
      logs: logs("{node: 2}"),
    });
    assert.equal(
      out,
      "Ts  all 2 nodes answer\nTs  the cluster is provisioned already\nTs  done: 2 nodes in cluster restate\n",
    );
    assert.equal(code, 0);
    assert.deepEqual(provisions(calls), []);
  });

  /** A node as a handover leaves it, or partly so. */
  const idle = (changes: Record<string, string> = {}) => ({
    name: "restate-0.region2",
    state: "dead",
    storage_state: "read-only",
    worker_state: "draining",
    metadata_server_state: "standby",
    ...changes,
  });

  test("a node that a handover has withdrawn need not be there", async () => {
    const { [`health/${two}`]: _, ...there } = provisioned;
    const { code, out } = await run({ ...there, ...complete, nodes: [members()[0], idle()] });
    assert.equal(
      out,
      "Ts  all 2 nodes answer, but for those that a handover has withdrawn\nTs  the cluster is provisioned already\nTs  done: 2 nodes in cluster restate\n",
    );
    assert.equal(code, 0);
  });

  for (const [state, value] of [
    ["storage_state", "read-write"],
    ["worker_state", "active"],
    ["metadata_server_state", "member"],
  ] as const) {
    test(`a node that is not there, and still ${value}, is missed`, async () => {
      const { [`health/${two}`]: _, ...there } = provisioned;
      const { code, out } = await run({ ...there, ...complete, nodes: [members()[0], idle({ [state]: value })] });
      assert.equal(code, 1);
      assert.match(out, /after 0 s these nodes do not answer:\n {7}restate-0\.region2/);
    });
  }

  test("one node is provisioned, another is new: does not provision again", async () => {
    const { code, calls } = await run({ ...answering, [`health/${two}`]: health(two, "N2"), ...complete });
    assert.equal(code, 0);
    assert.deepEqual(provisions(calls), []);
  });

  test("a node that comes later is waited for", async () => {
    const { [`health/${two}`]: late, ...early } = answering;
    const { code, out } = await run({ ...early, [`late/${two}`]: late }, { ...provisioned, ...complete }, 60);
    assert.equal(code, 0, out);
    assert.match(
      out,
      /waiting for 1 of 2 nodes:\n {7}restate-0\.region2 \(http:\/\/restate-0\.region2\.r\.example:5122\) does not answer: \(7\) Failed to connect/,
    );
  });

  const unready: [string, Files, string][] = [
    [
      "a node that never answers",
      { [`health/${one}`]: health(one) },
      `restate-0.region2 (http://${two}:5122) does not answer: (7) Failed to connect to ${two}`,
    ],
    [
      "a node of another cluster",
      { ...answering, [`health/${two}`]: health(two, "N1", "other") },
      `restate-0.region2 (http://${two}:5122) belongs to cluster other, not restate`,
    ],
    [
      "a load balancer that leads to the wrong pod",
      { ...answering, [`health/${two}`]: health(one) },
      `restate-0.region2 (http://${two}:5122) is the node of http://${one}:5122: its load balancer leads to the wrong pod`,
    ],
    [
      "an answer that is not Restate's",
      { ...answering, [`health/${two}`]: "<html>" },
      `restate-0.region2 (http://${two}:5122) gives an answer that is not that of a Restate node`,
    ],
  ];
  for (const [name, now, fault] of unready) {
    test(`${name}: nothing is provisioned, and the deadline names it`, async () => {
      const { code, out, calls } = await run(now);
      assert.equal(code, 1);
      assert.equal(
        out,
        `Ts  waiting for 1 of 2 nodes:\n       ${fault}\nTs  FAILED: after 0 s these nodes do not answer:\n       ${fault}\n` +
          "       Look at their load balancers (kubectl get services), names (external-dns) and pods; then run pulumi up again.\n",
      );
      assert.deepEqual(calls, []);
    });
  }

  const incomplete: [string, Files, string][] = [
    ["restatectl says that it worked, and nothing came of it", {}, "the cluster's nodes cannot be read"],
    ["a node that has not joined", { nodes: members().slice(0, 1) }, "node restate-0.region2 has not joined"],
    ["a dead node", { nodes: [members()[0], { ...members()[1], state: "dead" }] }, "node restate-0.region2 is dead"],
    [
      "a node that is no metadata member",
      { nodes: [members()[0], { ...members()[1], metadata_server_state: "standby" }] },
      "node restate-0.region2 is no metadata member yet (standby)",
    ],
    ["fewer logs than partitions", { logs: logs().slice(0, 1) }, "1 of 2 logs exist"],
    [
      "a log with another replication",
      { logs: [logs()[0], { log_id: 1, replication: "{node: 1}" }] },
      "log 1 is replicated {node: 1}, not {node: 2, region: 2}",
    ],
    [
      "a sealed log",
      { logs: [logs()[0], { log_id: 1, replication: null }] },
      "log 1 is replicated nowhere, not {node: 2, region: 2}",
    ],
    [
      "a partition without a leader",
      { partitions: [partitions()[0], { partition_id: 1, effective_mode: null }] },
      "partition 1 has no leader",
    ],
    ["logs that cannot be read", { logs: "error" }, "the cluster's logs cannot be read"],
    ["partitions that cannot be read", { partitions: "" }, "the cluster's partitions cannot be read"],
  ];
  for (const [name, changes, fault] of incomplete) {
    test(`${name}: fails in spite of exit code 0, and says so`, async () => {
      const state = Object.keys(changes).length > 0 ? { ...complete, ...changes } : {};
      const { code, out } = await run(answering, { ...provisioned, ...state });
      assert.equal(code, 1);
      assert.ok(
        out.endsWith(
          `Ts  not yet complete:\n       ${fault}\nTs  FAILED: after 0 s the cluster is not as it should be:\n       ${fault}\n` +
            `       Look with restatectl --address http://${one}:5122 status; then run pulumi up again.\n`,
        ),
        out,
      );
    });
  }

  test("a second run after a first changes nothing", async () => {
    await run(answering, { ...provisioned, ...complete });
    cpSync(join(folder, "calls"), join(folder, "first"));
    const { code, calls } = await run({});
    assert.equal(code, 0);
    assert.equal(provisions(calls).length, 1);
  });
});
