import { Readable } from "node:stream";

/** In chunks of odd sizes, as a compressor would give them. */
export function inPieces(content: Buffer): Readable {
  const pieces = function* () {
    for (let at = 0, size = 1; at < content.length; at += size, size = (size * 7 + 3) % 90_001) {
      if (size === 0) size = 1;
      yield content.subarray(at, at + size);
    }
  };
  return Readable.from(pieces(), { objectMode: false });
}

/** Gives so many bytes and then fails. */
export function* failingAfter(bytes: number, error: Error): Generator<Buffer> {
  for (let at = 0; at < bytes; at += 50_000) yield Buffer.alloc(Math.min(50_000, bytes - at), "x");
  throw error;
}

/** Gives so many bytes, calls `then`, and then gives nothing more and does not end, as a stalled producer would. */
export function endless(bytes: number, then: () => void): Readable {
  let at = 0;
  return new Readable({
    read() {
      if (at < bytes) {
        const size = Math.min(50_000, bytes - at);
        at += size;
        this.push(Buffer.alloc(size, "x"));
      } else {
        then();
      }
    },
  });
}
