import { PgkitError } from "../lib/errors.ts";
import { formatLsn, parseLsn } from "../lib/lsn.ts";
import type { Leg } from "./recovery-path.ts";
import { legsFrom } from "./recovery-path.ts";
import type { BaseManifest, RecoveryRequest } from "./recovery-plan.ts";
import { describeTarget, microseconds, momentText, type RecoveryTarget } from "./recovery-target.ts";

export interface ChosenBackup {
  backup: BaseManifest;
  /** The full one first, `backup` last. */
  chain: BaseManifest[];
  /** The way from the backup to the target. */
  legs: Leg[];
  notes: string[];
}

/** The first moment that can be restored from a backup: its end, of which digits may have been cut off. */
export function earliestUs({ base }: BaseManifest): bigint {
  const digits = /\.(\d+)/.exec(base.stoppedAt)?.[1]?.length ?? 0;
  return microseconds(base.stoppedAt) + 10n ** BigInt(Math.max(0, 6 - digits));
}

/** True when the backup ends before the target, as far as that can be known before recovery. */
export function endsBefore(backup: BaseManifest, target: RecoveryTarget): boolean {
  if (target.type === "time") return earliestUs(backup) <= microseconds(target.text);
  return target.type !== "lsn" || parseLsn(backup.base.stopLsn) <= target.lsn;
}

/**
 * The newest backup that lies on the way and ends before the target, of which every link is there; or the one asked for.
 * Fails with `no-backup-for-target` or `timeline-unreachable`, and with `backup-missing` where a link is.
 */
export function chooseBackup(
  backups: readonly BaseManifest[],
  legs: readonly Leg[],
  request: RecoveryRequest,
): ChosenBackup {
  const onTheWay = backups.filter(({ base }) => legsFrom(base, legs) !== undefined);
  const candidates = request.backup === undefined ? onTheWay : [asked(backups, onTheWay, request, legs)];
  // By position: where a clock was set back, a later one bears an earlier time.
  const usable = candidates
    .filter((backup) => endsBefore(backup, request.target))
    .sort((a, b) => Number(parseLsn(a.base.stopLsn) - parseLsn(b.base.stopLsn)));
  if (usable.length === 0) throw tooEarly(candidates, backups, request);
  const notes: string[] = [];
  for (const backup of usable.toReversed()) {
    const found = chainOf(backup, backups);
    if ("missing" in found) {
      if (backup === usable[0]) throw linkMissing(backup, found.missing);
      notes.push(`passed over ${backup.id}: it builds on ${found.missing}, which is not in the repository`);
    } else {
      return { backup, chain: found.chain, legs: legsFrom(backup.base, legs) ?? [], notes };
    }
  }
  throw tooEarly(candidates, backups, request);
}

function asked(
  backups: readonly BaseManifest[],
  onTheWay: readonly BaseManifest[],
  { backup: id }: RecoveryRequest,
  legs: readonly Leg[],
): BaseManifest {
  const backup = backups.find((each) => each.id === id);
  if (backup === undefined) {
    const known = backups.map((each) => each.id).join(", ") || "none";
    throw new PgkitError("backup-missing", `there is no base backup ${id} of this server (there are: ${known})`, {
      hint: "pgkit list shows all backups",
    });
  }
  if (onTheWay.includes(backup)) return backup;
  throw notOnTheWay([backup], legs);
}

/** What is said of backups of which none leads to the last timeline of the way. */
export function notOnTheWay(backups: readonly BaseManifest[], legs: readonly Leg[]): PgkitError {
  const wanted = legs.at(-1)?.timeline;
  const where = backups.map(({ id, base }) => `${id} ends at ${base.stopLsn} on timeline ${base.timeline}`);
  const way = legs
    .map(({ timeline, endLsn }) => (endLsn === undefined ? `${timeline}` : `${timeline} until ${formatLsn(endLsn)}`))
    .join(", then ");
  const message = `timeline ${wanted} does not descend from ${backups.length === 1 ? "the base backup" : "any base backup"}: the way to it is timeline ${way}, and ${where.join("; ")}`;
  return new PgkitError("timeline-unreachable", message, {
    hint: `name one of the timelines of the backups by --timeline: ${[...new Set(backups.map(({ base }) => base.timeline))].join(", ")}`,
  });
}

function chainOf(
  backup: BaseManifest,
  backups: readonly BaseManifest[],
): { chain: BaseManifest[] } | { missing: string } {
  const chain = [backup];
  for (let link = backup; link.parent !== undefined; ) {
    const parent = backups.find(({ id }) => id === link.parent);
    if (parent === undefined) return { missing: link.parent };
    chain.unshift(parent);
    link = parent;
  }
  return { chain };
}

function linkMissing(backup: BaseManifest, missing: string): PgkitError {
  return new PgkitError("backup-missing", `backup ${backup.id} builds on ${missing}, which is not in the repository`, {
    hint: "an incremental backup restores only with every one before it: name another by --backup",
  });
}

function tooEarly(
  candidates: readonly BaseManifest[],
  backups: readonly BaseManifest[],
  { target, backup }: RecoveryRequest,
): PgkitError {
  const [first] = candidates.toSorted((a, b) => Number(earliestUs(a) - earliestUs(b)));
  if (first === undefined || backups.length === 0) {
    return new PgkitError("no-backup-for-target", "there is no base backup to start from", {
      hint: "pgkit backup base takes one; a database from a logical backup is restored by pgkit restore DB",
    });
  }
  const from = `${momentText(earliestUs(first))} (${first.base.stopLsn})`;
  const which = backup === undefined ? `the first base backup, ${first.id},` : `the base backup ${first.id}`;
  return new PgkitError(
    "no-backup-for-target",
    `${describeTarget(target)} lies before the end of ${which} at ${from}`,
    {
      hint: `the earliest that can be restored is ${momentText(earliestUs(first))}, or --immediate; a logical backup may be older (pgkit list)`,
    },
  );
}
