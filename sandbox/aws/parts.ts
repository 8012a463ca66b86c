/** The processes that make up the sandbox's AWS: moto, and the gateway (with the copier) in front of it. */
import { connect } from "node:net";
import { join } from "node:path";
import { toolPath } from "../toolchain";
import type { Part } from "../world/part";
import { projectDir, runDir, typescript } from "../world/paths";
import { awsEndpoint } from "../world/regions";
import { awsControl } from "./control";
import { Moto } from "./moto";
import { awsStateDir, motoPort } from "./places";

/** Names of the parts, for others to wait for. */
export const awsPartNames = { moto: "aws/moto", gateway: "aws/gateway" } as const;

function listens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.on("connect", () => done(true));
    socket.on("error", () => done(false));
    socket.on("timeout", () => done(false));
  });
}

/** The parts. `seedAws` (seed.ts) is to be run once both are ready. */
export function awsParts(): Part[] {
  const { ip, port } = awsEndpoint;
  const moto = new Moto(motoPort);
  return [
    {
      name: awsPartNames.moto,
      command: [
        toolPath("python"),
        join(projectDir, "sandbox/aws/moto/server.py"),
        "--port",
        String(motoPort),
        "--state",
        awsStateDir,
      ],
      // Compiled modules would land in the clone.
      env: { PYTHONDONTWRITEBYTECODE: "1", PYTHONUNBUFFERED: "1" },
      ready: () => moto.healthy(),
    },
    {
      name: awsPartNames.gateway,
      command: [
        process.execPath,
        ...typescript,
        join(projectDir, "sandbox/aws/main.ts"),
        "--listen",
        `${ip}:${port}`,
        "--moto-port",
        String(motoPort),
        "--state",
        awsStateDir,
        "--run",
        runDir,
      ],
      after: [awsPartNames.moto],
      ready: async () => {
        await awsControl().faults();
        return listens(ip, port);
      },
    },
  ];
}
