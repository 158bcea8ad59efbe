import { createHash, type Hash } from "node:crypto";
import { Readable, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

export type Bytes = AsyncIterable<Uint8Array>;

/** The bytes of `source` in pieces of exactly `size`, the last one shorter; none is empty. */
export async function* chunksOf(source: Bytes, size: number): AsyncGenerator<Buffer> {
  let parts: Uint8Array[] = [];
  let held = 0;
  for await (const piece of source) {
    parts.push(piece);
    held += piece.length;
    if (held < size) continue;
    const bytes = Buffer.concat(parts, held);
    let offset = 0;
    for (; held - offset >= size; offset += size) yield bytes.subarray(offset, offset + size);
    parts = offset < held ? [bytes.subarray(offset)] : [];
    held -= offset;
  }
  if (held > 0) yield Buffer.concat(parts, held);
}

export interface Tally {
  bytes: number;
  /** Hex; known when the source has ended. */
  sha256: string;
}

export interface Tallied {
  stream: Bytes;
  tally: () => Tally;
  /** That of the tally, to go on with what comes behind. */
  hash: Hash;
}

/** Passes `source` on and tallies it, and sums it up in `also`; the tally is final only once the source has ended. */
export function tallied(source: Bytes, also?: Hash): Tallied {
  const hash = createHash("sha256");
  let bytes = 0;
  let sha256: string | undefined;
  async function* pass(): AsyncGenerator<Uint8Array> {
    for await (const piece of source) {
      hash.update(piece);
      also?.update(piece);
      bytes += piece.length;
      yield piece;
    }
    sha256 = hash.copy().digest("hex");
  }
  const tally = () => {
    if (sha256 === undefined) throw new Error("the tally of a stream was read before its end");
    return { bytes, sha256 };
  };
  return { stream: pass(), tally, hash };
}

/** `source` through a Node transform; a failure of either end fails the other. */
export async function* through(source: Bytes, transform: Transform): AsyncGenerator<Uint8Array> {
  const done = pipeline(source, transform);
  // The same failure reaches the reader through the transform; without this it would also count as unhandled.
  done.catch(() => undefined);
  yield* transform;
  await done;
}

/**
 * Lends each piece: its memory is gone once the next one is asked for, unless the reader has transferred it elsewhere. Only for a source whose pieces nobody else holds, in
 * memory of their own, such as those of a decompressor; of a buffer that is filled piece by piece, the last frees it.
 *
 * Left to the garbage collector, pieces of memory outside of the heap make V8 mark all of the heap every 40 MB: behind
 * pgkit's heap of 25 MB that costs more than to decompress them. Freed at once, the same few pages are used again and again.
 */
export async function* lent(source: Bytes): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    yield piece;
    if (isToItsEnd(piece)) piece.buffer.transfer(0);
  }
}

/** Whether a piece is the last of its memory, which is there still. */
export function isToItsEnd(piece: Uint8Array): piece is Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = piece;
  return buffer instanceof ArrayBuffer && !buffer.detached && byteOffset + byteLength === buffer.byteLength;
}

/** A Node stream of `source`; destroying it stops the source, a failing source fails it. */
export function readable(source: Bytes): Readable {
  return Readable.from(source, { objectMode: false, highWaterMark: 256 * 1024 });
}

/** All bytes of `source`, which must fit in memory. */
export async function collect(source: Bytes): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of source) parts.push(piece);
  return Buffer.concat(parts);
}

/** Smaller ones may share their memory, as Node's own pool. */
const ownBytes = 1024 * 1024;

/**
 * Gives the memory of bytes that nobody else holds back at once; they cannot be read afterwards. See `lent` for why. Not
 * for what a socket may still be sending.
 */
export function release({ buffer, byteLength }: Uint8Array): void {
  if (byteLength >= ownBytes && buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}
