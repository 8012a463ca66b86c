/** Handing the cluster over in every way that operators do. The way there and back is in `npm test` as well. */
import { after, before, describe } from "node:test";
import { handedOver } from "../e2e/handover";
import { Sandbox } from "../support/sandbox";

describe("handing the cluster over", () => {
  const sandbox = new Sandbox();
  before(() => sandbox.command("up"));
  after(() => sandbox.stop());
  handedOver(sandbox, "every way");
});
