/** A gateway and a moto of a test's own, on free ports of 127.0.0.1, with a self-made token issuer in place of the API servers. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { IAMClient } from "@aws-sdk/client-iam";
import { S3Client } from "@aws-sdk/client-s3";
import { AssumeRoleWithWebIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from "jose";
import { type AwsControl, awsControl } from "../../sandbox/aws/control";
import { adminCredentials } from "../../sandbox/aws/credentials";
import { Moto } from "../../sandbox/aws/moto";
import { type SeededWorld, seedAws } from "../../sandbox/aws/seed";
import { toolPath } from "../../sandbox/toolchain";
import { projectDir, typescript } from "../../sandbox/world/paths";
import { regions } from "../../sandbox/world/regions";

/** What the SDK wants to know of who asks. */
export interface Identity {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits until `ask` gives something true; rejects with `what` after `seconds`. */
export async function until<T>(what: string, ask: () => Promise<T>, seconds = 30): Promise<NonNullable<T>> {
  const end = Date.now() + seconds * 1000;
  let last: unknown;
  while (Date.now() < end) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    await sleep(25);
  }
  throw new Error(`${what}: not within ${seconds} s; last: ${last instanceof Error ? last.message : String(last)}`);
}

/** The world of one test file. */
export class AwsWorld {
  readonly folder = mkdtempSync(join(tmpdir(), "aws-"));
  motoPort = 0;
  gatewayPort = 0;
  world!: SeededWorld;
  control!: AwsControl;
  moto!: ChildProcess;
  gateway!: ChildProcess;
  private keys!: { privateKey: CryptoKey; publicKey: CryptoKey };
  private readonly clients: { destroy(): void }[] = [];

  static async start(): Promise<AwsWorld> {
    const world = new AwsWorld();
    world.motoPort = await freePort();
    world.gatewayPort = await freePort();
    world.control = awsControl(join(world.folder, "run", "aws-control.sock"));
    world.keys = await generateKeyPair("RS256");
    for (const region of regions) await world.publish(region.oidcIssuer, world.keys.publicKey);
    await Promise.all([world.startMoto(), world.startGateway()]);
    await world.seed();
    return world;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.gatewayPort}`;
  }

  /** Puts the issuer's key set where the gateway looks for it. */
  async publish(issuer: string, key: CryptoKey): Promise<void> {
    const folder = join(this.folder, "issuers");
    mkdirSync(folder, { recursive: true });
    const keys = [{ ...(await exportJWK(key)), kid: "one", alg: "RS256", use: "sig" }];
    writeFileSync(join(folder, `${encodeURIComponent(issuer)}.json`), JSON.stringify({ keys }));
  }

  async seed(): Promise<void> {
    const { endpoint, motoPort, folder } = this;
    this.world = await seedAws({ endpoint, motoPort, folder, regions });
  }

  private spawn(name: string, command: string[]): ChildProcess {
    const log = openSync(join(this.folder, `${name}.log`), "a");
    const env = { ...process.env, PYTHONDONTWRITEBYTECODE: "1" };
    return spawn(command[0]!, command.slice(1), { cwd: projectDir, env, stdio: ["ignore", log, log] });
  }

  async startMoto(): Promise<void> {
    const script = join(projectDir, "sandbox/aws/moto/server.py");
    const state = join(this.folder, "state");
    this.moto = this.spawn("moto", [toolPath("python"), script, "--port", String(this.motoPort), "--state", state]);
    const client = new Moto(this.motoPort);
    await until("moto answers", () => client.healthy(), 60).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log("moto")}`);
    });
    client.agent.destroy();
  }

  async startGateway(): Promise<void> {
    const places = ["--state", join(this.folder, "state"), "--run", join(this.folder, "run")];
    const issuers = ["--issuer-keys", join(this.folder, "issuers")];
    const ports = ["--listen", `127.0.0.1:${this.gatewayPort}`, "--moto-port", String(this.motoPort)];
    const main = join(projectDir, "sandbox/aws/main.ts");
    this.gateway = this.spawn("gateway", [process.execPath, ...typescript, main, ...ports, ...places, ...issuers]);
    await until("the gateway answers", () => this.control.faults(), 60).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.log("gateway")}`);
    });
  }

  log(name: string): string {
    return readFileSync(join(this.folder, `${name}.log`), "utf8");
  }

  /** Kills a process with -9 and waits until it is gone. */
  async kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    for (const client of this.clients) client.destroy();
    await Promise.all([this.kill(this.gateway), this.kill(this.moto)]);
    // A fault of moto or the launcher shows to the client as an answer that it cannot read.
    for (const part of this.log("moto")
      .split(/^(?=Traceback)/m)
      .slice(1))
      console.error(part);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** S3 as the SDK has it. `attempts` 1: no retries. */
  s3(region: string, credentials: Identity = adminCredentials, attempts = 1): S3Client {
    const { endpoint } = this;
    return this.keep(new S3Client({ endpoint, region, credentials, forcePathStyle: true, maxAttempts: attempts }));
  }

  iam(): IAMClient {
    const { endpoint } = this;
    return this.keep(new IAMClient({ endpoint, region: "us-east-1", credentials: adminCredentials, maxAttempts: 1 }));
  }

  sts(region = "us-east-1", credentials: Identity = adminCredentials): STSClient {
    return this.keep(new STSClient({ endpoint: this.endpoint, region, credentials, maxAttempts: 1 }));
  }

  /** Has a client closed with the world. */
  keep<T extends { destroy(): void }>(client: T): T {
    this.clients.push(client);
    return client;
  }

  /** A token as the API server projects it into pods. */
  async token(
    given: { iss?: string; aud?: string; sub?: string; expires?: number; key?: CryptoKey; kid?: string } = {},
  ): Promise<string> {
    return new SignJWT({})
      .setProtectedHeader({ alg: "RS256", kid: given.kid ?? "one" })
      .setIssuer(given.iss ?? regions[0]!.oidcIssuer)
      .setAudience(given.aud ?? "sts.amazonaws.com")
      .setSubject(given.sub ?? "system:serviceaccount:restate:restate")
      .setIssuedAt(Math.floor(Date.now() / 1000) - 7200)
      .setExpirationTime(given.expires ?? Math.floor(Date.now() / 1000) + 600)
      .sign(given.key ?? this.keys.privateKey);
  }

  /** Credentials of a role, by a token. */
  async assume(roleArn: string, token?: string, seconds = 900): Promise<Identity> {
    const { Credentials } = await this.sts().send(
      new AssumeRoleWithWebIdentityCommand({
        RoleArn: roleArn,
        RoleSessionName: "restate-0",
        WebIdentityToken: token ?? (await this.token()),
        DurationSeconds: seconds,
      }),
    );
    return {
      accessKeyId: Credentials!.AccessKeyId!,
      secretAccessKey: Credentials!.SecretAccessKey!,
      sessionToken: Credentials!.SessionToken!,
    };
  }
}
