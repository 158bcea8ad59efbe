import { tapBody } from "./body.ts";
import type { ObjectStore } from "./store.ts";

/** What was asked of a store so far; a list counts once however many pages it takes. */
export interface StoreCounts {
  get: number;
  head: number;
  list: number;
  put: number;
  delete: number;
  capabilities: number;
  /** Bytes handed to readers. */
  readBytes: number;
  /** Bytes of objects stored. */
  storedBytes: number;
}

/** `store`, and what is asked of it as it grows; for `--verbose` and the benchmarks. */
export function countingStore(store: ObjectStore): { store: ObjectStore; counts: Readonly<StoreCounts> } {
  const counts = { get: 0, head: 0, list: 0, put: 0, delete: 0, capabilities: 0, readBytes: 0, storedBytes: 0 };
  const counting: ObjectStore = {
    where: store.where,
    async get(key, options) {
      counts.get += 1;
      return tapBody(await store.get(key, options), (chunk) => {
        counts.readBytes += chunk.length;
      });
    },
    head(key, options) {
      counts.head += 1;
      return store.head(key, options);
    },
    list(prefix, options) {
      counts.list += 1;
      return store.list(prefix, options);
    },
    async put(key, body, options) {
      counts.put += 1;
      const stored = await store.put(key, body, options);
      counts.storedBytes += stored.bytes;
      return stored;
    },
    delete(keys, options) {
      counts.delete += 1;
      return store.delete(keys, options);
    },
    capabilities(options) {
      counts.capabilities += 1;
      return store.capabilities(options);
    },
    uploads: store.uploads,
  };
  return { store: counting, counts };
}
