import { PgkitError } from "../lib/errors.ts";
import { formatLsn } from "../lib/lsn.ts";
import { formatBytes } from "../lib/parse.ts";
import { compactTime } from "../lib/time.ts";
import type { BaseFacts } from "../repo/manifest.ts";
import { type DatabaseEntry, type NeededFiles, neededFiles } from "./database-files.ts";
import { nameOfKept, refuseName, refuseServer, refuseTables, shortened, type TargetFacts } from "./plan.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import type { RecoveryTarget } from "./recovery-target.ts";

export interface DatabaseAtRequest {
  /** The database by its name at the target. */
  database: string;
  /** The new database's name; one made of the database's and the target when left out. */
  as?: string | undefined;
  /** Puts it in the place of the live one, which is kept under another name. */
  replace: boolean;
  /** Only these; without `as` they come into a new schema of the live database. */
  tables: readonly string[];
  /** Writes all files of the base backup, those of other databases too. */
  whole: boolean;
  contentCheck: boolean;
  updateRoles: boolean;
  jobs: number;
}

/** All that the restore of one database to a point in time will do; `--dry-run` prints it. */
export interface DatabaseAtPlan {
  recovery: RecoveryPlan;
  database: string;
  to: { instance: string; database: string };
  keptAs?: string;
  /** The new schema of the live database that single tables come into. */
  besideSchema?: string;
  tables: readonly string[];
  files: NeededFiles;
  /** The bytes of the base backup that are written, by the sizes at its start. */
  writtenBytes: number;
  /** What the scratch folder may take: those bytes, the WAL that lies there at one time, and the dump. */
  scratchBytes: number;
  contentCheck: boolean;
  jobs: number;
  updateRoles: boolean;
  now: Date;
}

export interface TargetOfDatabaseAt extends Pick<TargetFacts, "instance" | "server" | "databases"> {
  /** The databases' oids there, where that instance is the one that was backed up; else empty. */
  oids: readonly { name: string; oid: number }[];
}

/**
 * What the restore means, beyond the recovery; pure. Fails before anything is fetched: as `planRestore` does for the
 * target's server and names.
 */
export function planDatabaseAt(
  recovery: RecoveryPlan,
  request: DatabaseAtRequest,
  target: TargetOfDatabaseAt,
  now: Date,
): DatabaseAtPlan {
  const { backup } = recovery;
  refuseServer(backup, target);
  const beside = request.tables.length > 0 && request.as === undefined;
  const stamped = shortened(request.database, `_at_${targetWord(recovery.target)}`);
  const name = request.as ?? (request.replace || beside ? request.database : stamped);
  if (beside) refuseTables(name, request, target);
  else refuseName(name, request, target);
  // What an incremental backup is put together from has to be whole.
  const whole = request.whole || recovery.chain.length > 1;
  const files = neededFiles(backup.base, { oids: oidsOf(request.database, backup.base, target), whole });
  const writtenBytes = Math.max(0, backup.base.sizeBytes - sizeOf(files.left));
  return {
    ...{ recovery, database: request.database, to: { instance: target.instance, database: name } },
    ...(request.replace ? { keptAs: nameOfKept(name, now) } : {}),
    ...(beside ? { besideSchema: stamped } : {}),
    ...{ tables: request.tables, files, writtenBytes },
    scratchBytes: writtenBytes + linkBytes(recovery) + walBytes(recovery) + dumpBytes(request.database, backup.base),
    ...{ contentCheck: request.contentCheck, jobs: request.jobs, updateRoles: request.updateRoles, now },
  };
}

/** By the backup's own list, and by what the live server calls so, which may have had another name then. */
function oidsOf(database: string, { databases }: BaseFacts, target: TargetOfDatabaseAt): number[] {
  return [...databases, ...target.oids].filter(({ name }) => name === database).map(({ oid }) => oid);
}

function sizeOf(databases: readonly DatabaseEntry[]): number {
  return databases.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

/** The links of a chain lie beside what comes of them. */
function linkBytes({ chain }: RecoveryPlan): number {
  return chain.length === 1 ? 0 : chain.reduce((sum, { plainBytes, base }) => sum + (base?.sizeBytes ?? plainBytes), 0);
}

/** max_wal_size of the scratch server, and what is fetched ahead. */
function walBytes({ walSegments, backup }: RecoveryPlan): number {
  return Math.min(walSegments * backup.base.segmentBytes, 2.5 * 1024 ** 3);
}

/** Of a dump that is compressed; a database that the backup does not know may be all there is. */
function dumpBytes(database: string, { databases, sizeBytes }: BaseFacts): number {
  return Math.round((databases.find(({ name }) => name === database)?.sizeBytes ?? sizeBytes) / 2);
}

/** What a name says of the target: `20261121t120000z`. */
export function targetWord(target: RecoveryTarget): string {
  switch (target.type) {
    case "time":
      return compactTime(target.time).toLowerCase();
    case "lsn":
      return `lsn_${formatLsn(target.lsn).replace("/", "_").toLowerCase()}`;
    case "xid":
      return `xid_${target.xid}`;
    case "name":
      return target.name.toLowerCase().replaceAll(/[^\p{L}\p{N}_]+/gu, "_");
    case "latest":
      return "latest";
    case "immediate":
      return "backup";
  }
}

/** Fails with `disk-full` when the scratch folder has less room than the plan may need. */
export function refuseSmallDisk({ scratchBytes }: DatabaseAtPlan, parent: string, freeBytes: number): void {
  if (freeBytes >= scratchBytes) return;
  const message = `the recovery may need ${formatBytes(scratchBytes)} in ${parent}, where ${formatBytes(freeBytes)} are free`;
  throw new PgkitError("disk-full", message, { hint: "name a folder with more room by --scratch DIR, or set TMPDIR" });
}
