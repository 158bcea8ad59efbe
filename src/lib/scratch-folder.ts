import { lstat, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatOwner, type Owner, parseOwner, stateOf, thisOwner } from "./owner.ts";
import { newScratchFolder, scratchError } from "./scratch.ts";

/** In each folder: the process that works in it. */
const ownerFile = "pgkit-owner";
/** A folder without that file was made by a process that was killed at once, or is being made in this moment. */
const ownerlessForMs = 60 * 60 * 1000;

export interface OwnedScratch {
  /** Where to make it; TMPDIR when left out. */
  parent?: string | undefined;
  /** Called before a dead process's folder is removed; `false` leaves it to a later run. */
  release?: (folder: string) => Promise<boolean>;
}

/**
 * A new folder as `newScratchFolder` makes it, which says whose it is: when this process is killed before it has removed
 * it (by `removeOwnedScratch`), the next run that makes one of the same prefix there does. Only folders of this user that nobody else can write to
 * count, and only those whose process has ended.
 */
export async function ownedScratchFolder(prefix: string, options: OwnedScratch = {}): Promise<string> {
  const parent = options.parent ?? tmpdir();
  const folder = await newScratchFolder(prefix, parent);
  try {
    const self = await thisOwner();
    const file = await open(join(folder, ownerFile), "wx", 0o600);
    await file.writeFile(formatOwner(self)).finally(() => file.close());
    await collectLeft({ parent, prefix, self, made: folder }, options);
    return folder;
  } catch (error) {
    await removeOwnedScratch(folder);
    throw scratchError(error, parent);
  }
}

/** Removes it, whose it is last of all: killed in the middle of that, the next run goes on. */
export async function removeOwnedScratch(folder: string): Promise<void> {
  const names = (await unlessGone(readdir(folder))) ?? [];
  for (const name of names) {
    if (name !== ownerFile) await rm(join(folder, name), { recursive: true, force: true });
  }
  await rm(folder, { recursive: true, force: true });
}

interface Place {
  parent: string;
  prefix: string;
  self: Owner;
  made: string;
}

async function collectLeft({ parent, prefix, self, made }: Place, { release }: OwnedScratch): Promise<void> {
  const { uid, mtimeMs } = await stat(made);
  const names = (await readdir(parent)).filter((name) => name.startsWith(prefix));
  for (const name of names) {
    const folder = join(parent, name);
    if (folder === made || !(await isLeft(folder, { uid, nowMs: mtimeMs, self }))) continue;
    if (release !== undefined && !(await release(folder))) continue;
    await removeOwnedScratch(folder);
  }
}

async function isLeft(folder: string, { uid, nowMs, self }: { uid: number; nowMs: number; self: Owner }) {
  const info = await unlessGone(lstat(folder));
  if (info === undefined || !info.isDirectory() || info.uid !== uid || (info.mode & 0o022) !== 0) return false;
  const text = await unlessGone(readFile(join(folder, ownerFile), "utf8"));
  if (text === undefined) return info.mtimeMs < nowMs - ownerlessForMs;
  const owner = parseOwner(text);
  if (owner === undefined) return info.mtimeMs < nowMs - ownerlessForMs;
  return (await stateOf(owner, self)) === "dead";
}

/** Another run may collect the same folder in this moment. */
async function unlessGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
