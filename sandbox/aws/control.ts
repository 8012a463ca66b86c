/**
 * The gateway's control channel, over a unix socket in the run folder: faults, the copier, the audit. `sandbox fault` and tests
 * drive it from the host; the socket crosses the namespaces.
 *
 * @example
 * const aws = awsControl();
 * await aws.addFault({ service: "s3", action: "PutObject", effect: "throttle", probability: 0.5, seconds: 60 });
 * await aws.setCopier({ paused: true });
 */
import { rmSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { join } from "node:path";
import { runDir } from "../world/paths";

/** Which requests a fault meets, and what it does to them. Everything that is left out matches all. */
export interface Fault {
  /** As in a signature's scope: `s3`, `iam`, `sts`, `ec2`, `eks`, `elasticloadbalancing` … */
  service?: string;
  /** As policies name it, without the service: `PutObject`, `CreateRole` … */
  action?: string;
  /** AWS region that the request was signed for. */
  region?: string;
  /** What the caller's ARN contains, e.g. the role's name, or `user/sandbox` for the operator. */
  caller?: string;
  /** What the ARN of the resource contains (S3 and AssumeRole only). */
  resource?: string;
  /** `fail`: an internal error; `throttle`: the service's own throttling error; `hang`: no answer; `delay`: `delayMs` later. */
  effect: "fail" | "throttle" | "delay" | "hang";
  /** For `delay`, in milliseconds. */
  delayMs?: number;
  /** 0 to 1; default 1. */
  probability?: number;
  /** After which the fault ends by itself; default: never. */
  seconds?: number;
}

/** A fault that is in force. */
export interface ActiveFault extends Fault {
  id: number;
  /** How many requests it has met. */
  hits: number;
  /** ISO 8601; absent when it does not end by itself. */
  until?: string;
}

/** How the copier works. */
export interface CopierSettings {
  /** Copies nothing while true. Nothing is lost. */
  paused: boolean;
  /** How long after its write a version is copied, at least; in milliseconds. */
  delayMs: number;
  /** Bytes that are copied per second, over all rules; null for no limit. */
  bytesPerSecond: number | null;
  /**
   * `written`: in the order of the writes. `newestFirst`: once the oldest has waited for `delayMs`, all that waits is copied,
   * the newest first, as S3 may do: it promises no order among keys.
   */
  order: "written" | "newestFirst";
  /** Keys that contain any of these wait, whatever else holds; e.g. `metadata.json`, to let `latest.json` arrive before it. */
  hold: string[];
}

/** What CloudWatch has of a rule, in namespace AWS/S3. */
export interface RuleMetrics {
  sourceBucket: string;
  destinationBucket: string;
  ruleId: string;
  /** Seconds that the destination is behind: age of the oldest version that waits. */
  replicationLatency: number;
  bytesPendingReplication: number;
  operationsPendingReplication: number;
  /** Since the gateway was started. */
  operationsFailedReplication: number;
  /** Copies made since the gateway was started. */
  operationsReplicated: number;
}

/** State of the copier. */
export interface CopierState {
  settings: CopierSettings;
  rules: RuleMetrics[];
  /** The last failures, newest last. */
  failures: { time: string; bucket: string; key: string; versionId: string; rule: string; reason: string }[];
}

/** One decision. */
export interface AuditEntry {
  /** ISO 8601. */
  time: string;
  /** ARN, a token's subject, or `anonymous`. */
  principal: string;
  /** With the service: `s3:GetObject`. */
  action: string;
  resource: string;
  decision: "allowed" | "denied" | "fault";
  /** Why it was denied, or which fault it met. */
  reason?: string;
}

/** What can be asked of the gateway. Every method rejects when the gateway does not run. */
export interface AwsControl {
  /** Puts a fault in force; gives its id. */
  addFault(fault: Fault): Promise<number>;
  /** Ends one fault, or all. */
  clearFaults(id?: number): Promise<void>;
  faults(): Promise<ActiveFault[]>;
  copier(): Promise<CopierState>;
  /** Changes what is given; gives the settings that then hold. */
  setCopier(settings: Partial<CopierSettings>): Promise<CopierSettings>;
  /** Makes what failed wait again, as S3 Batch Replication does; gives the number of versions. */
  retryFailed(): Promise<number>;
  /**
   * Decisions on calls of roles and anonymous callers, and all denials and faults; the oldest first.
   * The last 1,000 allowed and the last 1,000 others are kept.
   */
  audit(only?: AuditEntry["decision"]): Promise<AuditEntry[]>;
}

/** Where the gateway listens for control. */
const controlSocket = join(runDir, "aws-control.sock");

const methods = [
  "addFault",
  "clearFaults",
  "faults",
  "copier",
  "setCopier",
  "retryFailed",
  "audit",
] as const satisfies readonly (keyof AwsControl)[];

/** A client of the gateway's control channel. */
export function awsControl(socketPath = controlSocket): AwsControl {
  const call = (method: string, args: unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const sent = request({ socketPath, method: "POST", path: `/${method}`, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("error", reject);
        response.on("end", () => {
          const body = JSON.parse(text) as { result?: unknown; error?: string };
          if (response.statusCode === 200) resolve(body.result);
          else reject(new Error(body.error));
        });
      });
      sent.on("error", (error) => {
        reject(new Error(`the AWS gateway does not answer on ${socketPath} (${error.message}): is the sandbox up?`));
      });
      // JSON would make null of an argument that is left out, which is another thing.
      sent.end(JSON.stringify(args.slice(0, args.findLastIndex((arg) => arg !== undefined) + 1)));
    });
  return Object.fromEntries(
    methods.map((method) => [method, (...args: unknown[]) => call(method, args)]),
  ) as unknown as AwsControl;
}

/** Serves the control channel. */
export async function serveControl(control: AwsControl, socketPath: string): Promise<Server> {
  const server = createServer(async (incoming, response) => {
    const answer = (status: number, body: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    try {
      let text = "";
      for await (const chunk of incoming) text += String(chunk);
      const method = methods.find((m) => `/${m}` === incoming.url);
      if (!method) return answer(404, { error: `no such call ${incoming.url}: there are ${methods.join(", ")}` });
      const call = control[method] as (...args: unknown[]) => Promise<unknown>;
      answer(200, { result: await call(...(JSON.parse(text || "[]") as unknown[])) });
    } catch (error) {
      answer(400, { error: (error as Error).message });
    }
  });
  // A socket that a killed gateway left behind.
  rmSync(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socketPath, resolve);
  });
  return server;
}
