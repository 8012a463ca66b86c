/** What a stack shows of its Jobs while they run, read from an API server that a test plays. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { followJob } from "../../kubernetes/jobLog";

let server: Server;
let pods: { name: string; phase: string; log: string | undefined }[];
let asked: string[];

beforeEach(async () => {
  [pods, asked] = [[], []];
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, "http://127.0.0.1");
    asked.push(pathname);
    if (pathname === "/api/v1/namespaces/ns/pods") {
      assert.equal(searchParams.get("labelSelector"), "job-name=job");
      const items = pods.map(({ name, phase }) => ({ metadata: { name }, status: { phase } }));
      response.end(JSON.stringify({ kind: "PodList", items }));
      return;
    }
    const log = pods.find(({ name }) => pathname === `/api/v1/namespaces/ns/pods/${name}/log`)?.log;
    if (log === undefined) response.writeHead(400).end('{"message":"is waiting to start"}');
    else response.end(log);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
});
afterEach(() => new Promise((done) => server.close(done)));

const access = () => {
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    kubeconfig: JSON.stringify({
      clusters: [{ name: "c", cluster: { server: url } }],
      users: [{ name: "u", user: {} }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      "current-context": "c",
    }),
  };
};

/** Follows, and waits for so many lines. */
async function follow(count: number, change: () => void): Promise<string[]> {
  const lines: string[] = [];
  const stop = followJob(access(), "ns", "job", (line) => lines.push(line));
  while (!asked.some((path) => path.endsWith("/pods"))) await new Promise((done) => setTimeout(done, 20));
  change();
  while (lines.length < count) await new Promise((done) => setTimeout(done, 20));
  await stop();
  return lines;
}

test("lines are told once, in order, when they are whole; JSON is for programs", async () => {
  const pod = { name: "job-a", phase: "Pending", log: undefined as string | undefined };
  pods = [pod];
  const lines = await follow(1, () => void Object.assign(pod, { phase: "Running", log: "one\ntw" }));
  assert.deepEqual(lines, ["one"]);
});

test("the last lines are told before the end, and a further pod's from its first line", async () => {
  const lines: string[] = [];
  pods = [{ name: "job-a", phase: "Running", log: "one\n" }];
  const stop = followJob(access(), "ns", "job", (line) => lines.push(line));
  while (lines.length < 1) await new Promise((done) => setTimeout(done, 20));
  pods[0]!.log = 'one\ntwo\n{"receipt":1}\n';
  pods.push({ name: "job-b", phase: "Succeeded", log: "three\n" });
  await stop();
  assert.deepEqual(lines, ["one", "two", "three"]);
});

test("what pods of an earlier run printed is not told", async () => {
  pods = [{ name: "job-old", phase: "Failed", log: "old\n" }];
  const lines = await follow(1, () => pods.push({ name: "job-new", phase: "Running", log: "new\n" }));
  assert.deepEqual(lines, ["new"]);
});

test("a Job that is done at once is not asked", async () => {
  const stop = followJob(access(), "ns", "job", assert.fail);
  await stop();
  assert.deepEqual(asked, []);
});
