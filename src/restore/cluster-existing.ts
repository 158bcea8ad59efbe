import { lstat, open, readdir, readlink, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import type { BackupManifest, ManifestFile } from "../lib/backup-manifest.ts";
import { fileChecksum } from "../lib/file-checksum.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { inParallel } from "../store/parallel.ts";
import { formerControlPath } from "./cluster-claim.ts";
import type { Found } from "./cluster-extract.ts";
import { markerName } from "./cluster-marker.ts";
import { controlPath, localPath, type Places, waitingControlPath } from "./cluster-places.ts";
import { savedWalPath } from "./cluster-wal.ts";

/** What lies in the places of a restore, by paths as in backup_manifest. Links are never followed. */
export interface Existing {
  files: Map<string, { size: number; mode: number; uid: number }>;
  /** Outer ones first. */
  folders: string[];
  /** Links, sockets and the like. */
  others: string[];
}

/** Ours, whatever the backup has. */
const notOfTheBackup = [markerName, formerControlPath, "backup_manifest"];

/** Looks through the data directory and, of the tablespaces, through the folders that the backup has there too. */
export async function readExisting(places: Places, manifest: BackupManifest): Promise<Existing> {
  const existing: Existing = { files: new Map(), folders: [], others: [] };
  await walk(places, "", existing);
  const roots = new Set([...manifest.files.keys()].flatMap((path) => /^pg_tblspc\/\d+\/[^/]+/.exec(path) ?? []));
  // A directory may hold the tablespaces of several clusters, each in a folder named by its version.
  for (const root of roots) {
    if (existing.folders.includes(root)) continue;
    const found = await unlessAbsent(lstat(localPath(places, root)));
    if (found?.isDirectory() !== true) continue;
    existing.folders.push(root);
    await walk(places, root, existing);
  }
  return existing;
}

async function walk(places: Places, path: string, existing: Existing): Promise<void> {
  const dir = path === "" ? places.dataDir : localPath(places, path);
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const inside = path === "" ? entry.name : `${path}/${entry.name}`;
    if (entry.isDirectory() && inside !== savedWalPath) {
      existing.folders.push(inside);
      await walk(places, inside, existing);
    } else if (entry.isFile()) {
      if (notOfTheBackup.includes(inside)) continue;
      const found = await unlessAbsent(lstat(join(dir, entry.name)));
      if (found === undefined) continue;
      const { size, mode, uid } = found;
      existing.files.set(inside === waitingControlPath ? controlPath : inside, { size, mode: mode & 0o777, uid });
    } else if (!entry.isDirectory()) existing.others.push(inside);
  }
}

/** The paths whose files are as backup_manifest says, by size and checksum, and belong to the right user. */
export async function findKept(
  places: Places,
  manifest: BackupManifest,
  existing: Existing,
  { runAs, jobs, signal }: { runAs: RunAs | undefined; jobs: number; signal: AbortSignal },
): Promise<Set<string>> {
  const kept = new Set<string>();
  const owner = runAs?.uid ?? process.getuid?.();
  const candidates = [...existing.files].flatMap(([path, { size, mode, uid }]) => {
    const expected = manifest.files.get(path);
    const fits = expected?.size === size && expected.algorithm !== "NONE" && uid === owner && (mode & 0o137) === 0;
    return expected !== undefined && fits ? [expected] : [];
  });
  await inParallel(jobs, candidates, async (expected) => {
    signal.throwIfAborted();
    if (await isAsExpected(localPath(places, expected.path), expected)) kept.add(expected.path);
  });
  return kept;
}

/** Reads ahead by one piece, so that the disk and the checksum work at the same time. */
async function isAsExpected(path: string, { algorithm, checksum }: ManifestFile): Promise<boolean> {
  const sum = fileChecksum(algorithm);
  const handle = await open(path, "r");
  try {
    const buffers = [Buffer.allocUnsafeSlow(readBytes), Buffer.allocUnsafeSlow(readBytes)];
    let next = handle.read(buffers[0] as Buffer, 0, readBytes, 0);
    for (let turn = 1, position = 0; ; turn ^= 1) {
      const { bytesRead, buffer } = await next;
      if (bytesRead === 0) break;
      position += bytesRead;
      next = handle.read(buffers[turn] as Buffer, 0, readBytes, position);
      sum.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await handle.close();
  }
  return sum.digest() === checksum;
}

const readBytes = 256 * 1024;

/** Removes what the backup has not: only inside the places, and a link itself, never what it leads to. */
export async function removeOthers(places: Places, existing: Existing, found: Found): Promise<void> {
  for (const path of existing.files.keys()) {
    if (!found.files.has(path)) await rm(localPath(places, path), { force: true });
  }
  for (const path of existing.others) {
    if (found.files.has(path) || found.folders.has(path) || (await isTablespaceLink(places, path))) continue;
    await rm(localPath(places, path), { force: true });
  }
  for (const path of existing.folders.toReversed()) {
    const needed = found.folders.has(path) || path === savedWalPath || path.startsWith("pg_wal/summaries");
    if (!needed) await removeFolder(localPath(places, path));
  }
}

async function isTablespaceLink({ dataDir, tablespaces }: Places, path: string): Promise<boolean> {
  const place = tablespaces.find(({ oid }) => path === `pg_tblspc/${oid}`);
  return place !== undefined && (await readlink(join(dataDir, path))) === place.to;
}

/** One that is not empty holds a file that came after we had looked, or saved WAL: it stays. */
async function removeFolder(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "ENOTEMPTY" && code !== "ENOENT" && code !== "ENOTDIR") throw error;
  }
}
