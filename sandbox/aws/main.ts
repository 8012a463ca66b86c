/** The gateway's process. Usage: `main.ts --listen IP:PORT --moto-port PORT --state FOLDER --run FOLDER`. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type CopierSettings, serveControl } from "./control";
import { Gateway } from "./gateway";
import { type FetchKeys, fetchFromApiServer } from "./issuers";

/** For tests: a folder of key sets, one file per issuer, in place of API servers. */
function fetchFromFolder(folder: string): FetchKeys {
  return async (issuer) => JSON.parse(readFileSync(join(folder, `${encodeURIComponent(issuer)}.json`), "utf8"));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: "string" },
      "moto-port": { type: "string" },
      state: { type: "string" },
      run: { type: "string" },
      "issuer-keys": { type: "string" },
    },
  });
  const { listen, "moto-port": motoPort, state, run, "issuer-keys": keys } = values;
  if (!listen || !motoPort || !state || !run) throw new Error("give --listen, --moto-port, --state and --run");
  const [, host, port] = /^(.+):(\d+)$/.exec(listen) ?? [];
  if (!host || !port) throw new Error(`--listen is ${listen}: write ADDRESS:PORT`);
  mkdirSync(run, { recursive: true });
  // Survives a kill of the gateway, not `down`: the run folder is made anew by each `up`.
  const settingsFile = join(run, "aws-copier.json");
  const gateway = new Gateway({
    motoPort: Number(motoPort),
    sessionKeyFile: join(state, "session.key"),
    fetchKeys: keys ? fetchFromFolder(keys) : fetchFromApiServer,
    copier: existsSync(settingsFile) ? (JSON.parse(readFileSync(settingsFile, "utf8")) as CopierSettings) : {},
    onCopierSettings: (settings) => writeFileSync(settingsFile, JSON.stringify(settings)),
  });
  await gateway.listen(Number(port), host);
  await serveControl(gateway.control(), join(run, "aws-control.sock"));
  console.log(`the AWS gateway answers on http://${listen}`);
}

void main();
