import { type FileHandle, link, lstat, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { PgkitError } from "../../lib/errors.ts";
import { chunksOf, discard } from "../body.ts";
import { throwIfCancelled } from "../cancel.ts";
import type { Condition, ObjectInfo, PutOptions } from "../store.ts";
import { errorCode, fileError, saysAbsent, unlessAbsent } from "./errors.ts";
import { folderOf, makeFolder, syncFolder } from "./folders.ts";
import { infoOf } from "./info.ts";
import type { Place } from "./place.ts";
import { createTemp, makeTimeUnique } from "./temp.ts";

const batchBytes = 1024 * 1024;
/** After so many bytes the disk begins to write: left to the end, a backup would wait for all of its bytes there. */
const syncBytes = 64 * 1024 * 1024;

/**
 * Writes a temp file, syncs it, gives it its name in one step and syncs the folder: after a power cut at any moment there
 * is the whole object, the one before it, or none.
 */
export async function putFile(
  place: Place,
  key: string,
  body: Readable | Uint8Array,
  { when, retainUntil, signal }: PutOptions,
): Promise<ObjectInfo> {
  const temp = await beforeReading(body, async () => {
    if (retainUntil !== undefined) {
      throw new PgkitError("store-unsupported", `${place.where} is a folder, which cannot keep ${key} from removal`);
    }
    await folderOf(place.root, key);
    await assertCondition(place, key, when);
    return await createTemp(place.root, await place.self());
  }).catch((error: unknown) => {
    throw fileError(error, `writing ${key} in ${place.where}`);
  });
  let placed = false;
  try {
    await write(temp.handle, body, signal, (error) => fileError(error, `writing ${key} in ${place.where}`));
    throwIfCancelled(signal);
    const info = infoOf(key, await temp.handle.stat({ bigint: true }));
    await giveName(place, key, temp.path, when);
    placed = when !== "absent";
    return info;
  } finally {
    await temp.handle.close();
    if (!placed) await unlessAbsent(unlink(temp.path));
  }
}

/** A body that will not be read is ended, so that its producer stops. */
async function beforeReading<T>(body: Readable | Uint8Array, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    discard(body);
    throw error;
  }
}

/** Fails with the body's own error as it is, and with `ours` of what the file system says. */
async function write(
  handle: FileHandle,
  body: Readable | Uint8Array,
  signal: AbortSignal | undefined,
  ours: (error: unknown) => PgkitError,
): Promise<void> {
  let writing: Promise<void> = Promise.resolve();
  const behind = syncBehind(handle, ours);
  let batch: Buffer[] = [];
  let size = 0;
  const flush = async () => {
    await writing;
    await behind.wrote(size);
    writing = writeAll(handle, batch, ours);
    // Awaited with the next batch or at the end; until then a failure must not count as unobserved.
    writing.catch(() => undefined);
    batch = [];
    size = 0;
  };
  try {
    for await (const chunk of chunksOf(body, signal)) {
      batch.push(chunk);
      size += chunk.length;
      if (size >= batchBytes) await flush();
    }
    await flush();
  } finally {
    // The handle is closed after this, so nothing may be under way.
    await Promise.allSettled([writing, behind.done()]);
  }
  await writing;
  await behind.done();
  try {
    await makeTimeUnique(handle);
    await handle.sync();
  } catch (error) {
    throw ours(error);
  }
}

/**
 * Has the disk write while more comes. What such a sync meets, the one at the end is not told again: so each is awaited.
 */
function syncBehind(handle: FileHandle, ours: (error: unknown) => PgkitError) {
  let syncing: Promise<void> = Promise.resolve();
  let unsynced = 0;
  return {
    done: () => syncing,
    wrote: async (bytes: number) => {
      unsynced += bytes;
      if (unsynced < syncBytes) return;
      unsynced = 0;
      await syncing;
      syncing = handle.datasync().catch((error: unknown) => {
        throw ours(error);
      });
      syncing.catch(() => undefined);
    },
  };
}

async function writeAll(handle: FileHandle, batch: Buffer[], ours: (error: unknown) => PgkitError): Promise<void> {
  const total = batch.reduce((sum, chunk) => sum + chunk.length, 0);
  try {
    const { bytesWritten } = total === 0 ? { bytesWritten: 0 } : await handle.writev(batch);
    if (bytesWritten < total) await handle.writeFile(Buffer.concat(batch).subarray(bytesWritten));
  } catch (error) {
    throw ours(error);
  }
}

async function giveName(place: Place, key: string, temp: string, when: Condition | undefined): Promise<void> {
  const folder = join(place.root, dirname(key));
  const path = join(place.root, key);
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await makeFolder(folder);
        if (when === "absent") await linkOnce(place, key, temp, path);
        else await place.alone(key, (stillOurs) => replace(place, key, temp, when, stillOurs));
        break;
      } catch (error) {
        // A removal next door took the folder away as it had become empty.
        if (!saysAbsent(error) || attempt === 10 || (await unlessAbsent(stat(temp))) === undefined) throw error;
      }
    }
    // Not there means that the object has been removed again by now.
    await unlessAbsent(syncFolder(folder));
  } catch (error) {
    throw fileError(error, `storing ${key} in ${place.where}`);
  }
}

async function linkOnce(place: Place, key: string, temp: string, path: string): Promise<void> {
  try {
    await link(temp, path);
  } catch (error) {
    const code = errorCode(error);
    if (code === "EEXIST") {
      // NFS may repeat a request whose answer was lost, and then says so of our own link (link(2)).
      if ((await stat(temp)).nlink === 2) return;
      throw taken(place, key);
    }
    if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "ENOSYS") {
      throw new PgkitError("store-unsupported", `the file system of ${place.where} has no hard links`, {
        hint: "objects cannot be created only-if-absent there; use another file system",
        cause: error,
      });
    }
    throw error;
  }
}

async function replace(
  place: Place,
  key: string,
  temp: string,
  when: Condition | undefined,
  stillOurs: () => Promise<void>,
): Promise<void> {
  await assertCondition(place, key, when);
  await stillOurs();
  try {
    await rename(temp, join(place.root, key));
  } catch (error) {
    if (errorCode(error) !== "EISDIR") throw error;
    throw new PgkitError("store-unsupported", `${key} is a folder in ${place.where}, and cannot be an object too`);
  }
}

async function assertCondition(place: Place, key: string, when: Condition | undefined): Promise<void> {
  if (when === undefined) return;
  const found = await unlessAbsent(lstat(join(place.root, key), { bigint: true }));
  if (when === "absent") {
    if (found !== undefined) throw taken(place, key);
  } else if (found === undefined || infoOf(key, found).etag !== when.etag) {
    throw new PgkitError("condition-failed", `${key} in ${place.where} was changed by another`);
  }
}

function taken(place: Place, key: string): PgkitError {
  return new PgkitError("condition-failed", `${key} is already in ${place.where}`);
}
