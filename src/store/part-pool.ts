import { cancelled, onCancel } from "./cancel.ts";

/**
 * Buffers for parts on their way, used again, so that memory stays flat. Each upload always gets one, however many there
 * are; what it holds beyond that comes out of a number that all share. So no upload ever waits for another one's source.
 */
export interface PartPool {
  open(): PartLease;
}

/** One upload's hold on the pool. */
export interface PartLease {
  /** Waits until a buffer is free; fails as cancelled when the signal is aborted. */
  take(signal?: AbortSignal): Promise<Buffer>;
  give(buffer: Buffer): void;
  /** Gives up whatever was taken and not given back; those buffers may still be in use and are left to the collector. */
  close(): void;
}

/** `each`: how many buffers one upload holds at most; `shared`: how many all hold at most beyond the first of each. */
export function partPool(partBytes: number, each: number, shared: number): PartPool {
  const free: Buffer[] = [];
  const waiting = new Set<() => boolean>();
  let sharedLeft = shared;
  const wake = () => {
    for (const tryAgain of waiting) if (tryAgain()) waiting.delete(tryAgain);
  };
  return {
    open() {
      let held = 0;
      const tryTake = () => {
        if (held >= each || (held > 0 && sharedLeft === 0)) return undefined;
        if (held > 0) sharedLeft -= 1;
        held += 1;
        return free.pop() ?? Buffer.allocUnsafeSlow(partBytes);
      };
      return {
        take: (signal) =>
          new Promise<Buffer>((resolve, reject) => {
            if (signal?.aborted === true) return reject(cancelled(signal));
            const tryAgain = () => {
              const buffer = tryTake();
              if (buffer !== undefined) {
                stopListening();
                resolve(buffer);
              }
              return buffer !== undefined;
            };
            const stopListening = onCancel(signal, (error) => {
              waiting.delete(tryAgain);
              reject(error);
            });
            if (!tryAgain()) waiting.add(tryAgain);
          }),
        give(buffer) {
          if (held > 1) sharedLeft += 1;
          held -= 1;
          if (free.length < shared) free.push(buffer);
          wake();
        },
        close() {
          sharedLeft += Math.max(0, held - 1);
          held = 0;
          wake();
        },
      };
    },
  };
}
