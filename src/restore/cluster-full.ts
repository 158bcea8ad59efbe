import { setFlagsFromString } from "node:v8";
import { type BackupManifest, parseBackupManifest } from "../lib/backup-manifest.ts";
import { PgkitError } from "../lib/errors.ts";
import { readSmallFile, storedBytesOf } from "../repo/files.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { inParallel } from "../store/parallel.ts";
import { isCompressed, readArchive } from "./archive.ts";
import type { ClusterFilesRequest, RestoredFiles } from "./cluster.ts";
import { findKept, readExisting, removeOthers } from "./cluster-existing.ts";
import { checkFound, type Extraction, extractArchive, type Found, finishWriting } from "./cluster-extract.ts";
import { settleCluster } from "./cluster-finish.ts";
import { archiveOf, type Places } from "./cluster-places.ts";
import { inRanges } from "./download.ts";
import { fileThread } from "./file-thread.ts";

/** Archives read at the same time, and ranges fetched at once for all of them together. */
const archivesAtOnce = 2;
const rangesAtOnce = 4;

export interface ServerManifest {
  text: Uint8Array;
  content: BackupManifest;
}

/** The server's own manifest of a backup. Fails with `object-corrupt`, also when it is of another system. */
export async function readServerManifest(
  repository: RepositoryReader,
  backup: Manifest,
  signal: AbortSignal,
): Promise<ServerManifest> {
  const file = backup.files.find(({ role }) => role === "backup-manifest");
  if (file === undefined) throw notWhole(backup, "it has no backup_manifest");
  const text = await readSmallFile(repository, file, { signal });
  const content = parseBackupManifest(text, `the backup_manifest of ${backup.id}`);
  const { systemId } = content;
  if (systemId === undefined || systemId === backup.server.systemId) return { text, content };
  throw notWhole(backup, `its backup_manifest is of the system ${systemId}, not of ${backup.server.systemId}`);
}

function notWhole({ id }: Manifest, what: string): PgkitError {
  return new PgkitError("object-corrupt", `backup ${id} is not whole: ${what}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
  });
}

/** Puts the files of one backup into places that were taken for it; pg_control waits under another name. */
export async function extractBackup(
  request: Pick<ClusterFilesRequest, "repository" | "runAs" | "jobs" | "wants" | "signal">,
  backup: Manifest,
  places: Places,
  { manifest, fresh, onBytes }: { manifest: ServerManifest; fresh: boolean; onBytes: (bytes: number) => void },
): Promise<RestoredFiles> {
  const { runAs, signal, wants = () => true } = request;
  const existing = fresh ? undefined : await readExisting(places, manifest.content);
  const kept = existing === undefined ? new Set<string>() : await findKept(places, manifest.content, existing, request);
  const found: Found = { files: new Set(), folders: new Map(), writtenBytes: 0, problems: [] };
  const thread = fileThread();
  const extraction: Extraction = { places, manifest: manifest.content, runAs, kept, wants, found, thread, signal };
  const archives = backup.files.flatMap((file) => {
    const archive = archiveOf(file);
    return archive === undefined ? [] : [{ file, ...archive }];
  });
  const width = archives.length > 1 ? rangesAtOnce / archivesAtOnce : rangesAtOnce;
  const repository = inRanges(request.repository, backup.files, width);
  // The data directory's archive may be the largest by far, so it is begun first.
  archives.sort((a, b) => storedBytesOf([b.file]) - storedBytesOf([a.file]));
  try {
    await withPlainCollector(async () => {
      await inParallel(archivesAtOnce, archives, async ({ file, oid }) => {
        const where = `${file.volumes[0]?.key ?? file.name} in ${repository.where}`;
        const tar = readArchive(repository, file, { signal, onBytes });
        await extractArchive(extraction, tar, { oid, where, owned: isCompressed(file) });
      });
      await finishWriting(extraction);
    });
  } finally {
    await thread.end();
  }
  checkFound(extraction, `backup ${backup.id}`);
  if (existing !== undefined) await removeOthers(places, existing, found);
  await settleCluster(places, found, manifest.text, runAs);
  return { files: found.files.size, writtenBytes: found.writtenBytes, keptFiles: kept.size };
}

/**
 * While archives are unpacked, garbage is collected in one go. zstd's output is a fresh buffer every 256 KiB, for which the
 * collector would mark a heap of 10 MB step by step, on all cores, every few ms: 2.5 s of processor time in 6.6 for 2.6 GB.
 */
async function withPlainCollector(work: () => Promise<void>): Promise<void> {
  setFlagsFromString("--no-incremental-marking");
  try {
    await work();
  } finally {
    setFlagsFromString("--incremental-marking");
  }
}
