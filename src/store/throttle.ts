import type { Readable } from "node:stream";
import { type Clock, systemClock } from "../lib/time.ts";
import { chunksOf, discard, streamOf, tapBody } from "./body.ts";
import { pause } from "./cancel.ts";
import type { ObjectStore } from "./store.ts";

export interface ThrottleOptions {
  /** Of content, for all transfers of one direction together; up and down have this much each. */
  bytesPerSecond: number;
  clock?: Clock;
}

/** `store`, moving no more than so many bytes a second in the long run, however many transfers are under way. */
export function throttleStore(
  store: ObjectStore,
  { bytesPerSecond, clock = systemClock }: ThrottleOptions,
): ObjectStore {
  const down = pace(bytesPerSecond, clock);
  const up = pace(bytesPerSecond, clock);
  return {
    ...store,
    async get(key, options = {}) {
      return tapBody(await store.get(key, options), (chunk) => down(chunk.length, options.signal));
    },
    async put(key, body, options = {}) {
      if (body instanceof Uint8Array) {
        await up(body.length, options.signal);
        return await store.put(key, body, options);
      }
      const slow = slowed(body, (bytes) => up(bytes, options.signal));
      return await store.put(
        key,
        streamOf(slow, () => discard(body)),
        options,
      );
    },
  };
}

async function* slowed(body: Readable, wait: (bytes: number) => Promise<void>): AsyncGenerator<Buffer> {
  for await (const chunk of chunksOf(body, undefined)) {
    await wait(chunk.length);
    yield chunk;
  }
}

/** Each caller's bytes begin where those of the one before end, so that together they keep the rate. */
function pace(bytesPerSecond: number, clock: Clock): (bytes: number, signal?: AbortSignal) => Promise<void> {
  let freeAtMs = 0;
  return async (bytes, signal) => {
    const nowMs = clock.monotonicMs();
    const startMs = Math.max(freeAtMs, nowMs);
    freeAtMs = startMs + (bytes / bytesPerSecond) * 1000;
    // Waits shorter than a timer's grain add up in `freeAtMs` until they are worth a timer.
    if (freeAtMs - nowMs >= 5) await pause(clock, freeAtMs - nowMs, signal);
  };
}
