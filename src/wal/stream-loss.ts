import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatLsn, type Lsn, parseLsn } from "../lib/lsn.ts";

export interface LostWal {
  timeline: number;
  /** The first byte that is missing. */
  fromLsn: Lsn;
  /** The first byte that is there again. */
  toLsn: Lsn;
  reason: string;
  /** The repositories that have the record of it. */
  recordedIn: string[];
}

/** WAL that the server no longer had, kept in a file until it is recorded everywhere and a base backup was taken. */
export interface Losses {
  readonly path: string;
  lost: LostWal[];
  baseBackupDue: boolean;
}

/** What an earlier run left to do. */
export async function readLosses(folder: string): Promise<Losses> {
  const path = join(folder, "lost.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return { path, lost: [], baseBackupDue: false };
  // Written whole by `saveLosses` alone.
  const { lost, baseBackupDue } = JSON.parse(text) as {
    lost: (Omit<LostWal, "fromLsn" | "toLsn"> & { fromLsn: string; toLsn: string })[];
    baseBackupDue: boolean;
  };
  const parsed = lost.map((one) => ({ ...one, fromLsn: parseLsn(one.fromLsn), toLsn: parseLsn(one.toLsn) }));
  return { path, lost: parsed, baseBackupDue };
}

export async function saveLosses({ path, lost, baseBackupDue }: Losses): Promise<void> {
  if (lost.length === 0 && !baseBackupDue) return await rm(path, { force: true });
  const plain = lost.map((one) => ({ ...one, fromLsn: formatLsn(one.fromLsn), toLsn: formatLsn(one.toLsn) }));
  await writeFile(`${path}.new`, `${JSON.stringify({ lost: plain, baseBackupDue }, undefined, 2)}\n`, {
    mode: 0o600,
  });
  await rename(`${path}.new`, path);
}
