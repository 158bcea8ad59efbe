import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { type Lsn, segmentName } from "../lib/lsn.ts";
import { unlessAbsent } from "../store/file/errors.ts";

export interface FileOwner {
  uid: number;
  gid: number;
}

export interface PublishOptions {
  /** Whom the file is given to; this process's user where left out. */
  owner?: FileOwner | undefined;
  /** Waits until the content is on the disk: a power cut must not leave zeros under the name of a segment. */
  sync: boolean;
  /** Where it is while it is not whole, on the same file system; beside it where left out. */
  draft?: string | undefined;
  /** A file of the same file system that becomes the draft, whatever is in it. */
  over?: string | undefined;
}

/** Writes a file such that it appears under its name only when it is whole. */
export async function publishFile(path: string, content: Uint8Array, options: PublishOptions): Promise<void> {
  const { draft = draftOf(path), over } = options;
  if (over !== undefined) await rename(over, draft);
  const file = await open(draft, over === undefined ? "w" : "r+", 0o600);
  try {
    await fill(file, content, options);
    await rename(draft, path);
  } catch (error) {
    await unlessAbsent(unlink(draft));
    throw error;
  }
}

/** Where a file is while it is not whole. */
export function draftOf(path: string): string {
  const at = path.lastIndexOf("/") + 1;
  return join(path.slice(0, at), `.${path.slice(at)}.part`);
}

async function fill(file: FileHandle, content: Uint8Array, { owner, sync }: PublishOptions): Promise<void> {
  try {
    await file.writeFile(content);
    await file.truncate(content.length);
    if (owner !== undefined) await file.chown(owner.uid, owner.gid);
    if (sync) await file.datasync();
  } finally {
    await file.close();
  }
}

/** WAL of one timeline, from a position to one that is not in it any more. */
export interface WalStretch {
  timeline: number;
  startLsn: Lsn;
  endLsn: Lsn;
}

/** The names of the segments in which the stretches lie, in their order. */
export function* segmentNames(path: readonly WalStretch[], segmentBytes: number): Generator<string> {
  const size = BigInt(segmentBytes);
  for (const { timeline, startLsn, endLsn } of path) {
    for (let at = startLsn - (startLsn % size); at < endLsn; at += size) {
      yield segmentName({ timeline, startLsn: at }, segmentBytes);
    }
  }
}
