import { setTimeout as sleep } from "node:timers/promises";

/** The clock and the dice of the process, in one place so that nothing else reads them. */
export interface Clock {
  now(): Date;
  /** Milliseconds that only grow, for durations. */
  monotonicMs(): number;
  /** A number in [0, 1), for jitter and names. */
  random(): number;
  /** Resolves after `ms`; fails with the signal's reason when aborted. */
  delay(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  random: () => Math.random(),
  delay: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
};

/** `2026-11-21T02:00:00Z`: RFC 3339 in UTC to the second, the form of every time that pgkit stores. */
export function rfc3339(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`;
}

/** `20261121T020000Z`: the same moment in a form that may stand in a key and sorts by time. */
export function compactTime(time: Date): string {
  return rfc3339(time).replaceAll(/[-:]/g, "");
}
