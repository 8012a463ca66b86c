/** A plan of small stand-ins, for tests of the supervisor that need no Kubernetes and no AWS. */
import { appendFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { stateDir } from "../../sandbox/world/paths";
import type { Plan } from "../../sandbox/world/plan";

const server = (port: number, host: string): string[] => [
  process.execPath,
  "-e",
  `require("node:http").createServer((_, r) => r.end("port ${port}")).listen(${port}, "${host}", () => console.log("listening"))`,
];

function answers(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    get({ host, port, timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).on("error", () => resolve(false));
  });
}

const part = (name: string, host: string, port: number, after: string[] = [], boundTo: string[] = []) => ({
  name,
  command: server(port, host),
  after,
  boundTo,
  ready: () => answers(port, host),
});

/** Two servers, one after and bound to the other, a step that adds a third, and one on demand. */
export const plan: Plan = {
  groups: {
    main: () => [
      part("region1/store", "10.1.0.2", 2379),
      part("region1/server", "10.1.0.2", 6443, ["region1/store"], ["region1/store"]),
      {
        name: "seed",
        after: ["region1/store"],
        run: async () => {
          appendFileSync(join(stateDir, "seeded"), "once ");
          return [part("region2/node", "10.2.16.10", 10250, ["region1/server"])];
        },
      },
    ],
    witness: () => [part("witness/server", "10.3.0.2", 6443)],
  },
  gates: [
    { name: "region1/api", target: async () => ({ host: "10.1.0.2", port: 6443 }) },
    { name: "region2/api", target: async () => ({ host: "10.2.16.10", port: 10250 }) },
    {
      name: "nowhere",
      target: async () => {
        throw new Error("nothing there");
      },
    },
  ],
};
