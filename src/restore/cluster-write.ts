import { closeSync, fchmodSync, fchownSync, ftruncateSync, openSync, rmSync } from "node:fs";
import { chmod, chown, lstat, mkdir, unlink } from "node:fs/promises";
import type { Bytes } from "../lib/streams.ts";
import type { TarEntry } from "../lib/tar-header.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import type { Lane, NewFile } from "./file-thread.ts";

/** Has a file written anew, in the place of what is there. */
export async function writeMember(lane: Lane, file: NewFile, body: Bytes): Promise<void> {
  lane.create(file);
  for await (const piece of body) lane.write(piece);
}

/** A file of the member's size that takes no space. */
export function writeSparse(path: string, { mode, size }: TarEntry, runAs: RunAs | undefined): void {
  const file = create(path);
  try {
    ftruncateSync(file, size);
    settle(file, mode, runAs);
  } finally {
    closeSync(file);
  }
}

/** Makes a directory where there is none; what else has its name is removed. */
export async function makeFolder(path: string, mode: number, runAs: RunAs | undefined): Promise<void> {
  const found = await unlessAbsent(lstat(path));
  if (found?.isDirectory() === false) await unlink(path);
  if (found?.isDirectory() !== true) await mkdir(path, { mode });
  await chmod(path, mode);
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}

/** Never through what is there already: it may be a link, or shared with another directory by hard links. */
export function create(path: string): number {
  try {
    return openSync(path, "wx", 0o600);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    rmSync(path, { recursive: true, force: true });
    return openSync(path, "wx", 0o600);
  }
}

export function settle(file: number, mode: number, runAs: RunAs | undefined): void {
  if (runAs !== undefined) fchownSync(file, runAs.uid, runAs.gid);
  if (mode !== 0o600) fchmodSync(file, mode);
}
