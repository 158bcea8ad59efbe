import { formatBytes, formatDuration } from "../lib/parse.ts";
import { lagLevel, type Thresholds } from "./stream-lag.ts";
import type { StreamStatus } from "./stream-status.ts";

/** A streamer writes its status every few seconds, also while the server or the store is down. */
const silentMs = 60_000;

export interface StreamHealth {
  readonly healthy: boolean;
  /** One sentence. */
  readonly message: string;
}

/**
 * `live`: the process works, whatever is down around it; to start it anew would not help. `ready`: WAL of the instance comes to
 * the repository, with less than the alert thresholds outstanding. `status` is what the streamer said last.
 */
export function streamHealth(
  question: "live" | "ready",
  status: StreamStatus | undefined,
  limits: Thresholds,
  now: Date,
): StreamHealth {
  const notLive = (message: string) => ({ healthy: false, message });
  if (status === undefined) return notLive("no pgkit wal stream has begun here");
  const { state, instance, updatedAt } = status;
  const ageMs = Math.max(0, now.getTime() - Date.parse(updatedAt));
  if (state === "stopped") return notLive(`the streamer of ${instance} has ended, at ${updatedAt}`);
  // Also when the time is no time.
  if (!(ageMs <= silentMs)) {
    return notLive(`the streamer of ${instance} has said nothing for ${formatDuration(ageMs)}, since ${updatedAt}`);
  }
  if (question === "live") return { healthy: true, message: `the streamer of ${instance} works: ${state}` };
  return readiness(status, limits);
}

function readiness(status: StreamStatus, limits: Thresholds): StreamHealth {
  const { state, instance, retainedBytes = 0, lagSeconds = 0, troubles } = status;
  const why = troubles.map(({ where, message }) => `; ${where}: ${message}`).join("");
  if (state !== "streaming") return { healthy: false, message: `the streamer of ${instance} is ${state}${why}` };
  const outstanding = `${formatBytes(retainedBytes)} of WAL are not stored, the oldest for ${lagSeconds} s`;
  const healthy = lagLevel(retainedBytes, lagSeconds, limits) !== "alert";
  return { healthy, message: `the streamer of ${instance} is streaming; ${outstanding}${healthy ? "" : why}` };
}
