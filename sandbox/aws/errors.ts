/** AWS errors, and how each protocol writes them. */
import { randomUUID } from "node:crypto";

/** An answer that AWS would give in place of the result. */
export class AwsError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** How a service writes its answers: S3 and other REST services in XML, query services in XML of another form, EC2 in its own, the rest in JSON. */
type Protocol = "s3" | "query" | "ec2" | "json";

/** Services, by the name in a signature's scope, that do not answer in JSON. */
const protocols: Record<string, Protocol> = {
  s3: "s3",
  ec2: "ec2",
  iam: "query",
  sts: "query",
  elasticloadbalancing: "query",
  monitoring: "query",
  autoscaling: "query",
  cloudformation: "query",
  rds: "query",
  sns: "query",
  route53: "query",
};

/** The protocol of a service. */
export function protocolOf(service: string): Protocol {
  return protocols[service] ?? "json";
}

/** Replaces what XML gives a meaning to. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** What happened, in the terms that the services share; each service has its own code for it. */
export type CommonFault =
  | "unknownKey"
  | "badSignature"
  | "expiredToken"
  | "missingToken"
  | "throttled"
  | "internal"
  | "unavailable";

const common: Record<CommonFault, Record<Protocol, [status: number, code: string]>> = {
  unknownKey: {
    s3: [403, "InvalidAccessKeyId"],
    query: [403, "InvalidClientTokenId"],
    ec2: [401, "AuthFailure"],
    json: [400, "UnrecognizedClientException"],
  },
  badSignature: {
    s3: [403, "SignatureDoesNotMatch"],
    query: [403, "SignatureDoesNotMatch"],
    ec2: [401, "AuthFailure"],
    json: [400, "InvalidSignatureException"],
  },
  expiredToken: {
    s3: [400, "ExpiredToken"],
    query: [403, "ExpiredToken"],
    ec2: [400, "RequestExpired"],
    json: [400, "ExpiredTokenException"],
  },
  missingToken: {
    s3: [403, "AccessDenied"],
    query: [403, "MissingAuthenticationToken"],
    ec2: [400, "MissingAuthenticationToken"],
    json: [400, "MissingAuthenticationTokenException"],
  },
  throttled: {
    s3: [503, "SlowDown"],
    query: [400, "Throttling"],
    ec2: [503, "RequestLimitExceeded"],
    json: [429, "ThrottlingException"],
  },
  internal: {
    s3: [500, "InternalError"],
    query: [500, "InternalFailure"],
    ec2: [500, "InternalError"],
    json: [500, "InternalServerException"],
  },
  unavailable: {
    s3: [503, "ServiceUnavailable"],
    query: [503, "ServiceUnavailable"],
    ec2: [503, "Unavailable"],
    json: [503, "ServiceUnavailableException"],
  },
};

/** The error that a service has for a common fault. */
export function commonError(service: string, fault: CommonFault, message: string): AwsError {
  const [status, code] = common[fault][protocolOf(service)];
  return new AwsError(status, code, message);
}

/** Status, headers and body of an error's answer. A HEAD request gets no body. */
export function renderError(
  service: string,
  error: AwsError,
  head = false,
): { status: number; headers: Record<string, string>; body: string } {
  const requestId = randomUUID();
  const code = escapeXml(error.code);
  const message = escapeXml(error.message);
  const start = '<?xml version="1.0" encoding="UTF-8"?>\n';
  const body: Record<Protocol, string> = {
    s3: `${start}<Error><Code>${code}</Code><Message>${message}</Message><RequestId>${requestId}</RequestId></Error>`,
    query: `${start}<ErrorResponse><Error><Type>${error.status < 500 ? "Sender" : "Receiver"}</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>${requestId}</RequestId></ErrorResponse>`,
    ec2: `${start}<Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>${requestId}</RequestID></Response>`,
    json: JSON.stringify({ __type: error.code, message: error.message }),
  };
  const protocol = protocolOf(service);
  const headers: Record<string, string> = {
    "content-type": protocol === "json" ? "application/json" : "application/xml",
    "x-amz-request-id": requestId,
    ...(protocol === "json" ? { "x-amzn-errortype": error.code } : {}),
  };
  return { status: error.status, headers, body: head ? "" : body[protocol] };
}
