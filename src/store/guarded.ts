import { isPgkitError } from "../lib/errors.ts";
import { discard } from "./body.ts";
import type { ObjectStore } from "./store.ts";

/**
 * `store`, whose answers count only when `guard` passes: before and after each write, and after each answer that something
 * is not there. What was read of an object that is there needs none.
 */
export function guardedStore(store: ObjectStore, guard: () => Promise<void>): ObjectStore {
  return {
    where: store.where,
    async get(key, options) {
      return await store.get(key, options).catch(async (error: unknown) => {
        if (isPgkitError(error, "object-missing")) await guard();
        throw error;
      });
    },
    async head(key, options) {
      const found = await store.head(key, options);
      if (found === undefined) await guard();
      return found;
    },
    async *list(prefix, options) {
      yield* store.list(prefix, options);
      await guard();
    },
    async put(key, body, options) {
      try {
        await guard();
      } catch (error) {
        if (!(body instanceof Uint8Array)) discard(body);
        throw error;
      }
      const stored = await store.put(key, body, options);
      await guard();
      return stored;
    },
    async delete(keys, options) {
      await guard();
      await store.delete(keys, options);
    },
    capabilities: (options) => store.capabilities(options),
    uploads: store.uploads,
  };
}
