import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { fileChecksum } from "../lib/file-checksum.ts";
import { segmentAt, segmentName } from "../lib/lsn.ts";
import { readTar } from "../lib/tar.ts";
import { readManifest } from "../repo/backups.ts";
import type { Manifest, StoredFile } from "../repo/manifest.ts";
import { findWal, readWal } from "../repo/wal.ts";
import { readArchive } from "../restore/archive.ts";
import { checkFound, type Found } from "../restore/cluster-extract.ts";
import { readServerManifest, type ServerManifest } from "../restore/cluster-full.ts";
import { archiveOf, manifestPathOf } from "../restore/cluster-places.ts";
import { checkSegment } from "../wal/segment.ts";
import type { Verification } from "./verify.ts";

export interface BaseCheck {
  /** Reads a file of the backup to its end; of an archive, every file in it is summed up as backup_manifest did. */
  read(file: StoredFile): Promise<void>;
  /** What is wrong with all of them together, once every one was read. */
  problems(): Promise<string[]>;
}

type BaseVerification = Pick<Verification, "repository" | "backup" | "signal">;

/** The check of a base backup: its archives against the server's backup_manifest, its WAL, and what it builds on. */
export function baseCheck(verification: BaseVerification): BaseCheck {
  const { repository, backup, signal } = verification;
  const found: Found = { files: new Set(), folders: new Map(), writtenBytes: 0, problems: [] };
  let reading: Promise<ServerManifest> | undefined;
  const manifest = () => {
    reading ??= readServerManifest(repository, backup, signal);
    return reading;
  };
  return {
    read: async (file) => {
      const { content } = await manifest();
      const archive = archiveOf(file);
      if (archive !== undefined) await readInto(found, content.files, file, archive.oid, verification);
    },
    problems: async () => [
      ...(await differences(found, await manifest(), backup)),
      ...(await missingParent(verification)),
      ...(await missingWal(verification, await manifest())),
    ],
  };
}

async function readInto(
  found: Found,
  expected: ServerManifest["content"]["files"],
  file: StoredFile,
  oid: number | undefined,
  { repository, signal }: BaseVerification,
): Promise<void> {
  const where = `${file.volumes[0]?.key ?? file.name} in ${repository.where}`;
  for await (const { entry, body } of readTar(readArchive(repository, file, { signal }), where)) {
    if (entry.type !== "file") continue;
    const path = manifestPathOf(oid, entry.path, where);
    const listed = expected.get(path);
    const sum = fileChecksum(listed?.algorithm ?? "NONE");
    for await (const piece of body) sum.update(piece);
    if (found.files.has(path)) found.problems.push(`${path} is in the backup twice`);
    found.files.add(path);
    const checksum = sum.digest();
    if (listed === undefined && !path.startsWith("pg_wal/")) found.problems.push(`${path} is not in backup_manifest`);
    if (listed !== undefined && (listed.size !== entry.size || listed.checksum !== checksum)) {
      const wanted = `${listed.size} and ${listed.checksum}`;
      found.problems.push(`${path} has ${entry.size} bytes and the ${listed.algorithm} ${checksum}, not ${wanted}`);
    }
  }
}

async function differences(found: Found, manifest: ServerManifest, { id }: Manifest): Promise<string[]> {
  try {
    checkFound({ manifest: manifest.content, found }, `backup ${id}`);
    return [];
  } catch (error) {
    if (!isPgkitError(error, "verification-failed")) throw error;
    return [error.message];
  }
}

async function missingParent({ repository, backup, signal }: BaseVerification): Promise<string[]> {
  const { parent, instance } = backup;
  if (parent === undefined) return [];
  try {
    await readManifest(repository, { instance, id: parent }, { signal });
    return [];
  } catch (error) {
    if (!isPgkitError(error, "backup-missing", "manifest-corrupt")) throw error;
    return [`it builds on ${parent}, and ${error.message}`];
  }
}

/** The WAL between start and stop: without all of it the files never become consistent. */
async function missingWal(verification: BaseVerification, { content }: ServerManifest): Promise<string[]> {
  const { base } = verification.backup;
  if (base === undefined || base.walIncluded) return [];
  const segments = content.walRanges.flatMap(({ timeline, startLsn, endLsn }) => {
    const names: string[] = [];
    const first = segmentAt(timeline, startLsn, base.segmentBytes).startLsn;
    for (let at = first; at < endLsn; at += BigInt(base.segmentBytes)) {
      names.push(segmentName({ timeline, startLsn: at }, base.segmentBytes));
    }
    return names;
  });
  const problems: string[] = [];
  for (const name of segments) problems.push(...(await segmentProblem(verification, name, base.segmentBytes)));
  return problems;
}

async function segmentProblem(
  { repository, backup, signal }: BaseVerification,
  name: string,
  segmentBytes: number,
): Promise<string[]> {
  const { systemId } = backup.server;
  const lineage = { instance: backup.instance, systemId };
  try {
    const file = await findWal(repository, lineage, name, { signal });
    const partial = file ?? (await findWal(repository, lineage, `${name}.partial`, { signal }));
    if (partial === undefined) throw new PgkitError("wal-missing", `it needs WAL ${name}, which is not stored`);
    const bytes = await readWal(repository, partial, { signal });
    if (file !== undefined) checkSegment(bytes, name, { systemId, segmentBytes });
    return [];
  } catch (error) {
    if (!isPgkitError(error, "wal-missing", "wal-invalid", "object-corrupt", "object-missing")) throw error;
    return [error.message];
  }
}
