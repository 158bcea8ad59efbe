import { mkdir, open, realpath, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import { errorCode, unlessAbsent } from "./errors.ts";

/** The folder inside the store's own that holds temp files and claims: `~` is not in the alphabet of keys. */
export const workFolder = "~pgkit";

/** Makes a folder, readable by its owner alone, such that it is still there after a power cut. */
export async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  // Each new name lives in the folder above it, so that one is what has to reach the disk.
  for (let at = path; at.length >= first.length; at = dirname(at)) await syncFolder(dirname(at));
}

/** Waits until the names in a folder are on the disk. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems (CIFS, several of FUSE) have nothing to sync for a folder, and say so by EINVAL.
    if (errorCode(error) !== "EINVAL") throw error;
  } finally {
    await handle.close();
  }
}

/** Removes the folder of a removed key and those above it, up to `root`, as far as they are empty. */
export async function removeEmptyFolders(root: string, folder: string): Promise<void> {
  for (let at = folder; at.length > root.length; at = dirname(at)) {
    try {
      await unlessAbsent(rmdir(at));
    } catch (error) {
      if (errorCode(error) === "ENOTEMPTY" || errorCode(error) === "EEXIST") return;
      throw error;
    }
  }
}

/**
 * The folder that holds `key`, undefined when it is not there. Fails with `store-denied` when a symbolic link is on the
 * way: it could lead out of the store.
 */
export async function folderOf(root: string, key: string): Promise<string | undefined> {
  const inside = dirname(key);
  const folder = join(root, inside);
  const real = await unlessAbsent(realpath(folder));
  if (real === undefined) return undefined;
  if (real !== join(await realpath(root), inside)) {
    throw new PgkitError("store-denied", `${folder} leads through a symbolic link, which is not followed`);
  }
  return folder;
}
