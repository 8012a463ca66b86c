/**
 * Carries bytes one way between two sockets with a delay that can change at any time: bytes are never reordered, the
 * delay does not limit the throughput (up to the buffer), and the end of the stream is as late as its bytes.
 */
import type { Socket } from "node:net";

/** Bytes that may be under way in one direction before the sender is made to wait. */
const bufferLimit = 32 * 1024 * 1024;

/** Connects `from` to `to`; `delayMs` is asked for each piece; `count` is told of the bytes. */
export function delayLine(from: Socket, to: Socket, delayMs: () => number, count: (bytes: number) => void): void {
  const queue: { due: number; data: Buffer | undefined }[] = [];
  let queued = 0;
  let lastDue = 0;
  let timer: NodeJS.Timeout | undefined;
  let blocked = false;

  const deliver = (data: Buffer | undefined): void => {
    if (data === undefined) to.end();
    else if (!to.write(data)) {
      blocked = true;
      from.pause();
    }
  };
  const flush = (): void => {
    timer = undefined;
    const now = performance.now();
    while (!blocked && queue.length > 0 && queue[0]!.due <= now) {
      const { data } = queue.shift()!;
      queued -= data?.length ?? 0;
      deliver(data);
    }
    if (!blocked && queued < bufferLimit) from.resume();
    if (!blocked && queue.length > 0) timer = setTimeout(flush, Math.max(0, Math.ceil(queue[0]!.due - now)));
  };
  const accept = (data: Buffer | undefined): void => {
    const delay = delayMs();
    if (delay === 0 && queue.length === 0 && !blocked) {
      deliver(data);
      return;
    }
    const now = performance.now();
    lastDue = Math.max(lastDue, now + delay);
    queue.push({ due: lastDue, data });
    queued += data?.length ?? 0;
    if (queued >= bufferLimit) from.pause();
    if (!timer && !blocked) timer = setTimeout(flush, Math.max(0, Math.ceil(queue[0]!.due - now)));
  };
  from.on("data", (data: Buffer) => {
    count(data.length);
    accept(data);
  });
  from.on("end", () => accept(undefined));
  to.on("drain", () => {
    blocked = false;
    flush();
  });
  to.on("close", () => clearTimeout(timer));
  // A connection is accepted paused, so that no byte is lost before it has a target.
  from.resume();
  // A socket that was accepted as paused does not begin by itself.
  from.resume();
}
