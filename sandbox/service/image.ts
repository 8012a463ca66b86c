/** The practice service's image: this machine's Node.js and the service as one bundled file. */
import { join } from "node:path";
import type { ProgramImage } from "../toolchain";
import { sandboxDir } from "../world/paths";
import { serviceImage } from "./objects";

/** Where the bundled service is, on this machine. */
export const serviceBundle = join(sandboxDir, "bundles", "practice-ledger.js");

/** Its entry in the nodes' table of images. The bundle is made before the first pod is. */
export function ledgerImage(): ProgramImage {
  return {
    image: serviceImage,
    files: { "/usr/local/bin/node": process.execPath, "/opt/ledger.js": serviceBundle },
    entrypoint: ["/usr/local/bin/node", "--enable-source-maps", "/opt/ledger.js"],
  };
}
