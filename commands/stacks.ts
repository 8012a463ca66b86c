/** What the commands over both stacks share: where the stacks are, which two are meant, how a command ends. */
import { resolve } from "node:path";
import {
  CommandError,
  LocalWorkspace,
  type OutputMap,
  PulumiCommand,
  Stack,
  StackNotFoundError,
} from "@pulumi/pulumi/automation";

/**
 * Where Pulumi.yaml is, which is also the working directory of the program: this project's folder, unless the
 * environment names another one as `pulumi --cwd` would.
 */
export const projectFolder = resolve(process.env.PULUMI_OPTION_CWD || resolve(__dirname, ".."));

/** The command was asked for in the wrong way: its usage is shown, the exit code is 2. */
export class UsageError extends Error {}

/** The stacks that `--stacks` names, home region first. Throws `UsageError` unless it names two. */
export function twoStacks(value: string): [home: string, peer: string] {
  const [home, peer, ...more] = value.split(",").map((name) => name.trim());
  if (!home || !peer || home === peer || more.length > 0) {
    throw new UsageError("--stacks needs two names, home region first, e.g. --stacks region1,region2");
  }
  return [home, peer];
}

/** The program `pulumi` of the operator's PATH. */
async function pulumiProgram(): Promise<PulumiCommand> {
  try {
    return await PulumiCommand.get();
  } catch (error) {
    if (!/spawn pulumi ENOENT/.test(String(error))) throw new Error(`pulumi does not run: ${reasonOf(error)}`);
    throw new Error(
      "there is no pulumi on PATH. Next, for the sandbox:\n" +
        '  eval "$(npm run -s sandbox -- env region1)"\n' +
        "For regions in AWS, install it: https://www.pulumi.com/docs/install/",
    );
  }
}

let program: Promise<PulumiCommand> | undefined;

/** A stack that exists. Does not make it the selected one: what the operator has selected stays so. */
export async function openStack(name: string): Promise<Stack> {
  return (await openStackWithOutputs(name)).stack;
}

/** The same with its outputs as plain values, which are read to see that it exists: asking again would cost a second. */
export async function openStackWithOutputs(name: string): Promise<{ stack: Stack; outputs: Record<string, unknown> }> {
  program ??= pulumiProgram();
  const workspace = await LocalWorkspace.create({
    pulumiCommand: await program,
    workDir: projectFolder,
    // Pulumi runs in that folder, where a relative path would be taken twice.
    envVars: process.env.PULUMI_OPTION_CWD ? { PULUMI_OPTION_CWD: projectFolder } : {},
  });
  // Every command names its stack; selecting would only change what a later bare `pulumi destroy` is about.
  let outputs: OutputMap = {};
  workspace.selectStack = async (stack) => {
    outputs = await workspace.stackOutputs(stack);
  };
  try {
    const stack = await Stack.select(name, workspace);
    return { stack, outputs: plainValues(outputs) };
  } catch (error) {
    if (error instanceof StackNotFoundError) {
      throw new Error(`there is no stack ${name} in this backend. Next: pulumi stack init ${name}`);
    }
    throw new Error(`stack ${name} cannot be read: ${reasonOf(error)}`);
  }
}

/** A stack's outputs as plain values. */
export async function plainOutputs(stack: Stack): Promise<Record<string, unknown>> {
  return plainValues(await stack.outputs());
}

function plainValues(outputs: OutputMap): Record<string, unknown> {
  return Object.fromEntries(Object.entries(outputs).map(([key, { value }]) => [key, value]));
}

/** What `pulumi.getOrganization()` gives in the stack's program: of a backend without organizations, "organization". */
export async function organizationOf(stack: Stack): Promise<string> {
  const [organization, ...rest] = stack.name.split("/");
  if (organization && rest.length > 0) return organization;
  const { user, url } = await stack.workspace.whoAmI();
  if (!url || !/^https?:/.test(url)) return "organization";
  return (await stack.orgGetDefault()) || user;
}

/** Why something failed, in the words that matter of what Pulumi, Kubernetes or the network said. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof CommandError) {
    const said = /^ stderr: (.*)^ err\?: /ms.exec(error.message)?.[1]?.trim();
    return said ? said.replace(/^Command failed with exit code .*\n/, "").replace(/^error: /gm, "") : error.message;
  }
  const { code, body } = error as { code?: number | string; body?: unknown };
  if (typeof code === "number" && body !== undefined) {
    const message = /"message":"((?:[^"\\]|\\.)*)"/.exec(typeof body === "string" ? body : JSON.stringify(body))?.[1];
    return `HTTP ${code}${message ? `: ${message.replace(/\\(.)/g, "$1")}` : ""}`;
  }
  return error.message || String(code ?? error.name);
}

/** The errors that Pulumi told of in a run that failed, without those that only say that it did. */
export function errorsIn(error: unknown): string[] {
  if (!(error instanceof CommandError)) return [];
  const told = [...error.message.matchAll(/\berror: (.+)$/gm)].map(([, text]) => text!.trim());
  return [...new Set(told.filter((text) => !/^(update|preview|refresh) failed/.test(text)))];
}

/**
 * Runs a command to its end, with its exit code. Errors that it throws are told on standard error and end with exit
 * code 2; if it was asked for in the wrong way, its usage is told too.
 */
export function runCommand(usage: string, command: () => Promise<number>): void {
  // Connections to clusters that do not answer would keep the process for minutes.
  const end = (code: number) => process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
  command().then(end, (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    const misuse = error instanceof UsageError || (error as { code?: string }).code?.startsWith?.("ERR_PARSE_ARGS");
    console.error(misuse ? `${message}\n\n${usage}` : message);
    end(2);
  });
}
