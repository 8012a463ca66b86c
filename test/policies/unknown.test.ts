/** What rules do with values that are not known: never fail for them, never pass over them in silence. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { collect, type Resource, type Stack } from "../../policies/rule";
import { rules } from "../../policies/rules";
import { NotKnown, plainData, unknown, Value } from "../../policies/value";
import type { Recordings } from "../support/dumps";
import type { RecordedResource, Recording } from "../support/mocks";
import { PolicyPackProcess } from "../support/policy-pack";
import { type Case, cases } from "./cases";
import { copied, record } from "./recordings";

/** Scenario and region that a case breaks a rule in. */
const scenarioOf = ({ of }: Pick<Case, "of">) => of ?? (["converged", "region1"] as const);

let recordings: Recordings;
before(async () => {
  const names = new Set(["first-up", ...cases.map((one) => scenarioOf(one)[0])]);
  names.delete("shipped");
  recordings = await record([...names]);
});

type Path = string[];

/** Paths of everything below a value, at every depth. */
function paths(value: unknown, path: Path = []): Path[] {
  const below = value !== null && typeof value === "object" ? Object.entries(value) : [];
  return [...(path.length > 0 ? [path] : []), ...below.flatMap(([key, one]) => paths(one, [...path, key]))];
}

/** Data with what is at a path unknown, where it still is there. */
function hidden(data: unknown, path: Path): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return unknown;
  if (data === null || typeof data !== "object" || !(key in data)) return data;
  const below = hidden((data as Record<string, unknown>)[key], rest);
  return Array.isArray(data) ? data.map((one, i) => (String(i) === key ? below : one)) : { ...data, [key]: below };
}

function asResource(one: RecordedResource, props: unknown): Resource {
  return {
    type: one.type,
    name: one.name,
    urn: one.graph.urn,
    props: new Value(props),
    protect: one.protect ?? false,
    createTimeout: Number(one.customTimeouts?.create?.replace("s", "") ?? 0),
    dependsOn: new Set(one.graph.dependencies),
    madeFrom: one.graph.reads,
  };
}

/** Findings of a rule about a recording in which some values are unknown; `masks` are paths from resource or output on. */
function findings(id: string, { resources, outputs }: Recording, masks: Path[]) {
  const rule = rules.find((one) => one.id === id)!;
  const values = Object.fromEntries(Object.entries(rule.parameters ?? {}).map(([name, one]) => [name, one.default]));
  const mask = (key: string, data: unknown) =>
    masks.reduce((made, [of, ...path]) => (of === key ? hidden(made, path) : made), data);
  const seen = resources.map((one, i) => asResource(one, mask(String(i), one.inputs)));
  const stack: Stack = { resources: seen, outputs: new Value(mask("outputs", outputs)) };
  return [
    ...seen
      .filter((one) => rule.resource?.types.includes(one.type))
      .flatMap((one) => collect((report) => rule.resource!.check(one, report, values), one)),
    ...(rule.stack ? collect((report) => rule.stack!(stack, report, values)) : []),
  ];
}

/** Where a recording can be masked. */
function places({ resources, outputs }: Recording): Path[] {
  return [
    ...resources.flatMap((one, i) => paths(one.inputs).map((path) => [String(i), ...path])),
    ...paths(outputs).map((path) => ["outputs", ...path]),
  ];
}

const kinds = (all: ReturnType<typeof findings>) => all.map(({ kind }) => kind);

test("nothing that is right is found wrong because something is unknown", () => {
  const recording = recordings.get("shipped")!.region1;
  const all = places(recording);
  fc.assert(
    fc.property(fc.constantFrom(...rules), fc.subarray(all, { minLength: 1, maxLength: 12 }), ({ id }, masks) => {
      const found = findings(id, recording, masks).filter(({ kind }) => kind === "violation");
      assert.deepEqual(
        found.map(({ message }) => message),
        [],
      );
    }),
    { numRuns: 1500 },
  );
});

test("what is wrong stays wrong, or is said to be not known yet, whatever is unknown", () => {
  const broken = cases.map((one) => {
    const [scenario, region] = scenarioOf(one);
    const recording = copied(recordings.get(scenario)![region]);
    one.change(recording);
    return { rule: one.rule, recording, places: places(recording) };
  });
  fc.assert(
    fc.property(
      fc
        .constantFrom(...broken)
        .chain((one) => fc.tuple(fc.constant(one), fc.subarray(one.places, { minLength: 1, maxLength: 12 }))),
      ([{ rule, recording }, masks]) => {
        assert.ok(findings(rule, recording, masks).length > 0, `${rule} says nothing`);
      },
    ),
    { numRuns: 1500 },
  );
});

test("each rule that reads values says so when all of them are unknown", () => {
  const recording = recordings.get("shipped")!.region1;
  const silent = rules.filter(({ id }) => {
    const rule = rules.find((one) => one.id === id)!;
    const masks = [
      ...recording.resources.flatMap((one, i) => Object.keys(one.inputs).map((key) => [String(i), key])),
      ...Object.keys(recording.outputs).map((key) => ["outputs", key]),
    ];
    const about = !rule.resource || recording.resources.some((one) => rule.resource!.types.includes(one.type));
    return about && !kinds(findings(id, recording, masks)).includes("not known yet");
  });
  // These look at the resource's being there, its protection or its dependencies, which are always known, or at what the
  // program does not set.
  assert.deepEqual(
    silent.map(({ id }) => id),
    [
      "replication-configured",
      "replication-after-versioning",
      "bucket-protected",
      "iam-no-managed-policies",
      "release-protected",
      "stack-guarded",
    ].sort((a, b) => rules.findIndex(({ id }) => id === a) - rules.findIndex(({ id }) => id === b)),
  );
});

/** A recording with what a first preview does not know: the bucket's name, where pods run, and what follows from them. */
function firstPreview(recording: Recording): Recording {
  const made = copied(recording);
  for (const one of made.resources) {
    if ("bucket" in one.inputs) one.inputs.bucket = "[unknown]";
    if (/(Bucket|Role)Policy$/.test(one.type)) one.inputs.policy = "[unknown]";
    if (one.type.endsWith(":Release")) one.inputs.values = "[unknown]";
    if (one.type.endsWith(":Service")) (one.inputs.metadata as Record<string, unknown>).annotations = "[unknown]";
  }
  Object.assign(made.outputs, { bucket: "[unknown]", nodes: "[unknown]" });
  return made;
}

describe("a preview before anything exists, asked as the engine asks", () => {
  let pack: PolicyPackProcess;
  before(async () => {
    pack = await PolicyPackProcess.start();
  });
  after(() => pack.stop());

  test("finds nothing wrong, and says what it could not look at", async () => {
    const said = await pack.analyze(firstPreview(recordings.get("first-up")!.region1));
    const text = said.map(({ message }) => message).join("\n");
    assert.ok(
      said.every(({ level, message }) => level === "advisory" && message.includes("not known yet")),
      text,
    );
    assert.match(text, /snapshots-policy: policy not known yet; checked before the update changes the resource/);
    assert.match(text, /load-balancers-restate-0: metadata\.annotations not known yet/);
    assert.match(text, /the stack: policy not known yet; checked at the end of the update/);
  });

  test("finds what is known to be wrong all the same", async () => {
    const preview = firstPreview(recordings.get("first-up")!.region1);
    preview.resources.find((one) => one.type.endsWith("PublicAccessBlock"))!.inputs.blockPublicAcls = false;
    const found = (await pack.analyze(preview)).filter(({ level }) => level === "mandatory");
    assert.deepEqual(
      found.map(({ rule }) => rule),
      ["bucket-public-access"],
    );
  });
});

describe("values", () => {
  test("what the SDK refuses to read is unknown, and what is beside it is read", () => {
    const data = plainData(
      new Proxy({ known: [1, { deep: "a" }], not: 1 } as Record<string, unknown>, {
        get(target, key) {
          if (key === "not") throw new Error("string value at .not can't be known during preview");
          return target[key as string];
        },
      }),
    );
    assert.deepEqual(data, { known: [1, { deep: "a" }], not: unknown });
    const value = new Value(data);
    assert.equal(value.get("known").list[1]!.get("deep").text, "a");
    assert.throws(() => value.get("not").missing, new NotKnown("not"));
    assert.throws(() => value.get("not", "below").text, /not is not known yet/);
    assert.equal(value.get("absent", "below").missing, true);
  });

  test("texts, numbers, lists and JSON", () => {
    const value = new Value({ n: "5", m: 6, e: "", b: true, one: "x", j: '{"a":[1]}', bad: "{", nil: null });
    assert.deepEqual([value.get("n").number, value.get("m").number, value.get("e").number], [5, 6, undefined]);
    assert.deepEqual([value.get("b").text, value.get("b").isTrue, value.get("e").text], ["true", true, ""]);
    assert.deepEqual(
      [value.get("one").texts, value.get("nil").list.length, value.get("nil").missing],
      [["x"], 0, true],
    );
    assert.deepEqual(value.get("j").parsed.get("a").texts, ["1"]);
    assert.equal(value.get("bad").parsed.missing, true);
    assert.deepEqual(
      value.get("j").parsed.entries.map(([key, one]) => [key, one.path]),
      [["a", "j.a"]],
    );
  });
});
