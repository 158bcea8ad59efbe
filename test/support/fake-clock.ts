import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "../../src/lib/time.ts";

/** A clock that stands still until it is told to go on. */
export interface FakeClock extends Clock {
  /** Lets `ms` pass: whatever waits for a moment of it goes on at that moment, and gets time for its work. */
  advance(ms: number): Promise<void>;
  /** Sets the wall clock, as an administrator would; what waits, waits on. */
  setWall(time: Date): void;
}

export function fakeClock(start = "2026-11-21T02:00:00Z"): FakeClock {
  let wallMs = Date.parse(start);
  let monotonicMs = 0;
  let seed = 1;
  const waiting = new Set<{ atMs: number; wake: () => void }>();
  const pass = (ms: number) => {
    wallMs += ms;
    monotonicMs += ms;
  };
  return {
    now: () => new Date(wallMs),
    monotonicMs: () => monotonicMs,
    random: () => {
      seed = (seed * 16_807) % 2_147_483_647;
      return seed / 2_147_483_647;
    },
    delay: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason);
        const sleeper = { atMs: monotonicMs + ms, wake: () => end(resolve) };
        const onAbort = () => end(() => reject(signal?.reason));
        const end = (settle: () => void) => {
          waiting.delete(sleeper);
          signal?.removeEventListener("abort", onAbort);
          settle();
        };
        signal?.addEventListener("abort", onAbort, { once: true });
        waiting.add(sleeper);
      }),
    setWall(time) {
      wallMs = time.getTime();
    },
    async advance(ms) {
      const endMs = monotonicMs + ms;
      await settle();
      for (;;) {
        const [next] = [...waiting].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
        if (next === undefined) break;
        pass(Math.max(0, next.atMs - monotonicMs));
        next.wake();
        await settle();
      }
      pass(endMs - monotonicMs);
    },
  };
}

/** Enough turns of the event loop for everything that only waits for memory, such as the memory store. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 60; turns += 1) await turn();
}
