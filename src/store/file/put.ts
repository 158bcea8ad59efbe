import { link, lstat, rename, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { PgkitError } from "../../lib/errors.ts";
import { discard } from "../body.ts";
import { throwIfCancelled } from "../cancel.ts";
import type { Condition, ObjectInfo, PutOptions } from "../store.ts";
import { writeContent } from "./content.ts";
import { errorCode, fileError, saysAbsent, unlessAbsent } from "./errors.ts";
import { folderOf, makeFolder, syncFolder } from "./folders.ts";
import { infoOf } from "./info.ts";
import type { Place } from "./place.ts";
import { createTemp } from "./temp.ts";

/**
 * Writes a temp file, syncs it, reads it back, gives it its name in one step and syncs the folder: after a power cut at any
 * moment there is the whole object, the one before it, or none. Fails with `object-corrupt` where other bytes come back.
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
    const ours = (error: unknown) => fileError(error, `writing ${key} in ${place.where}`);
    await writeContent(body, { handle: temp.handle, signal, ours, where: `${key} in ${place.where}` });
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
