/**
 * What is played of docs/operations.md: for each section what brings its situation about, which of its commands are typed, and
 * what must hold then. The commands stand in the guide; here they are known by some of their words.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { RegionView } from "../../commands/report";
import type { NodeOutputs } from "../../outputs";
import { changeServing } from "../../sandbox/world/serving";
import type { RegionName, Serving } from "../../topology";
import { Running } from "../faults/processes";
import { nodesSeenBy, twoClusters } from "../support/cluster";
import { does, type Left, type Scene, type Stage, sectionsOf, types } from "../support/guide";
import { assertServedBy, comesTo, killHandover, segmentsOn } from "../support/handovers";
import {
  assertNothingChangedByHand,
  bucketOf,
  changeByHand,
  deleteBucket,
  denyReplication,
  nodesRole,
  trustOfRole,
} from "../support/mischief";
import { eventually, type Sandbox } from "../support/sandbox";

const sectionsIn = (document: string) => sectionsOf(readFileSync(resolve(__dirname, "../../docs", document), "utf8"));

/** The sections that are played: the operator's guide, and what it refers to for a state that is lost. */
export const guide = [
  ...sectionsIn("operations.md"),
  ...sectionsIn("deploy.md").filter(({ heading }) => heading === "Where the state is kept"),
];

/** Looks for words in what the last command has printed. */
const says = (...patterns: RegExp[]) =>
  does(`it says ${patterns.join(", ")}`, async ({ printed }) => {
    for (const pattern of patterns) assert.match(printed, pattern);
  });

const project = ({ folder }: Sandbox) => join(folder, "project");

/** The line of the pull request: who serves. */
const wants = (serving: Serving) =>
  does(`Pulumi.yaml wants ${serving}`, async ({ sandbox }) => changeServing(serving, project(sandbox)));

const isServedBy = (serving: Serving) =>
  does(`the cluster is served by ${serving}`, ({ sandbox }) => assertServedBy(sandbox, serving));

/** `pulumi config`, as an operator's hand before or after the scene. */
const config = (region: RegionName, ...words: string[]) =>
  does(`pulumi config ${words.join(" ")}`, ({ sandbox }) => sandbox.must(region, "pulumi", "config", ...words));

const nodesOf = async ({ sandbox }: Stage, region: RegionName) =>
  (await sandbox.outputs(region)).nodes as NodeOutputs[];

/** The machine that a pod of region1 runs on. */
const machineOf = async ({ sandbox }: Stage, pod: string) =>
  (await sandbox.objects<{ spec: { nodeName: string } }>("region1", "pod", pod)).spec.nodeName;

/** Restate's numbers of a region's nodes, or of one of them, e.g. `N1,N3`. */
const numbersOf =
  (region: RegionName, pod = "restate-") =>
  async ({ sandbox }: Stage) =>
    (await nodesSeenBy(sandbox, twoClusters[0]!, "restate-0"))
      .filter(({ name, location }) => location === region && name.startsWith(pod))
      .map((node) => node.plain_node_id)
      .join(",");

/** Whether no segment of any log, whichever is asked for in the guide, is on nodes with these numbers any more. */
const noSegmentOn = async ({ sandbox }: Stage, numbers: string) =>
  (await segmentsOn(sandbox, numbers.split(","))) === 0;

/** Whether both buckets have a snapshot of every partition, as `npm run status` sees it. */
async function snapshotsInBoth({ sandbox }: Stage): Promise<boolean> {
  const { stdout } = await sandbox.tool("region1", "npm", "run", "-s", "status", "--", "--json");
  const { regions } = JSON.parse(stdout) as { regions: RegionView[] };
  return regions.every(({ snapshots }) => snapshots?.partitions.length === 4);
}

const ready = async ({ sandbox }: Stage) =>
  (await sandbox.objects<{ status: { readyReplicas?: number } }>("region1", "statefulset", "restate")).status
    .readyReplicas ?? 0;

/** A run of Pulumi on region1 is killed with all that it has started, while it holds the stack's lock. */
const killedRun = does("a run of region1 is killed", async ({ sandbox }) => {
  const run = new Running(["pulumi", "up", "--yes", "--skip-preview"], await sandbox.environment("region1"));
  await eventually(60, async () => run.over || locksOf(sandbox).length > 0, Boolean);
  assert.equal(run.over, false, run.output);
  run.kill();
  await run.ended;
  assert.equal(locksOf(sandbox).length, 1);
});

const stateOf = ({ folder }: Sandbox) => join(folder, "state", "pulumi", ".pulumi");

/** Locks of all stacks. */
function locksOf(sandbox: Sandbox): string[] {
  const locks = join(stateOf(sandbox), "locks");
  return existsSync(locks)
    ? (readdirSync(locks, { recursive: true, encoding: "utf8" }) as string[]).filter((name) => name.endsWith(".json"))
    : [];
}

/** A handover to region2 is begun, and ended on its way as by a power cut: Pulumi and the Job's pod. */
const stoppedHandover = does("a handover to region2 is stopped", async ({ sandbox }) => {
  changeServing("region2", project(sandbox));
  const run = new Running(["pulumi", "up", "--yes", "--skip-preview"], await sandbox.environment("region2"));
  await comesTo(sandbox, "region2", "no node of region1 is chosen any more", () => run.over);
  assert.equal(run.over, false, run.output);
  run.kill();
  await run.ended;
  assert.match(await killHandover(sandbox, "region2"), /deleted/);
});

/** The trust of the nodes' role before hands changed it. */
let trusted: Awaited<ReturnType<typeof trustOfRole>>;

export const scenes: Scene[] = [
  {
    section: "Operator's guide",
    acts: [types("env region1")],
  },
  {
    section: "Every day",
    acts: [
      types("npm run status"),
      says(/all is well/),
      types("npm run previews", { adds: "--policy-config sandbox/policies.json" }),
    ],
  },
  {
    section: "Snapshots are behind",
    acts: [
      does("S3 may not copy region1's snapshots", ({ sandbox }) => denyReplication(sandbox, "region1")),
      types("snapshots create", {
        until: async ({ sandbox }) =>
          /S3 gave up copying/.test((await sandbox.tool("region1", "npm", "run", "-s", "status")).stdout),
      }),
      types("npm run status", { fails: true }),
      says(
        /S3 gave up copying/,
        /next: pulumi up --refresh --stack region1; then kubectl .* restatectl snapshots create/,
      ),
      types(["pulumi up --refresh", "snapshots create", "logs restate-0"]),
    ],
  },
  {
    section: "Something was changed by hand",
    acts: [
      does("hands change three things", async ({ sandbox }) => {
        trusted = await trustOfRole(sandbox);
        await changeByHand(sandbox);
      }),
      types("pulumi preview --refresh"),
      says(...["restate-role", "load-balancers-restate-1", "replication"].map((name) => new RegExp(`\\b${name}\\b`))),
      types("pulumi up --refresh"),
      does("all three are as they were", ({ sandbox }) => assertNothingChangedByHand(sandbox, trusted)),
    ],
  },
  {
    section: "The role is lost or changed",
    acts: [
      does("a hand deletes the nodes' role", async ({ sandbox }) => {
        const role = ["--role-name", await nodesRole(sandbox)];
        await sandbox.must("region1", ...["aws", "iam", "delete-role-policy", ...role, "--policy-name", "snapshots"]);
        await sandbox.must("region1", "aws", "iam", "delete-role", ...role);
      }),
      types("npm run status", { fails: true, prints: ["region2: nodes cannot take their role"] }),
      types(["pulumi up --refresh", "rollout restart", "rollout status"]),
      types(["rollout restart", "rollout status"], { instead: { region1: "region2" } }),
      types("snapshots create"),
      says(...[0, 1, 2, 3].map((id) => new RegExp(`Snapshot created for partition ${id}`))),
    ],
  },
  {
    section: "A bucket is lost",
    instead: { "restate-snapshots-region2-6d628fd8": ({ sandbox }) => bucketOf(sandbox, "region2") },
    acts: [
      does("a hand deletes the bucket of region2", ({ sandbox }) => deleteBucket(sandbox, "region2")),
      types("npm run status", { fails: true, prints: ["nodes cannot list"] }),
      types(["pulumi up --refresh --stack region2", "snapshots create"]),
      does("both buckets have snapshots again", (stage) => eventually(60, () => snapshotsInBoth(stage), Boolean)),
    ],
  },
  {
    section: "A volume fills up",
    acts: [
      types(["--trim-log", "df -h"]),
      says(/Use%/),
      types("patch pvc"),
      does("the claim asks for more", async ({ sandbox }) => {
        const { spec } = await sandbox.objects<{ spec: { resources: { requests: { storage: string } } } }>(
          "region1",
          "pvc",
          "storage-restate-0",
        );
        assert.match(`patch pvc ${JSON.stringify(spec.resources.requests)}`, /128Gi/);
      }),
    ],
  },
  {
    section: "A run was killed",
    acts: [
      killedRun,
      types("npm run up"),
      killedRun,
      types("npm run recover"),
      does("its lock is gone", async ({ sandbox }) => assert.deepEqual(locksOf(sandbox), [])),
      killedRun,
      types("pulumi cancel"),
      does("its lock is gone", async ({ sandbox }) => assert.deepEqual(locksOf(sandbox), [])),
    ],
  },
  {
    section: "Where the state is kept",
    acts: [
      types(["stack export --stack region1", "stack export --stack region2"]),
      does("region2's state is lost", async ({ sandbox }) =>
        rmSync(join(stateOf(sandbox), "stacks", "restate", "region2.json")),
      ),
      types(["stack init region2", "stack import", "pulumi preview --refresh --stack region2"]),
      types("npm run up"),
    ],
  },
  {
    section: "Keys and certificates",
    acts: [
      types("change-secrets-provider", { answers: "another" }),
      does("the new passphrase is in force, and the old one is not", async ({ sandbox }) => {
        const read = ["pulumi", "stack", "export", "--show-secrets"];
        await sandbox.must("region1", "env", "PULUMI_CONFIG_PASSPHRASE=another", ...read);
        const { code, stderr } = await sandbox.tool("region1", ...read);
        assert.notEqual(code, 0);
        assert.match(stderr, /incorrect passphrase/);
      }),
      types("change-secrets-provider", {
        answers: async ({ sandbox }) => (await sandbox.environment("region1")).PULUMI_CONFIG_PASSPHRASE!,
        environment: { PULUMI_CONFIG_PASSPHRASE: "another" },
      }),
      does("the kubeconfig is in a file", async ({ sandbox }) => {
        const { KUBECONFIG } = await sandbox.environment("region1");
        writeFileSync(join(sandbox.folder, "kubeconfig"), readFileSync(KUBECONFIG!));
      }),
      types("config set --secret", {
        instead: { "< file": ({ sandbox }) => `< ${join(sandbox.folder, "kubeconfig")}` },
      }),
      does("it is in the stack's file, encrypted", async ({ sandbox }) => {
        const contents = readFileSync((await sandbox.environment("region1")).KUBECONFIG!, "utf8").trim();
        const got = await sandbox.must("region1", "pulumi", "config", "get", "restate:kubeconfigContents");
        assert.equal(got.trim(), contents);
        const file = readFileSync(join(project(sandbox), "Pulumi.region1.yaml"), "utf8");
        assert.match(file, /restate:kubeconfigContents:\n +secure: /);
      }),
      config("region1", "rm", "restate:kubeconfigContents"),
    ],
  },
  {
    section: "A region is out of reach",
    acts: [
      does("region2 is cut off", ({ sandbox }) => sandbox.command("fault", "cut", "region2")),
      types("npm run status", {
        until: ({ printed }) => /lost its majority/.test(printed) && /has no leader/.test(printed),
        prints: ["restate-0.region2 is dead"],
      }),
      does("region2 is back", ({ sandbox }) => sandbox.command("fault", "heal")),
    ],
  },
  {
    section: "Hand over and back",
    about: "there",
    leaves: "region2 serves",
    acts: [
      wants("region2"),
      types("pulumi preview --stack region2", { prints: ["serving: both"] }),
      types("npm run up", { prints: ["18 things"] }),
      isServedBy("region2"),
      types("npm run status"),
      says(/region2/),
      types("npm run history", { prints: ["HANDOVER"] }),
      types("npm run history -- 1"),
    ],
  },
  {
    section: "A handover is blocked",
    about: "the stacks want different regions",
    leaves: "region2 serves",
    acts: [
      config("region1", "set", "restate:serving", "region1"),
      types("npm run up", { fails: true }),
      says(/the same Pulumi\.yaml was used for handover 1 to region2 alone/, /pulumi config rm restate:serving/),
      types("pulumi config rm"),
      types("npm run up"),
      isServedBy("region2"),
    ],
  },
  {
    section: "Fewer nodes in a drained region",
    leaves: "region2 serves",
    acts: [
      types(["Replicas 1 --stack region1", "Replicas 1 --stack region2"]),
      types("--trim-log", {
        until: async (stage) => noSegmentOn(stage, await numbersOf("region1")(stage)),
      }),
      types("npm run up"),
      does("one node runs", (stage) =>
        eventually(
          60,
          () => ready(stage),
          (count) => count === 1,
        ),
      ),
      types("scale statefulset"),
      does("three nodes run", (stage) =>
        eventually(
          120,
          () => ready(stage),
          (count) => count === 3,
        ),
      ),
      does("one node runs again, for the way back", ({ sandbox }) =>
        sandbox.must("region1", "kubectl", "-n", "restate-region1", "scale", "statefulset/restate", "--replicas=1"),
      ),
      does("one node runs", (stage) =>
        eventually(
          60,
          () => ready(stage),
          (count) => count === 1,
        ),
      ),
    ],
  },
  {
    section: "Hand over and back",
    about: "and back",
    acts: [
      wants("both"),
      types("npm run up"),
      isServedBy("both"),
      config("region1", "rm", "restate:standbyReplicas"),
      config("region2", "rm", "restate:standbyReplicas"),
    ],
  },
  {
    section: "A handover is blocked",
    about: "records are not in a snapshot",
    acts: [
      does("records are written", ({ sandbox }) => sandbox.command("practice", "load", "--seconds", "3")),
      config("region2", "set", "--path", "restate:handover.maxUnsavedRecords", "1"),
      wants("region2"),
      types("pulumi preview --stack region2", { prints: ["BLOCKED as things are now"] }),
      types("snapshots create", {
        until: async ({ sandbox }) => {
          const { stdout } = await sandbox.tool("region2", "pulumi", "preview");
          return stdout.includes("Nothing would block it now");
        },
      }),
      config("region2", "rm", "--path", "restate:handover.maxUnsavedRecords"),
      wants("both"),
    ],
  },
  {
    section: "A handover that stopped",
    about: "and is finished",
    acts: [
      stoppedHandover,
      types("npm run status", { fails: true }),
      says(/handover .* runs, or was stopped|the cluster is between two regions/),
      types("npm run up"),
      isServedBy("region2"),
      wants("both"),
      types("npm run up"),
      isServedBy("both"),
    ],
  },
  {
    section: "A handover that stopped",
    about: "and is taken back",
    acts: [
      stoppedHandover,
      wants("both"),
      types("npm run up"),
      types("npm run status", { fails: true }),
      types("job=", { instead: { "restate-serve-region1": "restate-serve-both" } }),
      says(/done: the cluster is served by both/),
      types("npm run up"),
      isServedBy("both"),
    ],
  },
  {
    section: "Machines are replaced",
    instead: { "ip-10-1-16-10.us-east-1.compute.internal": (stage) => machineOf(stage, "restate-1") },
    acts: [
      types("kubectl drain"),
      types("npm run status", { until: ({ printed }) => /restate-1\.region1: its pod is Pending/.test(printed) }),
      does("no other pod of the region is evicted", async (stage) => {
        const machine = await machineOf(stage, "restate-2");
        const flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=15s"];
        const { code, stderr } = await stage.sandbox.tool("region1", "kubectl", "drain", machine, ...flags);
        await stage.sandbox.must("region1", "kubectl", "uncordon", machine);
        assert.notEqual(code, 0);
        assert.match(stderr, /violate the pod's disruption budget/);
      }),
      types("kubectl uncordon"),
    ],
  },
  {
    section: "A pod in another zone, or a zone lost",
    leaves: "a node whose volume is lost",
    instead: {
      "us-east-1a": async (stage) => (await nodesOf(stage, "region1")).find(({ pod }) => pod === "restate-1")!.zone,
    },
    acts: [
      types(["kubectl cordon", "delete pvc", "delete pod", "pulumi up"]),
      does("its load balancer is in another zone", async (stage) => {
        const moved = (await nodesOf(stage, "region1")).find(({ pod }) => pod === "restate-1")!;
        assert.notEqual(moved.zone, stage.stands["us-east-1a"]);
      }),
      types("kubectl uncordon"),
    ],
  },
  {
    section: "A node's volume is lost",
    instead: { N3: numbersOf("region1", "restate-1") },
    acts: [
      types("nodes list --extra", { until: ({ printed }) => /data-loss/.test(printed) }),
      types("logs reconfigure"),
      types(["--trim-log", "logs describe"], { until: (stage) => noSegmentOn(stage, stage.stands.N3!) }),
      types(["metadata-server remove-node", "nodes remove"], {
        until: async ({ sandbox, stands }) => {
          const left = (await nodesSeenBy(sandbox, twoClusters[0]!, "restate-0")).map((node) => node.plain_node_id);
          return left.length >= 5 && !left.includes(stands.N3!);
        },
      }),
      types(["delete pvc", "delete pod"]),
      types(["pulumi up --stack region1"]),
    ],
  },
  {
    section: "A region shall go",
    about: "and the cluster needs it",
    acts: [types("pulumi destroy", { fails: true, prints: ["region2 is not destroyed"] })],
  },
  {
    section: "Hand over without Pulumi",
    leaves: "region1 serves",
    acts: [
      types(["stack output emergency", "job="]),
      says(/done: the cluster is served by region1/),
      wants("region1"),
      types("npm run up"),
      isServedBy("region1"),
    ],
  },
  {
    section: "A region shall go",
    leaves: "region1 alone",
    instead: { "N2,N3,N4": numbersOf("region2") },
    acts: [
      types(["--trim-log", "logs describe"], { until: (stage) => noSegmentOn(stage, stage.stands["N2,N3,N4"]!) }),
      types(["restate:protect", "restate:forceDestroy", "pulumi up --stack region2", "pulumi destroy"]),
      types("nodes remove"),
      does("three nodes are left", async ({ sandbox }) =>
        assert.equal((await nodesSeenBy(sandbox, twoClusters[0]!, "restate-0")).length, 3),
      ),
    ],
  },
  {
    section: "The peer's stack is out of sight",
    leaves: "region1 alone",
    acts: [
      types("pulumi up"),
      does("`pending` prints what to write", async ({ sandbox }) =>
        assert.match(
          ((await sandbox.outputs("region1")).pending as string[]).join("\n"),
          /restate:forgetPeer organization\/restate\/region2/,
        ),
      ),
      types(["config set restate:forgetPeer", "pulumi up", "config rm restate:forgetPeer"]),
      does("what was built for it is gone", async ({ sandbox }) =>
        assert.equal((await sandbox.outputs("region1")).replication, undefined),
      ),
    ],
  },
  {
    section: "A region comes back",
    acts: [
      types("npm run up"),
      types("npm run status", { fails: true }),
      // The peer was forgotten.
      says(/region2's bucket has lost its copies of/, /restate-0\.region2 .* read-only +draining +standby/),
      types("snapshots create", { until: snapshotsInBoth }),
      wants("both"),
      types("npm run up"),
      isServedBy("both"),
    ],
  },
];

/** What is not played, and why not. */
export const left: Left[] = [
  ...[
    "✗ partition 3 has no leader: restate-0.region2 is to lead it, and is 64 records behind",
    "! partition 0 on restate-1.region2 is 23974 records behind, and gets no further",
  ].map((words) => ({
    section: "A node is stuck",
    words,
    why: "which node is stuck when, cannot be brought about at will; test:faults meets it, and does then what npm run status says",
  })),
  {
    section: "A handover is blocked",
    words: "git pull",
    why: "what it fetches is in a repository, not in the sandbox",
  },
  {
    section: "Where the state is kept",
    words: "export PULUMI_BACKEND_URL",
    why: "the sandbox's backend is a folder, which its environment names",
  },
  {
    section: "Where the state is kept",
    words: "export PULUMI_CONFIG_PASSPHRASE_FILE",
    why: "the sandbox's environment has a passphrase",
  },
];
