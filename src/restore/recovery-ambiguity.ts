import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn } from "../lib/lsn.ts";
import { divergence, knownTimelines, type Leg } from "./recovery-path.ts";
import type { StoredEnd } from "./recovery-plan.ts";
import { lastOn, type ServerHistory } from "./recovery-server.ts";
import { describeTarget, microseconds, type RecoveryTarget } from "./recovery-target.ts";

/**
 * Refuses a target that two histories have. After a recovery to an earlier point the instance goes on on a new timeline
 * from there, while the former one, with what came after that point, stays stored. For a moment in that time PostgreSQL
 * follows the newest timeline and so ends where it began, without a word: none of what the instance held at that moment
 * would be there. Fails with `usage`, naming the timelines.
 */
export function refuseAmbiguous(server: ServerHistory, legs: readonly Leg[], target: RecoveryTarget): void {
  if (target.type !== "time" && target.type !== "lsn") return;
  for (const { endLsn: switchLsn } of legs) {
    if (switchLsn === undefined || !isBehind(target, switchLsn, lastOn(legs, server.ends, switchLsn))) continue;
    const rivals = rivalsOf(server, legs).filter(({ from, last }) => from <= switchLsn && reaches(last, target));
    if (rivals.length === 0) continue;
    const newest = legs.at(-1)?.timeline ?? 0;
    const names = rivals.map(({ timeline }) => timeline);
    const message = `${describeTarget(target)} is on timeline ${names.join(" and ")} as well as behind ${formatLsn(switchLsn)}, where timeline ${newest} had left it`;
    throw new PgkitError("usage", message, {
      hint: `say which is meant: --timeline ${names.join(" or ")} for what was written there, --timeline ${newest} for the history that was gone on with`,
    });
  }
}

function isBehind(target: RecoveryTarget, switchLsn: Lsn, lastBefore: StoredEnd["last"]): boolean {
  if (target.type === "lsn") return target.lsn > switchLsn;
  return target.type === "time" && (lastBefore === undefined || microseconds(target.text) > lastBefore.timeUs);
}

function reaches(last: { timeUs: bigint; lsn: Lsn }, target: RecoveryTarget): boolean {
  if (target.type === "lsn") return target.lsn <= last.lsn;
  return target.type === "time" && microseconds(target.text) <= last.timeUs;
}

/** The timelines with transactions that are not on the way, and from where on they are not. */
function rivalsOf({ wal, backups, ends }: ServerHistory, legs: readonly Leg[]) {
  const target = legs.at(-1)?.timeline;
  return knownTimelines(
    wal,
    backups.map(({ base }) => base),
  ).flatMap((timeline) => {
    const from = timeline === target ? undefined : divergence(timeline, legs, wal);
    if (from === undefined) return [];
    const last = lastOn([{ timeline, startLsn: 0n, endLsn: undefined }], ends, maxLsn);
    return last === undefined || last.lsn < from ? [] : [{ timeline, from, last }];
  });
}

const maxLsn = 0xffff_ffff_ffff_ffffn;
