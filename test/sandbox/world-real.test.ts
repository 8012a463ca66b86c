/** The whole world with its real parts, through its commands, as a user has it. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { typescript } from "../../sandbox/world/paths";
import {
  assertHealthy,
  base,
  clusterId,
  dir,
  done,
  environment,
  operator,
  part,
  run,
  sandbox,
  status,
  withWorld,
} from "./real-world";
import { hostListeners, processesOf, until } from "./world-support";

const gitStatus = (): string => run("git", ["status", "--porcelain"]).stdout;

describe("the sandbox", { timeout: 1_800_000 }, () => {
  withWorld();

  test("has two clusters with three ready nodes each, and all is well", () => {
    const { healthy, problems, report } = status();
    assert.deepEqual(problems, []);
    assert.ok(healthy);
    const nodes = report.clusters.map(({ region, nodes }) => [region, nodes?.map((n) => `${n.zone} ${n.ready}`)]);
    assert.deepEqual(nodes, [
      ["region1", ["us-east-1a true", "us-east-1b true", "us-east-1c true"]],
      ["region2", ["us-west-2a true", "us-west-2b true", "us-west-2c true"]],
    ]);
  });

  test("listens on nothing but 127.0.0.1 of this machine", () => {
    const listeners = hostListeners(processesOf(dir));
    assert.ok(listeners.length >= 7);
    assert.deepEqual([...new Set(listeners)], ["0100007F"]);
  });

  test("writes nothing into the clone, and keeps to its folder", () => {
    assert.deepEqual(readdirSync(base), ["sandbox"]);
    assert.ok(!/\.sandbox|Pulumi\..*yaml/.test(gitStatus()), gitStatus());
  });

  test("an operator's tools work with what env prints, in a shell that works with other things, and as before after --unset", () => {
    const nobody = "http://127.0.0.1:9";
    const before = {
      ...{ AWS_PROFILE: "prod", AWS_SESSION_TOKEN: "token", AWS_ENDPOINT_URL_S3: nobody, KUBECONFIG: "/nonexistent" },
      ...{ PULUMI_STACK: "acme/other/dev", PULUMI_BACKEND_URL: nobody, PULUMI_CONFIG_PASSPHRASE_FILE: "/nonexistent" },
      ...{ HELM_KUBECONTEXT: "prod", http_proxy: nobody, https_proxy: nobody, HTTPS_PROXY: nobody },
    };
    for (const [region, zone] of [
      ["region1", "us-east-1a"],
      ["region2", "us-west-2a"],
    ] as const) {
      const tool = (script: string) => operator(region, script, before);
      const nodes = tool("kubectl get nodes -L topology.kubernetes.io/zone --no-headers");
      assert.equal(nodes.trim().split("\n").length, 3);
      assert.match(nodes, new RegExp(zone));
      assert.equal(tool("pulumi stack --show-name").trim(), region);
      assert.match(tool("pulumi config get restate:accountId"), /^123456789012$/m);
      assert.match(tool("helm list --all-namespaces"), /^NAME/);
      assert.match(tool("aws sts get-caller-identity"), /123456789012/);
      assert.equal(tool("aws s3 ls"), "");
    }
    const printed = "env | grep -E '^(AWS|HELM|PULUMI|PATH|KUBECONFIG|.*_proxy|.*_PROXY)' | sort";
    const unset = `eval "$(${process.execPath} ${typescript.join(" ")} sandbox/cli.ts env region1 --unset)"; ${printed}`;
    const untouched = run("bash", ["--norc", "-c", printed], { ...environment, ...before }).stdout;
    assert.equal(operator("region1", unset, before), untouched);
    const json = JSON.parse(done("env", "region2", "--json")) as Record<string, string>;
    assert.equal(json.AWS_REGION, "us-west-2");
  });

  test("a shell sees the region's network, and what it prints and its exit code come through", () => {
    assert.match(done("shell", "region1", "-c", "ip -brief address show vpc1"), /10\.1\.0\.1\/16/);
    assert.equal(sandbox("shell", "region1", "-c", "exit 7").status, 7);
    assert.match(done("shell", "region2", "-c", "kubectl get nodes --no-headers | wc -l"), /^3$/m);
  });

  test("up again starts nothing anew", () => {
    const pids = (): unknown => status().parts.map((p) => [p.name, p.hostPid]);
    const earlier = pids();
    done("up", "--world-only");
    assert.deepEqual(pids(), earlier);
  });

  test("faults are listed with the way to mend them, status is not well meanwhile, and heal mends all", () => {
    const faults = [
      ["cut", "region1", "region2"],
      ["latency", "region1", "region2", "30"],
      ["throttle", "s3", "PutObject", "--share", "0.5"],
      ["copier", "pause"],
    ];
    for (const words of faults) done("fault", ...words);
    const listed = (JSON.parse(done("fault", "list", "--json")) as { faults: { what: string }[] }).faults;
    assert.equal(listed.length, faults.length, JSON.stringify(listed));
    assert.equal(sandbox("status").status, 1);
    done("fault", "heal");
    assert.match(done("fault", "list"), /^no faults$/m);
    assertHealthy();
  });

  test("a paused API server is found and named, and up lets it go on", () => {
    done("fault", "pause", "region1/kube-apiserver");
    const { healthy, problems } = status();
    assert.ok(!healthy);
    const next = "npm run sandbox -- fault resume region1/kube-apiserver";
    assert.deepEqual(problems[0], { what: "region1/kube-apiserver is paused", next });
    done("up", "--world-only");
    assertHealthy();
  });

  test("after kill -9 of all parts of a region at once, up recovers with the same cluster", async () => {
    const before = clusterId("region1");
    const region1 = status().parts.filter((p) => p.hostPid && p.name.startsWith("region1/"));
    for (const { hostPid } of region1) process.kill(hostPid!, "SIGKILL");
    await until("all of region1 is dead", () => status().parts.every((p) => !p.name.startsWith("region1/") || !p.pid));
    assert.equal(sandbox("status").status, 1);
    done("up", "--world-only");
    assertHealthy();
    assert.equal(clusterId("region1"), before);
  });

  test("after kill -9 of the supervisor nothing is left, and up recovers with the same clusters and ports", async () => {
    const [cluster, ports] = [clusterId("region2"), status().hostPorts!.ports];
    const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${part("aws/moto").hostPid}/status`, "utf8"))![1];
    process.kill(Number(parent), "SIGKILL");
    await until("nothing is left", () => processesOf(dir).length === 0);
    const result = sandbox("status");
    assert.deepEqual([result.status, /the sandbox is not running/.test(result.stdout)], [1, true]);
    done("up", "--world-only");
    assertHealthy();
    assert.equal(clusterId("region2"), cluster);
    assert.deepEqual(status().hostPorts!.ports, ports);
  });

  test("the witness comes on demand with a kubeconfig, and goes", () => {
    done("witness", "up");
    assert.match(operator("witness", "kubectl get nodes --no-headers"), /us-east-2.* Ready/);
    assertHealthy();
    done("witness", "down");
    assertHealthy();
    assert.equal(part("witness/kube-apiserver").state, "stopped");
  });

  test("logs: of a part; a name that is neither part nor pod is refused with those that there are", () => {
    assert.match(done("logs", "aws/moto", "-n", "5"), /moto answers/);
    const refused = sandbox("logs", "nothing");
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /no part and no pod is named nothing .*aws-moto/);
  });

  test("down leaves no process, and the next up finds the clusters as they were", () => {
    operator("region1", "kubectl create configmap kept --from-literal=a=b");
    done("down");
    assert.deepEqual(processesOf(dir), []);
    assert.equal(sandbox("status").status, 1);
    done("up", "--world-only");
    assert.equal(operator("region1", "kubectl get configmap kept -o jsonpath={.data.a}"), "b");
    done("down", "--delete-state");
    assert.deepEqual(processesOf(dir), []);
    assert.deepEqual(readdirSync(dir), ["lock"]);
  });
});

describe("what is asked for in the wrong way", () => {
  const elsewhere = { ...process.env, RESTATE_SANDBOX_DIR: join(tmpdir(), "sandbox-that-is-never-made") };
  const cases: [args: string[], message: RegExp][] = [
    [["nope"], /unknown command nope/],
    [["up", "--nope"], /Unknown option '--nope'/],
    [["down", "now"], /unexpected argument now/],
    [["env"], /an argument is missing/],
    [["env", "region9"], /no region region9: the sandbox has region1, region2, witness/],
    [["logs", "x", "-n", "many"], /--lines takes a number, not many/],
    [["witness", "sideways"], /witness takes up or down, not sideways/],
    [["fault", "nope"], /no fault nope: there are list, cut, heal/],
    [["fault", "cut"], /fault cut takes <region>/],
    [["fault", "cut", "region9"], /no region region9: there are/],
    [["fault", "latency", "region1", "region2", "slow"], /slow is not a whole number/],
  ];
  for (const [args, message] of cases) {
    test(`sandbox ${args.join(" ")}`, () => {
      const result = run(process.execPath, [...typescript, "sandbox/cli.ts", ...args], elsewhere);
      assert.equal(result.status, 2, result.stderr);
      assert.match(result.stderr, message);
      assert.match(result.stderr, /Usage: npm run sandbox -- /);
      assert.equal(result.stdout, "");
    });
  }

  test("what needs a running sandbox says so, with the next command", () => {
    for (const args of [
      ["witness", "up"],
      ["shell", "region1"],
      ["fault", "list"],
      ["env", "region1"],
    ]) {
      const result = run(process.execPath, [...typescript, "sandbox/cli.ts", ...args], elsewhere);
      assert.equal(result.status, 1, args.join(" "));
      assert.match(result.stderr, /Next: npm run sandbox -- up/);
    }
    assert.ok(!existsSync(elsewhere.RESTATE_SANDBOX_DIR));
  });

  test("help", () => {
    for (const name of ["up", "down", "status", "env", "logs", "shell", "fault", "witness"]) {
      const { status, stdout } = run(process.execPath, [...typescript, "sandbox/cli.ts", name, "--help"], elsewhere);
      assert.equal(status, 0);
      assert.match(stdout, new RegExp(`Usage: npm run sandbox -- ${name}`));
    }
  });
});
