import { constants } from "node:fs";
import { link, lstat, open, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { type Clock, systemClock } from "../lib/time.ts";
import { objectBody } from "./body.ts";
import { throwIfCancelled } from "./cancel.ts";
import { errorCode, fileError, unlessAbsent } from "./file/errors.ts";
import { folderOf, removeEmptyFolders, syncFolder } from "./file/folders.ts";
import { infoOf } from "./file/info.ts";
import { type Place, placeAt } from "./file/place.ts";
import { putFile } from "./file/put.ts";
import { createTemp, strayTemps, sweepTemps } from "./file/temp.ts";
import { walk } from "./file/walk.ts";
import { assertKey } from "./key.ts";
import { once } from "./once.ts";
import type {
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  SignalOption,
  StoreCapabilities,
  StrayUploads,
} from "./store.ts";

/**
 * A store in a folder, which is made by the first `put` (modes 0700 and 0600). An object is on the disk when `put`
 * resolves. Objects are files under their keys; `~pgkit` in it holds temp files, of which the first `delete` of a process
 * removes those that killed runs left more than a day ago. A key cannot be both an object and the folder of others.
 */
export function fileStore({ path, clock = systemClock }: { path: string; clock?: Clock }): ObjectStore {
  const place = placeAt(resolve(path), clock);
  const sweepOnce = once(() => sweep(place));
  const probeOnce = once(() => probe(place));
  return {
    where: place.where,
    get: (key, options = {}) => ours(`reading ${key} in ${place.where}`, () => read(place, key, options)),
    head: (key, options = {}) => ours(`looking for ${key} in ${place.where}`, () => look(place, key, options)),
    list: (prefix, options = {}) => list(place, prefix, options),
    async put(key, body, options = {}) {
      assertKey(key);
      throwIfCancelled(options.signal);
      return { ...(await putFile(place, key, body, options)), proven: "read-back" };
    },
    async delete(keys, options = {}) {
      await ours(`removing from ${place.where}`, () => remove(place, keys, options));
      await sweepOnce();
    },
    async capabilities({ signal } = {}) {
      throwIfCancelled(signal);
      return await ours(`trying ${place.where}`, () => probeOnce(signal));
    },
    uploads: strays(place),
  };
}

async function ours<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, doing);
  }
}

async function read(place: Place, key: string, { range, etag, signal }: GetOptions): Promise<ObjectBody> {
  assertKey(key);
  throwIfCancelled(signal);
  const missing = new PgkitError("object-missing", `${place.where} has no ${key}`);
  if ((await folderOf(place.root, key)) === undefined) throw missing;
  // NONBLOCK, as opening a named pipe would wait for a writer.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await unlessAbsent(open(join(place.root, key), flags));
  if (handle === undefined) throw missing;
  try {
    const found = await handle.stat({ bigint: true });
    if (!found.isFile()) throw missing;
    const info = infoOf(key, found);
    if (etag !== undefined && etag !== info.etag) {
      throw new PgkitError("condition-failed", `${key} in ${place.where} was changed by another`);
    }
    const first = range?.first ?? 0;
    const bytes = Math.max(0, Math.min(info.bytes, (range?.last ?? info.bytes) + 1) - first);
    // An end before the start is an error to Node, so nothing is asked for as nothing.
    const span = bytes === 0 ? { start: info.bytes } : { start: first, end: first + bytes - 1 };
    const source = handle.createReadStream({ ...span, highWaterMark: 256 * 1024 });
    const fail = (error: unknown) => fileError(error, `reading ${key} in ${place.where}`);
    return objectBody(source, { key, etag: info.etag, bytes, signal, fail, owned: true });
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function look(place: Place, key: string, { signal }: SignalOption): Promise<ObjectInfo | undefined> {
  assertKey(key);
  throwIfCancelled(signal);
  if ((await folderOf(place.root, key)) === undefined) return undefined;
  const found = await unlessAbsent(lstat(join(place.root, key), { bigint: true }));
  return found?.isFile() === true ? infoOf(key, found) : undefined;
}

async function* list(place: Place, prefix: string, options: SignalOption & { after?: string | undefined }) {
  throwIfCancelled(options.signal);
  try {
    yield* walk(place.root, prefix, options);
  } catch (error) {
    throw fileError(error, `listing ${prefix} in ${place.where}`);
  }
}

async function remove(place: Place, keys: readonly string[], { signal }: SignalOption): Promise<void> {
  for (const key of keys) assertKey(key);
  const folders = new Set<string>();
  for (const key of keys) {
    throwIfCancelled(signal);
    const folder = await folderOf(place.root, key);
    if (folder === undefined) continue;
    await place.alone(key, () => unlinkObject(join(place.root, key)));
    folders.add(folder);
  }
  for (const folder of folders) {
    // Another's removal may have taken the folder away as it had become empty.
    await unlessAbsent(syncFolder(folder));
    await removeEmptyFolders(place.root, folder);
  }
}

/** A folder is no object, so that removing a key of its name removes nothing. */
async function unlinkObject(path: string): Promise<void> {
  const found = await unlessAbsent(lstat(path));
  if (found?.isFile() === true) await unlessAbsent(unlink(path));
}

async function sweep(place: Place): Promise<void> {
  await ours(`removing leftovers in ${place.where}`, async () => {
    const temp = await createTemp(place.root, await place.self());
    try {
      // The time of a new file is the file system's own time, which on a network is not ours.
      await sweepTemps(place.root, await place.self(), (await temp.handle.stat()).mtime);
    } finally {
      await temp.handle.close();
      await unlink(temp.path);
    }
  });
}

async function probe(place: Place): Promise<StoreCapabilities> {
  const before = place.clock.now().getTime();
  const temp = await createTemp(place.root, await place.self());
  const second = `${temp.path}-link`;
  try {
    const skew = (await temp.handle.stat()).mtimeMs - before;
    const createIfAbsent = await hasLinks(temp.path, second);
    // File systems of this machine stamp by its own clock, up to a timer tick late.
    const clockSkewMs = Math.abs(skew) < 100 ? 0 : Math.round(skew);
    return { createIfAbsent, compareAndSet: true, checksum: "read-back", objectLock: false, clockSkewMs };
  } finally {
    await temp.handle.close();
    await unlink(temp.path);
    await unlessAbsent(unlink(second));
  }
}

async function hasLinks(path: string, second: string): Promise<boolean> {
  try {
    await link(path, second);
    return true;
  } catch (error) {
    if (["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"].includes(errorCode(error) ?? "")) return false;
    throw error;
  }
}

function strays(place: Place): StrayUploads {
  const find = async () => strayTemps(place.root, await place.self());
  return {
    async *list() {
      for (const { path, modifiedAt } of await find()) {
        yield { key: path.slice(dirname(path).length + 1), startedAt: modifiedAt };
      }
    },
    async abort(olderThan) {
      const old = (await find()).filter(({ modifiedAt }) => modifiedAt < olderThan);
      for (const { path } of old) await unlessAbsent(unlink(path));
      return old.length;
    },
  };
}
