/** The host's side of the world, with a supervisor that is too busy to answer, or gone. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import type * as Control from "../../sandbox/world/control";
import { identify } from "../../sandbox/world/processes";
import type * as World from "../../sandbox/world/world";

const folder = mkdtempSync(join(tmpdir(), "sandbox-supervisor-"));
process.env.RESTATE_SANDBOX_DIR = folder;
mkdirSync(join(folder, "run"));

/** What was asked of the supervisor, connection by connection; an empty text where it hung up at once. */
let asked: string[] = [];

/** Hangs up on the first `deaf` callers, and tells the others that all is ready. */
async function supervisor(deaf: number): Promise<Server> {
  const server = createServer((socket: Socket) => {
    socket.on("error", () => {});
    if (asked.length < deaf) {
      asked.push("");
      socket.destroy();
      return;
    }
    socket.once("data", (data) => {
      asked.push(/^\S+ \S+/.exec(data.toString())![0]);
      const body = JSON.stringify({ parts: [{ name: "a", group: "main", kind: "part", state: "ready" }] });
      socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
  });
  await once(server.listen(join(folder, "run", "control.sock")), "listening");
  return server;
}

/** Says whose end is the end of the supervisor. */
function startedAs(identity: ReturnType<typeof identify>): void {
  writeFileSync(join(folder, "world.json"), JSON.stringify({ namespaces: identity }));
}

describe("a supervisor that does not answer", () => {
  let world: typeof World;
  let control: typeof Control;
  let server: Server | undefined;
  beforeEach(async () => {
    // Where the sandbox is, is settled when its modules are loaded.
    world ??= require("../../sandbox/world/world") as typeof import("../../sandbox/world/world");
    control ??= require("../../sandbox/world/control") as typeof import("../../sandbox/world/control");
    server?.close();
    server = undefined;
    asked = [];
  });
  after(() => {
    server?.close();
    rmSync(folder, { recursive: true });
  });

  test("is asked again for as long as it runs", async () => {
    startedAs(identify(process.pid));
    server = await supervisor(3);
    await world.startGroup("main", undefined, Date.now() + 60_000);
    assert.deepEqual(asked, ["", "", "", "POST /groups", "GET /status?"]);
  });

  test("is not asked again once it has ended", async () => {
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    startedAs({ ...identify(process.pid)!, pid });
    server = await supervisor(3);
    await assert.rejects(world.startGroup("main", undefined, Date.now() + 60_000), control.UnreachableError);
    assert.deepEqual(asked, [""]);
  });

  test("is given up at the deadline", async () => {
    startedAs(identify(process.pid));
    server = await supervisor(Number.POSITIVE_INFINITY);
    await assert.rejects(world.startGroup("main", undefined, Date.now() + 200), {
      message: /^the sandbox does not answer: .*\. Next: npm run sandbox -- up$/,
    });
  });
});
