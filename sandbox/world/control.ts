/**
 * The supervisor's control interface: JSON over HTTP on a unix socket in the run folder, whose permissions keep others
 * out. The server runs inside the namespaces, the client on the host.
 */
import { spawn } from "node:child_process";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { join } from "node:path";
import { socketPath } from "./files";
import { runDir } from "./paths";
import type { Plan } from "./plan";
import { type ItemStatus, RequestError, type Supervisor } from "./supervisor";

/** The socket that the supervisor listens on. */
export const controlSocket = join(runDir, "control.sock");

/** What can be done to one part. */
export const partActions = ["start", "stop", "restart", "kill", "pause", "resume"] as const;
export type PartAction = (typeof partActions)[number];

/** The process that keeps the host's ports, as it reports itself. */
export interface HostPortsStatus {
  pid: number;
  /** Port on the host's 127.0.0.1 by gate. */
  ports: Record<string, number>;
}

/** Answer to `status`. */
export interface WorldStatus {
  startedAt: number;
  /** Process id of the supervisor inside the sandbox, its memory in bytes when asked for. */
  pid: number;
  memory?: number;
  parts: ItemStatus[];
  hostPorts?: HostPortsStatus;
}

/** Result of a command run inside the namespaces. */
export interface ExecResult {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** A command to run inside the namespaces. */
export interface ExecRequest {
  command: string[];
  env?: Record<string, string>;
  cwd?: string;
  input?: string;
}

/** What the server needs besides the supervisor. */
interface ControlOptions {
  supervisor: Supervisor;
  plan: Plan;
  memory: () => number;
  /** Environment and working directory of commands that are run for someone. */
  environment: NodeJS.ProcessEnv;
  workDir: string;
  /** Called once everything has stopped. */
  onShutdown: () => void;
}

/** Listens on the control socket. Resolves when it can be reached. */
export function serveControl(options: ControlOptions): Promise<Server> {
  const startedAt = Date.now();
  let hostPorts: HostPortsStatus | undefined;

  const routes: Record<string, (body: never, query: URLSearchParams, response: ServerResponse) => unknown> = {
    "GET /status": async (_: never, query) => {
      const parts = await options.supervisor.status({ memory: query.has("memory"), probe: query.has("probe") });
      const status: WorldStatus = { startedAt, pid: process.pid, parts, hostPorts };
      if (query.has("memory")) status.memory = options.memory();
      return status;
    },
    "GET /gates": () => options.plan.gates.map((gate) => gate.name),
    "POST /groups": (body: { group: string; action: "ensure" | "stop" }) =>
      body.action === "stop" ? options.supervisor.stopGroup(body.group) : options.supervisor.ensure(body.group),
    "POST /parts": (body: { part: string; action: PartAction }) => {
      if (!partActions.includes(body.action)) throw new RequestError(`no action ${body.action}`);
      return options.supervisor[body.action](body.part);
    },
    "POST /exec": (body: ExecRequest) => exec(body, options),
    "POST /shutdown": async () => {
      await options.supervisor.shutdown();
      setImmediate(options.onShutdown);
    },
    // Stays open for as long as both live: each side thus knows when the other has ended.
    "POST /host-ports": (body: HostPortsStatus, _, response) => {
      hostPorts = body;
      response.on("close", () => {
        if (hostPorts === body) hostPorts = undefined;
      });
      response.writeHead(200).write("\n");
      return response;
    },
  };

  const server = createServer((message, response) => {
    void (async () => {
      const url = new URL(message.url ?? "/", "http://supervisor");
      const route = routes[`${message.method} ${url.pathname}`];
      try {
        if (!route) throw new RequestError(`the supervisor does not know ${message.method} ${url.pathname}`);
        const body = await readAll(message);
        const answer = await route((body ? JSON.parse(body) : undefined) as never, url.searchParams, response);
        if (answer !== response) reply(response, 200, answer ?? {});
      } catch (error) {
        const asked = error instanceof RequestError;
        reply(response, asked ? 400 : 500, { error: error instanceof Error ? error.message : String(error) });
      }
    })();
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(socketPath(controlSocket), () => resolve(server));
  });
}

function reply(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function readAll(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

function exec(what: ExecRequest, options: ControlOptions): Promise<ExecResult> {
  const [program, ...args] = what.command;
  if (!program) throw new RequestError("no command given");
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: what.cwd ?? options.workDir,
      env: { ...options.environment, ...what.env },
    });
    const output = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
    child.stdout.on("data", (chunk) => output.stdout.push(chunk));
    child.stderr.on("data", (chunk) => output.stderr.push(chunk));
    child.stdin.on("error", () => {});
    child.stdin.end(what.input ?? "");
    child.on("error", (error) => reject(new RequestError(`cannot run ${program}: ${error.message}`)));
    child.on("close", (code, signal) =>
      resolve({
        code,
        signal,
        stdout: Buffer.concat(output.stdout).toString("utf8"),
        stderr: Buffer.concat(output.stderr).toString("utf8"),
      }),
    );
  });
}

/** The supervisor cannot be reached: it does not run, or does not answer. */
export class UnreachableError extends Error {}

/** Sends one request to the supervisor of this clone. */
export function control<T>(
  method: "GET" | "POST",
  path: string,
  body?: unknown,
  options: { timeout?: number } = {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void =>
      reject(new UnreachableError(`the sandbox does not answer: ${error.message}. Next: npm run sandbox -- up`));
    let socket: string;
    try {
      socket = socketPath(controlSocket);
    } catch (error) {
      fail(error as Error);
      return;
    }
    // A connection of its own: one that is kept may be closed by the other side just as it is used again.
    const sending = { socketPath: socket, method, path, agent: false, timeout: options.timeout ?? 60_000 } as const;
    const message = request(sending, (response) => {
      readAll(response).then((text) => {
        const answer = text.trim() ? JSON.parse(text) : undefined;
        if (response.statusCode === 200) resolve(answer as T);
        else
          reject(
            new RequestError((answer as { error?: string } | undefined)?.error ?? `answer ${response.statusCode}`),
          );
      }, fail);
    });
    message.on("timeout", () => message.destroy(new Error("no answer in time")));
    message.on("error", fail);
    message.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Asks where every part stands. */
export function worldStatus(
  wanted: { memory?: boolean; probe?: boolean } = {},
  options: { timeout?: number } = {},
): Promise<WorldStatus> {
  const query = Object.entries(wanted)
    .filter(([, value]) => value)
    .map(([key]) => key)
    .join("&");
  return control("GET", `/status?${query}`, undefined, options);
}

/** Does something to one part. */
export async function partControl(part: string, action: PartAction): Promise<void> {
  await control("POST", "/parts", { part, action }, { timeout: 60_000 });
}

/** Runs a command inside the namespaces and returns what it printed. */
export function execInside(what: ExecRequest, options: { timeout?: number } = {}): Promise<ExecResult> {
  return control("POST", "/exec", what, { timeout: options.timeout ?? 600_000 });
}
