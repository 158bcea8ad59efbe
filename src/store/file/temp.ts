import { randomInt, randomUUID } from "node:crypto";
import { type FileHandle, open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { formatOwner, type Owner, parseOwner, stateOf } from "../../lib/owner.ts";
import { unlessAbsent } from "./errors.ts";
import { makeFolder, workFolder } from "./folders.ts";

const dayMs = 24 * 60 * 60 * 1000;

export interface TempFile {
  path: string;
  handle: FileHandle;
}

/** A new file that no list shows, readable by its owner alone. The caller closes it, and renames or unlinks it. */
export async function createTemp(root: string, self: Owner): Promise<TempFile> {
  await makeFolder(join(root, workFolder));
  const path = join(root, workFolder, `temp.${formatOwner(self)}.${randomUUID()}`);
  return { path, handle: await open(path, "wx+", 0o600) };
}

/**
 * Moves the file's time back by a random part of a millisecond. File systems stamp in steps of several milliseconds and
 * use inodes again, so that two versions written at once could otherwise look like one.
 */
export async function makeTimeUnique(handle: FileHandle): Promise<void> {
  const { atimeMs, mtimeMs } = await handle.stat();
  await handle.utimes(atimeMs / 1000, (Math.floor(mtimeMs) - randomInt(1000) / 1000) / 1000);
}

export interface StrayTemp {
  path: string;
  modifiedAt: Date;
}

/** Temp files, except those of processes of this machine that are still running. */
export async function strayTemps(root: string, self: Owner): Promise<StrayTemp[]> {
  return await strays(root, self, (name) => (name.startsWith("temp.") ? name.split(".")[1] : undefined));
}

/** Those of a work folder's files of which `ownerIn` finds an owner in the name, and that one does not run any more. */
async function strays(root: string, self: Owner, ownerIn: (name: string) => string | undefined): Promise<StrayTemp[]> {
  const folder = join(root, workFolder);
  const found: StrayTemp[] = [];
  for (const name of (await unlessAbsent(readdir(folder))) ?? []) {
    const maker = parseOwner(ownerIn(name) ?? "");
    if (maker === undefined || (await stateOf(maker, self)) === "alive") continue;
    const path = join(folder, name);
    const info = await unlessAbsent(stat(path));
    if (info !== undefined) found.push({ path, modifiedAt: info.mtime });
  }
  return found;
}

/** Removes what killed runs left, claims too, more than a day before `now`, which is the file system's own time. */
export async function sweepTemps(root: string, self: Owner, now: Date): Promise<void> {
  // `claim.KEY.OWNER.UNIQUE`: nobody is stopped by a dead one, but only who claims the same key again would remove it.
  const claims = await strays(root, self, (name) => (name.startsWith("claim.") ? name.split(".")[2] : undefined));
  for (const stray of [...(await strayTemps(root, self)), ...claims]) {
    if (now.getTime() - stray.modifiedAt.getTime() > dayMs) await unlessAbsent(unlink(stray.path));
  }
}
