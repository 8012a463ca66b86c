/**
 * The endpoint of all AWS services, for both regions: passes requests on to moto, and adds what moto does not do: it knows its
 * callers, checks their signatures and permissions, answers STS itself, and injects faults.
 *
 * Permissions are checked for everyone but the operator's user. For S3 they are exact; for other services an action must be allowed on all
 * resources. Buckets are addressed by path (`http://endpoint/bucket/key`), never by host name. Requests without a signature are refused, but
 * for AssumeRoleWithWebIdentity.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { authorize, type Decision } from "./authorize";
import { type Caller, Callers, IdentityCache } from "./callers";
import type { AwsControl, CopierSettings } from "./control";
import { Copier } from "./copier";
import { AwsError, commonError, protocolOf, renderError } from "./errors";
import { Audit, Faults } from "./faults";
import { type FetchKeys, IssuerKeys } from "./issuers";
import { Moto } from "./moto";
import {
  actionOf,
  bucketAndKey,
  deniedMessage,
  type Incoming,
  isDeleteObjects,
  type Need,
  type Scope,
  s3Needs,
  scopeOf,
  splitUrl,
} from "./request";
import { Sessions } from "./sessions";
import { Sts } from "./sts";

/** Bodies that are read before they are passed on may have this size, in bytes. */
const maxBufferedBody = 4 * 1024 * 1024;

/** What a gateway needs. */
export interface GatewayOptions {
  motoPort: number;
  /** File that holds the key that session tokens are signed with; made when missing. */
  sessionKeyFile: string;
  fetchKeys: FetchKeys;
  copier?: Partial<CopierSettings>;
  /** Called when the copier's settings change, so that they can be kept. */
  onCopierSettings?: (settings: CopierSettings) => void;
}

/** One request on its way. */
interface Exchange {
  incoming: Incoming;
  scope: Scope;
  body: Buffer | undefined;
  action: string;
  caller: Caller | undefined;
  needs: Need[];
}

const hopHeaders = new Set([
  "connection",
  "keep-alive",
  "transfer-encoding",
  "expect",
  "te",
  "upgrade",
  "proxy-connection",
]);

function toIncoming(message: IncomingMessage): Incoming {
  const headers: Record<string, string> = {};
  const raw = message.rawHeaders;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase();
    headers[name] = name in headers ? `${headers[name]},${raw[i + 1]}` : raw[i + 1]!;
  }
  return { method: message.method ?? "GET", url: message.url ?? "/", headers };
}

async function readBody(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBufferedBody) {
      throw new AwsError(413, "RequestEntityTooLarge", `the body is over ${maxBufferedBody} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function formOf(incoming: Incoming, body: Buffer | undefined): URLSearchParams | undefined {
  const isForm = incoming.headers["content-type"]?.startsWith("application/x-www-form-urlencoded");
  return isForm && body ? new URLSearchParams(body.toString()) : undefined;
}

/** The gateway, with its copier. */
export class Gateway {
  readonly moto: Moto;
  readonly copier: Copier;
  readonly server: Server;
  private readonly identities: IdentityCache;
  private readonly callers: Callers;
  private readonly sts: Sts;
  private readonly faults = new Faults();
  private readonly audit = new Audit();

  constructor(private readonly options: GatewayOptions) {
    this.moto = new Moto(options.motoPort);
    this.identities = new IdentityCache(this.moto);
    const sessions = Sessions.open(options.sessionKeyFile);
    this.callers = new Callers(this.identities, sessions);
    this.sts = new Sts(sessions, new IssuerKeys(options.fetchKeys), this.identities.get);
    this.copier = new Copier(this.moto, this.identities, this.audit, options.copier);
    this.server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 }, (message, response) => {
      void this.handle(message, response);
    });
  }

  /** Listens, and starts copying. */
  async listen(port: number, host: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, host, resolve);
    });
    this.copier.start();
  }

  async close(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await this.copier.stop();
    this.moto.agent.destroy();
  }

  /** What the control channel serves. */
  control(): AwsControl {
    return {
      addFault: async (fault) => this.faults.add(fault),
      clearFaults: async (id) => this.faults.clear(id),
      faults: async () => this.faults.list(),
      copier: () => this.copier.state(),
      setCopier: async (change) => {
        const settings = this.copier.set(change);
        this.options.onCopierSettings?.(settings);
        return settings;
      },
      retryFailed: async () => {
        const { versions } = await this.moto.retryFailed();
        this.copier.nudge();
        return versions;
      },
      audit: async (only) => this.audit.list(only),
    };
  }

  private async handle(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const incoming = toIncoming(message);
    let service = scopeOf(incoming)?.service ?? "s3";
    try {
      const exchange = await this.understand(message, incoming);
      service = exchange.scope.service;
      if (await this.disturb(exchange, response)) return;
      if (service === "sts" && (await this.answerSts(exchange, response))) return;
      await this.permit(exchange);
      await this.forward(message, exchange, response);
    } catch (error) {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const known =
        error instanceof AwsError
          ? error
          : commonError(service, "unavailable", `the sandbox's AWS: ${(error as Error).message}`);
      if (!(error instanceof AwsError)) console.error(`${incoming.method} ${incoming.url}: ${(error as Error).stack}`);
      // A body that was not read must be: else the client sees a broken connection in place of the answer.
      message.resume();
      const { status, headers, body } = renderError(service, known, incoming.method === "HEAD");
      response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) }).end(body);
    }
  }

  private async understand(message: IncomingMessage, incoming: Incoming): Promise<Exchange> {
    const signed = scopeOf(incoming);
    const isS3 = signed ? signed.service === "s3" : !incoming.headers["content-type"]?.includes("form-urlencoded");
    if (splitUrl(incoming.url).path.startsWith("/_sandbox")) {
      throw new AwsError(403, "AccessDenied", "paths under /_sandbox are the gateway's own");
    }
    const body = !isS3 || isDeleteObjects(incoming) ? await readBody(message) : undefined;
    const form = formOf(incoming, body);
    const scope: Scope = signed ?? { service: isS3 ? "s3" : "sts", region: "us-east-1", accessKeyId: "", date: "" };
    const needs = isS3 ? s3Needs(incoming, body?.toString()) : [];
    const action = isS3 ? (needs[0]?.action.slice(3) ?? "DeleteObjects") : actionOf(scope.service, incoming, form);
    const caller = signed ? await this.callers.of(incoming, signed, body) : undefined;
    if (!isS3) needs.push({ action: `${policyPrefix(scope.service)}:${action}`, resource: "*", context: {} });
    return { incoming, scope, body, action, caller, needs };
  }

  /** Injects faults. True when the request is not to be answered by anyone else. */
  private async disturb(exchange: Exchange, response: ServerResponse): Promise<boolean> {
    const { scope, action, caller, needs, incoming, body } = exchange;
    const resource = formOf(incoming, body)?.get("RoleArn") ?? needs[0]?.resource ?? "*";
    const principal = caller?.arn ?? "anonymous";
    const met = this.faults.meet({ service: scope.service, region: scope.region, action, caller: principal, resource });
    for (const fault of met) {
      this.audit.add({
        principal,
        action: `${scope.service}:${action}`,
        resource,
        decision: "fault",
        reason: fault.effect,
      });
      if (fault.effect === "delay") await sleep(fault.delayMs);
      else if (fault.effect === "throttle") {
        throw commonError(scope.service, "throttled", "Please reduce your request rate. (injected by the sandbox)");
      } else if (fault.effect === "fail") {
        throw commonError(scope.service, "internal", "We encountered an internal error. (injected by the sandbox)");
      } else {
        // Never answered; the connection goes when the client gives up.
        response.socket?.setTimeout(0);
        return true;
      }
    }
    return false;
  }

  private async answerSts(exchange: Exchange, response: ServerResponse): Promise<boolean> {
    const { action, caller, incoming, body } = exchange;
    const form = formOf(incoming, body) ?? splitUrl(incoming.url).query;
    let answer: string;
    if (action === "AssumeRoleWithWebIdentity") {
      const audit = { principal: "anonymous", resource: form.get("RoleArn") ?? "" };
      const record = (decision: "allowed" | "denied", reason?: string): void =>
        this.audit.add({ ...audit, action: "sts:AssumeRoleWithWebIdentity", decision, ...(reason ? { reason } : {}) });
      try {
        answer = await this.sts.assumeRoleWithWebIdentity(form, audit);
        record("allowed");
      } catch (error) {
        record("denied", (error as Error).message);
        throw error;
      }
    } else if (!caller) {
      throw commonError("sts", "missingToken", "Request is missing Authentication Token");
    } else if (action === "AssumeRole") {
      answer = await this.sts.assumeRole(form, caller);
    } else if (action === "GetCallerIdentity") {
      answer = this.sts.getCallerIdentity(caller);
    } else {
      return false;
    }
    response.writeHead(200, { "content-type": "text/xml", "content-length": Buffer.byteLength(answer) }).end(answer);
    return true;
  }

  private async permit({ caller, needs, scope }: Exchange): Promise<void> {
    if (!caller) {
      this.audit.add({
        principal: "anonymous",
        action: needs[0]?.action ?? scope.service,
        resource: needs[0]?.resource ?? "*",
        decision: "denied",
        reason: "not signed",
      });
      const message = scope.service === "s3" ? "Access Denied" : "Request is missing Authentication Token";
      throw commonError(scope.service, "missingToken", message);
    }
    if (caller.admin) return;
    for (const need of needs) {
      const decision = await this.decide(caller, need);
      const { action, resource } = need;
      this.audit.add({
        principal: caller.arn,
        action,
        resource,
        decision: decision.allowed ? "allowed" : "denied",
        ...(decision.allowed ? {} : { reason: decision.reason }),
      });
      if (!decision.allowed) {
        const code = protocolOf(scope.service) === "ec2" ? "UnauthorizedOperation" : "AccessDenied";
        throw new AwsError(403, code, deniedMessage(caller.arn, need, decision.reason));
      }
    }
  }

  private async decide(caller: Caller, need: Need): Promise<Decision> {
    const bucket = /^arn:aws:s3:::([^/]+)/.exec(need.resource)?.[1];
    const { buckets } = await this.identities.get();
    return authorize(caller, need, buckets.find((b) => b.name === bucket)?.policy ?? null);
  }

  /**
   * S3 does not tell a caller who may not list a bucket that an object is missing.
   * Why a 404 has to become a 403; undefined when it has not.
   */
  private async hides({ caller, needs, incoming }: Exchange): Promise<string | undefined> {
    const { bucket, key } = bucketAndKey(splitUrl(incoming.url).path);
    if (!caller || caller.admin || !bucket || !key || !needs[0]?.action.startsWith("s3:GetObject")) return undefined;
    if (!(await this.identities.get()).buckets.some((b) => b.name === bucket)) return undefined;
    const list: Need = { action: "s3:ListBucket", resource: `arn:aws:s3:::${bucket}`, context: { "s3:prefix": key } };
    const decision = await this.decide(caller, list);
    return decision.allowed ? undefined : decision.reason;
  }

  private forward(message: IncomingMessage, exchange: Exchange, response: ServerResponse): Promise<void> {
    const { incoming, body, scope } = exchange;
    const headers: string[] = [];
    for (let i = 0; i < message.rawHeaders.length; i += 2) {
      const name = message.rawHeaders[i]!;
      if (!hopHeaders.has(name.toLowerCase())) headers.push(name, message.rawHeaders[i + 1]!);
    }
    if (incoming.headers["content-length"] === undefined && incoming.headers["transfer-encoding"] !== undefined) {
      headers.push("Transfer-Encoding", "chunked");
    }
    const changes = incoming.method !== "GET" && incoming.method !== "HEAD";
    return new Promise((resolve, reject) => {
      const { agent, host, port } = this.moto;
      const sent = request({ agent, host, port, method: incoming.method, path: incoming.url, headers }, (answered) => {
        if (changes) this.changed(scope.service, incoming.url);
        void this.passBack(exchange, answered, response).then(resolve, reject);
      });
      sent.on("error", (error) => reject(new Error(`moto cannot be reached: ${error.message}`)));
      response.on("close", () => {
        if (!response.writableFinished) sent.destroy();
      });
      if (body !== undefined) sent.end(body);
      else message.pipe(sent);
    });
  }

  private async passBack(exchange: Exchange, answered: IncomingMessage, response: ServerResponse): Promise<void> {
    const missing = answered.statusCode === 404 && !answered.headers["x-amz-delete-marker"];
    const hidden = missing ? await this.hides(exchange) : undefined;
    if (hidden !== undefined) {
      answered.resume();
      const need = exchange.needs[0]!;
      const reason = "the key does not exist, and the caller may not s3:ListBucket";
      this.audit.add({ principal: exchange.caller!.arn, ...need, decision: "denied", reason });
      const message = deniedMessage(exchange.caller!.arn, { ...need, action: "s3:ListBucket" }, hidden);
      throw new AwsError(403, "AccessDenied", message);
    }
    if (answered.statusCode === 500 && answered.headers["content-type"]?.startsWith("text/html")) {
      answered.resume();
      throw commonError(exchange.scope.service, "internal", `moto failed on ${exchange.action}: see its log`);
    }
    const headers: string[] = [];
    for (let i = 0; i < answered.rawHeaders.length; i += 2) {
      if (!hopHeaders.has(answered.rawHeaders[i]!.toLowerCase()))
        headers.push(answered.rawHeaders[i]!, answered.rawHeaders[i + 1]!);
    }
    response.writeHead(answered.statusCode ?? 502, headers);
    await new Promise<void>((resolve, reject) => {
      answered.on("error", reject);
      response.on("close", resolve);
      answered.pipe(response);
    });
  }

  private changed(service: string, url: string): void {
    const ofBucket = service === "s3" && bucketAndKey(splitUrl(url).path).key === undefined;
    if (service === "iam" || ofBucket) this.identities.forget();
    if (service === "s3") this.copier.nudge();
  }
}

/** Policies' prefix for a service, where it is not the name in the signature's scope. */
function policyPrefix(service: string): string {
  return service === "monitoring" ? "cloudwatch" : service;
}
