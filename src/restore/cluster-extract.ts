import type { BackupManifest } from "../lib/backup-manifest.ts";
import { PgkitError } from "../lib/errors.ts";
import type { Bytes } from "../lib/streams.ts";
import { readTar } from "../lib/tar.ts";
import type { TarEntry } from "../lib/tar-header.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { localPath, manifestPathOf, type Places } from "./cluster-places.ts";
import { makeFolder, writeMember, writeSparse } from "./cluster-write.ts";
import type { FileThread, Lane } from "./file-thread.ts";

export interface Extraction {
  places: Places;
  manifest: BackupManifest;
  /** Whose the files shall be. */
  runAs: RunAs | undefined;
  /** Paths of backup_manifest whose files are right already. */
  kept: ReadonlySet<string>;
  wants: (path: string) => boolean;
  /** What was found, of all archives together. */
  found: Found;
  thread: FileThread;
  signal: AbortSignal;
}

export interface Found {
  /** Paths of the files that were in the archives. */
  files: Set<string>;
  /** Paths of the folders, with their modes. */
  folders: Map<string, number>;
  writtenBytes: number;
  /** What differs from backup_manifest, one sentence each. */
  problems: string[];
}

/**
 * Puts the members of one archive into their places, which is done when the thread has finished; `oid` is that of its
 * tablespace, `owned` as for `Lane`. `where` names it in errors.
 */
export async function extractArchive(
  extraction: Extraction,
  tar: Bytes,
  { oid, where, owned }: { oid: number | undefined; where: string; owned: boolean },
): Promise<void> {
  const lane = extraction.thread.lane();
  for await (const { entry, body } of readTar(lane.pieces(tar, owned), where)) {
    extraction.signal.throwIfAborted();
    const path = manifestPathOf(oid, entry.path, where);
    if (entry.type === "directory") await folder(extraction, path, entry);
    else if (entry.type === "symlink") checkLink(extraction, path, entry, where);
    else await file(extraction, lane, path, entry, body);
  }
}

async function folder({ places, runAs, found }: Extraction, path: string, { mode }: TarEntry): Promise<void> {
  found.folders.set(path, mode);
  // The places themselves are there, and a tablespace's folder in the data directory is a link.
  const isLink = places.tablespaces.some(({ oid }) => path === `pg_tblspc/${oid}`);
  if (path === "" || isLink) return;
  await makeFolder(localPath(places, path), mode, runAs);
}

/** A link is no file of the archive to us: those to tablespaces are made by the backup's own record of them. */
function checkLink({ places }: Extraction, path: string, { linkTarget }: TarEntry, where: string): void {
  if (places.tablespaces.some(({ oid }) => path === `pg_tblspc/${oid}`)) return;
  const message = `${where} holds a link from ${path} to ${linkTarget}, which is to no tablespace of the backup`;
  throw new PgkitError("object-corrupt", message, {
    hint: "nobody but pgkit should write to the repository: who changed it?",
  });
}

async function file(extraction: Extraction, lane: Lane, path: string, entry: TarEntry, body: Bytes): Promise<void> {
  const { places, manifest, runAs, kept, wants, found } = extraction;
  const expected = manifest.files.get(path);
  if (found.files.has(path)) found.problems.push(`${path} is in the backup twice`);
  found.files.add(path);
  // The server lists no WAL; what it says of itself are the manifest's last bytes.
  if (expected === undefined && !path.startsWith("pg_wal/") && path !== "backup_manifest") {
    found.problems.push(`${path} is not in backup_manifest`);
    return;
  }
  if (expected !== undefined && expected.size !== entry.size) {
    found.problems.push(`${path} has ${entry.size} bytes, backup_manifest says ${expected.size}`);
    return;
  }
  if (kept.has(path)) return;
  const local = localPath(places, path);
  if (!wants(path)) return writeSparse(local, entry, runAs);
  await writeMember(lane, { path: local, mode: entry.mode, owner: runAs, expected }, body);
  found.writtenBytes += entry.size;
}

/** Waits until all is written; the thread has compared the checksums. */
export async function finishWriting({ thread, found }: Pick<Extraction, "thread" | "found">): Promise<void> {
  for (const { expected, found: checksum } of await thread.finish()) {
    const { path, algorithm } = expected;
    found.problems.push(`${path} has the ${algorithm} ${checksum}, backup_manifest says ${expected.checksum}`);
  }
}

/** Fails with `verification-failed`, naming the files, where not all that backup_manifest lists came as it says. */
export function checkFound({ manifest, found }: Pick<Extraction, "manifest" | "found">, where: string): void {
  const missing = [...manifest.files.keys()].filter((path) => !found.files.has(path));
  const problems = [...missing.map((path) => `${path} is in none of its archives`), ...found.problems];
  if (problems.length === 0) return;
  const named = problems.slice(0, 10).join("; ");
  const more = problems.length > 10 ? `; and ${problems.length - 10} more` : "";
  throw new PgkitError("verification-failed", `${where} is not what its backup_manifest says: ${named}${more}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
  });
}
