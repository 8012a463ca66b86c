/**
 * What README.md and docs/ tell people to type or to look at exists: commands and their flags, files, settings, outputs,
 * messages, links. Read from the documents themselves, so that a new sentence is checked as well.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import type { z } from "zod";
import type { Command } from "../../sandbox/commands/command";
import { fields } from "../../settings";
import { guide, left, scenes } from "../long/guide-scenes";
import { type Act, patternOf, type Scene, sectionsOf, types, unplayed } from "../support/guide";

const root = resolve(__dirname, "../..");
const read = (file: string) => readFileSync(join(root, file), "utf8");
const documents = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter((name) =>
  name.endsWith(".md"),
);
const texts = new Map(documents.map((name) => [name, read(name)]));

/** One place in a document that names something. */
interface Mention {
  document: string;
  /** What the pattern found, and its groups. */
  words: RegExpMatchArray;
}

/** Everywhere that a pattern matches, in all documents or one. */
const mentions = (pattern: RegExp, only?: string): Mention[] =>
  [...texts].flatMap(([document, text]) =>
    only && only !== document ? [] : [...text.matchAll(pattern)].map((words) => ({ document, words })),
  );

/** Fails with every mention for which a fault is found. */
function assertAll(
  all: readonly Mention[],
  least: number,
  faultOf: (words: RegExpMatchArray, document: string) => string,
) {
  assert.ok(all.length >= least, `only ${all.length} found: does the pattern still find what it should?`);
  const faults = all.flatMap(({ document, words }) => {
    const fault = faultOf(words, document);
    return fault ? [`${document}: ${words[0].trim()}: ${fault}`] : [];
  });
  assert.deepEqual(faults, []);
}

/** Files that are kept in the repository, and all folders above them. */
const tracked = new Set(
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
    .split("\n")
    .filter((name) => name && existsSync(join(root, name)))
    .flatMap((name) => name.split("/").map((_, i, parts) => parts.slice(0, i + 1).join("/"))),
);

/** Anchor of a heading, as GitHub makes it. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
const anchorsOf = (file: string) => sectionsOf(read(file)).map(({ heading }) => anchorOf(heading));

/** Flags in what follows a command on its line. */
const flagsIn = (rest: string | undefined) =>
  [...(rest ?? "").split(/[`#>|;&]/)[0]!.matchAll(/(?:^|\s)--([a-z][a-z-]*)/g)].map(([, flag]) => flag!);

describe("commands", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  const runs = mentions(/npm run (?:-s |--silent )?([a-z][a-z0-9:-]*)(?: -- ([^\n`]*))?/g);

  test("each npm run is a script of package.json", () => {
    assertAll(runs, 60, ([, name]) => (scripts[name!] ? "" : "there is no such script"));
  });

  test("each flag of a script is one of its flags", () => {
    assertAll(
      runs.filter(({ words }) => words[2] !== undefined && words[1] !== "sandbox"),
      8,
      ([, name, rest]) => {
        const file = /(\S+\.ts)$/.exec(scripts[name!]!)![1]!;
        const unknown = flagsIn(rest).filter((flag) => flag !== "help" && !read(file).includes(`--${flag}`));
        return unknown.map((flag) => `${file} has no --${flag}`).join(", ");
      },
    );
  });

  test("each command of the sandbox is one, with its flags", () => {
    assertAll(
      runs.filter(({ words }) => words[2] !== undefined && words[1] === "sandbox"),
      12,
      ([, , rest]) => {
        const [name, ...words] = rest!
          .split(/[`#>|;&)"]/)[0]!
          .trim()
          .split(/\s+/);
        if (!existsSync(join(root, `sandbox/commands/${name}.ts`))) return `the sandbox has no command ${name}`;
        const command = (require(`../../sandbox/commands/${name}`) as Record<string, Command>)[name!]!;
        const unknown = flagsIn(rest).filter((flag) => flag !== "help" && !(flag in (command.options ?? {})));
        const [verb] = words.filter((word) => !word.startsWith("-"));
        if (name === "fault" && verb && !new RegExp(`^ +${verb}\\b`, "m").test(command.help)) return `no fault ${verb}`;
        return unknown.map((flag) => `no flag --${flag}`).join(", ");
      },
    );
  });

  test("the command of an emergency is the one that the stack's output has", () => {
    const { outputs } = parse(read("test/dumps/converged/region1.yaml")) as {
      outputs: { emergency: { region1: string } };
    };
    assert.ok(
      texts.get("docs/operations.md")!.includes(`    ${outputs.emergency.region1}\n`),
      outputs.emergency.region1,
    );
  });
});

describe("what test/long/guide.test.ts plays", () => {
  const section = (heading: string, text: string) => sectionsOf(`## ${heading}\n\n${text}\n`)[0]!;

  test("each command of the operator's guide is typed in a scene, or left out with a reason; so is output", () => {
    assert.deepEqual(unplayed(guide, scenes, left), []);
    assert.ok(guide.flatMap(({ blocks }) => blocks).length > 40);
    for (const { words, why } of left) assert.ok(why.length > 20, words);
  });

  test("commands, output and running text of a section are told apart", () => {
    const text = [
      "Type `npm run up` or `pulumi up`, with `kubectl … get`:",
      "",
      "    npm run status     # first",
      "    ✗ all is lost",
      "        next: pulumi up --stack region1",
      "",
      "1. In a list, `pulumi up --stack",
      "   region2`, then",
      "",
      "       kubectl -n a get pods",
      "",
      "   and so on.",
    ].join("\n");
    const { blocks, inline, shown } = section("One", text);
    assert.deepEqual(blocks, ["npm run status", "kubectl -n a get pods"]);
    assert.deepEqual(inline, ["npm run up", "pulumi up --stack region2"]);
    assert.deepEqual(shown, [["✗ all is lost", "    next: pulumi up --stack region1"]]);
  });

  test("what nobody types is told, and what is typed and not there", () => {
    const two = [
      section("One", "    npm run status\n    npm run up\n\nand\n\n    ✗ lost"),
      section("Two", "    npm run up"),
    ];
    const scene = (heading: string, ...acts: Act[]): Scene => ({ section: heading, acts });
    const full = [scene("One", types(["npm run status", "npm run up"], { prints: ["✗"] })), scene("Two", types("up"))];
    assert.deepEqual(unplayed(two, full, []), []);
    assert.deepEqual(unplayed(two, full.slice(0, 1), []), ["Two: no scene has npm run up"]);
    assert.deepEqual(unplayed(two, full.slice(0, 1), [{ section: "Two", words: "up", why: "-" }]), []);
    assert.deepEqual(unplayed(two, full, [{ section: "Two", words: "up", why: "-" }]), [
      'Two: nothing that is left out has "up"',
    ]);
    assert.deepEqual(unplayed(two, [...full, scene("Three")], []), ["Three: no section of the guide has this heading"]);
    assert.deepEqual(unplayed(two, [...full, scene("One", types("npm"))], []), [
      'One: "npm" can be any of npm run status; npm run up',
    ]);
    assert.deepEqual(unplayed(two, [...full, scene("Two", types("down"))], []), [
      'Two: no command of the guide has "down"',
    ]);
    assert.deepEqual(unplayed(two, [full[1]!, scene("One", types(["status", "npm run up"]))], []), [
      "One: no scene has ✗ lost",
    ]);
    assert.deepEqual(unplayed(two, [...full, { ...scene("One"), instead: { N3: "N4" } }], []), [
      "One: N3 stands nowhere in it",
    ]);
    assert.deepEqual(unplayed(two, [...full, scene("One", types("status", { instead: { N3: "N4" } }))], []), [
      "One: N3 stands in no command",
    ]);
  });

  test("numbers, times and names of the moment vary in what is shown, and nothing else does", () => {
    const like = (shown: string, printed: string) => patternOf(shown).test(printed);
    const log = "region2    39s  receipt: s3://restate-snapshots-region2-6d628fd8/handovers/000001.json";
    assert.ok(like(log, "  8.1s  region2  7s  receipt: s3://restate-snapshots-region2-00ff00ff/handovers/000012.json"));
    assert.ok(!like(log, "region1    39s  receipt: s3://restate-snapshots-region2-6d628fd8/handovers/000001.json"));
    assert.ok(like("✗ restate-0.region2 is dead", "✗ restate-0.region2 is dead"));
    assert.ok(!like("✗ restate-0.region2 is dead", "✗ restate-1.region2 is dead"));
    const row = "1  2026-11-26T03:00:45Z  both -> region2  35.8 s  15  yes  root at ece4ccdba561 with changes";
    assert.ok(like(row, "12 2027-01-01T00:00:00Z both -> region2 4 s 3 yes alice at 000000000000"));
    assert.ok(!like(row, "12 2027-01-01T00:00:00Z both -> region1 4 s 3 yes alice at 000000000000"));
  });
});

describe("files", () => {
  test("each link leads to a file, and to a heading of it", () => {
    assertAll(mentions(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g), 30, ([, path, anchor], document) => {
      const file = path ? relative(root, resolve(root, dirname(document), path)) : document;
      if (!tracked.has(file)) return "there is no such file";
      return anchor && !anchorsOf(file).includes(anchor) ? `there is no such heading in ${file}` : "";
    });
  });

  test("each file and folder that is named exists", () => {
    // What looks like a file of the repository and is none: made by it at work, in a bucket, in a pod or elsewhere.
    const elsewhere =
      /^(\.sandbox|\.pulumi|handovers|snapshots|restate-server|~|https?:|s3:|region1\.json|\.gitlab-ci\.yml)|^(pods\/exec|region[12]\/(admin|restate-\d)|policies\.json)$/;
    const named = mentions(/`([\w.~-]+(?:\/[\w.*-]+)*\/?)`/g).filter(
      ({ words: [, name] }) =>
        (name!.includes("/") || /\.(ts|cjs|md|ya?ml|sh|sql|json)$/.test(name!)) && !elsewhere.test(name!),
    );
    assertAll(named, 40, ([, name], document) => {
      const path = name!.replace(/\/$/, "");
      return ["", dirname(document), ".github/workflows"].some((folder) => tracked.has(join(folder, path)))
        ? ""
        : "there is no such file";
    });
  });

  test("README.md leads to every document", () => {
    for (const document of documents.slice(1)) assert.ok(texts.get("README.md")!.includes(`](${document}`), document);
  });
});

describe("settings", () => {
  type Node = { def: { type: string; innerType?: Node; in?: Node }; shape?: Record<string, Node> };
  /** Whether a path such as `scheduling.topologySpread` leads to a setting. */
  function isSetting(path: string): boolean {
    const [key, ...rest] = path.split(".") as [keyof typeof fields, ...string[]];
    let node = fields[key]?.schema as z.ZodType | undefined as unknown as Node | undefined;
    for (const part of rest) {
      while (node && !node.shape) node = node.def.innerType ?? node.def.in;
      node = node?.shape?.[part];
    }
    return node !== undefined;
  }

  test("each setting that is named is one", () => {
    assertAll(mentions(/\brestate:([a-z]\w+(?:\.\w+)*)/gi), 40, ([, path]) =>
      isSetting(path!) ? "" : "no such setting",
    );
  });

  test("the table of what a change does names settings, and every one that a stack file or Pulumi.yaml is for", () => {
    const section = sectionsOf(texts.get("docs/deploy.md")!).find(
      ({ heading }) => heading === "Changing settings later",
    )!;
    const cells = [...section.text.matchAll(/^\| (`.*?) \|/gm)].map(([, cell]) => cell!);
    const names = cells.flatMap((cell) => [...cell.matchAll(/`([\w.]+)`/g)].map(([, name]) => name!));
    for (const name of names) assert.ok(isSetting(name) || isSetting(`snapshots.${name}`), name);
    const covered = new Set(names.map((name) => name.split(".")[0]));
    // Who and where a stack is, how it reaches its cluster, and how long it waits: nothing of the cluster changes.
    const apart =
      "region peer forgetPeer mode kubernetes kubeconfigContents identity chart monitoring provisionTimeout handover";
    assert.deepEqual(
      Object.keys(fields).filter((key) => !covered.has(key)),
      apart.split(" "),
    );
  });
});

describe("outputs and messages", () => {
  test("each output of a stack that is named is one", () => {
    const { outputs } = parse(read("test/dumps/converged/region1.yaml")) as { outputs: object };
    const named = mentions(/pulumi stack output (?:--json )?([a-z]\w*)|outputs? `([a-z]\w*)`/g);
    assertAll(named, 3, ([, typed, said]) => ((typed ?? said)! in outputs ? "" : "there is no such output"));
  });

  test("each message of the operator's guide is one of the program's", () => {
    const sources = ["commands", "handover", "kubernetes", "operations", "operations/handover"]
      .flatMap((folder) => readdirSync(join(root, folder)).map((name) => `${folder}/${name}`))
      .filter((name) => /\.(ts|sh|sql)$/.test(name))
      .map(read)
      .join("\n");
    const rows = [
      ...texts.get("docs/operations.md")!.matchAll(/\| what it says \|.*\n\|---.*\n((?:\|.*\n)+)/g),
    ].flatMap(([, body]) => body!.trim().split("\n"));
    const said = rows.flatMap((row) => [...row.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map(([, message]) => message!));
    assert.ok(said.length >= 15, `${said.length} messages`);
    for (const message of said) {
      const parts = message
        .split("…")
        .map((part) => part.trim())
        .filter((part) => part.length > 4);
      assert.ok(parts.length > 0, `${message}: too little of it to be looked for`);
      for (const part of parts) assert.ok(sources.includes(part), `${message}: nothing says "${part}"`);
    }
  });
});
