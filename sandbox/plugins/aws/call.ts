/** Calling AWS for a resource: with the request's time limit, trying again what passes, and errors that say what was done. */
import type { Request } from "../provider/resource";
import type { AwsContext } from "./context";
import { trying } from "./errors";

/** A request from the engine to this provider. */
export type AwsRequest = Pick<Request<AwsContext>, "context" | "signal">;

/** Makes one API call. `settling` names failures that are given two minutes to pass. */
export function call<T>(
  request: AwsRequest,
  doing: string,
  send: (options: { abortSignal: AbortSignal }) => Promise<T>,
  settling?: (error: unknown) => boolean,
): Promise<T> {
  return trying(doing, { signal: request.signal, ...(settling && { settling }) }, (abortSignal) =>
    send({ abortSignal }),
  );
}
