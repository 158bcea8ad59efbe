import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { countingStore } from "../../src/store/counting.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { fileStore } from "../../src/store/file.ts";
import { guardedStore } from "../../src/store/guarded.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { prefixStore } from "../../src/store/prefix.ts";
import { retryStore } from "../../src/store/retry.ts";
import { throttleStore } from "../../src/store/throttle.ts";
import { conformance } from "./conformance.ts";

const memory = { createIfAbsent: true, compareAndSet: true, checksum: "crc32", objectLock: true } as const;
const folder = { createIfAbsent: true, compareAndSet: true, checksum: "read-back", objectLock: false } as const;

conformance("file", inFolder, { capabilities: folder });
conformance("prefix", async () => ({ store: prefixStore(memoryStore(), "some/where") }), { capabilities: memory });
conformance("retry", async () => ({ store: retryStore(memoryStore()) }), { capabilities: memory });
conformance("throttle", async () => ({ store: throttleStore(memoryStore(), { bytesPerSecond: 1e9 }) }), {
  capabilities: memory,
});
conformance("faulty with nothing planned", async () => ({ store: faultyStore(memoryStore(), []) }), {
  capabilities: memory,
});
conformance("counting", async () => ({ store: countingStore(memoryStore()).store }), { capabilities: memory });
conformance("guarded", async () => ({ store: guardedStore(memoryStore(), async () => undefined) }), {
  capabilities: memory,
});
conformance(
  "all of them over a folder",
  async () => {
    const { store, close } = await inFolder();
    const wrapped = prefixStore(throttleStore(faultyStore(store, []), { bytesPerSecond: 1e9 }), "deep/down");
    return { store: retryStore(countingStore(wrapped).store), close };
  },
  { capabilities: folder },
);

async function inFolder() {
  const path = await mkdtemp(join(tmpdir(), "pgkit-store-"));
  return { store: fileStore({ path: join(path, "not", "there", "yet") }), close: () => rm(path, { recursive: true }) };
}
