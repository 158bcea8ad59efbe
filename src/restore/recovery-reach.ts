import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseLsn, segmentAt, segmentName } from "../lib/lsn.ts";
import { inZone } from "../lib/parse-time.ts";
import { type ChosenBackup, earliestUs } from "./recovery-backup.ts";
import { type Coverage, coverage, segmentsIn } from "./recovery-coverage.ts";
import { type Leg, legsFrom } from "./recovery-path.ts";
import type { BaseManifest, RecoveryRequest } from "./recovery-plan.ts";
import { lastOn, lastRecordOn, type ServerHistory } from "./recovery-server.ts";
import { describeTarget, microseconds, momentText, type RecoveryTarget } from "./recovery-target.ts";

/** How far recovery from a backup can come. */
export interface Reach {
  coverage: Coverage;
  /** The last transaction before its end, when there is one behind the backup. */
  last: { timeUs: bigint; lsn: Lsn } | undefined;
  /** The latest moment and position that can be restored; without any later transaction, the backup's own end. */
  latestUs: bigint;
  latestLsn: Lsn;
  /** The greatest position that can be named as a target. */
  lastTargetLsn: Lsn;
}

export function reachOf({ wal, ends }: ServerHistory, backup: BaseManifest, legs: readonly Leg[]): Reach {
  const { base } = backup;
  const stopLsn = parseLsn(base.stopLsn);
  const found = coverage(legs, walFrom(backup), wal, base.segmentBytes);
  const behind = lastOn(legs, ends, found.endLsn);
  const last = behind !== undefined && behind.lsn >= stopLsn ? behind : undefined;
  return {
    ...{ coverage: found, last, latestUs: last?.timeUs ?? earliestUs(backup), latestLsn: last?.lsn ?? stopLsn },
    lastTargetLsn: lastTarget(backup, lastRecordOn(legs, ends, found.endLsn)),
  };
}

/**
 * PostgreSQL ends recovery to a position, inclusive or not, at a record that begins there or behind (recoveryStopsBefore and
 * recoveryStopsAfter in xlogrecovery.c), so that of the last record only the beginning can be named. Behind a primary's backup
 * there is one in its own WAL: that with which it leaves the segment.
 */
function lastTarget({ base }: BaseManifest, lastRecordLsn: Lsn | undefined): Lsn {
  const stopLsn = parseLsn(base.stopLsn);
  const own = base.walIncluded && !base.fromStandby ? stopLsn : stopLsn - 1n;
  return lastRecordLsn !== undefined && lastRecordLsn > own ? lastRecordLsn : own;
}

/** From where on the archive is needed. A primary ends its segment after a backup, so that the one inside is whole. */
function walFrom({ base }: BaseManifest): Lsn {
  if (!base.walIncluded) return parseLsn(base.startLsn);
  const [stopLsn, size] = [parseLsn(base.stopLsn), BigInt(base.segmentBytes)];
  return base.fromStandby ? stopLsn : ((stopLsn + size - 1n) / size) * size;
}

/** Fails with `wal-gap` or `target-not-archived` when the stored WAL does not lead from the backup to the target. */
export function assertReachable(
  server: ServerHistory,
  { backup, legs }: ChosenBackup,
  reach: Reach,
  request: RecoveryRequest,
): void {
  const { target } = request;
  const { gap, endLsn } = reach.coverage;
  const beyond = () => (gap === undefined ? notArchived(reach, request) : missing());
  const missing = () => walGap(server, backup, legs, reach, request);
  if (!backup.base.walIncluded && endLsn < parseLsn(backup.base.stopLsn)) throw backupWal(backup, reach);
  if (target.type === "latest" && gap !== undefined) throw missing();
  if (target.type === "lsn" && target.lsn > reach.lastTargetLsn) throw beyond();
  if (target.type !== "time") return;
  const [wanted, last] = [microseconds(target.text), reach.last?.timeUs];
  if (last !== undefined && (target.inclusive ? last > wanted : last >= wanted)) return;
  throw beyond();
}

function backupWal({ id, base }: BaseManifest, { coverage: { endLsn, gap } }: Reach): PgkitError {
  const upTo = gap === undefined || gap.endLsn > parseLsn(base.stopLsn) ? base.stopLsn : formatLsn(gap.endLsn);
  const range = `${formatLsn(endLsn)} to ${upTo} on timeline ${base.timeline}`;
  return new PgkitError("wal-gap", `the base backup ${id} cannot be restored: it needs the WAL from ${range}`, {
    hint: "name another backup by --backup; is the segment in pg_wal of the server, or of a standby? pgkit wal push stores it",
  });
}

function walGap(
  server: ServerHistory,
  backup: BaseManifest,
  legs: readonly Leg[],
  reach: Reach,
  request: RecoveryRequest,
): PgkitError {
  const gap = reach.coverage.gap ?? { timeline: backup.base.timeline, startLsn: reach.coverage.endLsn, endLsn: 0n };
  const { segmentBytes } = backup.base;
  const names = [gap.startLsn, gap.endLsn - 1n].map((lsn) =>
    segmentName(segmentAt(gap.timeline, lsn, segmentBytes), segmentBytes),
  );
  const count = segmentsIn(gap, segmentBytes);
  const which = count === 1 ? `segment ${names[0]} is` : `${count} segments, ${names.join(" to ")}, are`;
  const reason = server.wal?.gaps.find(({ fromLsn, toLsn }) => fromLsn < gap.endLsn && toLsn > gap.startLsn)?.reason;
  const message = `${which} not in the repository, and ${describeTarget(request.target)} needs ${count === 1 ? "it" : "them"}${reason === undefined ? "" : ` (${reason})`}`;
  const before = `before the gap can be reached: --to-lsn ${formatLsn(reach.latestLsn)}, the state at ${told(reach.latestUs, request)}`;
  const after = server.backups.find(
    (each) => legsFrom(each.base, legs) !== undefined && parseLsn(each.base.startLsn) >= gap.endLsn,
  );
  const behind =
    after === undefined ? "" : `; behind it, from ${told(earliestUs(after), request)} on: --backup ${after.id}`;
  return new PgkitError("wal-gap", message, { hint: `${before}${behind}` });
}

function notArchived(reach: Reach, request: RecoveryRequest): PgkitError {
  const { target } = request;
  const latest = `${told(reach.latestUs, request)} at ${formatLsn(reach.latestLsn)}`;
  const what = reach.last === undefined ? "the end of the base backup" : "the last transaction that is stored";
  const message = `${describeTarget(target)} is not before ${what}: ${latest}`;
  return new PgkitError("target-not-archived", message, {
    hint: `--latest restores all that is stored, up to and with ${told(reach.latestUs, request)}${named(reach, target)}`,
  });
}

function named({ lastTargetLsn }: Reach, { type }: RecoveryTarget): string {
  return type === "lsn" ? `; the last record that is stored begins at ${formatLsn(lastTargetLsn)}` : "";
}

/** In UTC, and on the clocks of the zone that the user named. */
function told(timeUs: bigint, { timeZone = "UTC" }: RecoveryRequest): string {
  const local = timeZone === "UTC" ? "" : ` (${inZone(new Date(Number(timeUs / 1000n)), timeZone)})`;
  return `${momentText(timeUs)}${local}`;
}
