/**
 * operations/snapshots.sh and history.sh with the real curl and jq, against an S3 and an STS that a test plays over HTTP: signatures are
 * checked, lists have pages, and heads have a replication status. Buckets by host name (real S3) are played by a curl that
 * only notes what it is asked.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import {
  type Asked,
  type HistoryDocument,
  historyCommand,
  historyDocument,
  historyScript,
} from "../../restate/history";
import { snapshotScript } from "../../restate/snapshots";
import { checkSignature } from "../../sandbox/aws/signature";
import { receiptOf } from "../support/receipts";

/** An object: seconds since it was written, and its replication status. */
interface Stored {
  age: number;
  status?: "PENDING" | "COMPLETED" | "FAILED" | "REPLICA";
  etag?: string;
  /** What it holds, where that is asked for. */
  text?: string;
}
type Bucket = Record<string, Stored>;

const keys = { id: "ASIAEXAMPLE", secret: "se+cr/et=", session: 'a "session"\\token=' };
const folder = (partition: number, lsn: number) =>
  `snapshots/${partition}/lsn_${String(lsn).padStart(20, "0")}-snap_1x${lsn}`;
/** The objects of one snapshot, the newest of its partition if told so. */
const snapshot = (partition: number, lsn: number, stored: Stored, newest = true): Bucket => ({
  [`${folder(partition, lsn)}/000012.sst`]: stored,
  [`${folder(partition, lsn)}/metadata.json`]: stored,
  ...(newest ? { [`snapshots/${partition}/latest.json`]: { ...stored, etag: `latest-${lsn}` } } : {}),
});

describe("scripts that read buckets", () => {
  let work: string;
  let server: Server;
  let endpoint: string;
  let buckets: Record<string, Bucket>;
  let pageSize: number;
  /** Answers in place of the usual ones, by `<method> <what the path begins with>`. */
  let instead: Record<string, (response: ServerResponse) => void>;
  let requests: string[];
  let session: string;

  const refuse =
    (code: string, message: string, status = 403) =>
    (response: ServerResponse) =>
      void response.writeHead(status).end(`<Error><Code>${code}</Code><Message>${message}</Message></Error>`);

  function list(bucket: Bucket, query: URLSearchParams): string {
    const names = Object.keys(bucket)
      .filter((key) => key.startsWith(query.get("prefix") ?? ""))
      .sort();
    const begin = Number(Buffer.from(query.get("continuation-token") ?? "", "base64").toString() || 0);
    const page = names.slice(begin, begin + pageSize);
    const next = begin + pageSize < names.length ? Buffer.from(`${begin + pageSize}`).toString("base64") : undefined;
    const contents = page.map((key) => {
      const { age, etag = key } = bucket[key]!;
      const modified = new Date(Date.now() - age * 1000).toISOString();
      return `<Contents><Key>${key.replaceAll("&", "&amp;")}</Key><LastModified>${modified}</LastModified><ETag>&quot;${etag}&quot;</ETag><Size>1</Size></Contents>`;
    });
    return `<?xml version="1.0"?>\n<ListBucketResult><IsTruncated>${!!next}</IsTruncated>${contents.join("")}${next ? `<NextContinuationToken>${next}</NextContinuationToken>` : ""}</ListBucketResult>`;
  }

  function serve(request: IncomingMessage, response: ServerResponse, body: string): void {
    const url = new URL(request.url!, endpoint);
    requests.push(`${request.method} ${request.url} ${body}`);
    const key = Object.keys(instead).find((one) => `${request.method} ${url.pathname}`.startsWith(one));
    if (key) {
      instead[key]!(response);
      return;
    }
    const headers = request.headers as Record<string, string>;
    if (url.pathname === "/" && request.method === "POST") {
      const form = new URLSearchParams(body);
      assert.deepEqual(Object.fromEntries(form), {
        Action: "AssumeRoleWithWebIdentity",
        Version: "2011-06-15",
        RoleArn: "arn:aws:iam::123456789012:role/restate-nodes",
        RoleSessionName: session,
        WebIdentityToken: "header.payload+/=.signature",
      });
      response.end(
        `<R><Credentials>\n<AccessKeyId>${keys.id}</AccessKeyId><SecretAccessKey>${keys.secret}</SecretAccessKey><SessionToken>${keys.session}</SessionToken>\n</Credentials></R>`,
      );
      return;
    }
    const [, bucket, ...rest] = url.pathname.split("/");
    try {
      const scope = /Credential=([^/]+)\/(\d+)\/([^/]+)\/s3\//.exec(headers.authorization ?? "")!;
      assert.equal(scope[1], keys.id);
      assert.match(headers["x-amz-content-sha256"]!, /^e3b0c442/);
      checkSignature(
        { method: request.method!, url: request.url!, headers },
        { service: "s3", region: scope[3]!, accessKeyId: scope[1]!, date: scope[2]! },
        keys.secret,
      );
      assert.equal(headers["x-amz-security-token"], keys.session);
      assert.equal(scope[3], bucket === "one" ? "us-east-1" : "us-west-2");
    } catch (error) {
      refuse("SignatureDoesNotMatch", (error as Error).message.split("\n")[0]!)(response);
      return;
    }
    const stored = buckets[bucket!]![decodeURIComponent(rest.join("/"))];
    if (request.method === "GET") {
      response.end(rest.length > 0 ? stored?.text : list(buckets[bucket!]!, url.searchParams));
      return;
    }
    response.writeHead(stored ? 200 : 404, stored?.status ? { "x-amz-replication-status": stored.status } : {}).end();
  }

  before(async () => {
    work = mkdtempSync(join(tmpdir(), "restate-snapshots-"));
    writeFileSync(join(work, "token"), "header.payload+/=.signature");
    server = createServer((request, response) => {
      let body = "";
      request.on("data", (data) => {
        body += data;
      });
      request.on("end", () => serve(request, response, body));
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
    rmSync(work, { recursive: true });
  });
  beforeEach(() => {
    buckets = { one: {}, two: {} };
    pageSize = 1000;
    instead = {};
    requests = [];
    session = "restate-status";
  });

  const webIdentity = () => ({
    AWS_REGION: "us-east-1",
    AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/restate-nodes",
    AWS_WEB_IDENTITY_TOKEN_FILE: join(work, "token"),
    AWS_ENDPOINT_URL: endpoint,
  });

  /** Runs the script as `status` does: through `bash -s`, whose input is never ended. */
  async function run(
    args = ["one", "us-east-1", "two", "us-west-2"],
    env: Record<string, string> = webIdentity(),
    script = snapshotScript(),
  ) {
    const child = spawn("bash", ["-s", "--", ...args], {
      env: { PATH: process.env.PATH!, TMPDIR: work, ...env },
    });
    child.stdin.write(script);
    const printed = { out: "", err: "" };
    child.stdout.on("data", (data) => {
      printed.out += data;
    });
    child.stderr.on("data", (data) => {
      printed.err += data;
    });
    const code = await new Promise<number | null>((done) => child.on("close", done));
    child.stdin.destroy();
    assert.equal(code, 0, printed.err);
    assert.equal(printed.err, "");
    for (const secret of [keys.secret, keys.session, "signature"]) assert.ok(!printed.out.includes(secret), secret);
    assert.deepEqual(
      readdirSync(work).filter((name) => name.startsWith("tmp.")),
      [],
    );
    return JSON.parse(printed.out);
  }
  const nothingLacks = { waiting: 0, oldestWaitingSeconds: null, failed: 0, neverCopied: 0, gone: 0, notLookedAt: 0 };
  /** Ages may be a second or two more by the time that they are told. */
  const about = (actual: number, expected: number) =>
    assert.ok(actual - expected >= 0 && actual - expected < 30, `${actual}`);

  test("both buckets alike: nothing waits; the newest snapshot of each partition, with its age and last record", async () => {
    const both = {
      ...snapshot(0, 240, { age: 100, status: "COMPLETED" }),
      ...snapshot(10, 7, { age: 5000, status: "REPLICA" }),
    };
    buckets = { one: both, two: both };
    const { partitions, ...rest } = await run();
    assert.deepEqual(rest, {
      bucket: "one",
      peerBucket: "two",
      objects: 6,
      complete: true,
      replication: nothingLacks,
      problems: [],
    });
    assert.deepEqual(
      partitions.map(({ partition, lsn }: { partition: number; lsn: number }) => [partition, lsn]),
      [
        [0, 240],
        [10, 7],
      ],
    );
    about(partitions[0].ageSeconds, 100);
    about(partitions[1].ageSeconds, 5000);
    // One call for the role, one list of each bucket, and nothing else.
    assert.equal(requests.length, 3, requests.join("\n"));
  });

  test("no snapshots at all, and no peer yet", async () => {
    assert.deepEqual(await run(), {
      ...{ bucket: "one", peerBucket: "two", objects: 0, complete: true, partitions: [] },
      ...{ replication: nothingLacks, problems: [] },
    });
    assert.deepEqual(await run(["one", "us-east-1"]), {
      ...{ bucket: "one", peerBucket: null, objects: 0, complete: true, partitions: [] },
      ...{ replication: null, problems: [] },
    });
  });

  test("what the peer lacks is told by S3's own replication status, and the oldest that waits gives the lag", async () => {
    buckets.one = {
      ...snapshot(0, 50, { age: 900, status: "PENDING" }),
      ...snapshot(1, 60, { age: 300, status: "FAILED" }),
      ...snapshot(2, 70, { age: 100 }),
      ...snapshot(3, 80, { age: 100, status: "COMPLETED" }),
    };
    const { replication } = await run();
    about(replication.oldestWaitingSeconds, 900);
    assert.deepEqual(
      { ...replication, oldestWaitingSeconds: null },
      { ...nothingLacks, waiting: 3, failed: 3, neverCopied: 3, gone: 3 },
    );
  });

  test("a newer latest.json waits; an older one is the peer's to send; one that only looks different is not counted", async () => {
    const latest = (age: number, etag: string, status: Stored["status"]) => ({
      age,
      etag,
      ...(status ? { status } : {}),
    });
    buckets.one = {
      "snapshots/0/latest.json": latest(20, "new", "PENDING"),
      "snapshots/1/latest.json": latest(500, "old", "COMPLETED"),
      "snapshots/2/latest.json": latest(60, "encrypted-here", "COMPLETED"),
    };
    buckets.two = {
      "snapshots/0/latest.json": latest(400, "old", "REPLICA"),
      "snapshots/1/latest.json": latest(20, "new", "PENDING"),
      "snapshots/2/latest.json": latest(60, "encrypted-there", "REPLICA"),
    };
    const { replication } = await run();
    about(replication.oldestWaitingSeconds, 20);
    assert.deepEqual({ ...replication, oldestWaitingSeconds: null }, { ...nothingLacks, waiting: 1 });
    const back = await run(["two", "us-west-2", "one", "us-east-1"]);
    assert.equal(back.replication.waiting, 1);
  });

  test("snapshots older than one that the peer has in full are not missed", async () => {
    buckets.one = {
      ...snapshot(0, 10, { age: 9000, status: "FAILED" }, false),
      ...snapshot(0, 20, { age: 50, status: "COMPLETED" }),
    };
    buckets.two = snapshot(0, 20, { age: 50, status: "REPLICA" });
    assert.deepEqual((await run()).replication, nothingLacks);
    // Without its metadata the peer's newer one is none.
    delete buckets.two[`${folder(0, 20)}/metadata.json`];
    assert.equal((await run()).replication.failed, 2);
  });

  test("what arrives while it looks is not taken for deleted", async () => {
    buckets.one = snapshot(0, 20, { age: 2, status: "COMPLETED" });
    buckets.two = snapshot(0, 20, { age: 2, status: "REPLICA" });
    instead["GET /two"] = (response) => void response.end("<ListBucketResult></ListBucketResult>");
    assert.deepEqual((await run()).replication, nothingLacks);
  });

  test("lists of many pages; keys with letters that URLs and XML write in another way", async () => {
    pageSize = 3;
    const odd = "snapshots/0/lsn_00000000000000000020-snap_a&b +c/ü.sst";
    buckets.one = { ...snapshot(0, 20, { age: 40, status: "COMPLETED" }), [odd]: { age: 70, status: "PENDING" } };
    buckets.two = snapshot(0, 20, { age: 40, status: "REPLICA" });
    const { objects, complete, replication } = await run();
    assert.deepEqual([objects, complete], [4, true]);
    about(replication.oldestWaitingSeconds, 70);
    assert.equal(requests.filter((one) => one.startsWith("GET /one")).length, 2);
  });

  test("more objects than it looks at: cut off, and told; nothing is said of what lies beyond", async () => {
    pageSize = 2;
    const many = Object.fromEntries(
      Array.from({ length: 60 }, (_, i) => Object.entries(snapshot(i, 9, { age: 50 }))).flat(),
    );
    buckets.one = many;
    const { objects, complete, partitions, replication } = await run();
    // Ten pages; fewer where a busy machine uses up the time for them.
    assert.ok(objects > 0 && objects <= 20, `${objects}`);
    assert.equal(complete, false);
    assert.ok(partitions.length > 0 && partitions.length <= 10);
    assert.equal(replication.neverCopied, objects);
    assert.ok(requests.filter((one) => one.startsWith("GET /one")).length <= 10);
    buckets = { one: many, two: Object.fromEntries(Object.entries(many).slice(0, 30)) };
    const both = (await run()).replication;
    assert.deepEqual([both.gone, both.notLookedAt], [0, 0]);
  });

  test("more missing objects than are asked after: the rest is counted, the oldest are asked", async () => {
    for (let i = 0; i < 50; i++) Object.assign(buckets.one!, snapshot(i, 9, { age: 1000 - i, status: "PENDING" }));
    const { replication } = await run();
    assert.deepEqual([replication.waiting, replication.notLookedAt], [100, 50]);
    about(replication.oldestWaitingSeconds, 1000);
  });

  test("a role that may not be taken, lists that are denied, heads that are denied: each told with its reason", async () => {
    buckets.one = snapshot(0, 20, { age: 2, status: "PENDING" });
    instead["POST /"] = refuse("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
    assert.deepEqual(await run(), {
      ...{ bucket: "one", peerBucket: "two", objects: null, complete: false, partitions: [], replication: null },
      problems: [
        {
          step: "credentials",
          bucket: null,
          code: "AccessDenied",
          message: "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        },
      ],
    });
    instead = { "GET /two": refuse("AccessDenied", "no list") };
    const halfBlind = await run();
    assert.deepEqual([halfBlind.objects, halfBlind.replication, halfBlind.partitions.length], [3, null, 1]);
    assert.deepEqual(halfBlind.problems, [{ step: "list", bucket: "two", code: "AccessDenied", message: "no list" }]);
    instead = { "HEAD /one": refuse("AccessDenied", "no head") };
    const unread = await run();
    assert.deepEqual(unread.replication, { ...nothingLacks, notLookedAt: 3 });
    assert.deepEqual(
      unread.problems.map(({ step, bucket, code }: Record<string, string>) => [step, bucket, code]),
      [["read", "one", "HTTP 403"]],
    );
  });

  test("an S3 that does not answer is given up on within seconds", async () => {
    instead["GET /one"] = () => {};
    const begin = Date.now();
    const { problems } = await run();
    assert.ok(Date.now() - begin < 15_000);
    assert.deepEqual([problems.length, problems[0].code, problems[0].bucket], [1, "unreachable", "one"]);
    assert.match(problems[0].message, /timed out/i);
  });

  test("EKS Pod Identity", async () => {
    let authorization: string | undefined;
    const agent = createServer((request, response) => {
      authorization = request.headers.authorization;
      response.end(JSON.stringify({ AccessKeyId: keys.id, SecretAccessKey: keys.secret, Token: keys.session }));
    });
    await new Promise<void>((listening) => agent.listen(0, "127.0.0.1", listening));
    buckets.one = snapshot(0, 20, { age: 2, status: "PENDING" });
    const seen = await run(undefined, {
      AWS_ENDPOINT_URL: endpoint,
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${(agent.address() as AddressInfo).port}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: join(work, "token"),
    });
    agent.close();
    assert.equal(authorization, "header.payload+/=.signature");
    assert.deepEqual([seen.replication.waiting, seen.problems], [3, []]);
  });

  test("kiam, which answers as instance metadata does; without a role for the pod that is told", async () => {
    const path = "/latest/meta-data/iam/security-credentials/";
    const env = { AWS_ENDPOINT_URL: endpoint, AWS_EC2_METADATA_SERVICE_ENDPOINT: `${endpoint}/` };
    const document = { AccessKeyId: keys.id, SecretAccessKey: keys.secret, Token: keys.session, Code: "Success" };
    instead[`GET ${path}restate-nodes`] = (response) => void response.end(JSON.stringify(document));
    instead[`GET ${path}`] = (response) => void response.end("restate-nodes\n");
    assert.deepEqual((await run(undefined, env)).problems, []);
    instead = { [`GET ${path}`]: (response) => void response.writeHead(404).end("no role\nfor this pod") };
    assert.deepEqual((await run(undefined, env)).problems, [
      { step: "credentials", bucket: null, code: "HTTP 404", message: "no role for this pod" },
    ]);
  });

  test("against AWS itself: buckets by host name, regional STS, China's domain; no secret on any command line", async () => {
    const bin = mkdtempSync(join(tmpdir(), "restate-curl-"));
    writeFileSync(
      join(bin, "curl"),
      `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$PLAY/calls"
case " $* " in
  *AssumeRole*) printf '<AccessKeyId>${keys.id}</AccessKeyId><SecretAccessKey>${keys.secret}</SecretAccessKey><SessionToken>tok</SessionToken>' ;;
  *) printf '<ListBucketResult></ListBucketResult>' ;;
esac
printf '\\n200'
`,
    );
    chmodSync(join(bin, "curl"), 0o755);
    const env = {
      ...webIdentity(),
      AWS_REGION: "cn-north-1",
      PATH: `${bin}${delimiter}${process.env.PATH}`,
      PLAY: bin,
    };
    const { AWS_ENDPOINT_URL: _, ...real } = env;
    await run(["one", "cn-north-1", "two", "us-west-2"], real);
    const calls = readFileSync(join(bin, "calls"), "utf8");
    rmSync(bin, { recursive: true });
    assert.deepEqual([...calls.matchAll(/https?:\S+/g)].map(([url]) => url).sort(), [
      "https://one.s3.cn-north-1.amazonaws.com.cn?list-type=2&prefix=snapshots%2F",
      "https://sts.cn-north-1.amazonaws.com.cn/",
      "https://two.s3.us-west-2.amazonaws.com?list-type=2&prefix=snapshots%2F",
    ]);
    for (const secret of [keys.secret, "payload"]) assert.ok(!calls.includes(secret), secret);
  });

  const receipts = (...numbers: number[]): Bucket =>
    Object.fromEntries(
      numbers.map((number) => [
        `handovers/${String(number).padStart(6, "0")}.json`,
        { age: 1, text: JSON.stringify(receiptOf(number, "both", "region1")) },
      ]),
    );
  async function history(asked: Asked): Promise<HistoryDocument> {
    session = "restate-history";
    const [, , , ...args] = historyCommand({ name: "one", awsRegion: "us-east-1" }, asked);
    return historyDocument(JSON.stringify(await run(args, webIdentity(), historyScript())));
  }
  const numbers = ({ receipts: found }: HistoryDocument) => found.map(({ number }) => number);

  test("the newest receipts, newest first, of a list with several pages", async () => {
    pageSize = 2;
    buckets.one = { ...receipts(1, 2, 9, 10, 11), ...snapshot(0, 240, { age: 1 }) };
    const found = await history({ most: 3 });
    assert.deepEqual(numbers(found), [11, 10, 9]);
    assert.deepEqual([found.count, found.problems], [5, []]);
    assert.equal(requests.filter((one) => one.includes("/handovers/")).length, 3, requests.join("\n"));
  });

  test("one handover's receipt: no other is read", async () => {
    buckets.one = receipts(1, 2, 12, 21);
    assert.deepEqual(numbers(await history({ number: 2 })), [2]);
    assert.equal(requests.filter((one) => one.includes("/handovers/")).length, 1, requests.join("\n"));
    assert.deepEqual(numbers(await history({ number: 3 })), []);
  });

  test("no receipts yet, one that is none, and a bucket that cannot be listed", async () => {
    assert.deepEqual(await history({ most: 20 }), { bucket: "one", count: 0, receipts: [], problems: [] });
    buckets.one = { ...receipts(1), "handovers/000002.json": { age: 1, text: "<html>" } };
    const found = await history({ most: 20 });
    assert.deepEqual(numbers(found), [1]);
    assert.deepEqual(found.problems, [
      { step: "read", bucket: "one", code: "no receipt", message: "handovers/000002.json is no JSON" },
    ]);
    instead["GET /one"] = refuse("AccessDenied", "no");
    const refused = await history({ most: 20 });
    assert.equal(refused.count, null);
    assert.deepEqual(
      refused.problems.map(({ step, code }) => [step, code]),
      [["list", "AccessDenied"]],
    );
  });
});
