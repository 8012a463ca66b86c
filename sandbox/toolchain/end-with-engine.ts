/** Programs that the Pulumi engine starts end with it: an engine that is killed cannot stop them, and they would stay for ever. */

/**
 * Calls `end` within about a second once the engine is gone.
 *
 * The script that starts a program gives the engine's process id in `ENGINE_PROCESS` (see `placeProgram`). A program that
 * asked for its parent by itself would do so too late where the engine is killed while the program is being loaded.
 */
export function endWithEngine(end: () => void): void {
  const engine = Number(process.env.ENGINE_PROCESS);
  if (!engine)
    throw new Error(
      "ENGINE_PROCESS is not set: start this program with the script in the folder plugins of PULUMI_HOME",
    );
  setInterval(() => process.ppid !== engine && end(), 1000).unref();
}
