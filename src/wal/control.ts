import { type FileHandle, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { walFileKind } from "../lib/lsn.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { readSegmentHeader } from "./segment.ts";

/** What the data directory says of its server. */
export interface ClusterFacts {
  systemId: string;
  /** As PG_VERSION has it, such as `17`. */
  serverVersion: string;
}

/** Fails with `config` when it is no data directory. pg_control begins with the system identifier in every major. */
export async function readClusterFacts(dataDir: string): Promise<ClusterFacts> {
  try {
    const control = await readStart(join(dataDir, "global", "pg_control"), 8);
    const serverVersion = (await readFile(join(dataDir, "PG_VERSION"), "utf8")).trim();
    return { systemId: control.readBigUInt64LE(0).toString(), serverVersion };
  } catch (cause) {
    throw new PgkitError("config", `${dataDir} cannot be read as a data directory: ${String(cause)}`, {
      hint: "PostgreSQL runs archive_command and restore_command there; by hand, go there first",
      cause,
    });
  }
}

/**
 * Whether the last server there was recovering, and has not ended that by a checkpoint: by `state` of pg_control, which is
 * behind three numbers of 16 bytes together in every major (src/include/catalog/pg_control.h).
 */
export async function endedInRecovery(dataDir: string): Promise<boolean> {
  const state = (await readStart(join(dataDir, "global", "pg_control"), 20)).readUInt32LE(16);
  const [inCrashRecovery, inArchiveRecovery] = [4, 5];
  return state === inCrashRecovery || state === inArchiveRecovery;
}

/** The size of the server's segments, by the header of any in pg_wal; those made in advance have none yet. */
export async function readSegmentBytes(dataDir: string): Promise<number> {
  const folder = join(dataDir, "pg_wal");
  for (const name of (await readdir(folder)).sort()) {
    if (walFileKind(name) !== "segment") continue;
    const start = await unlessAbsent(readStart(join(folder, name), 40));
    if (start === undefined) continue;
    try {
      return readSegmentHeader(start, name).segmentBytes;
    } catch (error) {
      if (!isPgkitError(error, "wal-invalid")) throw error;
    }
  }
  throw new PgkitError("wal-invalid", `no segment in ${folder} says how large the server's segments are`, {
    hint: "is this the data directory of a server that has run?",
  });
}

/** True while the server of this data directory runs, or is starting; false after it has ended, however it did. */
export async function serverRuns(dataDir: string): Promise<boolean> {
  const text = await unlessAbsent(readFile(join(dataDir, "postmaster.pid"), "utf8"));
  const pid = Number(text?.split("\n")[0]);
  if (!Number.isSafeInteger(pid) || pid <= 0) return text !== undefined;
  return (
    (await unlessAbsent(stat(`/proc/${pid}`))) !== undefined || (await unlessAbsent(stat("/proc/self"))) === undefined
  );
}

async function readStart(path: string, bytes: number): Promise<Buffer> {
  const file: FileHandle = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
