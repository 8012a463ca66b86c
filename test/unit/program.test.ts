/** The whole program for either region: the committed dumps, what makes it fail, and what it does without its peer. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { guardName } from "../../guard";
import { handoverMemoryName } from "../../handover/plan";
import type { Receipt } from "../../outputs";
import { memoryName } from "../../peer";
import { type RegionName, regionNames } from "../../topology";
import { dumpsFolder, dumpsOf, playAll, type Recordings } from "../support/dumps";
import { runningCluster } from "../support/fake-api-server";
import { ofType, type Recording, resource } from "../support/mocks";
import { receiptOf } from "../support/receipts";
import { engineError, handoverJobs, scenarios, World } from "../support/scenarios";

/** What is read of a Job's specification. */
interface PodSpecs {
  template: {
    spec: { serviceAccountName?: string; containers: { env: { name: string; value: string }[] }[] };
  };
}

const usual = (scenario = "converged") => scenarios[scenario]!.settings;
const peer = (region: RegionName) => `organization/restate/${region}`;
const pending = (recording: Recording) => recording.outputs.pending as string[];
/** Names that a run gave its resources, for comparing runs. */
const names = (recording: Recording) => recording.resources.map((one) => `${one.type} ${one.name}`);

let recordings: Recordings;
before(async () => {
  recordings = await playAll();
});

test("the committed dumps are what the program gives", () => {
  const dumps = dumpsOf(recordings);
  for (const [path, text] of dumps) {
    const file = join(dumpsFolder, path);
    assert.equal(
      existsSync(file) ? readFileSync(file, "utf8") : "",
      text,
      `test/dumps/${path} is out of step; run npm run dumps and read the difference`,
    );
  }
  const committed = readdirSync(dumpsFolder, { recursive: true, encoding: "utf8" }).filter((one) => /yaml$/.test(one));
  assert.deepEqual(committed.sort(), [...dumps.keys()].sort(), "run npm run dumps: there are dumps of no scenario");
});

describe("runs", () => {
  let world: World;
  before(async () => {
    world = await World.start();
  });
  after(() => world.stop());
  const fresh = () => {
    world.exported.clear();
    world.remembered.clear();
    world.calls = {};
    world.cluster = undefined;
    world.account = "123456789012";
  };
  /** The world after both regions were brought up, as its recordings show it. */
  const converged = () => {
    fresh();
    const runs = recordings.get("converged")!;
    for (const region of regionNames) world.arrive(region, runs[region]);
    return runs;
  };

  test("three runs converge: a fourth and fifth give the same, and nothing is pending", async () => {
    const { region1, region2 } = converged();
    assert.deepEqual(await world.run("region1", usual()("region1")), region1);
    assert.deepEqual(await world.run("region2", usual()("region2")), region2);
    assert.deepEqual([pending(region1), pending(region2)], [[], []]);
  });

  test("the guard depends on every other resource, and knows the buckets", async () => {
    for (const [scenario, both] of recordings) {
      for (const run of Object.values(both)) {
        const guard = resource(run, guardName);
        assert.deepEqual(guard.beforeDelete, [guardName], scenario);
        const own = run.resources.filter((one) => !one.type.startsWith("restate:") && one.name !== guardName);
        const missing = own.map((one) => one.name).filter((name) => !guard.dependsOn.includes(name));
        // The bucket's name is read, which makes the guard depend on it.
        assert.deepEqual(missing, ["snapshots"], scenario);
      }
    }
    const { input } = resource(converged().region1, guardName).inputs as { input: unknown };
    assert.deepEqual(input, {
      own: { name: "restate-snapshots-region1-0a0a0a0a", awsRegion: "us-east-1" },
      peer: { name: "restate-snapshots-region2-0b0b0b0b", awsRegion: "us-west-2" },
    });
  });

  test("on the way, pending names what waits and the next command", async () => {
    fresh();
    const first = await world.run("region1", usual()("region1"));
    assert.deepEqual(pending(first), [
      `the peer stack ${peer("region2")} does not exist yet or has no outputs. Next: pulumi up --stack ${peer("region2")}, then pulumi up here again`,
      `provisioning waits for the nodes of the peer. Next: pulumi up --stack ${peer("region2")}`,
    ]);
    fresh();
    const second = await world.run("region2", usual()("region2"));
    assert.equal(pending(second).length, 1);
  });

  test("resource names are the same in every run and region, but for what a region does not have", async () => {
    const { region1, region2 } = converged();
    const alone = recordings.get("first-up")!;
    for (const name of names(region2)) assert.ok(names(region1).includes(name), name);
    for (const name of names(alone.region1)) assert.ok(names(region1).includes(name), name);
  });

  test("without its peer: no replication, no memory, no provisioning, trust and permissions for its own only", async () => {
    fresh();
    const run = await world.run("region1", usual()("region1"));
    for (const type of ["BucketReplicationConfig", "Job", "ConfigMap"]) assert.deepEqual(ofType(run, type), [], type);
    assert.ok(!names(run).includes(`pulumi:index:Stash ${memoryName}`));
    const role = resource(run, "restate-role", "aws:iam");
    assert.doesNotMatch(role.inputs.assumeRolePolicy as string, /region2/i);
    assert.doesNotMatch(resource(run, "restate-role-permissions").inputs.policy as string, /region2/);
  });

  test("region2 owns no role and no provisioning while region1 is home and both serve", async () => {
    const { region2 } = converged();
    assert.ok(!names(region2).some((name) => name.includes("restate-role") || name.includes("provisioning")));
    assert.equal(region2.outputs.role, undefined);
  });

  test("a peer that has fewer nodes than there should be is not provisioned with", async () => {
    converged();
    const run = await world.run("region1", { ...usual()("region1"), replicas: 5 });
    assert.ok(!names(run).some((name) => name.includes("provisioning")));
    assert.deepEqual(pending(run), [
      `${peer("region2")} was last brought up with replicas 3, this stack has 5. Next: pulumi up --stack ${peer("region2")}`,
      `provisioning waits for 5 nodes of ${peer("region2")}, which has 3. Next: pulumi up --stack ${peer("region2")}`,
    ]);
  });

  describe("a change of serving", () => {
    const settings = (region: RegionName, serving: string, more = {}) => ({ ...usual()(region), serving, ...more });
    const drain = async () => {
      converged();
      const region2 = await world.run("region2", settings("region2", "region2"));
      return { region2, region1: await world.run("region1", settings("region1", "region2")) };
    };
    const jobs = (run: Recording) => run.resources.filter(({ type }) => type === "kubernetes:batch/v1:Job");
    const environment = (run: Recording) => {
      const [container] = (resource(run, "handover-job").inputs.spec as never as PodSpecs).template.spec.containers;
      return Object.fromEntries(container!.env.map(({ name, value }) => [name, value]));
    };
    const receipt = (run: Recording) => (run.outputs.handover as { receipt: Receipt } | undefined)?.receipt;

    test("the lead hands over by a Job that follows the last one, and exports its receipt", async () => {
      const { region2 } = await drain();
      const env = environment(region2);
      assert.deepEqual(
        [env.TARGET, env.AFTER, env.REGION, env.LOG_ONE, env.LOG_BOTH],
        ["region2", "0", "region2", "{node: 2}", "{node: 3, region: 2}"],
      );
      assert.equal(JSON.parse(env.NODES as string).length, 6);
      assert.match(JSON.parse(env.ASKED as string).settings, /^[0-9a-f]{16}$/);
      assert.deepEqual(receipt(region2), handoverJobs()["restate-handover-1-region2"]);
      const { spec } = (resource(region2, "handover-job").inputs.spec as never as PodSpecs).template;
      assert.equal(spec.serviceAccountName, "restate");
    });

    test("the other region hands nothing over, shows the receipt, and what provisions stays at home", async () => {
      const { region1, region2 } = await drain();
      assert.deepEqual(
        [region1, region2].map((run) => jobs(run).map(({ name }) => name)),
        [["provisioning"], ["handover-job"]],
      );
      assert.deepEqual(receipt(region1), handoverJobs()["restate-handover-1-region2"]);
      assert.deepEqual(pending(region1), []);
    });

    test("a further run of either changes nothing, and reads no Job's log again", async () => {
      const { region2 } = await drain();
      const again = await world.run("region2", settings("region2", "region2"));
      assert.deepEqual(environment(again), environment(region2));
      assert.equal(receipt(again)?.askedBy.user, "alice");
      world.jobs = {};
      assert.deepEqual(await world.run("region2", settings("region2", "region2")), again);
      world.jobs = handoverJobs();
    });

    test("the way back is home's, with the next number", async () => {
      await drain();
      world.jobs = { ...handoverJobs(), "restate-handover-2-both": receiptOf(2, "region2", "both") };
      const region1 = await world.run("region1", settings("region1", "both"));
      assert.deepEqual([environment(region1).TARGET, environment(region1).AFTER], ["both", "1"]);
      assert.equal(receipt(region1)?.number, 2);
      const region2 = await world.run("region2", settings("region2", "both"));
      assert.deepEqual(jobs(region2), []);
      assert.equal(receipt(region2)?.number, 2);
    });

    test("a handover that another one was faster with is not asked for again in other words", async () => {
      converged();
      const byHand = receiptOf(1, "both", "region2", { askedBy: { user: "started by hand in region2" } });
      world.jobs = { "restate-handover-1-region2": byHand };
      const first = await world.run("region2", settings("region2", "region2"));
      assert.deepEqual(receipt(first), byHand);
      const again = await world.run("region2", settings("region2", "region2"));
      assert.equal(environment(again).ASKED, environment(first).ASKED);
      assert.deepEqual(receipt(again), byHand);
      world.jobs = handoverJobs();
    });

    test("a preview knows no receipt yet, and leaves the last one where nothing changes", async () => {
      converged();
      const before = await world.run("region2", settings("region2", "region2"), { preview: true });
      const memory = (run: Recording) =>
        resource(run, handoverMemoryName, "pulumi:index:Stash").inputs.input as { receipt: unknown };
      assert.equal(memory(before).receipt, "[unknown]");
      await drain();
      const later = await world.run("region2", settings("region2", "region2"), { preview: true });
      assert.deepEqual(memory(later).receipt, handoverJobs()["restate-handover-1-region2"]);
    });

    test("nodes that stand by are stopped after the receipt, keep their load balancers, and the peer is told", async () => {
      const standby = { standbyReplicas: 1 };
      converged();
      await world.run("region2", settings("region2", "region2", standby));
      const cluster = runningCluster("us-east-1", 3);
      world.cluster = cluster;
      // Nobody can tell yet whether they hold records.
      const before = await world.run("region1", settings("region1", "region2", standby));
      assert.equal(before.outputs.runningReplicas, 3);
      assert.match(
        String(before.outputs.pending),
        /region1 keeps running all its nodes, not 1: whether they hold records cannot be told, since no pod answers/,
      );
      cluster.pods.splice(1);
      const region1 = await world.run("region1", settings("region1", "region2", standby));
      assert.deepEqual(region1.outputs.pending, []);
      const release = resource(region1, "restate", "kubernetes:helm");
      assert.equal((release.inputs.values as { replicaCount: number }).replicaCount, 1);
      assert.equal(region1.outputs.runningReplicas, 1);
      assert.deepEqual(
        (region1.outputs.nodes as { zone: string }[]).map(({ zone }) => zone),
        ["us-east-1a", "us-east-1b", "us-east-1c"],
      );
      world.cluster = undefined;
    });

    test("a memory that cannot be read hands nothing over", async () => {
      await drain();
      world.calls["pulumi:pulumi:readStackResourceOutputs"] = () => {
        throw engineError("locked");
      };
      await assert.rejects(world.run("region2", settings("region2", "region2")), {
        message: /this stack's own state cannot tell which handover was the last \(locked\)\.\nNothing was changed/,
      });
    });

    test("a receipt that is gone can be had again", async () => {
      converged();
      world.jobs = {};
      await assert.rejects(world.run("region2", settings("region2", "region2")), {
        message:
          /the handover is done, and its receipt cannot be read \(no pod of Job restate-handover-1-region2-\w+ is left that succeeded\)/,
      });
      world.jobs = handoverJobs();
    });
  });

  test("a peer that was destroyed, or cannot be read, changes no resource", async () => {
    const { region1 } = converged();
    for (const lose of [
      () => world.exported.delete(peer("region2")),
      () => world.exported.set(peer("region2"), {}),
      () => {
        world.calls["pulumi:pulumi:readStackOutputs"] = () => {
          throw engineError("connection refused\nat somewhere");
        };
      },
    ]) {
      lose();
      const run = await world.run("region1", usual()("region1"));
      assert.deepEqual(run.resources, region1.resources);
      assert.equal(pending(run).length, 1);
      assert.match(pending(run)[0] as string, /is kept as it is\. Next: pulumi up --stack/);
    }
  });

  test("only forgetPeer lets go of what was built for it", async () => {
    converged();
    world.exported.delete(peer("region2"));
    const run = await world.run("region1", { ...usual()("region1"), forgetPeer: "region2" });
    for (const type of ["BucketReplicationConfig", "Job"]) assert.deepEqual(ofType(run, type), [], type);
    assert.ok(!names(run).includes(`pulumi:index:Stash ${memoryName}`));
    assert.doesNotMatch(resource(run, "restate-role-permissions").inputs.policy as string, /region2/);
    assert.match(pending(run)[0] as string, /pulumi config rm restate:forgetPeer$/m);
  });

  test("a preview works before there is a cluster, and shows the zones where it can", async () => {
    fresh();
    world.cluster = runningCluster("us-east-1", 0);
    const blind = await world.run("region1", usual()("region1"), { preview: true });
    assert.equal(
      (resource(blind, "load-balancers-restate-0").inputs.metadata as { annotations: unknown }).annotations,
      "[unknown]",
    );
    world.cluster = undefined;
    const sighted = await world.run("region1", usual()("region1"), { preview: true });
    const { annotations } = resource(sighted, "load-balancers-restate-0").inputs.metadata as {
      annotations: Record<string, string>;
    };
    assert.equal(annotations["service.beta.kubernetes.io/aws-load-balancer-subnets"], "subnet-0a1");
  });

  const failing: [string, Record<string, unknown>, RegExp | string, (() => void)?][] = [
    ["bad settings, before anything else is asked", { replicas: 0 }, /^the configuration of stack region1 has a fault/],
    [
      "another account",
      {},
      "restate:accountId is 123456789012, and the credentials belong to account 210987654321; nothing was changed. " +
        "Use the right credentials (aws sts get-caller-identity shows whose they are), or correct restate:accountId.",
      () => {
        world.account = "210987654321";
      },
    ],
    [
      "a pod in a zone without a subnet",
      { subnets: { byZone: { "us-east-1a": "subnet-0a1", "us-east-1b": "subnet-0b1" } } },
      // The SDK puts the property in front.
      /pod restate-2 runs in zone us-east-1c \(by its volume\), for which there is no subnet\nrestate:subnets\.byZone has /,
    ],
    [
      "no subnet to be discovered",
      { subnets: { discover: { vpcId: "vpc-01" } } },
      'no subnet matches VPC vpc-01 with tags {"kubernetes.io/role/internal-elb":"1"}. Correct restate:subnets.discover, or ' +
        "give restate:subnets.byZone; nothing was changed.",
      () => {
        world.calls["aws:ec2/getSubnets:getSubnets"] = () => ({ ids: [] });
      },
    ],
    [
      "an EKS cluster without an OIDC issuer",
      { kubernetes: { eksCluster: "east" }, identity: {} },
      "EKS cluster east has no OIDC issuer; give restate:identity.oidcIssuer, or use restate:identity.mode podIdentity. " +
        "Nothing was changed.",
      () => {
        world.calls["aws:eks/getCluster:getCluster"] = () => ({
          arn: "arn:aws:eks:us-east-1:123456789012:cluster/east",
          endpoint: "https://127.0.0.1:1",
          certificateAuthorities: [],
          identities: [],
        });
      },
    ],
    [
      "a kubeconfig that is not there",
      { kubernetes: { kubeconfig: "/nowhere/kubeconfig" } },
      "restate:kubernetes.kubeconfig: there is no file /nowhere/kubeconfig. Correct the path, or give restate:kubeconfigContents",
    ],
    [
      "a peer of another shape",
      {},
      /^the outputs of the peer stack organization\/restate\/region2 are not those of a region:\n {2}contract: /,
      () => {
        world.exported.set(peer("region2"), { url: "https://example.com" });
      },
    ],
    [
      "a state that cannot tell what was built",
      {},
      /^the peer stack .* does not exist yet or has no outputs, and this stack's own state cannot tell .* \(locked\)\./,
      () => {
        world.calls["pulumi:pulumi:readStackResourceOutputs"] = () => {
          throw engineError("locked");
        };
      },
    ],
  ];
  for (const [name, settings, message, arrange] of failing) {
    test(`fails: ${name}`, async () => {
      fresh();
      arrange?.();
      await assert.rejects(
        world.run("region1", { ...usual()("region1"), ...settings }),
        typeof message === "string" ? { message } : { message },
      );
    });
  }

  const contradicting: [string, Record<string, unknown>, Record<string, unknown>, string][] = [
    [
      "both are region1",
      {},
      { region: "region1" },
      "restate:region: both stacks are region1; correct restate:region or restate:peer",
    ],
    [
      "another account",
      {},
      { accountId: "210987654321" },
      "restate:accountId: the peer is in account 210987654321, this stack in 123456789012; both regions belong to one account",
    ],
    [
      "one namespace for both",
      { mode: "one-cluster" },
      { kubernetes: { cluster: "here", namespace: "restate-region1", serviceAccount: "restate" } },
      "restate:kubernetes.namespace: both regions use restate-region1; in one cluster each needs a namespace of its own",
    ],
    [
      "one cluster where two should be",
      {},
      { identity: { mode: "oidc", oidcIssuer: "https://oidc.eks.us-east-1.amazonaws.com/id/REGION1" } },
      "restate:mode: both regions have the OIDC issuer https://oidc.eks.us-east-1.amazonaws.com/id/REGION1, which is one " +
        "cluster; set restate:mode one-cluster or correct restate:kubernetes",
    ],
  ];
  for (const [name, settings, changes, fault] of contradicting) {
    test(`contradicts its peer: ${name}`, async () => {
      const { region2 } = converged();
      world.exported.set(peer("region2"), { ...region2.outputs, ...changes });
      await assert.rejects(world.run("region1", { ...usual()("region1"), ...settings }), {
        message: `this stack and its peer contradict each other; nothing was changed:\n  ${fault}`,
      });
    });
  }

  test("provisioning runs again when what it runs changes, and only then", () => {
    const jobName = (scenario: string) => {
      const [job] = ofType(recordings.get(scenario)!.region1, "batch/v1:Job");
      return (job!.inputs.metadata as { name: string }).name;
    };
    assert.equal(jobName("kiam"), jobName("converged"));
    assert.notEqual(jobName("every-option"), jobName("converged"));
    assert.match(jobName("converged"), /^restate-provision-[0-9a-f]{10}$/);
  });

  test("whatever the scenario: tags, protection, provider, and nothing public", () => {
    const taggable = [
      "aws:s3/bucket:Bucket",
      "aws:iam/role:Role",
      "aws:eks/podIdentityAssociation:PodIdentityAssociation",
    ];
    const kept = ["aws:s3/bucket:Bucket", "random:index/randomId:RandomId", "helm.sh/v3:Release", "core/v1:Namespace"];
    for (const name of ["first-up", "converged", "one-cluster", "kiam", "pod-identity", "eks-discovered"]) {
      for (const [region, run] of Object.entries(recordings.get(name)!)) {
        for (const one of run.resources) {
          const where = `${name} ${region} ${one.name}`;
          if (taggable.includes(one.type)) {
            const own = { "restate:cluster": "restate", "restate:region": region };
            assert.deepEqual(one.inputs.tags, name === "eks-discovered" ? { ...own, team: "platform" } : own, where);
          } else assert.equal(one.inputs.tags, undefined, where);
          const data = kept.some((type) => one.type.endsWith(type));
          assert.equal(one.protect, data && name !== "eks-discovered" ? true : undefined, where);
          if (one.type.startsWith("kubernetes:")) assert.equal(one.provider, "kubernetes", where);
          if (one.type.startsWith("restate:index:")) assert.ok(Object.keys(one.outputs ?? {}).length > 0, where);
          if (one.type.endsWith("v3:Release")) {
            assert.deepEqual(
              [one.inputs.atomic, one.inputs.skipAwait, one.inputs.createNamespace],
              [false, true, false],
            );
          }
          if (one.type.endsWith("v1:Service")) assert.match(JSON.stringify(one.inputs), /"[^"]*-scheme":"internal"/);
        }
        assert.equal(ofType(run, "PodIdentityAssociation").length, name === "pod-identity" ? 1 : 0);
        const blocks = ofType(run, "BucketPublicAccessBlock");
        assert.equal(blocks.length, 1);
        assert.ok(Object.values(blocks[0]!.inputs).every((value) => value !== false));
        assert.equal(ofType(run, "BucketAcl").length, 0);
      }
    }
  });
});
