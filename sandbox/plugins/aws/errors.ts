/** Errors of the AWS APIs: their codes, the form in which they are shown, and trying again. */

/** The code of an AWS error, e.g. `NoSuchBucket`; the name of any other error. */
function codeOf(error: unknown): string {
  const { name, Code } = (error ?? {}) as { name?: string; Code?: string };
  return (name === "Error" || name === undefined ? Code : name) ?? name ?? "";
}

/** Whether an error has one of the codes. */
export function hasCode(error: unknown, codes: readonly string[]): boolean {
  return codes.includes(codeOf(error));
}

/** An error that says what was being done, in the form of the official provider's. */
export function fault(doing: string, error: unknown): Error {
  const { message, $metadata } = (error ?? {}) as { message?: string; $metadata?: { httpStatusCode?: number } };
  const status = $metadata?.httpStatusCode ? `https response error StatusCode: ${$metadata.httpStatusCode}, ` : "";
  return new Error(`${doing}: ${status}${codeOf(error)}: ${message ?? String(error)}`, { cause: error });
}

/** What passes by itself: throttling, overload, a dropped connection. The SDK retries these too, but gives up earlier. */
const passing = [
  "Throttling",
  "ThrottlingException",
  "ThrottledException",
  "RequestThrottled",
  "RequestThrottledException",
  "RequestLimitExceeded",
  "TooManyRequestsException",
  "SlowDown",
  "PriorRequestNotComplete",
  "BandwidthLimitExceeded",
  "InternalError",
  "InternalFailure",
  "InternalServerError",
  "ServiceUnavailable",
  "ServiceUnavailableException",
  "RequestTimeout",
  "RequestTimeoutException",
  "TimeoutError",
  "OperationAborted",
  "ConcurrentModification",
  "ECONNRESET",
  "ECONNREFUSED",
  "EPIPE",
  "ETIMEDOUT",
];

const longestPause = 10_000;
const propagation = 120_000;

/** How to try again. */
export interface Retry {
  /** Failures that pass too, for this call and for two minutes: what was made just before is not seen everywhere yet. */
  settling?(error: unknown): boolean;
  signal: AbortSignal;
}

/** Calls until it succeeds, fails for good, or the time is over; then with the last failure. */
export async function trying<T>(doing: string, retry: Retry, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const start = Date.now();
  for (let pause = 250; ; pause = Math.min(pause * 2, longestPause)) {
    try {
      return await call(retry.signal);
    } catch (error) {
      const code = codeOf(error);
      const inner = (error as { code?: string }).code ?? "";
      const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? 0;
      const settling = retry.settling?.(error) && Date.now() - start < propagation;
      const retryable = passing.includes(code) || passing.includes(inner) || status >= 500 || status === 429;
      if (retry.signal.aborted) throw fault(`${doing}: ${timeUp(retry.signal)}; last failure`, error);
      if (!settling && !retryable) throw fault(doing, error);
      await sleep(pause * (0.5 + Math.random() / 2), retry.signal);
      if (retry.signal.aborted) throw fault(`${doing}: ${timeUp(retry.signal)}; last failure`, error);
    }
  }
}

const timeUp = ({ reason }: AbortSignal) =>
  reason instanceof Error && reason.name === "TimeoutError" ? "the time for this operation is over" : String(reason);

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
  });
}

/** The answer, or undefined where the failure says that the thing does not exist. */
export async function unlessGone<T>(codes: readonly string[], answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    const cause = (error as Error).cause;
    if (hasCode(error, codes) || hasCode(cause, codes)) return undefined;
    throw error;
  }
}
