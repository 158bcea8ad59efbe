import { parseBackupManifest } from "../lib/backup-manifest.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Bytes, lent, through } from "../lib/streams.ts";
import { readTar } from "../lib/tar.ts";
import { freedPieceBytes, zstdDecompressor } from "../repo/encoding.ts";

/** The files of a base backup as its archives hold them: path as in backup_manifest, and size. */
export type FoundFiles = Map<string, number>;

/**
 * Walks an archive of a base backup to its end and adds its files to `found`. `name` is the server's: `base.tar`, or that
 * of a tablespace, with `.zst` where it is compressed. Fails with `verification-failed` when it cannot be read.
 */
export async function walkArchive(name: string, content: Bytes, found: FoundFiles): Promise<void> {
  try {
    await walk(name, content, found);
  } catch (cause) {
    if (!isPgkitError(cause, "object-corrupt") && !isZlibError(cause)) throw cause;
    const message = `what the server sent as ${name} cannot be read: ${cause.message}`;
    throw new PgkitError("verification-failed", message, {
      hint: "nothing was kept of it; take the backup again",
      cause,
    });
  }
}

async function walk(name: string, content: Bytes, found: FoundFiles): Promise<void> {
  const [, oid, compressed] = /^(?:base|(\d+))\.tar(\.zst)?$/.exec(name) ?? [];
  const prefix = oid === undefined ? "" : `pg_tblspc/${oid}/`;
  const tar = compressed === undefined ? content : lent(through(content, zstdDecompressor(freedPieceBytes)));
  for await (const { entry } of readTar(tar, `${name} from the server`)) {
    if (entry.type === "file") found.set(`${prefix}${entry.path.replace(/^\.\//, "")}`, entry.size);
  }
}

/**
 * Compares what the archives held with the server's backup_manifest. Fails with `verification-failed`, naming the first
 * files that are missing or of another size, or when pg_control is not there.
 */
export function compareWithManifest(found: FoundFiles, manifest: Uint8Array): void {
  const { files } = parseBackupManifest(manifest, "backup_manifest from the server");
  const problems: string[] = [];
  for (const { path, size } of files.values()) {
    const there = found.get(path);
    if (there === undefined) problems.push(`${path} is missing`);
    else if (there !== size) problems.push(`${path} has ${there} bytes instead of ${size}`);
  }
  if (!files.has("global/pg_control")) problems.push("global/pg_control is not in it");
  if (problems.length === 0) return;
  const some = problems.slice(0, 5).join("; ");
  const more = problems.length > 5 ? ` and ${problems.length - 5} more` : "";
  const message = `what the server sent is not what its backup_manifest lists: ${some}${more}`;
  throw new PgkitError("verification-failed", message, { hint: "nothing was kept of it; take the backup again" });
}

function isZlibError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && /^Z(STD)?_/.test(String(error.code));
}
