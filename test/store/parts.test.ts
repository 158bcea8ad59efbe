import { Readable } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chunksOf } from "../../src/store/body.ts";
import { partPool } from "../../src/store/part-pool.ts";
import { partsInMemory, partsOf } from "../../src/store/parts.ts";
import { failsWith } from "./outcome.ts";

describe("parts", () => {
  it("hold the content in order, all of one size but the last, which is known to be it", async () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 600_000 }), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1_000, max: 400_000 }), async (chunkSizes, partBytes) => {
        const content = Buffer.concat(chunkSizes.map((size, index) => Buffer.alloc(size, index + 1)));
        const ends = chunkSizes.map((_, index) => chunkSizes.slice(0, index + 1).reduce((sum, size) => sum + size, 0));
        const chunks = ends.map((end, index) => content.subarray(end - (chunkSizes[index] ?? 0), end));
        const body = Readable.from(chunks, { objectMode: true });
        const lease = partPool(partBytes, 2, 1).open();
        for (const parts of [partsOf(chunksOf(body, undefined), partBytes, lease), partsInMemory(content, partBytes)]) {
          const got: Buffer[] = [];
          let ended = false;
          for await (const { bytes, last, free } of parts) {
            expect(ended).toBe(false);
            if (!last) expect(bytes.length).toBe(partBytes);
            expect(bytes.length).toBeLessThanOrEqual(Math.max(partBytes, 0));
            got.push(Buffer.from(bytes));
            ended = last;
            free();
          }
          expect(ended).toBe(true);
          expect(Buffer.concat(got).equals(content)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe("the buffers of parts", () => {
  it("are never wanting for an upload's first part, however many uploads there are", async () => {
    const pool = partPool(10, 4, 2);
    const greedy = pool.open();
    for (let taken = 0; taken < 3; taken += 1) await greedy.take();
    for (let upload = 0; upload < 50; upload += 1) await pool.open().take();
  });

  it("beyond the first are shared, and go to whoever waits when one is given back", async () => {
    const pool = partPool(10, 4, 2);
    const [first, second] = [pool.open(), pool.open()];
    const held = [await first.take(), await first.take(), await first.take()];
    await second.take();
    let got = false;
    const waiting = second.take().then((buffer) => {
      got = true;
      return buffer;
    });
    await new Promise(setImmediate);
    expect(got).toBe(false);
    const [buffer] = held;
    if (buffer !== undefined) first.give(buffer);
    expect(await waiting).toBe(buffer);
  });

  it("are no more for one upload than its bound, and come back when it fails", async () => {
    const pool = partPool(10, 2, 5);
    const upload = pool.open();
    await upload.take();
    await upload.take();
    const stop = new AbortController();
    const third = failsWith("cancelled", upload.take(stop.signal));
    stop.abort();
    await third;
    for (let round = 0; round < 20; round += 1) {
      const failing = pool.open();
      await failing.take();
      await failing.take();
      failing.close();
    }
  });
});
