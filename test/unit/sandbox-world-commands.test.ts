/** The sandbox's commands, as far as they are pure: what they print for shells, what their words mean, what they write. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { exportCommands, unsetCommands } from "../../sandbox/commands/env";
import { awsFault, copierSettings, cutTarget } from "../../sandbox/commands/fault";
import { screen } from "../../sandbox/commands/status";
import { leadingElsewhere, ownEnvironment, withoutProxy } from "../../sandbox/toolchain";
import { kubeconfigFor, portOf } from "../../sandbox/world/access";
import { awsFaultText } from "../../sandbox/world/live-report";
import { regions } from "../../sandbox/world/regions";
import { sandboxStackConfig } from "../../sandbox/world/stack-config";
import { parseSettings } from "../../settings";

const bash = (script: string, environment: Record<string, string> = {}): string =>
  execFileSync("bash", ["-euc", script], { encoding: "utf8", env: { PATH: "/usr/bin:/bin", ...environment } });

describe("env", () => {
  const variables = { PATH: "/a clone's/*/bin", ONE: 'it\'s $HOME `x` "y"\nz', TWO: "plain" };
  /** A shell that works with an account. */
  const account = {
    AWS_PROFILE: 'it\'s "prod"',
    AWS_SESSION_TOKEN: "token",
    HELM_KUBECONTEXT: "prod",
    TWO: "mine",
    OTHER: "o",
  };
  /** Evaluates what `env` prints in a shell, as often as there are programs, each of which sees what the one before left. */
  const evaluated = (...programs: (typeof exportCommands)[]) => {
    let script = "";
    for (const program of programs) {
      const seen = bash(`${script}\nenv -0`, account)
        .split("\0")
        .filter((line) => line !== "");
      const caller = Object.fromEntries(
        seen.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
      );
      script += `${program(variables, caller)}\n`;
    }
    return script;
  };

  test("a shell that evaluates it has exactly these values, and the folder once at the front of PATH", () => {
    const twice = `${exportCommands(variables, {})}\n${exportCommands(variables, {})}`;
    const output = bash(`${twice}\nprintf '%s|%s|%s' "$PATH" "$ONE" "$(env | grep ^TWO=)"`);
    assert.equal(output, `${variables.PATH}:/usr/bin:/bin|${variables.ONE}|TWO=plain`);
  });

  test("--unset takes all of it back", () => {
    const script = `${exportCommands(variables, {})}\n${unsetCommands(variables, { RESTATE_SANDBOX_REPLACED: "" })}`;
    assert.equal(bash(`${script}\nprintf '%s|%s|%s' "$PATH" "\${ONE-none}" "\${TWO-none}"`), "/usr/bin:/bin|none|none");
    assert.equal(bash(`${script}\ncompgen -v`).match(/sandbox/gi), null);
  });

  test("what would lead elsewhere is away, and all is there again after --unset", () => {
    const names = (script: string) => bash(`${script}\nenv | grep -E '^(AWS|HELM|OTHER|TWO)' | sort || true`, account);
    const before = names("");
    assert.equal(names(evaluated(exportCommands)), "OTHER=o\nTWO=plain\n");
    assert.equal(names(evaluated(exportCommands, exportCommands)), "OTHER=o\nTWO=plain\n");
    assert.equal(names(evaluated(exportCommands, unsetCommands)), before);
    assert.equal(names(evaluated(exportCommands, exportCommands, unsetCommands)), before);
    assert.equal(bash(`${evaluated(exportCommands, unsetCommands)}\ncompgen -v`, account).match(/sandbox/gi), null);
  });

  test("prints no value of the caller's", () => {
    const printed = evaluated(exportCommands, exportCommands, unsetCommands);
    for (const value of [account.AWS_PROFILE, account.AWS_SESSION_TOKEN, "prod"]) assert.ok(!printed.includes(value));
  });
});

describe("the caller's environment", () => {
  test("what chooses accounts, clusters and stacks is left out, and nothing else", () => {
    const caller = {
      ...{ AWS_PROFILE: "a", AWS_ENDPOINT_URL_S3: "b", KUBECONFIG: "c", PULUMI_STACK: "d", HELM_NAMESPACE: "e" },
      ...{ PULUMI_HOME: "f", PATH: "g", RESTATE_SANDBOX_DIR: "h", MY_AWS_: "i", KUBECONFIG_OF_MINE: "j" },
      RESTATE_SANDBOX_REPLACED: "AWS_PROFILE",
    };
    assert.deepEqual(leadingElsewhere(caller), [
      ...["AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "HELM_NAMESPACE", "KUBECONFIG", "PULUMI_STACK"],
    ]);
    assert.deepEqual(Object.values(ownEnvironment(caller)), ["f", "g", "h", "i", "j"]);
  });

  test("a proxy is not asked for what is on this machine", () => {
    assert.deepEqual(withoutProxy({ NO_PROXY: "corp.example" }), {});
    for (const [no, all] of [
      [{}, "127.0.0.1,localhost"],
      [{ no_proxy: "corp.example" }, "corp.example,127.0.0.1,localhost"],
      [{ NO_PROXY: "localhost,.corp.example", no_proxy: "x" }, "localhost,.corp.example,127.0.0.1"],
    ] as const) {
      for (const name of ["https_proxy", "HTTP_PROXY", "grpc_proxy", "ALL_PROXY"]) {
        const found = withoutProxy({ [name]: "http://proxy.example:3128", ...no });
        assert.deepEqual(found, { NO_PROXY: all, no_proxy: all });
      }
    }
  });
});

describe("fault", () => {
  test("what a cut is about", () => {
    assert.deepEqual(cutTarget(["region1"]), { region: "region1" });
    assert.deepEqual(cutTarget(["region1", "region2"]), { from: "region1", to: "region2" });
    assert.deepEqual(cutTarget(["node", "n1"]), { node: "n1" });
    assert.deepEqual(cutTarget(["aws", "region2"]), { aws: "region2" });
    assert.throws(() => cutTarget(["nowhere"]), { message: "no region nowhere: there are region1, region2, witness" });
  });

  test("which AWS calls it meets", () => {
    assert.deepEqual(awsFault("fail", "all", undefined, {}), { effect: "fail" });
    const flags = { region: "region2", share: "0.5", seconds: "60", ms: "200", caller: "restate", resource: "bucket" };
    const all = awsFault("delay", "s3", "PutObject", flags);
    assert.deepEqual(all, {
      effect: "delay",
      service: "s3",
      action: "PutObject",
      region: "us-west-2",
      caller: "restate",
      resource: "bucket",
      probability: 0.5,
      seconds: 60,
      delayMs: 200,
    });
    assert.equal(
      awsFaultText(all),
      "calls of s3:PutObject are 200 ms late, in us-west-2, by restate, on bucket, 50 % of them",
    );
    assert.equal(awsFaultText({ effect: "hang" }), "calls of all AWS services hang");
    for (const [flags, message] of [
      [{ share: "2" }, "--share takes a number above 0 and up to 1, not 2"],
      [{ seconds: "soon" }, "soon is not a whole number"],
      [{ region: "us-west-2" }, "no region us-west-2: there are region1, region2, witness"],
    ] as const) {
      assert.throws(() => awsFault("fail", "s3", undefined, flags), { message: message });
    }
    assert.throws(() => awsFault("delay", "s3", undefined, {}), { message: "slow needs --ms <milliseconds>" });
  });

  test("how the copier is to work", () => {
    assert.deepEqual(copierSettings("pause", {}), { paused: true });
    assert.deepEqual(copierSettings("resume", {}), { paused: false, delayMs: 0, bytesPerSecond: null });
    assert.deepEqual(copierSettings("slow", { ms: "500", rate: "1000" }), { delayMs: 500, bytesPerSecond: 1000 });
    assert.throws(() => copierSettings("slow", {}), { message: "slow needs --ms or --rate" });
    assert.throws(() => copierSettings("x", {}), { message: "copier takes pause, resume, slow or retry, not x" });
  });
});

describe("what the host gets", () => {
  test("the kubeconfig differs from the inner one in nothing but the server", () => {
    const config = { clusters: [{ name: "c", cluster: { server: "https://10.1.0.2:6443", ca: "x" } }], users: [1] };
    const expected = { clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1", ca: "x" } }], users: [1] };
    assert.deepEqual(parse(kubeconfigFor(JSON.stringify(config), "https://127.0.0.1:1")), expected);
  });

  test("a gate without a port is named", () => {
    assert.equal(portOf({ aws: 1 }, "aws"), 1);
    assert.throws(() => portOf({}, "aws"), /no port on 127\.0\.0\.1 leads to aws\. Next: npm run sandbox -- up/);
  });

  test("the stack's configuration has no fault that the program would find", () => {
    for (const region of regions) {
      const subnets = Object.fromEntries(region.zones.map((zone, i) => [zone.name, `subnet-0${i}`]));
      const seeded = { subnets, securityGroupId: "sg-0a" };
      const { config } = sandboxStackConfig(region, seeded, { aws: 4000 }, "/clone/.sandbox/region1.kubeconfig");
      const raw = Object.entries(config)
        .filter(([key]) => key.startsWith("restate:"))
        .map(([key, value]) => [key.slice(8), typeof value === "string" ? value : JSON.stringify(value)]);
      const context = { stack: region.name, organization: "organization", project: "restate" };
      const settings = parseSettings(Object.fromEntries(raw), {
        ...context,
        awsRegion: config["aws:region"] as string,
      });
      assert.equal(settings.region, region.name);
      assert.deepEqual(settings.subnets.byZone, subnets);
      assert.deepEqual((config["aws:endpoints"] as { s3: string }[])[0]!.s3, "http://127.0.0.1:4000");
    }
  });
});

test("the screen shows what is wrong first, then all parts", () => {
  const parts = [
    {
      name: "aws/moto",
      kind: "part",
      group: "main",
      state: "ready",
      pid: 5,
      hostPid: 55,
      startedAt: 0,
      memory: 2 ** 20,
    },
    { name: "region1/etcd", kind: "part", group: "main", state: "dead", ended: "ended by SIGKILL" },
    { name: "seed", kind: "step", group: "main", state: "done" },
  ] as const;
  const status = {
    startedAt: 0,
    pid: 2,
    memory: 2 ** 21,
    parts: [...parts],
    hostPorts: { pid: 9, ports: { aws: 4000 } },
  };
  const report = {
    clusters: [{ region: "region1", nodes: [{ name: "n1", zone: "a", ready: true, unschedulable: true, pods: 2 }] }],
    loadBalancers: [
      { region: "region1", name: "lb", hostname: "h", zone: "a", address: "10.1.18.1", healthyTargets: 1, targets: 1 },
    ],
    replication: [{ source: "s", destination: "d", pending: 3, failed: 0, lagSeconds: 2 }],
    faults: [],
    unanswered: {},
  };
  const text = screen(status, report, [{ what: "it is broken", next: "mend it" }], 60_000);
  assert.equal(
    text,
    `✗ it is broken
    next: mend it

PART          STATE  PID  UP         MEMORY
supervisor    ready       1 min 0 s  2 MiB
aws/moto      ready  55   1 min 0 s  1 MiB
region1/etcd  dead
all parts: 3 MiB

REGION   NODE  ZONE  STATE            PODS
region1  n1    a     Ready  cordoned  2

REGION   LOAD BALANCER  ZONE  ADDRESS    HEALTHY  NAME
region1  lb             a     10.1.18.1  1/1      h

REPLICATION  PENDING  FAILED  LAG
s → d        3        0       2.0 s

ON THIS MACHINE  ADDRESS
aws              127.0.0.1:4000`,
  );
  assert.equal(screen(undefined, undefined, [], 0), "✓ all is well");
});
