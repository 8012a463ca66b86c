/**
 * The operator's guide, typed: its commands, as they stand in docs/operations.md, in the situations that it is about. What is
 * typed when is in guide-scenes.ts; that nothing is left out is checked in test/unit/guides.test.ts. A scene begins with
 * what the one before it leaves, mostly two regions that are well.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Play } from "../support/guide-play";
import { Sandbox } from "../support/sandbox";
import { guide, scenes } from "./guide-scenes";

describe("the operator's guide", () => {
  const play = new Play(new Sandbox(), guide);
  // As the guide asks for, where a pod is to move to a zone that has one already.
  before(() => play.sandbox.upWithSharedZones());
  after(() => play.sandbox.stop());

  let failed: string | undefined;
  for (const scene of scenes) {
    const name = [scene.section, scene.about].filter(Boolean).join(": ");
    test(name, async () => {
      assert.equal(failed, undefined, `not played, since it would begin with what "${failed}" has left`);
      failed = name;
      await play.scene(scene);
      failed = undefined;
    });
  }
});
