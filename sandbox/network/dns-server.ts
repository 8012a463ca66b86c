/** The DNS server of all pods, over UDP and TCP. */
import { createSocket } from "node:dgram";
import { createServer, type Socket } from "node:net";
import { decode, encode, type Packet, streamDecode } from "dns-packet";
import { answerTo, type Lookup } from "./dns-names";
import { log } from "./log";

/** Longest answer over UDP to those who do not say that they take more. */
const plainUdpLimit = 512;

function udpLimit(query: Packet): number {
  const opt = query.additionals?.find((record) => record.type === "OPT");
  return Math.max(plainUdpLimit, (opt as { udpPayloadSize?: number } | undefined)?.udpPayloadSize ?? 0);
}

/** Starts to answer on port 53 (or another) of an address; `lookupFor` gives the names that a source address may see. */
export async function serveDns(
  address: string,
  lookupFor: (sourceIp: string) => Lookup,
  port = 53,
): Promise<{ close(): void }> {
  const udp = createSocket("udp4");
  udp.on("message", (message, from) => {
    let query: Packet;
    try {
      query = decode(message);
    } catch {
      return;
    }
    if (query.type !== "query") return;
    const answer = answerTo(query, lookupFor(from.address));
    let bytes = encode(answer);
    // 0x0200: truncated; the client asks again over TCP.
    if (bytes.length > udpLimit(query)) bytes = encode({ ...answer, flags: (answer.flags ?? 0) | 0x0200, answers: [] });
    udp.send(bytes, from.port, from.address, (error) => {
      if (error) log(`DNS answer to ${from.address} not sent: ${error.message}`);
    });
  });
  udp.on("error", (error) => log(`DNS over UDP: ${error.message}`));

  const tcp = createServer((socket: Socket) => {
    let buffer = Buffer.alloc(0);
    socket.setTimeout(10_000, () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("data", (data: Buffer) => {
      buffer = Buffer.concat([buffer, data]);
      while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
        const length = 2 + buffer.readUInt16BE(0);
        const message = buffer.subarray(0, length);
        buffer = buffer.subarray(length);
        try {
          const query = streamDecode(message);
          const bytes = encode(answerTo(query, lookupFor(socket.remoteAddress ?? "")));
          const size = Buffer.alloc(2);
          size.writeUInt16BE(bytes.length);
          socket.write(Buffer.concat([size, bytes]));
        } catch {
          socket.destroy();
          return;
        }
      }
    });
  });
  await new Promise<void>((resolve, reject) => {
    udp.once("error", reject);
    udp.bind({ address, port }, () => {
      udp.off("error", reject);
      resolve();
    });
  });
  await new Promise<void>((resolve, reject) => {
    tcp.once("error", reject);
    tcp.listen({ host: address, port }, () => {
      tcp.off("error", reject);
      resolve();
    });
  });
  return {
    close() {
      udp.close();
      tcp.close();
    },
  };
}
