import { PgkitError } from "../lib/errors.ts";
import { formatLsn, parseLsn } from "../lib/lsn.ts";
import type { RecoveryRun } from "./recover.ts";
import type { RecoveryNews } from "./recovery-log.ts";
import { describeTarget } from "./recovery-target.ts";

/** Fails with `target-not-reached` unless the log says that recovery stopped at its target, or came to the end of what is stored. */
export function assertReached({ plan }: Pick<RecoveryRun, "plan">, news: RecoveryNews): void {
  const { target, latest, backup } = plan;
  if (target.type !== "latest") {
    if (news.stopped === undefined) throw notReached(plan, news);
    return;
  }
  // The server itself makes sure of the backup's own end.
  if (latest.lsn <= parseLsn(backup.base.stopLsn)) return;
  if (news.redoDone !== undefined && parseLsn(news.redoDone) >= latest.lsn) return;
  // The server ends recovery at the first record that it cannot read, and calls that the end.
  throw new PgkitError(
    "target-not-reached",
    `recovery ended at ${news.redoDone ?? "its beginning"}, and WAL is stored up to ${formatLsn(latest.lsn)}`,
    {
      hint: "a record behind that position is damaged: restore to before it by --to-lsn. No server starts on this directory, its global/pg_control was set aside",
    },
  );
}

/** Why a server that was to recover has ended: what its WAL failed with, or its own words. */
export function recoveryError(
  { plan, feed }: Pick<RecoveryRun, "plan" | "feed" | "signal">,
  news: RecoveryNews,
  cause: unknown,
): unknown {
  const failure = feed.failure();
  if (failure !== undefined) return failure;
  const { fatal = "" } = news;
  if (/recovery ended before configured recovery target|before consistent recovery point/.test(fatal)) {
    return notReached(plan, news);
  }
  if (cause !== undefined && fatal === "") return cause;
  return new PgkitError("tool-failed", `the server gave up its recovery: ${fatal || "it ended without a word"}`, {
    hint: "run it again when the cause is removed: it goes on where it was",
    cause,
  });
}

function notReached({ target, backup }: RecoveryRun["plan"], { redoDone, lsn, time }: RecoveryNews): PgkitError {
  const where = `${redoDone ?? lsn ?? backup.base.stopLsn}${time === undefined ? "" : `, the last transaction is of ${time}`}`;
  const older = target.type === "xid" || target.type === "name";
  const message = `recovery ended before ${describeTarget(target)}: it came to ${where}`;
  return new PgkitError("target-not-reached", message, {
    hint: older
      ? `it may lie before the end of ${backup.id} (${backup.base.stopLsn}): name an older backup by --backup; is it spelled right?`
      : "nothing was opened for writing; --dry-run tells what can be reached",
  });
}
