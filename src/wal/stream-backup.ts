import type { Streamer } from "./stream-context.ts";
import { saveLosses } from "./stream-loss.ts";
import { pause } from "./stream-retry.ts";

const lookEveryMs = 2_000;
const firstAgainMs = 30_000;
const longestAgainMs = 15 * 60_000;

/** Takes the base backup that lost WAL asks for, once the loss is recorded and WAL arrives again. Ends with the run. */
export async function takeDueBaseBackup(streamer: Streamer): Promise<void> {
  const { request, stop } = streamer;
  const { takeBaseBackup, clock, report, instance } = request;
  if (takeBaseBackup === undefined) return;
  let againMs = firstAgainMs;
  while (!stop.aborted) {
    await pause(clock, lookEveryMs, stop);
    const losses = streamer.stream?.losses;
    if (losses?.baseBackupDue !== true || losses.lost.length > 0 || streamer.state !== "streaming") continue;
    try {
      const id = await takeBaseBackup(stop);
      losses.baseBackupDue = false;
      againMs = firstAgainMs;
      await saveLosses(losses);
      report({ type: "note", message: `wal stream ${instance}: base backup ${id} was taken after the gap` });
    } catch (error) {
      if (stop.aborted) return;
      const message = `the base backup of ${instance} after the gap failed: ${error instanceof Error ? error.message : String(error)}`;
      report({ type: "warning", message, hint: `it is tried again in ${againMs / 1000} s` });
      await pause(clock, againMs, stop);
      againMs = Math.min(longestAgainMs, againMs * 2);
    }
  }
}
