/** Plays scenes of the operator's guide in a sandbox: types its commands as an operator would, and looks at what they print. */
import assert from "node:assert/strict";
import { typescript } from "../../sandbox/world/paths";
import { type Act, commandBy, type Instead, patternOf, type Scene, type Section, type Stage, shownBy } from "./guide";
import { eventually, type Sandbox } from "./sandbox";

/** Where nobody can be asked, what is typed says yes by itself. */
const consent = { PULUMI_SKIP_CONFIRMATIONS: "true" };
const agreed = (command: string) => command.replace(/^npm run up$/, "npm run up -- --yes");

/** What a command is given besides its words. */
interface Answers {
  answers?: string;
  environment?: Record<string, string>;
}

/** Scenes of a guide, one after the other in one sandbox. */
export class Play implements Stage {
  printed = "";
  stands: Record<string, string> = {};

  constructor(
    readonly sandbox: Sandbox,
    private readonly guide: readonly Section[],
  ) {}

  /** Plays a scene; throws if anything is not as the guide says. */
  async scene({ section: heading, instead, acts, leaves }: Scene): Promise<void> {
    const section = this.guide.find((one) => one.heading === heading)!;
    this.stands = await this.known(instead);
    for (const act of acts) await this.act(act, section);
    if (!leaves) await this.isWell();
  }

  /** Types a command in a shell for the region that it names, or else region1; whether it went through. */
  private async type(command: string, { answers, environment }: Answers, again = false): Promise<boolean> {
    const region = /region[12]/.exec(command)?.[0] ?? "region1";
    const begun = Date.now();
    const variables = Object.entries({ ...consent, ...environment }).map(([name, value]) => `${name}=${value}`);
    const script = answers === undefined ? agreed(command) : `${command} <<< '${answers}'`;
    const { code, stdout, stderr } = await this.sandbox.tool(
      region,
      ...["env", ...variables, "bash", "-o", "pipefail", "-c", script],
    );
    this.printed = stdout + stderr;
    if (!again) console.log(`    $ ${command}  (${((Date.now() - begun) / 1000).toFixed(1)} s, exit code ${code})`);
    return code === 0;
  }

  private async act(act: Act, section: Section): Promise<void> {
    if ("does" in act) {
      await act.by(this);
      return;
    }
    const all = { ...this.stands, ...(await this.known(act.instead)) };
    const { answers } = await this.known(act.answers === undefined ? {} : { answers: act.answers });
    const how = { answers, environment: act.environment };
    const commands = act.types.map((words) =>
      Object.entries(all).reduce(
        (command, [words, value]) => command.replaceAll(words, () => value),
        commandBy(words, section, this.guide),
      ),
    );
    if (act.adds) commands.push(`${commands.pop()} ${act.adds}`);
    if (act.until) {
      let rounds = 0;
      await eventually(
        300,
        async () => {
          for (const command of commands) await this.type(command, how, rounds > 0);
          rounds++;
          return (await act.until!(this)) || this.printed;
        },
        (answer) => answer === true,
      );
    } else {
      for (const command of commands)
        assert.equal(await this.type(command, how), !act.fails, `${command}\n${this.printed}`);
    }
    for (const words of act.prints ?? [])
      for (const line of shownBy(words, section))
        assert.match(this.printed, patternOf(line), `not as the guide shows it: ${line}`);
  }

  /** What stands for the guide's examples. */
  private async known(instead: Instead = {}) {
    const values: Record<string, string> = {};
    for (const [words, value] of Object.entries(instead))
      values[words] = typeof value === "string" ? value : await value(this);
    return values;
  }

  /** Both regions are well, as the first command of the guide tells. */
  private async isWell(): Promise<void> {
    await eventually(
      180,
      () => this.sandbox.tool("region1", process.execPath, ...typescript, "commands/status.ts"),
      ({ code }) => code === 0,
    );
  }
}
