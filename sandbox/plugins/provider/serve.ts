/**
 * The gRPC service `ResourceProvider`, spoken with the engine: turns protocol messages into the driver's plain values.
 *
 * `pulumi.provider.main` of the Node.js SDK would be the usual way, but it passes on neither the provider's
 * configuration nor whether a request is a preview, nor detailed differences, imports' inputs or time limits.
 * Only the SDK's protocol stubs are loaded, not the SDK: this is what keeps the start short.
 */
import { type handleUnaryCall, Metadata, Server, ServerCredentials, type ServiceError, status } from "@grpc/grpc-js";
import * as plugin from "@pulumi/pulumi/proto/plugin_pb";
import { ResourceProviderService } from "@pulumi/pulumi/proto/provider_grpc_pb";
import * as proto from "@pulumi/pulumi/proto/provider_pb";
import { Status } from "@pulumi/pulumi/proto/status_pb";
import { Any } from "google-protobuf/google/protobuf/any_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { type JavaScriptValue, Struct } from "google-protobuf/google/protobuf/struct_pb";
import { endWithEngine } from "../../toolchain/end-with-engine";
import { Driver, Incomplete } from "./driver";
import type { Difference, Failure } from "./fields";
import type { ProviderDefinition } from "./resource";
import { schemaOf } from "./schema";
import { isUnknown, type Properties } from "./values";

/** Messages as large as the engine's own limit. */
const maxMessageBytes = 400 * 1024 * 1024;

/** Serves a provider on a free port of 127.0.0.1 and prints the port, as the engine expects of a plugin. */
export async function serve<Context>(definition: ProviderDefinition<Context>): Promise<void> {
  endWithEngine(() => process.exit(1));
  const server = new Server({
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": maxMessageBytes,
  });
  server.addService(ResourceProviderService, handlers(new Driver(definition)));
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  process.stdout.write(`${port}\n`);
}

/** Answers with what the function returns, or with its failure. */
function unary<Request, Response>(answer: (request: Request) => Promise<Response> | Response) {
  const handler: handleUnaryCall<Request, Response> = (call, callback) => {
    Promise.resolve()
      .then(() => answer(call.request))
      .then((response) => callback(null, response))
      .catch((error: unknown) => callback(serviceError(error)));
  };
  return handler;
}

function handlers<Context>(driver: Driver<Context>) {
  const { definition } = driver;
  return {
    handshake: unary((_: proto.ProviderHandshakeRequest) =>
      new proto.ProviderHandshakeResponse().setSupportsAutonamingConfiguration(true),
    ),
    getPluginInfo: unary((_: Empty) => new plugin.PluginInfo().setVersion(definition.version)),
    getSchema: unary((_: proto.GetSchemaRequest) => new proto.GetSchemaResponse().setSchema(schemaOf(definition))),
    getMapping: unary((_: proto.GetMappingRequest) => new proto.GetMappingResponse()),
    getMappings: unary((_: proto.GetMappingsRequest) => new proto.GetMappingsResponse()),
    attach: unary((_: plugin.PluginAttach) => new Empty()),
    cancel: unary((_: Empty) => {
      driver.cancel();
      return new Empty();
    }),

    checkConfig: unary((request: proto.CheckRequest) => {
      const { inputs, failures } = driver.checkConfig(fromStruct(request.getNews()));
      return checkResponse(inputs, failures);
    }),
    diffConfig: unary((request: proto.DiffRequest) => {
      const [before, after] = [fromStruct(request.getOldInputs()), fromStruct(request.getNews())];
      const changed = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
        (key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]) || isUnknown(after[key]),
      );
      return diffResponse(
        changed.map((path) => ({ path, kind: "update", replaces: false })),
        false,
      );
    }),
    configure: unary(async (request: proto.ConfigureRequest) => {
      const variables = [...request.getVariablesMap().getEntryList()].map(([key, value]) => [
        key.slice(key.lastIndexOf(":") + 1),
        value,
      ]);
      const args = request.hasArgs() ? fromStruct(request.getArgs()) : Object.fromEntries(variables);
      await driver.configure(args);
      return new proto.ConfigureResponse().setSupportspreview(true).setSupportsAutonamingConfiguration(true);
    }),

    invoke: unary(async (request: proto.InvokeRequest) => {
      const { result, failures } = await driver.invoke(request.getTok(), fromStruct(request.getArgs()));
      return new proto.InvokeResponse().setReturn(toStruct(result)).setFailuresList(failures.map(checkFailure));
    }),
    check: unary(async (request: proto.CheckRequest) => {
      const modes = ["propose", "enforce", "disable"] as const;
      const wanted = request.getAutonaming();
      const mode = modes[wanted?.getMode() ?? 0] ?? "propose";
      const { inputs, failures } = await driver.check(
        request.getUrn(),
        fromStruct(request.getOlds()),
        fromStruct(request.getNews()),
        request.getRandomseed_asU8(),
        wanted && { proposedName: wanted.getProposedName(), mode },
      );
      return checkResponse(inputs, failures);
    }),
    diff: unary(async (request: proto.DiffRequest) => {
      const { differences, deleteBeforeReplace } = await driver.diff(
        request.getUrn(),
        fromStruct(request.getOlds()),
        fromStruct(request.getNews()),
        request.getIgnorechangesList(),
      );
      return diffResponse(differences, deleteBeforeReplace);
    }),
    create: unary(async (request: proto.CreateRequest) => {
      const news = fromStruct(request.getProperties());
      const made = await driver.create(request.getUrn(), news, request.getPreview(), request.getTimeout());
      return new proto.CreateResponse()
        .setId(made.id)
        .setProperties(toStruct(driver.markSecrets(request.getUrn(), made.state)));
    }),
    read: unary(async (request: proto.ReadRequest) => {
      const found = await driver.read(
        request.getUrn(),
        request.getId(),
        fromStruct(request.getProperties()),
        request.hasInputs() ? fromStruct(request.getInputs()) : undefined,
        request.getTimeout(),
      );
      if (!found) return new proto.ReadResponse();
      const response = new proto.ReadResponse().setId(found.id);
      response.setProperties(toStruct(driver.markSecrets(request.getUrn(), found.state)));
      return response.setInputs(toStruct(found.inputs));
    }),
    update: unary(async (request: proto.UpdateRequest) => {
      const state = await driver.update(
        request.getUrn(),
        request.getId(),
        fromStruct(request.getOlds()),
        fromStruct(request.getNews()),
        request.getPreview(),
        request.getTimeout(),
      );
      return new proto.UpdateResponse().setProperties(toStruct(driver.markSecrets(request.getUrn(), state)));
    }),
    delete: unary(async (request: proto.DeleteRequest) => {
      const state = fromStruct(request.getProperties());
      await driver.delete(request.getUrn(), request.getId(), state, request.getTimeout());
      return new Empty();
    }),
  };
}

const fromStruct = (struct: Struct | undefined) => (struct?.toJavaScript() ?? {}) as Properties;
const toStruct = (properties: Properties) => Struct.fromJavaScript(properties as Record<string, JavaScriptValue>);

const checkFailure = ({ property, reason }: Failure) =>
  new proto.CheckFailure().setProperty(property).setReason(reason);

const checkResponse = (inputs: Properties, failures: Failure[]) =>
  new proto.CheckResponse().setInputs(toStruct(inputs)).setFailuresList(failures.map(checkFailure));

function diffResponse(differences: Difference[], deleteBeforeReplace: boolean): proto.DiffResponse {
  const { DIFF_NONE, DIFF_SOME } = proto.DiffResponse.DiffChanges;
  const kinds = proto.PropertyDiff.Kind;
  const response = new proto.DiffResponse()
    .setChanges(differences.length > 0 ? DIFF_SOME : DIFF_NONE)
    .setDeletebeforereplace(deleteBeforeReplace)
    .setHasdetaileddiff(true);
  const topLevel = (path: string) => path.split(/[.[]/)[0] ?? path;
  response.setDiffsList([...new Set(differences.map(({ path }) => topLevel(path)))]);
  response.setReplacesList([...new Set(differences.filter((d) => d.replaces).map(({ path }) => topLevel(path)))]);
  for (const { path, kind, replaces } of differences) {
    const name = `${kind.toUpperCase()}${replaces ? "_REPLACE" : ""}` as keyof typeof kinds;
    response.getDetaileddiffMap().set(path, new proto.PropertyDiff().setKind(kinds[name]));
  }
  return response;
}

/** An error as gRPC carries it; for a resource that exists but is incomplete, with its id and state. */
function serviceError(error: unknown): ServiceError {
  const message = error instanceof Error ? error.message : String(error);
  const metadata = new Metadata();
  if (error instanceof Incomplete) {
    const detail = new proto.ErrorResourceInitFailed();
    detail.setId(error.id);
    detail.setProperties(toStruct(error.state));
    detail.setInputs(toStruct(error.inputs));
    detail.setReasonsList([error.reason]);
    const any = new Any();
    any.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
    const packed = new Status();
    packed.setCode(status.UNKNOWN);
    packed.setMessage(message);
    packed.addDetails(any);
    metadata.add("grpc-status-details-bin", Buffer.from(packed.serializeBinary()));
  }
  return Object.assign(new Error(message), { code: status.UNKNOWN, details: message, metadata });
}
