/** What Pulumi.yaml and docs/settings.md say of the settings, and policies/README.md of the rules, is what the code says. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { fields } from "../../settings";
import { documentPolicies, policyReadme } from "../../tools/policy-docs";
import { documentedFiles, documentProject, documentSettings } from "../../tools/settings-docs";

describe("in step", () => {
  for (const [name, file, write] of [
    ["Pulumi.yaml", documentedFiles.project, documentProject],
    ["docs/settings.md", documentedFiles.settings, documentSettings],
    ["policies/README.md", policyReadme, documentPolicies],
  ] as const) {
    test(name, () => {
      const text = readFileSync(file, "utf8");
      assert.equal(text, write(text), `${name} is out of step with the code; run npm run docs`);
    });
  }
});

describe("Pulumi.yaml", () => {
  const head = "# mine\nname: restate\nruntime:\n  name: nodejs # keep\n";
  const config = (text: string) => parse(documentProject(text)).config as Record<string, Record<string, unknown>>;

  test("keeps everything else, comments too", () => {
    assert.ok(documentProject(head).startsWith(head));
  });

  test("declares required settings without a default and optional ones not at all", () => {
    const declared = config(head);
    assert.deepEqual(
      Object.entries(declared).flatMap(([key, one]) => ("default" in one ? [] : [key])),
      ["restate:domain", "restate:accountId", "restate:subnets", "restate:loadBalancers"],
    );
    assert.deepEqual(
      Object.keys(fields).filter((key) => !declared[`restate:${key}`]),
      ["standbyReplicas", "region", "peer", "forgetPeer", "kubeconfigContents", "rocksdbMemory"],
    );
  });

  test("no declared setting is secret, since Pulumi would want its default encrypted", () => {
    for (const one of Object.values(config(head))) assert.equal(one.secret, undefined);
  });

  test("types and defaults", () => {
    const declared = config(head);
    assert.deepEqual([declared["restate:replicas"]!.type, declared["restate:replicas"]!.default], ["integer", 3]);
    assert.deepEqual([declared["restate:serving"]!.type, declared["restate:serving"]!.default], ["string", "both"]);
    assert.deepEqual([declared["restate:protect"]!.type, declared["restate:protect"]!.default], ["boolean", true]);
    assert.deepEqual([declared["restate:kubernetes"]!.type, declared["restate:kubernetes"]!.default], ["object", {}]);
    assert.deepEqual([declared["restate:env"]!.type, declared["restate:env"]!.default], ["object", {}]);
  });

  test("keeps an operator's defaults of shared settings, and only of those", () => {
    const edited = `${head}config:\n  restate:serving: { type: string, default: region2 }\n  restate:domain: { default: r.example.org }\n  restate:protect: { default: false }\n  restate:gone: { default: 1 }\n`;
    const declared = config(edited);
    assert.equal(declared["restate:serving"]!.default, "region2");
    assert.equal(declared["restate:domain"]!.default, "r.example.org");
    assert.equal(declared["restate:protect"]!.default, true);
    assert.equal(declared["restate:gone"], undefined);
  });
});

test("docs/settings.md without its markers is refused", () => {
  assert.throws(
    () => documentSettings("# Settings"),
    /needs the lines <!-- settings:begin --> and <!-- settings:end -->/,
  );
});
