import type { Readable } from "node:stream";
import { PgkitError } from "../lib/errors.ts";
import { discard } from "./body.ts";
import type { ObjectStore } from "./store.ts";

/** `store` for `--dry-run`: reads as before; every write, also that of a probe, fails with `bug` and reaches nobody. */
export function readOnlyStore(store: ObjectStore): ObjectStore {
  const refuse = (what: string, body?: Readable | Uint8Array): never => {
    if (body !== undefined) discard(body);
    throw new PgkitError("bug", `${what} in ${store.where}, which was opened for reading alone`);
  };
  const { uploads } = store;
  return {
    where: store.where,
    get: (key, options) => store.get(key, options),
    head: (key, options) => store.head(key, options),
    list: (prefix, options) => store.list(prefix, options),
    put: async (key, body) => refuse(`storing ${key}`, body),
    delete: async (keys) => refuse(`removing ${keys.join(", ")}`),
    capabilities: async () => refuse("probing"),
    uploads: uploads && {
      list: (options) => uploads.list(options),
      abort: async () => refuse("aborting uploads"),
    },
  };
}
