import { chmod, chown, type FileHandle, lstat, mkdir, open, rm, unlink } from "node:fs/promises";
import type { ChecksumAlgorithm } from "../lib/backup-manifest.ts";
import { fileChecksum } from "../lib/file-checksum.ts";
import type { Bytes } from "../lib/streams.ts";
import type { TarEntry } from "../lib/tar-header.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { slots } from "./slots.ts";

/** Writes at the same time: measured best with the pieces of 256 KiB that zstd gives; more only takes memory. */
const writesUnderWay = 8;
/** Files opened and not closed yet: small ones mostly wait for their turn in the thread pool. */
const filesUnderWay = 32;

export interface FileWriter {
  /** Creates a file anew, in the place of one that is there, and gives the checksum of what went into it. */
  write(path: string, entry: TarEntry, body: Bytes, algorithm: ChecksumAlgorithm): Promise<string>;
  /** A file of that size that takes no space. */
  writeSparse(path: string, entry: TarEntry): Promise<void>;
  /** Makes a directory where there is none; what else has its name is removed. */
  makeFolder(path: string, mode: number): Promise<void>;
  /** Resolves when nothing is under way any more, also after a failure. */
  ended(): Promise<void>;
  /** Resolves when all is written and closed; fails with the first failure, as the calls before may have. */
  settled(): Promise<void>;
}

/** Writes files that belong to `runAs`; `write` resolves when the bytes are taken, not when they are in the file. */
export function fileWriter(runAs: RunAs | undefined): FileWriter {
  const writes = slots(writesUnderWay);
  const files = slots(filesUnderWay);
  return {
    write: async (path, entry, body, algorithm) => {
      const checksum = fileChecksum(algorithm);
      await files.free();
      const opened = create(path);
      // Whoever waits for the file meets its failure.
      opened.catch(() => undefined);
      const parts: Promise<void>[] = [];
      let offset = 0;
      try {
        for await (const piece of body) {
          checksum.update(piece);
          const at = offset;
          offset += piece.length;
          await writes.free();
          parts.push(writes.run(async () => writeAll(await opened, piece, at)));
        }
      } finally {
        void files.run(() => finish(opened, parts, entry.mode, runAs));
      }
      return checksum.digest();
    },
    writeSparse: async (path, entry) => {
      await files.free();
      const opened = create(path);
      const sized = opened.then((handle) => handle.truncate(entry.size));
      void files.run(() => finish(opened, [sized], entry.mode, runAs));
    },
    makeFolder: (path, mode) => makeFolder(path, mode, runAs),
    ended: async () => {
      await writes.ended();
      await files.ended();
    },
    settled: async () => {
      await writes.idle();
      await files.idle();
    },
  };
}

/** Never through what is there already: it may be a link, or shared with another directory by hard links. */
async function create(path: string): Promise<FileHandle> {
  try {
    return await open(path, "wx", 0o600);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    await rm(path, { recursive: true, force: true });
    return await open(path, "wx", 0o600);
  }
}

async function writeAll(handle: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    const { bytesWritten } = await handle.write(piece, done, piece.length - done, position + done);
    done += bytesWritten;
  }
}

async function finish(
  opened: Promise<FileHandle>,
  parts: readonly Promise<unknown>[],
  mode: number,
  runAs: RunAs | undefined,
): Promise<void> {
  const handle = await opened;
  try {
    await Promise.all(parts);
    if (runAs !== undefined) await handle.chown(runAs.uid, runAs.gid);
    if (mode !== 0o600) await handle.chmod(mode);
  } finally {
    await handle.close();
  }
}

async function makeFolder(path: string, mode: number, runAs: RunAs | undefined): Promise<void> {
  const found = await unlessAbsent(lstat(path));
  if (found?.isDirectory() === false) await unlink(path);
  if (found?.isDirectory() !== true) await mkdir(path, { mode });
  await chmod(path, mode);
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}
