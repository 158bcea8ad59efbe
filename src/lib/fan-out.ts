import { once } from "node:events";
import { PassThrough } from "node:stream";
import type { Bytes } from "./streams.ts";

/**
 * Reads `source` once and gives every consumer all of it, as fast as the slowest takes it. A consumer that fails drops
 * out and the others go on; when none is left the source is stopped. When the source fails, every consumer's stream
 * fails: to none of them does it look like the end. The outcomes come in the order of the consumers.
 */
export async function fanOut<Result>(
  source: Bytes,
  consumers: readonly ((branch: Bytes) => Promise<Result>)[],
): Promise<PromiseSettledResult<Result>[]> {
  const [only] = consumers;
  if (only !== undefined && consumers.length === 1) return Promise.allSettled([only(source)]);
  const branches = consumers.map(() => new PassThrough());
  const outcomes = consumers.map(async (consume, index) => {
    const branch = branches[index] as PassThrough;
    try {
      return await consume(branch);
    } finally {
      branch.destroy();
    }
  });
  const settled = Promise.allSettled(outcomes);
  await pump(source, branches);
  return settled;
}

/** Never fails: a failure of the source goes to the branches, where the consumers meet it. */
async function pump(source: Bytes, branches: readonly PassThrough[]): Promise<void> {
  try {
    for await (const piece of source) {
      const live = branches.filter((branch) => !branch.destroyed);
      if (live.length === 0) return;
      await Promise.all(live.map((branch) => write(branch, piece)));
    }
    for (const branch of branches) branch.end();
  } catch (error) {
    for (const branch of branches) branch.destroy(error instanceof Error ? error : new Error(String(error)));
  }
}

async function write(branch: PassThrough, piece: Uint8Array): Promise<void> {
  if (branch.write(piece) || branch.destroyed) return;
  const done = new AbortController();
  const options = { signal: done.signal };
  // A consumer that drops out meanwhile never drains.
  await Promise.race([once(branch, "drain", options), once(branch, "close", options)]).catch(() => undefined);
  done.abort();
}
