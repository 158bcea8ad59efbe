import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Report } from "../lib/report.ts";
import { unlessAbsent } from "../store/file/errors.ts";

/** Below pg_wal, so that it lies on the same file system and in no base backup. */
export const savedWalPath = "pg_wal/pgkit-unarchived";

/**
 * Moves the WAL that a crashed server had not archived yet aside: it may be the only copy of its last commits, and a
 * restore begins with an empty pg_wal.
 */
export async function saveUnarchivedWal(dataDir: string, report: Report): Promise<void> {
  const wal = join(dataDir, "pg_wal");
  const entries = (await unlessAbsent(readdir(wal, { withFileTypes: true }))) ?? [];
  const archived = new Set((await unlessAbsent(readdir(join(wal, "archive_status")))) ?? []);
  const segments = entries
    .filter((entry) => entry.isFile() && /^[0-9A-F]{24}(\.partial)?$|^[0-9A-F]{8}\.history$/.test(entry.name))
    .map(({ name }) => name)
    .filter((name) => !archived.has(`${name}.done`));
  if (segments.length === 0) return;
  const saved = join(dataDir, savedWalPath);
  await mkdir(saved, { recursive: true, mode: 0o700 });
  for (const name of segments) await rename(join(wal, name), join(saved, name));
  report({
    type: "warning",
    message: `${segments.length} WAL files that the server had not archived are kept in ${saved}`,
    hint: "when the restore has brought back what you need, remove that folder",
  });
}
