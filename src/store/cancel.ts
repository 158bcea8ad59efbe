import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";

/** The error of an aborted `signal`: its reason where that is a PgkitError already, else `cancelled`. */
export function cancelled(signal: AbortSignal): PgkitError {
  const reason: unknown = signal.reason;
  if (reason instanceof PgkitError) return reason;
  return new PgkitError("cancelled", "stopped before it was done", { cause: reason });
}

/** Fails as `cancelled(signal)` does when the signal is aborted already. */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled(signal);
}

/** Runs `stop` once when the signal is aborted, at once if it is already; the result takes the listener off again. */
export function onCancel(signal: AbortSignal | undefined, stop: (error: PgkitError) => void): () => void {
  if (signal === undefined) return () => undefined;
  const listener = () => stop(cancelled(signal));
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
  return () => signal.removeEventListener("abort", listener);
}

/** `work`, or the signal's error as soon as it is aborted; `work` then goes on unobserved. */
export async function orCancelled<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  let stopListening: (() => void) | undefined;
  const stopped = new Promise<never>((_, reject) => {
    stopListening = onCancel(signal, reject);
  });
  try {
    return await Promise.race([work, stopped]);
  } finally {
    stopListening?.();
  }
}

/** Waits so long by `clock`, or fails as `cancelled(signal)` does as soon as the signal is aborted. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  throwIfCancelled(signal);
  try {
    await clock.delay(ms, signal);
  } catch (error) {
    throwIfCancelled(signal);
    throw error;
  }
}
