import { CronExpressionParser } from "cron-parser";

/** When runs of one kind start: a cron line of five fields, read on the clocks of a time zone. */
export interface Schedule {
  readonly cron: string;
  readonly timeZone: string;
  /** How long after its start a run may be missing before it is overdue. */
  readonly graceMs: number;
}

/** A backup as far as schedules care. */
export interface FinishedRun {
  readonly startedAt: Date;
  readonly finishedAt: Date;
}

export interface ScheduleStatus {
  /** The last start that the schedule asked for, at or before now. */
  readonly previous: Date;
  readonly next: Date;
  /** When the newest finished run started; `undefined` when none ever finished. */
  readonly lastStartedAt: Date | undefined;
  /** The earliest start that no run has answered within the grace time; `undefined` when nothing is overdue. */
  readonly overdueSince: Date | undefined;
}

/** Why a text is no cron line, or `undefined` when it is one. */
export function cronProblem(cron: string): string | undefined {
  if (!/^@\w+$/.test(cron) && cron.trim().split(/\s+/).length !== 5) {
    return "must be a cron line of five fields: minute, hour, day of month, month, day of week";
  }
  try {
    CronExpressionParser.parse(cron).next();
    return undefined;
  } catch (error) {
    if (error instanceof Error) return `is no cron line: ${error.message}`;
    throw error;
  }
}

/**
 * What a schedule asked for and what came of it. A start counts as answered by any run that finished and started at
 * or after it; a run started by hand a minute early does not answer it. `cron` must be valid (see `cronProblem`).
 */
export function scheduleStatus(schedule: Schedule, finished: readonly FinishedRun[], now: Date): ScheduleStatus {
  const { previous, next } = startsAround(schedule, now);
  const lastStartedAt = finished.reduce<Date | undefined>(
    (newest, run) => (newest === undefined || run.startedAt > newest ? run.startedAt : newest),
    undefined,
  );
  const mustBeAnswered = startsAround(schedule, new Date(now.getTime() - schedule.graceMs)).previous;
  const answered = lastStartedAt !== undefined && lastStartedAt >= mustBeAnswered;
  const missedFirst = lastStartedAt === undefined ? mustBeAnswered : startsAround(schedule, lastStartedAt).next;
  return { previous, next, lastStartedAt, overdueSince: answered ? undefined : missedFirst };
}

/**
 * The last start at or before a moment and the first after it. On the day of a clock change cron-parser's `prev()`
 * disagrees with its `next()` (it leaves out a start in the skipped hour and counts one in the repeated hour twice),
 * and `next()` asked from inside these hours is wrong too. So both come from `next()` alone, walked from well before.
 */
function startsAround(schedule: Schedule, moment: Date): { previous: Date; next: Date } {
  const iterator = startsFrom(schedule, earlierStart(schedule, earlierStart(schedule, moment)));
  let previous = iterator.next().toDate();
  for (;;) {
    const next = iterator.next().toDate();
    if (next > moment) return { previous, next };
    previous = next;
  }
}

function earlierStart(schedule: Schedule, moment: Date): Date {
  return startsFrom(schedule, new Date(moment.getTime() - longerThanAClockChangeMs))
    .prev()
    .toDate();
}

const longerThanAClockChangeMs = 3 * 3_600_000;

function startsFrom(schedule: Schedule, currentDate: Date) {
  return CronExpressionParser.parse(schedule.cron, { tz: schedule.timeZone, currentDate });
}
