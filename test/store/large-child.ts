import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { openStore, type StorageConfig } from "../../src/store/open.ts";

// What large.test.ts runs as a process of its own, whose memory is nobody else's: node large-child.ts < JSON
const chunks: Buffer[] = [];
for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
const { url, storage } = JSON.parse(Buffer.concat(chunks).toString()) as { url: string; storage: StorageConfig };
const store = await openStore(url, storage);
let peak = 0;
const sampler = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss());
}, 10);

const small = await move("small", 60);
const large = await move("large", 300);
clearInterval(sampler);
await store.delete(["small", "large"]);
console.log(JSON.stringify({ small, large }));

/** Stores so many megabytes from a stream and reads them back, and says what the most memory was meanwhile. */
async function move(key: string, megabytes: number) {
  peak = 0;
  const sent = createHash("sha256");
  const pieces = function* () {
    // A new buffer each time, as a producer would give, and each one different.
    for (let index = 0; index < megabytes * 16; index += 1) {
      const piece = Buffer.alloc(65_536, `piece ${index} `);
      sent.update(piece);
      yield piece;
    }
  };
  const started = performance.now();
  const { bytes } = await store.put(key, Readable.from(pieces(), { objectMode: false }));
  const stored = performance.now();
  const got = createHash("sha256");
  for await (const chunk of await store.get(key)) got.update(chunk as Buffer);
  const read = performance.now();
  const rate = (ms: number) => Math.round(bytes / 1024 ** 2 / (ms / 1000));
  return {
    bytes,
    same: sent.digest("hex") === got.digest("hex"),
    peakMb: Math.round(peak / 1024 ** 2),
    putMbPerSecond: rate(stored - started),
    getMbPerSecond: rate(read - stored),
  };
}
