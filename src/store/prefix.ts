import { assertKey } from "./key.ts";
import type { ObjectInfo, ObjectStore, StrayUpload, StrayUploads } from "./store.ts";

/** The part of `store` under `prefix/`, as a store of its own whose keys leave it out. */
export function prefixStore(store: ObjectStore, prefix: string): ObjectStore {
  assertKey(prefix);
  const start = `${prefix}/`;
  const inside = <T extends ObjectInfo | StrayUpload>(found: T): T => ({
    ...found,
    key: found.key.slice(start.length),
  });
  const outside = (key: string) => {
    assertKey(key);
    return start + key;
  };
  return {
    where: `${store.where.replace(/\/$/, "")}/${prefix}`,
    get: async (key, options) => store.get(outside(key), options),
    async head(key, options) {
      const found = await store.head(outside(key), options);
      return found && inside(found);
    },
    async *list(wanted, options = {}) {
      const after = options.after === undefined ? undefined : start + options.after;
      for await (const found of store.list(start + wanted, { ...options, after })) yield inside(found);
    },
    put: async (key, body, options) => inside(await store.put(outside(key), body, options)),
    delete: async (keys, options) => store.delete(keys.map(outside), options),
    capabilities: (options) => store.capabilities(options),
    uploads: store.uploads && uploadsUnder(store.uploads, start, inside),
  };
}

function uploadsUnder(uploads: StrayUploads, start: string, inside: (found: StrayUpload) => StrayUpload): StrayUploads {
  return {
    async *list({ prefix = "", signal } = {}) {
      for await (const found of uploads.list({ prefix: start + prefix, signal })) {
        yield found.key.startsWith(start) ? inside(found) : found;
      }
    },
    abort: (olderThan, { prefix = "", signal } = {}) => uploads.abort(olderThan, { prefix: start + prefix, signal }),
  };
}
