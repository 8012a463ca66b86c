/** The sandbox's Kubernetes clusters, used as operators use them: with kubectl, from the host. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import type { CoreV1Event, V1Container, V1Node, V1Pod, V1PodSpec } from "@kubernetes/client-node";
import { ClusterWorld, eventually } from "./cluster-world";

const [region1, region2] = ["region1", "region2"];
let world: ClusterWorld;

type List<T> = { items: T[] };

/** A pod of one container, `main`, that runs a script. */
function pod(name: string, script: string, container: Partial<V1Container> = {}, spec: Partial<V1PodSpec> = {}): V1Pod {
  const main: V1Container = { name: "main", image: "bash:5", command: ["bash", "-c", script], ...container };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: name } },
    spec: { containers: [main], terminationGracePeriodSeconds: 1, ...spec },
  };
}

/** A pod with an HTTP server on port 8080, which answers with the pod's name. */
function httpPod(name: string, container: Partial<V1Container> = {}, spec: Partial<V1PodSpec> = {}): V1Pod {
  const program = `require("node:http").createServer((q, r) => {
    r.statusCode = require("node:fs").existsSync("/tmp/broken") ? 500 : 200;
    r.end(require("node:os").hostname());
  }).listen(8080)`;
  return pod(name, "", { image: "sandbox/node:1", command: ["node", "-e", program], ...container }, spec);
}

const get = (name: string, region = region1!): V1Pod => world.get<V1Pod>(region, "pod", name);
const status = (name: string, region = region1!) => get(name, region).status?.containerStatuses?.[0];
const logs = (...args: string[]): string => world.text(region1!, "logs", ...args);

function isReady(p: V1Pod | V1Node): boolean {
  return (
    (p.status?.conditions as { type: string; status: string }[] | undefined)?.some(
      (c) => c.type === "Ready" && c.status === "True",
    ) ?? false
  );
}

const ready = (name: string, region = region1!, seconds = 60): Promise<V1Pod> =>
  eventually(`pod ${name} is ready`, async () => (isReady(get(name, region)) ? get(name, region) : undefined), seconds);

const phase = (name: string, wanted: string): Promise<V1Pod> =>
  eventually(`pod ${name} is ${wanted}`, async () => (get(name).status?.phase === wanted ? get(name) : undefined));

function events(name: string): string {
  const { items } = world.get<List<CoreV1Event>>(region1!, "events", `--field-selector=involvedObject.name=${name}`);
  return items.map((e) => `${e.reason}: ${e.message}`).join("\n");
}

describe("the sandbox's clusters", { timeout: 600_000 }, () => {
  before(async () => {
    world = await ClusterWorld.start();
    for (const region of [region1!, region2!]) {
      await eventually("the default service account is there", async () =>
        world.text(region, "get", "serviceaccount", "default"),
      );
    }
  });
  after(() => world?.stop());

  test("nodes are what EKS nodes are, one in each zone", async () => {
    const { items } = world.get<List<V1Node>>(region1!, "nodes");
    assert.deepEqual(
      items.map((n) => [n.metadata?.labels?.["topology.kubernetes.io/zone"], n.spec?.providerID]),
      [
        ["us-east-1a", "aws:///us-east-1a/i-00000000000000001"],
        ["us-east-1b", "aws:///us-east-1b/i-00000000000000002"],
        ["us-east-1c", "aws:///us-east-1c/i-00000000000000003"],
      ],
    );
    for (const node of items) {
      assert.ok(isReady(node));
      assert.equal(node.metadata?.labels?.["topology.kubernetes.io/region"], "us-east-1");
      assert.equal(node.metadata?.labels?.["kubernetes.io/hostname"], node.metadata?.name);
      assert.equal(node.status?.nodeInfo?.kubeletVersion, "v1.36.3");
    }
    await eventually("no node has a taint", async () =>
      world.get<List<V1Node>>(region1!, "nodes").items.every((n) => !n.spec?.taints),
    );
    const version = JSON.parse(world.text(region1!, "version", "--output=json"));
    assert.equal(version.serverVersion.gitVersion, "v1.36.3");
    assert.match(
      world.text(region1!, "get", "storageclass"),
      /gp3 \(default\)\s+ebs.csi.aws.com\s+Delete\s+WaitForFirstConsumer/,
    );
  });

  test("the keys of a cluster's tokens are open to everyone, and nothing else is", async () => {
    const anonymously = (path: string) =>
      world.inside("curl", "--silent", "--insecure", "--write-out", "%{http_code}", `https://10.1.0.2:6443${path}`);
    const keys = await anonymously("/openid/v1/jwks");
    assert.match(keys.stdout, /^\{"keys":\[.*"RS256".*\]\}200$/);
    assert.match(
      (await anonymously("/.well-known/openid-configuration")).stdout,
      /"issuer":"https:\/\/oidc\.eks\.us-east-1\.amazonaws\.com\/id\/1{32}"/,
    );
    assert.match((await anonymously("/api/v1/pods")).stdout, /401$/);
    assert.match(
      (
        await world.inside(
          "curl",
          "--silent",
          "--insecure",
          "--write-out",
          "%{http_code}",
          "https://10.1.16.10:10250/pods",
        )
      ).stdout,
      /401$/,
    );
  });

  test("a pod has its command, environment, volumes and identity", async () => {
    const script = `
      echo "args $0 $*"; echo "env $A $B $C $NODE $IP $EXPANDED"; echo "files $(cat /cm/greeting) $(cat /secret/b) $(cat /data/init)"
      echo "labels $(cat /projected/labels)"; echo "token $(cut -d. -f2 /projected/token)"; echo "hostname $(hostname)"
      echo "pid $$$$"; echo "caps $(grep CapBnd /proc/self/status | cut -f2)"; grep nameserver /etc/resolv.conf
      touch /cm/x /root-file 2>&1 | cat; echo "last words" >&2; sleep infinity`;
    world.apply(
      region1!,
      { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "config" }, data: { a: "1", greeting: "hello" } },
      { apiVersion: "v1", kind: "Secret", metadata: { name: "secret" }, stringData: { b: "two" } },
      pod(
        "everything",
        script,
        {
          args: ["zero", "$(A)", "$(MISSING)", "$$(A)"],
          env: [
            { name: "A", valueFrom: { configMapKeyRef: { name: "config", key: "a" } } },
            { name: "B", valueFrom: { secretKeyRef: { name: "secret", key: "b" } } },
            { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
            { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
            { name: "EXPANDED", value: "$(A)-$(B)" },
          ],
          envFrom: [{ configMapRef: { name: "config" }, prefix: "from_" }],
          volumeMounts: [
            { name: "data", mountPath: "/data" },
            { name: "config", mountPath: "/cm" },
            { name: "secret", mountPath: "/secret", readOnly: true },
            { name: "projected", mountPath: "/projected" },
          ],
          securityContext: {
            readOnlyRootFilesystem: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ["ALL"] },
          },
        },
        {
          securityContext: { runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, runAsNonRoot: true },
          initContainers: [
            {
              name: "init",
              image: "docker.io/library/bash:5",
              args: ["-c", "echo made by init > /data/init; echo init says so"],
              volumeMounts: [{ name: "data", mountPath: "/data" }],
            },
          ],
          volumes: [
            { name: "data", emptyDir: {} },
            { name: "config", configMap: { name: "config" } },
            { name: "secret", secret: { secretName: "secret" } },
            {
              name: "projected",
              projected: {
                sources: [
                  { serviceAccountToken: { path: "token", audience: "sts.amazonaws.com" } },
                  { downwardAPI: { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] } },
                ],
              },
            },
          ],
        },
      ),
    );
    const { spec, status } = await ready("everything");
    const text = await eventually("it has said all", async () => {
      const said = logs("everything");
      return said.includes("last words") ? said : undefined;
    });
    const line = (start: string) => text.split("\n").find((l) => l.startsWith(start));
    assert.equal(line("args"), "args zero 1 $(MISSING) $(A)");
    assert.equal(line("env"), `env 1 two  ${spec?.nodeName} ${status?.podIP} 1-two`);
    assert.equal(line("files"), "files hello two made by init");
    assert.equal(line("labels"), 'labels app="everything"');
    assert.equal(line("hostname"), "hostname everything");
    assert.equal(line("pid"), "pid 1");
    assert.equal(line("caps"), "caps 0000000000000000");
    assert.equal(line("nameserver"), "nameserver 10.0.0.53");
    assert.match(text, /'\/cm\/x': Read-only file system\n.*'\/root-file': Read-only file system/);
    const token = JSON.parse(Buffer.from(line("token")!.split(" ")[1]!, "base64url").toString());
    assert.deepEqual(token.aud, ["sts.amazonaws.com"]);
    assert.equal(token.iss, `https://oidc.eks.us-east-1.amazonaws.com/id/${"1".repeat(32)}`);
    assert.equal(token.sub, "system:serviceaccount:default:default");
    assert.equal(logs("everything", "--container=init"), "init says so\n");
  });

  test("an image has files, entrypoint, command, environment and working directory", async () => {
    const image = "sandbox/greeter:1";
    const never = { restartPolicy: "Never" };
    world.apply(
      region1!,
      pod("greet", "", { image, command: undefined }, never),
      pod("greet-args", "", { image: `docker.io/${image}`, command: undefined, args: ["you"] }, never),
      pod(
        "greet-env",
        "",
        { image, command: undefined, workingDir: "/tmp", env: [{ name: "GREETING", value: "Hi" }] },
        never,
      ),
      pod("no-program", "", { image, command: ["/no/such/program"] }, never),
    );
    for (const name of ["greet", "greet-args", "greet-env"]) await phase(name, "Succeeded");
    assert.equal(logs("greet"), "Hello, world, from /srv/greeter\n");
    assert.equal(logs("greet-args"), "Hello, you, from /srv/greeter\n");
    assert.equal(logs("greet-env"), "Hi, world, from /tmp\n");
    const failed = (await phase("no-program", "Failed")).status?.containerStatuses?.[0]?.state?.terminated;
    assert.equal(failed?.reason, "StartError");
    assert.match(failed?.message ?? "", /exec: "\/no\/such\/program": no such file or directory/);
  });

  test("an unknown image is an event that names those that there are", async () => {
    world.apply(region1!, pod("unknown", "", { image: "restatedev/restate:9.9" }));
    await eventually("it backs off", async () => /ImagePull/.test(status("unknown")?.state?.waiting?.reason ?? ""));
    assert.match(
      events("unknown"),
      /Failed: Failed to pull image "restatedev\/restate:9\.9": the sandbox has no image restatedev\/restate:9\.9; it has docker\.io\/library\/bash:5, docker\.io\/sandbox\/greeter:1/,
    );
    world.text(region1!, "delete", "pod", "unknown");
  });

  test("what the nodes do not support is refused in words", async () => {
    world.apply(region1!, pod("shared", "sleep infinity", {}, { shareProcessNamespace: true }));
    await eventually("it is refused", async () =>
      events("shared").includes("the sandbox's nodes do not support shareProcessNamespace"),
    );
    world.text(region1!, "delete", "pod", "shared");
  });

  test("probes decide over readiness and restarts", async () => {
    const http = { httpGet: { path: "/", port: 8080 }, periodSeconds: 1 };
    world.apply(
      region1!,
      httpPod("http", { readinessProbe: http, livenessProbe: { ...http, failureThreshold: 2 } }),
      httpPod("tcp", { readinessProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 } }),
      httpPod("not-listening", { readinessProbe: { tcpSocket: { port: 8081 }, periodSeconds: 1 } }),
      pod("exec", "sleep 3; touch /tmp/ready; sleep infinity", {
        readinessProbe: { exec: { command: ["test", "-f", "/tmp/ready"] }, periodSeconds: 1 },
      }),
    );
    await ready("http");
    await ready("tcp");
    await ready("exec");
    assert.equal(isReady(get("not-listening")), false);
    assert.match(events("not-listening"), /Readiness probe failed: dial tcp .*:8081: connect: connection refused/);
    world.text(region1!, "exec", "http", "--", "touch", "/tmp/broken");
    await eventually("it is restarted", async () => status("http")?.restartCount === 1);
    await ready("http");
    assert.match(events("http"), /Killing: Container main failed liveness probe, will be restarted/);
    world.text(region1!, "delete", "pod", "tcp", "not-listening", "exec");
  });

  test("a program that fails is started again, later and later, and its last words are kept", async () => {
    world.apply(region1!, pod("crash", 'echo "attempt of $(hostname)"; echo dying > /dev/termination-log; exit 7'));
    await eventually("it backs off", async () => status("crash")?.state?.waiting?.reason === "CrashLoopBackOff");
    const last = status("crash")?.lastState?.terminated;
    assert.equal(last?.exitCode, 7);
    assert.equal(last?.reason, "Error");
    assert.equal(last?.message, "dying\n");
    // The kubelet keeps one dead container, and may have taken away the one that the status still names.
    await eventually(
      "the last attempt's output is there",
      async () => logs("crash", "--previous") === "attempt of crash\n",
    );
    world.text(region1!, "delete", "pod", "crash");
  });

  test("a failed Job's logs and reason can be read", () => {
    world.apply(region1!, {
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: "job" },
      spec: {
        backoffLimit: 0,
        template: { spec: pod("", "echo cannot go on; exit 3", {}, { restartPolicy: "Never" }).spec },
      },
    });
    world.text(region1!, "wait", "--for=condition=Failed", "job/job", "--timeout=60s");
    assert.equal(logs("job/job"), "cannot go on\n");
    const [failed] = world.get<List<V1Pod>>(region1!, "pods", "--selector=job-name=job").items;
    assert.equal(failed?.status?.containerStatuses?.[0]?.state?.terminated?.exitCode, 3);
  });

  test("a pod that is deleted may finish, for as long as its grace period", async () => {
    const patient = { terminationGracePeriodSeconds: 120 };
    world.apply(
      region1!,
      pod("heeds", "trap 'echo got TERM; exit 0' TERM; echo up; while :; do sleep 0.1; done", {}, patient),
      pod("ignores", "trap '' TERM; echo up; while :; do sleep 0.1; done", {}, { terminationGracePeriodSeconds: 2 }),
    );
    for (const name of ["heeds", "ignores"]) {
      await eventually(`${name} is up`, async () => logs(name) === "up\n");
    }
    const follower = world.startKubectl(region1!, ["logs", "--follow", "heeds"]);
    let followed = "";
    for (const stream of [follower.stdout!, follower.stderr!]) {
      stream.on("data", (chunk) => {
        followed += chunk;
      });
    }
    await eventually("the follower has caught up", async () => {
      if (followed !== "up\n") throw new Error(followed);
      return true;
    });
    const started = Date.now();
    world.text(region1!, "delete", "pod", "heeds");
    assert.ok(Date.now() - started < 100_000, "it was not waited for the whole grace period");
    await once(follower, "close");
    assert.match(followed, /^up\ngot TERM\n/);
    const second = Date.now();
    world.text(region1!, "delete", "pod", "ignores");
    assert.ok(Date.now() - second >= 2_000);
  });

  test("commands run in containers, ports are forwarded, pods reach the API server", async () => {
    world.apply(region1!, httpPod("served"));
    await ready("served");
    const exec = (input: string, ...command: string[]) =>
      world.kubectl(region1!, ["exec", "--stdin", "served", "--", ...command], input);
    const both = exec("", "bash", "-c", "echo out; echo problem >&2; exit 5");
    assert.deepEqual([both.code, both.stdout], [5, "out\n"]);
    assert.match(both.stderr, /^problem\n/);
    const lines = `${"x".repeat(100_000)}\nend\n`;
    assert.equal(exec(lines, "cat").stdout, lines);
    assert.match(exec("", "no-such-program").stderr, /executable file not found in \$PATH/);

    const probe = createServer().listen(0, "127.0.0.1");
    await once(probe, "listening");
    const { port } = probe.address() as { port: number };
    probe.close();
    const forward = world.startKubectl(region1!, ["port-forward", "pod/served", `${port}:8080`]);
    try {
      const answer = await eventually("the port is forwarded", async () =>
        (await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(2_000) })).text(),
      );
      assert.equal(answer, "served");
    } finally {
      forward.kill();
    }

    const ask =
      'D=/run/secrets/kubernetes.io/serviceaccount; curl -s --cacert $D/ca.crt -H "Authorization: Bearer $(cat $D/token)" ' +
      "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/pods";
    assert.match(
      exec("", "bash", "-c", ask).stdout,
      /system:serviceaccount:default:default\\" cannot list resource \\"pods\\"/,
    );
  });

  test("pods reach each other within a region, and not across", async () => {
    const on = (zone: string) => ({ nodeSelector: { "topology.kubernetes.io/zone": zone } });
    world.apply(region1!, httpPod("one", {}, on("us-east-1a")), httpPod("two", {}, on("us-east-1b")));
    world.apply(region2!, httpPod("far", {}, on("us-west-2a")));
    await ready("one");
    const two = (await ready("two")).status?.podIP;
    const far = (await ready("far", region2!)).status?.podIP;
    assert.match(two ?? "", /^10\.1\.33\./);
    assert.match(far ?? "", /^10\.2\.17\./);
    const curl = (address: string) =>
      world.kubectl(region1!, ["exec", "one", "--", "curl", "-sS", "--max-time", "2", `http://${address}:8080`]);
    await eventually("the near one answers", async () => curl(two!).stdout === "two");
    assert.match(curl(far!).stderr, /timed out|No route to host|unreachable/i);
  });

  test("a DaemonSet has a pod on every node", () => {
    const labels = { app: "everywhere" };
    const template = { metadata: { labels }, spec: pod("", "sleep infinity").spec };
    world.apply(region1!, {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { name: "everywhere" },
      spec: { selector: { matchLabels: labels }, template },
    });
    world.text(region1!, "rollout", "status", "daemonset/everywhere", "--timeout=60s");
    const { items } = world.get<List<V1Pod>>(region1!, "pods", "--selector=app=everywhere");
    assert.equal(new Set(items.map((p) => p.spec?.nodeName)).size, 3);
    world.text(region1!, "delete", "daemonset", "everywhere", "--wait=false");
  });

  test("a node that is killed takes its pods down, and has them again when it is back", async () => {
    const script = "date +%s%N >> /data/starts; wc -l < /data/starts; sleep 98765";
    world.apply(
      region1!,
      pod(
        "survivor",
        script,
        { volumeMounts: [{ name: "data", mountPath: "/data" }] },
        { volumes: [{ name: "data", emptyDir: {} }], nodeSelector: { "topology.kubernetes.io/zone": "us-east-1c" } },
      ),
    );
    const before = await ready("survivor");
    const sleepers = async () => (await world.inside("pgrep", "-fx", "sleep 98765")).stdout.trim();
    assert.notEqual(await sleepers(), "");
    await world.part("region1/node-us-east-1c", "kill");
    await eventually("its processes are gone", async () => (await sleepers()) === "", 10);
    await world.up();
    const again = await eventually("it runs again", async () =>
      status("survivor")?.restartCount === 1 && status("survivor")?.ready ? get("survivor") : undefined,
    );
    assert.equal(again.metadata?.uid, before.metadata?.uid);
    assert.equal(logs("survivor"), "2\n");
    assert.equal(logs("survivor", "--previous"), "1\n");
    const last = again.status?.containerStatuses?.[0]?.lastState?.terminated;
    assert.deepEqual([last?.exitCode, last?.reason], [255, "Unknown"]);
  });

  test("a node that stays away is tainted, and welcome when it comes back", async () => {
    const taints = (name: string) => world.get<V1Node>(region2!, "node", name).spec?.taints?.map((t) => t.key) ?? [];
    const node = "ip-10-2-48-10.us-west-2.compute.internal";
    await world.part("region2/node-us-west-2c", "kill");
    await eventually("it is unreachable", async () => taints(node).includes("node.kubernetes.io/unreachable"), 90);
    await world.up();
    await eventually("it has no taint", async () => taints(node).length === 0);
  });

  test("a cluster survives the death of its etcd, and keeps what it had", async () => {
    world.apply(region2!, pod("before", "sleep infinity"));
    await ready("before", region2!);
    await world.part("region2/etcd", "kill");
    await eventually("its API server is down with it", async () => world.kubectl(region2!, ["get", "pods"]).code !== 0);
    await world.up();
    await ready("before", region2!);
    world.apply(region2!, pod("after", "sleep infinity"));
    await ready("after", region2!);
  });
});
