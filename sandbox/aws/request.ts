/** What a request asks of AWS: service, region, action, and for S3 the permissions that it needs. Pure. */
import { escapeXml } from "./errors";

/** A request's parts, as far as its meaning depends on them. */
export interface Incoming {
  method: string;
  /** Path and query as they came over the wire. */
  url: string;
  /** Names in lower case. */
  headers: Record<string, string>;
}

/** A permission that a request needs. */
export interface Need {
  /** As policies name it, e.g. `s3:GetObject`. */
  action: string;
  /** ARN. */
  resource: string;
  /** Condition keys. */
  context: Record<string, string>;
}

/** Service, region and key id that a request was signed for. */
export interface Scope {
  service: string;
  region: string;
  accessKeyId: string;
  /** Day of the signature, `YYYYMMDD`. */
  date: string;
}

/** Path and query of a URL as it came. */
export function splitUrl(url: string): { path: string; query: URLSearchParams } {
  const at = url.indexOf("?");
  return at < 0
    ? { path: url, query: new URLSearchParams() }
    : { path: url.slice(0, at), query: new URLSearchParams(url.slice(at + 1)) };
}

/** The scope that a request is signed for, from its header or (presigned) its query; undefined when it is not signed. */
export function scopeOf(incoming: Incoming): Scope | undefined {
  const credential =
    /^AWS4-HMAC-SHA256 .*?Credential=([^,\s]+)/.exec(incoming.headers.authorization ?? "")?.[1] ??
    splitUrl(incoming.url).query.get("X-Amz-Credential");
  const [accessKeyId, date, region, service, end] = (credential ?? "").split("/");
  if (!accessKeyId || !date || !region || !service || end !== "aws4_request") return undefined;
  return { accessKeyId, date, region, service };
}

/** Bucket and key that a path names. Only path style is understood. */
export function bucketAndKey(path: string): { bucket?: string; key?: string } {
  const [bucket, ...rest] = path.replace(/^\//, "").split("/");
  const key = rest.map(decodeURIComponent).join("/");
  return { ...(bucket ? { bucket: decodeURIComponent(bucket) } : {}), ...(key ? { key } : {}) };
}

/** Subresources of a bucket, with the noun that the actions have for them. */
const bucketNouns: Record<string, string> = {
  acl: "BucketAcl",
  policy: "BucketPolicy",
  policyStatus: "BucketPolicyStatus",
  versioning: "BucketVersioning",
  replication: "ReplicationConfiguration",
  encryption: "EncryptionConfiguration",
  lifecycle: "LifecycleConfiguration",
  tagging: "BucketTagging",
  cors: "BucketCORS",
  website: "BucketWebsite",
  logging: "BucketLogging",
  notification: "BucketNotification",
  publicAccessBlock: "BucketPublicAccessBlock",
  ownershipControls: "BucketOwnershipControls",
  location: "BucketLocation",
  "object-lock": "BucketObjectLockConfiguration",
  accelerate: "AccelerateConfiguration",
  requestPayment: "BucketRequestPayment",
  inventory: "InventoryConfiguration",
  "intelligent-tiering": "IntelligentTieringConfiguration",
  metrics: "MetricsConfiguration",
  analytics: "AnalyticsConfiguration",
};

function bucketAction(method: string, query: URLSearchParams): string {
  for (const [name, noun] of Object.entries(bucketNouns)) {
    if (!query.has(name)) continue;
    if (method === "GET") return `Get${noun}`;
    // Removing a configuration needs the permission to write it, but for these two.
    if (method === "DELETE" && (name === "policy" || name === "website")) return `Delete${noun}`;
    return `Put${noun}`;
  }
  if (method === "GET") {
    if (query.has("versions")) return "ListBucketVersions";
    return query.has("uploads") ? "ListBucketMultipartUploads" : "ListBucket";
  }
  if (method === "HEAD") return "ListBucket";
  if (method === "DELETE") return "DeleteBucket";
  return "CreateBucket";
}

function objectAction(method: string, query: URLSearchParams): string {
  const version = query.has("versionId") ? "Version" : "";
  const noun = query.has("tagging") ? "Tagging" : query.has("acl") ? "Acl" : undefined;
  const verb = method === "GET" || method === "HEAD" ? "Get" : method === "DELETE" ? "Delete" : "Put";
  if (noun) return `${verb}Object${version}${noun}`;
  if (query.has("retention")) return `${verb}ObjectRetention`;
  if (query.has("legal-hold")) return `${verb}ObjectLegalHold`;
  if (query.has("attributes")) return `GetObject${version}Attributes`;
  if (query.has("restore")) return "RestoreObject";
  if (query.has("select")) return "GetObject";
  if (query.has("uploadId")) {
    if (method === "GET") return "ListMultipartUploadParts";
    if (method === "DELETE") return "AbortMultipartUpload";
  }
  if (verb === "Put") return "PutObject";
  return `${verb}Object${version}`;
}

/** Keys of a DeleteObjects request's body. */
function keysToDelete(body: string): { key: string; versionId?: string }[] {
  const decode = (text: string): string =>
    text.replace(/&(?:#(\d+)|#x([\da-f]+)|(lt|gt|amp|quot|apos));/gi, (_all, dec, hex, name) =>
      dec
        ? String.fromCodePoint(Number(dec))
        : hex
          ? String.fromCodePoint(Number.parseInt(hex, 16))
          : { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" }[String(name).toLowerCase()]!,
    );
  return [...body.matchAll(/<Object>([\s\S]*?)<\/Object>/g)].map(([, object]) => {
    const key = /<Key>([\s\S]*?)<\/Key>/.exec(object ?? "")?.[1] ?? "";
    const versionId = /<VersionId>([\s\S]*?)<\/VersionId>/.exec(object ?? "")?.[1];
    return { key: decode(key), ...(versionId ? { versionId } : {}) };
  });
}

/** True for a request that removes several objects; its body names them, so it must be read before it is judged. */
export function isDeleteObjects(incoming: Incoming): boolean {
  const { path, query } = splitUrl(incoming.url);
  return incoming.method === "POST" && query.has("delete") && bucketAndKey(path).key === undefined;
}

/** The permissions that an S3 request needs, all of them. The first is the one that it is known by. */
export function s3Needs(incoming: Incoming, body = ""): Need[] {
  const { path, query } = splitUrl(incoming.url);
  const { bucket, key } = bucketAndKey(path);
  const { method, headers } = incoming;
  if (!bucket) return [{ action: "s3:ListAllMyBuckets", resource: "*", context: {} }];
  const bucketArn = `arn:aws:s3:::${bucket}`;
  if (isDeleteObjects(incoming)) {
    return keysToDelete(body).map((object) => ({
      action: object.versionId ? "s3:DeleteObjectVersion" : "s3:DeleteObject",
      resource: `${bucketArn}/${object.key}`,
      context: {},
    }));
  }
  if (!key) {
    const context: Record<string, string> = {};
    for (const name of ["prefix", "delimiter", "max-keys"]) {
      const value = query.get(name);
      if (value !== null) context[`s3:${name}`] = value;
    }
    return [{ action: `s3:${bucketAction(method, query)}`, resource: bucketArn, context }];
  }
  const action = objectAction(method, query);
  const context: Record<string, string> = {};
  for (const name of ["x-amz-acl", "x-amz-server-side-encryption", "x-amz-storage-class"]) {
    if (headers[name]) context[`s3:${name}`] = headers[name];
  }
  const versionId = query.get("versionId");
  if (versionId) context["s3:VersionId"] = versionId;
  const resource = `${bucketArn}/${key}`;
  const needs: Need[] = [{ action: `s3:${action}`, resource, context }];
  if (action !== "PutObject") return needs;
  if (headers["x-amz-tagging"]) needs.push({ action: "s3:PutObjectTagging", resource, context });
  if (headers["x-amz-acl"]) needs.push({ action: "s3:PutObjectAcl", resource, context });
  const source = headers["x-amz-copy-source"];
  if (source) {
    const [from = "", version] = source.split("?versionId=");
    const copied = bucketAndKey(from.startsWith("/") ? from : `/${from}`);
    needs.push({
      action: version ? "s3:GetObjectVersion" : "s3:GetObject",
      resource: `arn:aws:s3:::${copied.bucket}/${copied.key}`,
      context: version ? { "s3:VersionId": version } : {},
    });
  }
  return needs;
}

/** EKS's calls that the sandbox is used with; its REST paths do not name them. */
const eksCalls: [method: string, path: RegExp, action: string][] = [
  ["GET", /^\/clusters\/[^/]+$/, "DescribeCluster"],
  ["GET", /^\/clusters$/, "ListClusters"],
  ["POST", /^\/clusters$/, "CreateCluster"],
  ["DELETE", /^\/clusters\/[^/]+$/, "DeleteCluster"],
  ["GET", /^\/clusters\/[^/]+\/pod-identity-associations$/, "ListPodIdentityAssociations"],
  ["POST", /^\/clusters\/[^/]+\/pod-identity-associations$/, "CreatePodIdentityAssociation"],
  ["GET", /^\/clusters\/[^/]+\/pod-identity-associations\/[^/]+$/, "DescribePodIdentityAssociation"],
  ["POST", /^\/clusters\/[^/]+\/pod-identity-associations\/[^/]+$/, "UpdatePodIdentityAssociation"],
  ["DELETE", /^\/clusters\/[^/]+\/pod-identity-associations\/[^/]+$/, "DeletePodIdentityAssociation"],
];

/** Name of the action that a request of any service but S3 asks for; method and path where the protocol names none. */
export function actionOf(service: string, incoming: Incoming, form: URLSearchParams | undefined): string {
  const target = incoming.headers["x-amz-target"]?.split(".").pop();
  if (target) return target;
  const { path, query } = splitUrl(incoming.url);
  const named = form?.get("Action") ?? query.get("Action");
  if (named) return named;
  // The protocol that CloudWatch speaks to newer SDKs.
  const operation = /\/operation\/(\w+)$/.exec(path)?.[1];
  if (operation) return operation;
  if (service === "eks") {
    const found = eksCalls.find(([method, pattern]) => method === incoming.method && pattern.test(path));
    if (found) return found[2];
  }
  return `${incoming.method} ${path}`;
}

/** Message of S3's AccessDenied. `why` is a denial's reason. */
export function deniedMessage(principal: string, need: Need, why: string): string {
  return `User: ${principal} is not authorized to perform: ${need.action} on resource: "${need.resource}" ${why}`;
}

/** A piece of XML: nested elements from nested objects, arrays as repeated elements. */
export function toXml(value: Record<string, unknown>): string {
  return Object.entries(value)
    .flatMap(([name, inner]) => (Array.isArray(inner) ? inner : [inner]).map((one) => [name, one] as const))
    .map(([name, inner]) => {
      const content =
        inner !== null && typeof inner === "object"
          ? toXml(inner as Record<string, unknown>)
          : escapeXml(String(inner));
      return `<${name}>${content}</${name}>`;
    })
    .join("");
}
