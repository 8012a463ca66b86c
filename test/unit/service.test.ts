/** The practice service: its clients, and the judgement of what they were told against the state. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { generate } from "selfsigned";
import { UsageError } from "../../sandbox/commands/command";
import { loadArguments } from "../../sandbox/commands/practice";
import { type AccountState, readState } from "../../sandbox/service/admin";
import { faultsOf, judgeCalls, type Verdict } from "../../sandbox/service/check";
import { figuresByRegion, figuresOf, percentile } from "../../sandbox/service/figures";
import { type CallRecord, startLoad } from "../../sandbox/service/load";
import type { Entry, Line } from "../../sandbox/service/model";
import { serviceObjects, serviceUri } from "../../sandbox/service/objects";
import { serviceAddress } from "../../sandbox/world/kube";

/** A call that was answered as it should be; `count` is its place in its account. */
function call(key: string, count: number, changes: Partial<CallRecord> = {}): CallRecord {
  const receipt = { id: key, count, sum: 5 * count, pod: "ledger-1" };
  return {
    key,
    client: 0,
    account: "a",
    amount: 5,
    start: 0,
    end: 10,
    region: "region1",
    outcome: "acknowledged",
    attempts: [{ region: "region1", start: 0, end: 10 }],
    receipt,
    ...changes,
  };
}

/** A state that adds up: accounts with the keys of the calls that were written down, in that order, of 5 each. */
function stateOf(accounts: Record<string, (string | Line)[]>): Map<string, AccountState> {
  return new Map(
    Object.entries(accounts).map(([account, entries]) => {
      const all = entries.map((entry) => (typeof entry === "string" ? { id: entry, amount: 5 } : entry));
      const balance = { count: all.length, sum: all.reduce((sum, { amount }) => sum + amount, 0) };
      return [account, { balance, lines: new Map(all.map((line, i) => [i + 1, line])) }];
    }),
  );
}

describe("the judgement of calls", () => {
  const calls = [call("k1", 1), call("k2", 2)];

  test("calls that count exactly once are in order, repeated and unanswered ones too", () => {
    const repeated = call("k3", 3, { repeated: { id: "k3", count: 3, sum: 15, pod: "ledger-1" } });
    const effective = call("k4", 0, { outcome: "open", receipt: undefined });
    const ineffective = call("k5", 0, { outcome: "open", receipt: undefined });
    const refused = call("k6", 0, { outcome: "refused", receipt: undefined });
    const verdict = judgeCalls(
      [...calls, repeated, effective, ineffective, refused],
      stateOf({ a: ["k1", "k2", "k3", "k4"] }),
    );
    assert.deepEqual(faultsOf(verdict), []);
    assert.equal(verdict.sent, 6);
    assert.equal(verdict.acknowledged, 3);
    assert.deepEqual(verdict.open, { effective: 1, ineffective: 1 });
  });

  const acknowledged = "acknowledged calls are not in the state";
  const elsewhere = "calls are not where their answers say that they were written down";
  const faulty: [name: string, verdict: () => Verdict, faults: string[]][] = [
    ["lost", () => judgeCalls(calls, stateOf({ a: ["k1"] })), [`1 ${acknowledged}: k2`]],
    ["lost with its account", () => judgeCalls(calls, new Map()), [`2 ${acknowledged}: k1, k2`]],
    [
      "doubled",
      () => judgeCalls(calls, stateOf({ a: ["k1", "k2", "k2"] })),
      ["1 calls took effect more than once: k2"],
    ],
    [
      "doubled, though never acknowledged",
      () => judgeCalls([call("k1", 1, { outcome: "open" })], stateOf({ a: ["k1", "k1", "k1"] })),
      ["1 calls took effect more than once: k1"],
    ],
    [
      "never sent",
      () => judgeCalls(calls, stateOf({ a: ["k1", "k2", "k9"] })),
      ["1 calls are in the state that nobody sent: k9"],
    ],
    [
      "with another amount",
      () => judgeCalls(calls, stateOf({ a: ["k1", { id: "k2", amount: 6 }] })),
      ["1 calls are in the state with another amount or account than was sent: k2"],
    ],
    [
      "in another account",
      () => judgeCalls(calls, stateOf({ a: ["k1"], b: ["k2"] })),
      ["1 calls are in the state with another amount or account than was sent: k2", `1 ${elsewhere}: k2`],
    ],
    [
      "in another account as well",
      () => judgeCalls(calls, stateOf({ a: ["k1", "k2"], b: ["k2"] })),
      [
        "1 calls took effect more than once: k2",
        "1 calls are in the state with another amount or account than was sent: k2",
      ],
    ],
    [
      "refused and effective",
      () => judgeCalls([...calls, call("k3", 0, { outcome: "refused" })], stateOf({ a: ["k1", "k2", "k3"] })),
      ["1 refused calls took effect: k3"],
    ],
    [
      "repeated with another answer",
      () =>
        judgeCalls(
          [call("k1", 1, { repeated: { id: "k1", count: 2, sum: 10, pod: "ledger-1" } })],
          stateOf({ a: ["k1"] }),
        ),
      ["1 calls were answered differently when they were repeated, or with another call's answer: k1"],
    ],
    [
      "given another call's answer",
      () =>
        judgeCalls(
          [call("k1", 1, { receipt: { id: "k2", count: 1, sum: 5, pod: "ledger-1" } })],
          stateOf({ a: ["k1"] }),
        ),
      ["1 calls were answered differently when they were repeated, or with another call's answer: k1"],
    ],
    [
      "written down, and then overwritten by another call that did not see it",
      () => judgeCalls([call("k1", 1), call("k2", 1)], stateOf({ a: ["k2"] })),
      [`1 ${acknowledged}: k1`],
    ],
    [
      "written down elsewhere than was answered",
      () => judgeCalls(calls, stateOf({ a: ["k2", "k1"] })),
      [`2 ${elsewhere}: k1, k2`],
    ],
    [
      "in an account that does not add up",
      () => {
        const state = stateOf({ a: ["k1", "k2"] });
        state.get("a")!.balance.sum = 9;
        return judgeCalls(calls, state);
      },
      ["1 accounts do not add up to their lines: a"],
    ],
    [
      "in an account with a gap",
      () => {
        const state = stateOf({ a: ["k1", "k2"] });
        state.get("a")!.lines = new Map([
          [1, { id: "k1", amount: 5 }],
          [3, { id: "k2", amount: 5 }],
        ]);
        return judgeCalls([call("k1", 1), call("k2", 3)], state);
      },
      ["1 accounts do not add up to their lines: a"],
    ],
  ];
  for (const [name, verdict, faults] of faulty) {
    test(`found: ${name}`, () => assert.deepEqual(faultsOf(verdict()), faults));
  }

  test("many of a kind are named by the first five", () => {
    const many = Array.from({ length: 7 }, (_, i) => call(`k${i}`, i + 1));
    assert.deepEqual(faultsOf(judgeCalls(many, new Map())), [
      "7 acknowledged calls are not in the state: k0, k1, k2, k3, k4, …",
    ]);
  });

  test("records in which a key is there twice are refused", () => {
    assert.throws(() => judgeCalls([call("k1", 1), call("k1", 2)], new Map()), /two calls have the key k1/);
  });

  test("whatever is taken out of a right state, or put in twice, is found", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.nat(), fc.boolean(), (size, at, lose) => {
        const all = Array.from({ length: size }, (_, i) =>
          call(`k${i}`, Math.floor(i / 3) + 1, { account: `a${i % 3}` }),
        );
        const lines: Record<string, string[]> = { a0: [], a1: [], a2: [] };
        for (const { key, account } of all) lines[account]!.push(key);
        assert.deepEqual(faultsOf(judgeCalls(all, stateOf(lines))), []);
        const { key, account } = all[at % size]!;
        if (lose) lines[account] = lines[account]!.filter((one) => one !== key);
        else lines[account]!.push(key);
        const verdict = judgeCalls(all, stateOf(lines));
        assert.deepEqual([verdict.lost, verdict.doubled], lose ? [[key], []] : [[], [key]]);
      }),
    );
  });
});

describe("figures", () => {
  test("percentiles", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    assert.equal(percentile(hundred, 0.5), 50);
    assert.equal(percentile(hundred, 0.99), 99);
    assert.equal(percentile(hundred, 1), 100);
    assert.equal(percentile([7], 0.5), 7);
    assert.equal(percentile([], 0.5), 0);
  });

  test("latency counts from the first attempt; silence is the longest time without an answer", () => {
    const attempts = [
      { region: "region1", start: 100, end: 3100, error: "no answer in time" },
      { region: "region2", start: 3150, end: 3200 },
    ];
    const calls = [
      call("k1", 1, { start: 0, end: 100 }),
      call("k2", 2, { start: 100, end: 3200, region: "region2", attempts }),
      call("k3", 0, { start: 3200, end: 4000, outcome: "open" }),
    ];
    const { perSecond, ...figures } = figuresOf(calls);
    assert.deepEqual(figures, {
      calls: 3,
      acknowledged: 2,
      retried: 1,
      p50: 100,
      p99: 3100,
      slowest: 3100,
      longestSilence: 3100,
    });
    assert.equal(perSecond, 0.5);
    assert.deepEqual(Object.keys(figuresByRegion(calls)), ["region1", "region2"]);
    assert.equal(figuresByRegion(calls).region2!.acknowledged, 1);
  });

  test("no calls, no figures", () => {
    assert.deepEqual(Object.values(figuresOf([])), [0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

/** What a played ingress does with a call, by the number of times that its key was seen. */
type Behaviour = (
  seen: number,
  request: { key: string; account: string; entry: Entry },
) => "answer" | "hang up" | number;

describe("clients", () => {
  let behave: Behaviour = () => "answer";
  const seen = new Map<string, number>();
  const counts = new Map<string, number>();
  const answers = new Map<string, string>();
  const asked: string[] = [];

  async function handle(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of request) text += chunk;
    const key = String(request.headers["idempotency-key"]);
    const [, object, account, handler] = request.url!.split("/");
    assert.deepEqual([object, handler], ["ledger", "add"]);
    const entry = JSON.parse(text) as Entry;
    const times = (seen.get(key) ?? 0) + 1;
    seen.set(key, times);
    asked.push(`${name} ${key}`);
    const what = behave(times, { key, account: account!, entry });
    if (what === "hang up") {
      request.socket.destroy();
      return;
    }
    if (typeof what === "number") {
      response.writeHead(what).end("not now");
      return;
    }
    if (!answers.has(key)) {
      const count = (counts.get(account!) ?? 0) + 1;
      counts.set(account!, count);
      answers.set(key, JSON.stringify({ id: entry.id, count, sum: entry.amount, pod: name }));
    }
    response.writeHead(200, { "content-type": "application/json" }).end(answers.get(key));
  }

  const servers = ["region1", "region2"].map((name) => createServer((a, b) => void handle(name, a, b)));
  let regions: { region: string; ingress: string }[] = [];
  before(async () => {
    for (const server of servers) await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    regions = servers.map((server, i) => ({
      region: `region${i + 1}`,
      ingress: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    }));
  });
  after(() => {
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  });

  const begin = (run: string, how: Behaviour, options: Partial<Parameters<typeof startLoad>[1]> = {}) => {
    behave = how;
    asked.length = 0;
    return startLoad(run, {
      regions,
      clients: 4,
      accounts: [`${run}-a`],
      calls: 20,
      retryMs: 1,
      timeoutMs: 60_000,
      ...options,
    });
  };

  test("each call has a key of its own and goes to the client's region", async () => {
    const told: string[] = [];
    const calls = await begin("plain", () => "answer", { onCall: ({ key }) => told.push(key) }).done();
    assert.equal(new Set(calls.map(({ key }) => key)).size, 20);
    assert.deepEqual(told.sort(), calls.map(({ key }) => key).sort());
    for (const one of calls) {
      assert.equal(one.outcome, "acknowledged");
      assert.equal(one.region, `region${(one.client % 2) + 1}`);
      assert.equal(one.receipt!.id, one.key);
      assert.equal(one.attempts.length, 1);
      assert.ok(one.start <= one.end);
    }
    assert.equal(asked.length, 20);
  });

  test("a call without an answer is sent again with the same key, in the other region", async () => {
    const calls = await begin("again", (times) => (times === 1 ? "hang up" : times === 2 ? 503 : "answer")).done();
    assert.equal(calls.length, 20);
    for (const { outcome, attempts, client, region } of calls) {
      assert.equal(outcome, "acknowledged");
      const own = `region${(client % 2) + 1}`;
      const other = `region${2 - (client % 2)}`;
      assert.deepEqual(
        attempts.map((one) => one.region),
        [own, other, own],
      );
      assert.match(attempts[1]!.error!, /^503 not now$/);
      assert.ok(attempts[0]!.error);
      assert.equal(region, own);
    }
  });

  test("without failover it stays in the client's region", async () => {
    const calls = await begin("stays", (times) => (times === 1 ? "hang up" : "answer"), { failover: false }).done();
    for (const { attempts } of calls) assert.equal(attempts[0]!.region, attempts[1]!.region);
  });

  test("a refusal is final, and a service that a node has not heard of yet is not", async () => {
    const refused = await begin("refused", () => 400, { calls: 3 }).done();
    assert.deepEqual(
      refused.map(({ outcome, attempts }) => [outcome, attempts.length]),
      Array(3).fill(["refused", 1]),
    );
    const unknown = await begin("unknown", (times) => (times === 1 ? 404 : "answer"), { calls: 3 }).done();
    assert.deepEqual(
      unknown.map(({ outcome, attempts }) => [outcome, attempts.length]),
      Array(3).fill(["acknowledged", 2]),
    );
  });

  test("a call that is never answered is given up as open", async () => {
    const calls = await begin("open", () => 500, { calls: 2, giveUpMs: 1 }).done();
    assert.deepEqual(
      calls.map(({ outcome }) => outcome),
      ["open", "open"],
    );
  });

  test("what takes too long is asked again", async () => {
    const server = createServer(() => {});
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const hanging = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const calls = await begin("slow", () => "answer", {
      regions: [{ region: "region1", ingress: hanging }, regions[1]!],
      clients: 1,
      calls: 1,
      timeoutMs: 200,
    }).done();
    server.closeAllConnections();
    server.close();
    assert.equal(calls[0]!.attempts[0]!.error, "no answer in time");
    assert.equal(calls[0]!.region, "region2");
  });

  test("acknowledged calls are repeated through the other region, and their answers are kept", async () => {
    const calls = await begin("repeat", () => "answer", { repeatShare: 1, calls: 4, clients: 1 }).done();
    for (const { receipt, repeated } of calls) assert.deepEqual(repeated, receipt);
    assert.deepEqual(asked.slice(0, 2), ["region1 repeat-0", "region2 repeat-0"]);
  });

  test("after stop no call begins, and those under way end", async () => {
    const load = begin("stop", () => "answer", { calls: undefined });
    while (load.calls.length < 10) await new Promise((done) => setTimeout(done, 1));
    const calls = await load.stop();
    const count = calls.length;
    await new Promise((done) => setTimeout(done, 20));
    assert.equal(load.calls.length, count);
    assert.equal(seen.size - [...seen.keys()].filter((key) => !key.startsWith("stop-")).length, count);
  });

  test("a load of nothing is refused", () => {
    const nothing = /at least one region, one account and one client/;
    assert.throws(() => startLoad("x", { regions: [], clients: 1, accounts: ["a"] }), nothing);
    assert.throws(() => startLoad("x", { regions, clients: 1, accounts: [] }), nothing);
    assert.throws(() => startLoad("x", { regions, clients: 0, accounts: ["a"] }), nothing);
  });
});

describe("reading the state", () => {
  const rows = [
    { service_key: "r-1", key: "balance", value_utf8: '{"count":1,"sum":5}' },
    { service_key: "r-1", key: "entry/1", value_utf8: '{"id":"k1","amount":5}' },
    { service_key: "r-2", key: "entry/1", value_utf8: '{"id":"k2","amount":7}' },
  ];
  /** Answers with one status after the other, the last one again and again. */
  const serve = async <T>(statuses: number[], body: unknown, use: (url: string) => Promise<T>): Promise<T> => {
    const left = [...statuses];
    const server = createServer((_, response) => {
      response.writeHead(left.length > 1 ? left.shift()! : left[0]!).end(JSON.stringify(body));
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    try {
      return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  };

  test("rows become accounts", async () => {
    const state = await serve([200], { rows }, (url) => readState(url, "r-"));
    assert.deepEqual([...state.keys()], ["r-1", "r-2"]);
    assert.deepEqual(state.get("r-1"), {
      balance: { count: 1, sum: 5 },
      lines: new Map([[1, { id: "k1", amount: 5 }]]),
    });
    assert.deepEqual(state.get("r-2")!.balance, { count: 0, sum: 0 });
  });

  test("a query that fails is sent again", async () => {
    const state = await serve([500, 500, 200], { rows }, (url) => readState(url, "r-"));
    assert.equal(state.size, 2);
  });

  test("what cannot be read is an error with its place", async () => {
    await assert.rejects(
      serve([200], { rows: [{ ...rows[0], key: "other" }] }, (url) => readState(url, "r-")),
      /account r-1 has a key other that is none of the ledger's/,
    );
    await assert.rejects(
      serve([500], { message: "no" }, (url) => readState(url, "r-", 0)),
      /^Error: http:\/\/127\.0\.0\.1:\d+\/query: 500 \{"message":"no"\}$/,
    );
    await assert.rejects(readState("http://127.0.0.1:1", "r-", 0), /^Error: http:\/\/127\.0\.0\.1:1\/query: .+/);
    await assert.rejects(readState("http://127.0.0.1:1", "x' or 1"), /letters, digits and hyphens/);
  });
});

describe("in Kubernetes", () => {
  test("a Service's address is known also while the API server is away", async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "service-test-"));
    const { cert, private: key } = await generate([{ name: "commonName", value: "localhost" }], { keySize: 2048 });
    let asked = 0;
    let answer = 200;
    const server = createTlsServer({ cert, key }, (request, response) => {
      assert.equal(request.url, "/api/v1/namespaces/restate-region1/services/restate");
      asked++;
      response.writeHead(answer).end(JSON.stringify({ spec: { clusterIP: `172.20.1.${asked}` } }));
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const kubeconfig = join(folder, "kubeconfig");
    const cluster = {
      server: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      "certificate-authority-data": Buffer.from(cert).toString("base64"),
      "tls-server-name": "localhost",
    };
    const config = { clusters: [{ name: "test", cluster }], users: [{ name: "test", user: {} }] };
    writeFileSync(kubeconfig, JSON.stringify(config));
    const address = () => serviceAddress(kubeconfig, { namespace: "restate-region1", name: "restate" });
    context.mock.timers.enable({ apis: ["Date"] });
    try {
      answer = 500;
      await assert.rejects(address(), /services\/restate: 500/);
      answer = 200;
      assert.equal(await address(), "172.20.1.2");
      assert.equal(await address(), "172.20.1.2");
      assert.equal(asked, 2);
      context.mock.timers.tick(6_000);
      assert.equal(await address(), "172.20.1.3");
      context.mock.timers.tick(6_000);
      answer = 500;
      assert.equal(await address(), "172.20.1.3");
      assert.equal(asked, 4);
    } finally {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true });
    }
  });

  test("the Service leads to the pods, on the port that Restate is told", () => {
    const objects = serviceObjects("hash", 2) as {
      kind: string;
      metadata: { name: string; namespace?: string };
      spec: never;
    }[];
    assert.deepEqual(
      objects.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? "-"}/${metadata.name}`),
      [
        "Namespace -/practice",
        "Deployment practice/ledger",
        "Service practice/ledger",
        "PodDisruptionBudget practice/ledger",
      ],
    );
    assert.equal(serviceUri, "http://ledger.practice.svc.cluster.local:9080/");
  });

  test("another program makes other pods", () => {
    const template = (program: string) =>
      JSON.stringify((serviceObjects(program, 2)[1] as { spec: { template: unknown } }).spec.template);
    assert.notEqual(template("one"), template("two"));
    assert.equal(template("one"), template("one"));
  });
});

describe("the command's flags", () => {
  test("defaults and values", () => {
    assert.deepEqual(loadArguments({}), { seconds: 10, clients: 8, accounts: 16, region: undefined });
    assert.deepEqual(loadArguments({ seconds: "3", clients: "2", accounts: "1", region: "region2" }), {
      seconds: 3,
      clients: 2,
      accounts: 1,
      region: "region2",
    });
  });

  for (const [flag, value] of [
    ["seconds", "0"],
    ["seconds", "1.5"],
    ["clients", "1001"],
    ["accounts", "many"],
  ] as const) {
    test(`--${flag} ${value} is refused`, () => {
      assert.throws(
        () => loadArguments({ [flag]: value }),
        (error) => {
          assert.ok(error instanceof UsageError);
          assert.match(error.message, new RegExp(`^--${flag} takes a whole number from 1 to \\d+, not ${value}$`));
          return true;
        },
      );
    });
  }
});
