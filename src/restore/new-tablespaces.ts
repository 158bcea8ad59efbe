import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import type { WalRecord } from "../wal/segment-records.ts";
import { tablespacesMade } from "../wal/segment-tablespaces.ts";
import { transactionOf } from "../wal/segment-transaction.ts";
import type { BaseManifest } from "./recovery-plan.ts";
import type { RecoveryTarget } from "./recovery-target.ts";

/**
 * Fails with `refused-overwrite` when the segment holds a CREATE TABLESPACE after the backup, in a folder that has files
 * here: recovery removes what it finds there (create_tablespace_directories), and where this is the machine of the
 * living server, those are its files.
 */
export async function refuseLivingTablespaces(
  segment: Buffer,
  { backup, target, dataDir }: { backup: BaseManifest; target: RecoveryTarget; dataDir: string },
): Promise<void> {
  const major = Number.parseInt(backup.server.version, 10);
  for (const { oid, location } of tablespacesMade(segment, (record) => isBehind(target, record, major))) {
    const known = backup.base.tablespaces.some((each) => each.oid === oid);
    // A recovery that goes on after a stop has made it itself.
    if (known || (await isThere(join(dataDir, "pg_tblspc", String(oid)))) || !(await hasFiles(location))) continue;
    const message = `a tablespace was made in ${location} after ${backup.id}, and that folder has files here: recovery would remove them`;
    throw new PgkitError("refused-overwrite", message, {
      hint: "run this on another machine, or restore from a base backup taken after it by --backup",
    });
  }
}

/**
 * Recovery ends before this record. To a moment it ends at the first transaction that ended later: what that has done
 * before it ended is replayed all the same. Where a name or a transaction stands is not known here.
 */
function isBehind(target: RecoveryTarget, record: WalRecord, major: number): boolean {
  if (target.type === "lsn") return record.lsn > target.lsn;
  if (target.type !== "time") return false;
  const ended = transactionOf(record, major);
  return ended !== undefined && ended.time > target.time;
}

async function isThere(path: string): Promise<boolean> {
  return (await unlessAbsent(lstat(path))) !== undefined;
}

async function hasFiles(location: string): Promise<boolean> {
  const versions = (await unlessAbsent(readdir(location))) ?? [];
  for (const name of versions.filter((each) => each.startsWith("PG_"))) {
    if (((await unlessAbsent(readdir(join(location, name)))) ?? []).length > 0) return true;
  }
  return false;
}
