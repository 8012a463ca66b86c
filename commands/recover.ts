/**
 * Makes stacks whose last run was killed ready for the next one, for those who work with plain `pulumi up` and
 * `pulumi destroy`; `npm run up` does it by itself.
 *
 *     npm run recover -- [--stack region1 …]
 *
 * Exit code 0 if all are ready, 2 if one could not be recovered.
 */
import { parseArgs } from "node:util";
import { freeLock, recover } from "./recovery";
import { openStack, runCommand } from "./stacks";

const usage = `npm run recover -- [options]: after a killed pulumi up or destroy, find out what it had begun

  --stack A     a stack; may be given several times (default: region1 and region2)`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { stack: { type: "string", multiple: true }, help: { type: "boolean", default: false } },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  for (const name of values.stack ?? ["region1", "region2"]) {
    const stack = await openStack(name);
    const say = (text: string) => console.log(`${name}  ${text}`);
    await recover(stack, say);
    await freeLock(stack, say);
    console.log(`${name}  ready. Next: pulumi up --stack ${name}`);
  }
  return 0;
}

runCommand(usage, main);
