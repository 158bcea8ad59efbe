import type { PartLease } from "./part-pool.ts";

export interface Part {
  bytes: Buffer;
  last: boolean;
  /** Gives the memory back; to be called when the part is stored and will not be sent again. */
  free: () => void;
}

/** An object up to this is gathered without a part's buffer, so that many small ones cost little. */
const smallBytes = 256 * 1024;

/**
 * The content cut into parts of the same size, the last one smaller; always at least one, which may be empty. A part is
 * known to be the last when it is given.
 */
export async function* partsOf(
  chunks: AsyncGenerator<Buffer>,
  partBytes: number,
  lease: PartLease,
  signal?: AbortSignal,
): AsyncGenerator<Part, void, undefined> {
  const small = await gather(chunks, Math.min(smallBytes, partBytes));
  if (small.ended) {
    yield { bytes: small.bytes, last: true, free: () => undefined };
    return;
  }
  let rest = small.bytes;
  for (let ended = false; !ended; ) {
    const buffer = await lease.take(signal);
    let filled = 0;
    // Goes one chunk past the end of the part, to know whether there is more.
    while (!ended && (filled < partBytes || rest.length === 0)) {
      if (rest.length === 0) {
        const next = await chunks.next();
        ended = next.done === true;
        rest = next.value ?? rest;
      } else {
        const taken = rest.copy(buffer, filled, 0, partBytes - filled);
        filled += taken;
        rest = rest.subarray(taken);
      }
    }
    yield { bytes: buffer.subarray(0, filled), last: ended, free: () => lease.give(buffer) };
  }
}

/** Content that is in memory already, cut without copying it. */
export async function* partsInMemory(content: Buffer, partBytes: number): AsyncGenerator<Part, void, undefined> {
  for (let at = 0, last = false; !last; at += partBytes) {
    last = at + partBytes >= content.length;
    yield { bytes: content.subarray(at, at + partBytes), last, free: () => undefined };
  }
}

/** Reads until there are more than `limit` bytes, or to the end; then `ended` is true. */
export async function gather(
  chunks: AsyncGenerator<Buffer>,
  limit: number,
): Promise<{ bytes: Buffer; ended: boolean }> {
  const gathered: Buffer[] = [];
  let size = 0;
  while (size <= limit) {
    const { done, value } = await chunks.next();
    if (done === true) return { bytes: Buffer.concat(gathered), ended: true };
    gathered.push(value);
    size += value.length;
  }
  return { bytes: Buffer.concat(gathered), ended: false };
}
