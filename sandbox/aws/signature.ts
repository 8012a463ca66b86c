/**
 * Checks requests' Signature Version 4, in headers or presigned.
 *
 * Bodies are checked against the signed hash where they are read anyway (every service but S3). S3's bodies pass
 * through unread: a body that does not match the `x-amz-content-sha256` that was signed is not noticed.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { AwsError, commonError } from "./errors";
import { type Incoming, type Scope, splitUrl } from "./request";

const maxSkewMs = 15 * 60 * 1000;

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function hmac(key: string | Buffer, data: string): Buffer {
  return createHmac("sha256", key).update(data).digest();
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

function canonicalPath(service: string, path: string): string {
  // S3 signs the path as it is sent; the others encode it once more.
  const again = (segment: string): string => (service === "s3" ? encode(decodeURIComponent(segment)) : encode(segment));
  return path.split("/").map(again).join("/") || "/";
}

function canonicalQuery(url: string): string {
  const at = url.indexOf("?");
  if (at < 0) return "";
  return url
    .slice(at + 1)
    .split("&")
    .filter((pair) => pair !== "")
    .map((pair) => {
      const [name = "", value = ""] = pair.split(/=(.*)/s);
      return [encode(decodeURIComponent(name)), encode(decodeURIComponent(value))] as const;
    })
    .filter(([name]) => name !== "X-Amz-Signature")
    .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0))
    .map(([name, value]) => `${name}=${value}`)
    .join("&");
}

/**
 * Throws what AWS answers when the signature is not that of `secret`, or is too old.
 * `body` is given where it has been read; `now` in milliseconds.
 */
export function checkSignature(
  incoming: Incoming,
  scope: Scope,
  secret: string,
  body?: Buffer,
  now = Date.now(),
): void {
  const { path, query } = splitUrl(incoming.url);
  const presigned = query.has("X-Amz-Signature");
  const header = incoming.headers.authorization ?? "";
  const signedHeaders = presigned
    ? (query.get("X-Amz-SignedHeaders") ?? "")
    : (/SignedHeaders=([^,\s]+)/.exec(header)?.[1] ?? "");
  const given = presigned ? (query.get("X-Amz-Signature") ?? "") : (/Signature=([0-9a-f]+)/.exec(header)?.[1] ?? "");
  const date = presigned ? query.get("X-Amz-Date") : incoming.headers["x-amz-date"];
  if (!date || !/^\d{8}T\d{6}Z$/.test(date)) {
    throw new AwsError(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header");
  }
  const signedAt = Date.parse(date.replace(/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z/, "$1-$2-$3T$4:$5:$6Z"));
  if (presigned) {
    if (now > signedAt + Number(query.get("X-Amz-Expires")) * 1000) {
      throw new AwsError(403, "AccessDenied", "Request has expired");
    }
  } else if (Math.abs(now - signedAt) > maxSkewMs) {
    throw new AwsError(
      403,
      "RequestTimeTooSkewed",
      "The difference between the request time and the current time is too large.",
    );
  }
  const payload = presigned ? "UNSIGNED-PAYLOAD" : (incoming.headers["x-amz-content-sha256"] ?? sha256(body ?? ""));
  const canonical = [
    incoming.method,
    canonicalPath(scope.service, path),
    canonicalQuery(incoming.url),
    ...signedHeaders.split(";").map((name) => `${name}:${(incoming.headers[name] ?? "").trim().replace(/ +/g, " ")}`),
    "",
    signedHeaders,
    payload,
  ].join("\n");
  const scopeText = `${scope.date}/${scope.region}/${scope.service}/aws4_request`;
  const toSign = ["AWS4-HMAC-SHA256", date, scopeText, sha256(canonical)].join("\n");
  const key = hmac(hmac(hmac(hmac(`AWS4${secret}`, scope.date), scope.region), scope.service), "aws4_request");
  const expected = hmac(key, toSign);
  const actual = Buffer.from(given, "hex");
  if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) {
    throw commonError(
      scope.service,
      "badSignature",
      "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    );
  }
  const isHash = /^[0-9a-f]{64}$/.test(payload);
  if (body !== undefined && isHash && sha256(body) !== payload) {
    throw new AwsError(
      400,
      "XAmzContentSHA256Mismatch",
      "The provided 'x-amz-content-sha256' header does not match what was computed.",
    );
  }
}
