/** The few things that are asked of iproute2, in the sandbox's network namespace. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { DropRule } from "./faults";

const run = promisify(execFile);

/** Priority of the rules that drop packets: before the table of the namespace's own addresses. */
const dropPriority = 10;
/** Where the table of the namespace's own addresses goes: by default it is at 0, and nothing can come before it. */
const localPriority = 100;

async function ip(...args: string[]): Promise<string> {
  try {
    return (await run("ip", args)).stdout;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`ip ${args.join(" ")}: ${stderr?.trim() || (error as Error).message}`);
  }
}

/** Gives an interface an address, if it does not have it yet. */
export async function addAddress(address: string, device: string): Promise<void> {
  await ip("address", "replace", `${address}/32`, "dev", device);
}

/** Takes an address away from an interface, if it has it. */
export async function removeAddress(address: string, device: string): Promise<void> {
  await ip("address", "delete", `${address}/32`, "dev", device).catch((error: Error) => {
    if (!/Cannot assign requested address/.test(error.message)) throw error;
  });
}

/** The IPv4 addresses of an interface. */
export async function addressesOf(device: string): Promise<string[]> {
  const links = JSON.parse(await ip("-j", "-4", "address", "show", "dev", device)) as {
    addr_info?: { local?: string }[];
  }[];
  return links.flatMap((link) => (link.addr_info ?? []).flatMap((info) => info.local ?? []));
}

interface KernelRule {
  priority: number;
  src: string;
  srclen?: number;
  dst?: string;
  dstlen?: number;
  table?: string;
}

/** Makes the kernel drop exactly what these rules say. */
export async function setDropRules(wanted: DropRule[]): Promise<void> {
  const rules = JSON.parse((await ip("-j", "-4", "rule", "show")) || "[]") as KernelRule[];
  if (wanted.length === 0 && !rules.some((rule) => rule.priority === dropPriority)) return;
  if (!rules.some((rule) => rule.priority === localPriority)) {
    await ip("-4", "rule", "add", "priority", String(localPriority), "lookup", "local");
  }
  if (rules.some((rule) => rule.priority === 0)) await ip("-4", "rule", "delete", "priority", "0");
  const text = (address = "all", bits?: number) => (address === "all" ? "all" : `${address}/${bits ?? 32}`);
  const key = (from: string, to: string) => `${from} ${to}`;
  const existing = new Set(
    rules.filter((r) => r.priority === dropPriority).map((r) => key(text(r.src, r.srclen), text(r.dst, r.dstlen))),
  );
  const target = new Set(wanted.map((rule) => key(rule.from, rule.to)));
  const selector = (pair: string) => {
    const [from, to] = pair.split(" ") as [string, string];
    return ["priority", String(dropPriority), "from", from, "to", to, "blackhole"];
  };
  for (const pair of target) if (!existing.has(pair)) await ip("-4", "rule", "add", ...selector(pair));
  for (const pair of existing) if (!target.has(pair)) await ip("-4", "rule", "delete", ...selector(pair));
}
