/** Typed calls to the launcher's own paths (moto/server.py): what moto's public APIs do not give. Plain HTTP, kept alive. */
import { Agent, request } from "node:http";

/** A policy document as IAM stores it: JSON text. */
export type PolicyText = string;

/** What the gateway needs to know of IAM, and the buckets' policies, at one moment. */
export interface Identities {
  users: { name: string; arn: string; id: string; policies: PolicyText[]; keys: { id: string; secret: string }[] }[];
  roles: {
    name: string;
    arn: string;
    id: string;
    trust: PolicyText;
    maxSession: number;
    policies: PolicyText[];
    boundary: PolicyText | null;
  }[];
  /** `url` is without `https://`, as in the provider's ARN. */
  providers: { arn: string; url: string; clientIds: string[] }[];
  buckets: { name: string; policy: PolicyText | null }[];
}

/** A version that still has to be copied. */
export interface WaitingVersion {
  bucket: string;
  key: string;
  versionId: string;
  kind: "object" | "deleteMarker" | "modification";
  /** Ids of the rules that have not been settled. */
  rules: string[];
  /** When it was written, in milliseconds since 1970. */
  since: number;
  /** Bytes. */
  size: number;
  tagged: boolean;
}

/** A bucket's replication configuration, as far as the copier needs it. */
export interface ReplicationConfiguration {
  bucket: string;
  region: string;
  /** ARN of the role that S3 assumes. */
  role: string;
  rules: {
    id: string;
    status: "Enabled" | "Disabled";
    /** Name of the destination bucket. */
    destination: string;
    destinationRegion: string | null;
    metrics: boolean;
    timeControl: boolean;
  }[];
}

/** One rule's copy of one version. */
export interface ReplicationTask {
  bucket: string;
  key: string;
  versionId: string;
  rule: string;
}

/** The launcher's own calls. */
export class Moto {
  readonly agent = new Agent({ keepAlive: true, maxSockets: 64 });

  constructor(
    readonly port: number,
    readonly host = "127.0.0.1",
  ) {}

  /** True once moto has loaded its state. */
  async healthy(): Promise<boolean> {
    await this.call("GET", "/health");
    return true;
  }

  identities(): Promise<Identities> {
    return this.call("GET", "/identities");
  }

  replication(): Promise<{ configurations: ReplicationConfiguration[]; waiting: WaitingVersion[] }> {
    return this.call("GET", "/replication");
  }

  /** Copies, and settles the rule for this version, in one transaction. `done` is false when it could not be copied. */
  apply(task: ReplicationTask): Promise<{ done: boolean; reason: string }> {
    return this.call("POST", "/replication/apply", task);
  }

  fail(task: ReplicationTask & { reason: string }): Promise<unknown> {
    return this.call("POST", "/replication/fail", task);
  }

  retryFailed(): Promise<{ versions: number }> {
    return this.call("POST", "/replication/retry-failed");
  }

  putAccessKey(key: { userName: string; accessKeyId: string; secretAccessKey: string }): Promise<unknown> {
    return this.call("PUT", "/access-key", key);
  }

  putCluster(cluster: {
    region: string;
    name: string;
    issuer: string;
    endpoint: string;
    /** Base64 of the PEM. */
    certificateAuthority: string;
  }): Promise<unknown> {
    return this.call("PUT", "/cluster", cluster);
  }

  putInstanceName(name: { region: string; instanceId: string; privateDnsName: string }): Promise<unknown> {
    return this.call("PUT", "/instance-name", name);
  }

  /** Gives a CloudWatch metric, as a service of AWS would. */
  async putMetrics(region: string, namespace: string, data: Metric[]): Promise<void> {
    const form = new URLSearchParams({ Action: "PutMetricData", Version: "2010-08-01", Namespace: namespace });
    data.forEach((metric, i) => {
      const at = `MetricData.member.${i + 1}`;
      form.set(`${at}.MetricName`, metric.name);
      form.set(`${at}.Value`, String(metric.value));
      form.set(`${at}.Timestamp`, new Date().toISOString());
      Object.entries(metric.dimensions).forEach(([name, value], j) => {
        form.set(`${at}.Dimensions.member.${j + 1}.Name`, name);
        form.set(`${at}.Dimensions.member.${j + 1}.Value`, value);
      });
    });
    await this.send("POST", "/", form.toString(), {
      "content-type": "application/x-www-form-urlencoded",
      // moto finds service and region in the credential's scope; it checks no signature.
      authorization: `AWS4-HMAC-SHA256 Credential=s3/20000101/${region}/monitoring/aws4_request, SignedHeaders=host, Signature=0`,
    });
  }

  private async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = await this.send(method, `/_sandbox${path}`, body === undefined ? "" : JSON.stringify(body), {});
    return JSON.parse(text) as T;
  }

  private send(method: string, path: string, body: string, headers: Record<string, string>): Promise<string> {
    return new Promise((resolve, reject) => {
      const { agent, host, port } = this;
      const sent = request(
        { agent, host, port, method, path, headers: { ...headers, "content-length": Buffer.byteLength(body) } },
        (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", reject);
          response.on("end", () => {
            const text = Buffer.concat(chunks).toString();
            if (response.statusCode === 200) resolve(text);
            else reject(new Error(`moto answered ${response.statusCode} to ${method} ${path}: ${text}`));
          });
        },
      );
      sent.on("error", reject);
      sent.end(body);
    });
  }
}

/** One value of a CloudWatch metric. */
export interface Metric {
  name: string;
  value: number;
  dimensions: Record<string, string>;
}
