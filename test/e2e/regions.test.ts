/**
 * The stack in one sandbox, from the first `up` to the last destroy. A part begins with what the one before it leaves; a part
 * alone: `--test-name-pattern` with its name.
 */
import { after, before, describe } from "node:test";
import { Sandbox } from "../support/sandbox";
import { deployed, destroyed } from "./deploy";
import { handedOver } from "./handover";
import { podMoved } from "./placement";
import { serviceCalled } from "./service";
import { statusTold } from "./status";

describe("two regions in the sandbox", () => {
  const sandbox = new Sandbox();
  before(() => sandbox.upWithSharedZones());
  after(() => sandbox.stop());

  // First, while there are no snapshots yet.
  describe("npm run status", () => statusTold(sandbox));
  describe("both as they were deployed", () => deployed(sandbox));
  describe("a service on Restate", () => serviceCalled(sandbox));
  describe("handing the cluster over, and back", () => handedOver(sandbox, "there and back"));
  describe("a pod that moves to another zone", () => podMoved(sandbox));
  describe("the end of one region, and of both", () => destroyed(sandbox));
});
