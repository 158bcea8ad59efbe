import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn, segmentAt, segmentName } from "../lib/lsn.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { readSegmentHeader, type SegmentHeader } from "../wal/segment.ts";
import { endsSegment, walkRecords } from "../wal/segment-records.ts";
import { fetchForPlan } from "./recovery-feed.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";

export interface BackupsWal {
  repository: RepositoryReader;
  plan: Pick<RecoveryPlan, "backup" | "lineage" | "wal" | "target">;
  /** With the WAL that was inside the backup in its pg_wal. */
  dataDir: string;
  signal: AbortSignal;
}

/** A record that begins further back than this many segments is not looked for. */
const most = 4;

/**
 * Where the last record begins that a base backup needs: as inclusive recovery_target_lsn it stops recovery at the end of
 * the backup. `recovery_target = immediate` does not always: unless that record ends a transaction, PostgreSQL compares it
 * with the next one only (recoveryStopsAfter and recoveryStopsBefore in xlogrecovery.c), and gives up when there is none. A
 * primary writes more after a backup's end; a standby ends one at whatever it has replayed, which can be all that there is.
 * `undefined` for another target, where `immediate` does, and where the WAL does not tell.
 */
export async function lastRecordOf(wal: BackupsWal): Promise<Lsn | undefined> {
  const { base } = wal.plan.backup;
  const [stopLsn, unit] = [parseLsn(base.stopLsn), BigInt(base.segmentBytes)];
  if (wal.plan.target.type !== "immediate" || !(base.fromStandby || stopLsn % unit === 0n)) return undefined;
  const segments: Buffer[] = [];
  let { startLsn } = segmentAt(base.timeline, stopLsn - 1n, base.segmentBytes);
  for (; segments.length < most && startLsn >= 0n; startLsn -= unit) {
    const segment = await segmentOf(wal, startLsn);
    if (segment === undefined) return undefined;
    segments.unshift(segment.bytes);
    const last = lastBefore({ ...segment, bytes: Buffer.concat(segments) }, stopLsn);
    if (last !== undefined) return last.endLsn >= stopLsn ? last.lsn : undefined;
    // The record that ends here began in the segment before.
  }
  return undefined;
}

async function segmentOf(
  { repository, plan, dataDir, signal }: BackupsWal,
  startLsn: Lsn,
): Promise<(SegmentHeader & { bytes: Buffer }) | undefined> {
  const { timeline, segmentBytes } = plan.backup.base;
  const name = segmentName({ timeline, startLsn }, segmentBytes);
  const own = await unlessAbsent(readFile(join(dataDir, "pg_wal", name)));
  const content = own ?? (await fetchForPlan({ repository, plan }, name, signal));
  if (content === undefined) return undefined;
  try {
    const header = readSegmentHeader(content, name);
    if (header.startLsn !== startLsn) return undefined;
    return { ...header, bytes: Buffer.concat([content], segmentBytes) };
  } catch (error) {
    if (isPgkitError(error, "wal-invalid")) return undefined;
    throw error;
  }
}

function lastBefore(layout: SegmentHeader & { bytes: Buffer }, stopLsn: Lsn): { lsn: Lsn; endLsn: Lsn } | undefined {
  let last: { lsn: Lsn; endLsn: Lsn } | undefined;
  for (const record of walkRecords(layout)) {
    if (record.lsn >= stopLsn) break;
    const endLsn = endsSegment(record) ? segmentEnd(record.lsn, layout.segmentBytes) : record.endLsn;
    last = { lsn: record.lsn, endLsn };
  }
  return last;
}

function segmentEnd(lsn: Lsn, segmentBytes: number): Lsn {
  return segmentAt(1, lsn, segmentBytes).startLsn + BigInt(segmentBytes);
}
