/** Where the sandbox's AWS listens and keeps its state. */
import { join } from "node:path";
import { stateDir } from "../world/paths";

/** Where moto listens, on 127.0.0.1 of the sandbox's namespace only. */
export const motoPort = 4565;

/** Everything that AWS has to remember. */
export const awsStateDir = join(stateDir, "aws");
