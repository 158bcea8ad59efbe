import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { collect } from "../lib/streams.ts";
import type { ObjectStore, PutOptions } from "../store/store.ts";

/**
 * Stores a small object under a key that must be new; fails with `condition-failed` when another is there. An object
 * with the very same bytes counts as ours: that is how a request looks whose reply was lost and which was sent again.
 * On a store that ignores conditions it looks first, which is all that can be done there; `pgkit check` says so.
 */
export async function putAbsent(
  store: ObjectStore,
  key: string,
  bytes: Uint8Array,
  options: Omit<PutOptions, "when"> = {},
): Promise<void> {
  const { createIfAbsent } = await store.capabilities(options);
  if (!createIfAbsent) return putAfterLooking(store, key, bytes, options);
  try {
    await store.put(key, bytes, { ...options, when: "absent" });
  } catch (error) {
    if (!isPgkitError(error, "condition-failed")) throw error;
    if (!(await holds(store, key, bytes, options))) throw error;
  }
}

async function putAfterLooking(
  store: ObjectStore,
  key: string,
  bytes: Uint8Array,
  options: Omit<PutOptions, "when">,
): Promise<void> {
  const there = await store.head(key, options);
  if (there === undefined) {
    await store.put(key, bytes, options);
  } else if (!(await holds(store, key, bytes, options))) {
    throw new PgkitError("condition-failed", `${key} is there already in ${store.where}`);
  }
}

async function holds(store: ObjectStore, key: string, bytes: Uint8Array, options: PutOptions): Promise<boolean> {
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  return (await collect(await store.get(key, signal))).equals(bytes);
}
