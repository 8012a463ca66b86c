/**
 * `pulumi-language-nodejs`: the language host that the Pulumi engine starts to run Node.js programs, policy packs and
 * plugins. The engine passes its own address, reads a port from the first line of output, and calls LanguageRuntime.
 *
 * Stands in for the official host, which comes only with official releases of Pulumi. It does not generate code
 * (`pulumi convert`, `pulumi package`), start debuggers, make projects from templates, answer calls of very old SDKs
 * through pipes, or give the stack's configuration to `new pulumi.Config()` inside a policy pack.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { LanguageRuntimeService } from "@pulumi/pulumi/proto/language_grpc_pb";
import * as messages from "@pulumi/pulumi/proto/language_pb";
import { PackageDependency, PluginInfo } from "@pulumi/pulumi/proto/plugin_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { endWithEngine } from "../end-with-engine";
import { configEnvironment, optionsEnvironment, runArguments, runtimeOptions } from "./options";

/** Set by the bundler to the version of the SDK that the stubs come from. */
declare const SDK_VERSION: string;

/** Exit code of the SDK for "failed, and said so already". */
const alreadyReported = 32;

const engineAddress = process.argv.at(-1) ?? "";
const children = new Set<ChildProcess>();

function start(command: string, args: string[], options: { cwd: string; env: NodeJS.ProcessEnv; pipe: boolean }) {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: ["ignore", options.pipe ? "pipe" : "inherit", options.pipe ? "pipe" : "inherit"],
  });
  children.add(child);
  child.once("close", () => children.delete(child));
  return child;
}

/** Resolves with the exit code, 128 for a signal's end; rejects when the process could not be started. */
function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 128));
  });
}

function stopChildren(): void {
  for (const child of children) child.kill("SIGTERM");
}

/** Path of a command of the SDK that the program itself depends on. */
function sdkCommand(programDirectory: string, command: string): string {
  try {
    return createRequire(join(programDirectory, "package.json")).resolve(`@pulumi/pulumi/cmd/${command}`);
  } catch {
    throw new Error(`Cannot find module '@pulumi/pulumi/cmd/${command}' from ${programDirectory}: run npm ci there`);
  }
}

interface Manifest {
  name?: string;
  version?: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  pulumi?: { resource?: boolean; name?: string; version?: string; server?: string };
}

/** The installed manifests of what the program's package.json names. */
function dependencies(programDirectory: string): Manifest[] {
  const manifestFile = (folder: string) => join(folder, "package.json");
  let root = programDirectory;
  while (!existsSync(manifestFile(root)) && dirname(root) !== root) root = dirname(root);
  if (!existsSync(manifestFile(root))) return [];
  const manifest: Manifest = JSON.parse(readFileSync(manifestFile(root), "utf8"));
  return Object.keys({ ...manifest.dependencies, ...manifest.devDependencies }).flatMap((name) => {
    const file = manifestFile(join(root, "node_modules", name));
    return existsSync(file) ? [JSON.parse(readFileSync(file, "utf8")) as Manifest] : [];
  });
}

function requiredPackages(programDirectory: string): PackageDependency[] {
  return dependencies(programDirectory).flatMap((manifest) => {
    if (!manifest.pulumi?.resource) return [];
    const version = manifest.pulumi.version ?? manifest.version ?? "";
    const dependency = new PackageDependency();
    dependency.setName(manifest.pulumi.name ?? manifest.name?.replace(/^@pulumi\//, "") ?? "");
    dependency.setKind("resource");
    dependency.setVersion(version.startsWith("v") ? version : `v${version}`);
    dependency.setServer(manifest.pulumi.server ?? "");
    return [dependency];
  });
}

async function run(request: messages.RunRequest): Promise<messages.RunResponse> {
  const response = new messages.RunResponse();
  try {
    const programDirectory = request.getInfo()?.getProgramDirectory() || request.getPwd();
    const options = runtimeOptions(request.getInfo());
    const args = runArguments(request, sdkCommand(programDirectory, "run"), engineAddress, options);
    const env = { ...process.env, ...configEnvironment(request), ...optionsEnvironment(options) };
    const code = await ended(start(process.execPath, args, { cwd: programDirectory, env, pipe: false }));
    if (code === alreadyReported) response.setBail(true);
    else if (code !== 0) response.setError(`Program exited with non-zero exit code: ${code}`);
  } catch (error) {
    response.setError((error as Error).message);
  }
  return response;
}

async function runPlugin(
  call: grpc.ServerWritableStream<messages.RunPluginRequest, messages.RunPluginResponse>,
): Promise<void> {
  const request = call.request;
  const programDirectory = request.getInfo()?.getProgramDirectory() ?? "";
  const options = runtimeOptions(request.getInfo());
  const isPolicyPack = request.getKind() === "analyzer";
  // As in the official host: a policy pack's folder comes last and is its working directory, a plugin's comes first, and
  // runtime options reach the SDK's command instead of Node.js, which is without effect there.
  const args = isPolicyPack
    ? [...options.nodeargs, ...request.getArgsList(), programDirectory]
    : [...options.nodeargs, programDirectory, ...request.getArgsList()];
  const command = sdkCommand(programDirectory, isPolicyPack ? "run-policy-pack" : "run-plugin");
  const child = start(process.execPath, [command, ...args], {
    cwd: isPolicyPack ? programDirectory : request.getPwd(),
    env: {
      ...Object.fromEntries(request.getEnvList().map((line) => line.split(/=(.*)/s, 2))),
      ...optionsEnvironment(options),
    },
    pipe: true,
  });
  // The engine ends a plugin by cancelling the call.
  call.on("cancelled", () => child.kill("SIGTERM"));
  child.stdout?.on("data", (data) => call.write(new messages.RunPluginResponse().setStdout(data)));
  child.stderr?.on("data", (data) => call.write(new messages.RunPluginResponse().setStderr(data)));
  const code = await ended(child);
  call.write(new messages.RunPluginResponse().setExitcode(code));
  call.end();
}

async function installDependencies(
  call: grpc.ServerWritableStream<messages.InstallDependenciesRequest, messages.InstallDependenciesResponse>,
): Promise<void> {
  const folder = call.request.getInfo()?.getProgramDirectory() || call.request.getDirectory();
  const { packagemanager } = runtimeOptions(call.request.getInfo());
  const child = start(packagemanager, ["install"], { cwd: folder, env: process.env, pipe: true });
  child.stdout?.on("data", (data) => call.write(new messages.InstallDependenciesResponse().setStdout(data)));
  child.stderr?.on("data", (data) => call.write(new messages.InstallDependenciesResponse().setStderr(data)));
  const code = await ended(child);
  if (code !== 0) throw new Error(`${packagemanager} install in ${folder} exited with code ${code}`);
  call.end();
}

/** Makes a handler of one answer from a function; what it throws becomes the call's error. */
function answer<Request, Response>(make: (request: Request) => Response | Promise<Response>) {
  return (call: grpc.ServerUnaryCall<Request, Response>, callback: grpc.sendUnaryData<Response>) => {
    Promise.resolve(call.request)
      .then(make)
      .then(
        (response) => callback(null, response),
        (error) => callback({ code: grpc.status.UNKNOWN, details: error.message }),
      );
  };
}

/** Makes a handler of a stream of answers from a function; what it throws becomes the call's error. */
function stream<Request, Response>(write: (call: grpc.ServerWritableStream<Request, Response>) => Promise<void>) {
  return (call: grpc.ServerWritableStream<Request, Response>) => {
    write(call).catch((error) => call.emit("error", { code: grpc.status.UNKNOWN, details: error.message }));
  };
}

const server = new grpc.Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
server.addService(LanguageRuntimeService, {
  handshake: answer(() => new messages.LanguageHandshakeResponse()),
  getPluginInfo: answer(() => new PluginInfo().setVersion(SDK_VERSION)),
  getRequiredPackages: answer((request: messages.GetRequiredPackagesRequest) =>
    new messages.GetRequiredPackagesResponse().setPackagesList(
      requiredPackages(request.getInfo()?.getProgramDirectory() ?? ""),
    ),
  ),
  about: answer(() =>
    new messages.AboutResponse().setExecutable(process.execPath).setVersion(process.version.replace(/^v/, "")),
  ),
  getProgramDependencies: answer((request: messages.GetProgramDependenciesRequest) =>
    new messages.GetProgramDependenciesResponse().setDependenciesList(
      dependencies(request.getInfo()?.getProgramDirectory() ?? "").map((manifest) =>
        new messages.DependencyInfo().setName(manifest.name ?? "").setVersion(manifest.version ?? ""),
      ),
    ),
  ),
  runtimeOptionsPrompts: answer(() => new messages.RuntimeOptionsResponse()),
  installDependencies: stream(installDependencies),
  run: answer(run),
  runPlugin: stream(runPlugin),
  cancel: answer(() => {
    stopChildren();
    return new Empty();
  }),
});
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${port}\n`);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    stopChildren();
    process.exit(0);
  });
}
endWithEngine(() => {
  stopChildren();
  process.exit(1);
});
