import { isPgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";

const firstWaitMs = 1_000;
const longestWaitMs = 15_000;

/** 1 s, 2 s, 4 s, 8 s and then 15 s, each by up to a quarter shorter, so that many do not come back at one moment. */
export function backoffMs(attempt: number, clock: Clock): number {
  const full = Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(attempt, 10));
  return full * (1 - clock.random() / 4);
}

/** Waits; returns at once, without failing, when the signal is or gets aborted. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  try {
    await clock.delay(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** True for what goes away by itself: a server or a store that is down, restarts or is slow. */
export function mayPass(error: unknown): boolean {
  return isPgkitError(
    error,
    ...(["postgres-unreachable", "postgres-failed", "tool-failed", "disk-full"] as const),
    ...(["store-unreachable", "store-failed", "store-full", "store-denied", "condition-failed"] as const),
  );
}

/** Repeats until it works; what may pass is given to `say` each time, anything else fails at once. */
export async function untilItWorks<T>(
  attempt: () => Promise<T>,
  options: { clock: Clock; signal: AbortSignal; say: (error: unknown) => void },
): Promise<T> {
  const { clock, signal, say } = options;
  for (let failures = 0; ; failures += 1) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (!mayPass(error)) throw error;
      say(error);
      await pause(clock, backoffMs(failures, clock), signal);
    }
  }
}
