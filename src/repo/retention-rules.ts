import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { inZone } from "../lib/parse-time.ts";

/** What to keep of a group of backups. A backup is kept when one rule keeps it; with no rule at all, each is. */
export interface RetentionRules {
  readonly keepLast?: number | undefined;
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
  readonly windowMs?: number | undefined;
}

/** Where periods begin and what "ago" is counted from. */
export interface Calendar {
  now: Date;
  /** The moment on the zone's clocks, such as `2026-11-21 03:00:00 +01:00`. */
  local: (time: string) => string;
}

/** Remembers what it worked out: reading a time in a zone takes some 50 microseconds, and each rule asks anew. */
export function calendar(now: Date, timeZone: string): Calendar {
  const known = new Map<string, string>();
  const local = (time: string) => {
    const found = known.get(time) ?? inZone(new Date(time), timeZone);
    known.set(time, found);
    return found;
  };
  return { now, local };
}

/** A backup that a rule keeps, and the rule's words for it: `daily 2026-11-20`. */
export interface Kept<B> {
  backup: B;
  reason: string;
}

/** A base backup restores from when it stopped on, a logical one brings back the moment that it began. */
interface Dated {
  startedAt: string;
  base?: { stoppedAt: string } | undefined;
}

/** What the rules keep of `backups`, which come newest first. One backup may be kept by several. */
export function applyRules<B extends Dated>(
  rules: RetentionRules,
  backups: readonly B[],
  { now, local }: Calendar,
): Kept<B>[] {
  return [
    ...backups.slice(0, rules.keepLast ?? 0).map((backup) => ({ backup, reason: `last ${rules.keepLast}` })),
    ...periods.flatMap(({ rule, name, of }) =>
      newestOfEach(backups, rules[rule] ?? 0, (backup) => `${name} ${of(local(backup.startedAt))}`),
    ),
    ...(rules.windowMs === undefined ? [] : within(backups, rules.windowMs, now)),
  ];
}

export function hasRules(rules: RetentionRules): boolean {
  return Object.values(rules).some((rule) => rule !== undefined);
}

/** Fails with `config` for rules that keep nothing, as `keepLast: 0` alone would: nobody means that. */
export function assertKeepsSomething(rules: RetentionRules, of: string): void {
  if (!hasRules(rules) || Object.values(rules).some((rule) => rule !== undefined && rule > 0)) return;
  throw new PgkitError("config", `the retention of ${of} would keep nothing: each of its rules is 0`, {
    hint: "set keepLast to 1 or more; without any rule, every backup is kept",
  });
}

/** Each of a time of the zone's clocks, such as `2026-11-21 03:00:00 +01:00`. */
const periods = [
  // With the offset, as clocks that are set back show one hour twice.
  { rule: "keepHourly", name: "hourly", of: (local: string) => `${local.slice(0, 13)}:00 ${local.slice(20)}` },
  { rule: "keepDaily", name: "daily", of: (local: string) => local.slice(0, 10) },
  { rule: "keepWeekly", name: "weekly", of: (local: string) => isoWeek(local.slice(0, 10)) },
  { rule: "keepMonthly", name: "monthly", of: (local: string) => local.slice(0, 7) },
  { rule: "keepYearly", name: "yearly", of: (local: string) => local.slice(0, 4) },
] as const;

/** Only periods with a backup count: a week without any does not use one up. */
function newestOfEach<B>(backups: readonly B[], count: number, labelOf: (backup: B) => string): Kept<B>[] {
  const newest = new Map<string, Kept<B>>();
  for (const backup of count === 0 ? [] : backups) {
    const reason = labelOf(backup);
    if (newest.has(reason)) continue;
    if (newest.size === count) break;
    newest.set(reason, { backup, reason });
  }
  return [...newest.values()];
}

/** All of the window, and the newest before it: without that one there would be no way back to the window's beginning. */
function within<B extends Dated>(backups: readonly B[], windowMs: number, now: Date): Kept<B>[] {
  if (windowMs === 0) return [];
  const begin = now.getTime() - windowMs;
  const name = `window ${formatDuration(windowMs)}`;
  const restoresFrom = ({ startedAt, base }: B) => Date.parse(base?.stoppedAt ?? startedAt);
  const inside = backups.filter((backup) => restoresFrom(backup) >= begin);
  const before = backups.find((backup) => restoresFrom(backup) < begin);
  const kept = inside.map((backup) => ({ backup, reason: name }));
  return before === undefined ? kept : [...kept, { backup: before, reason: `beginning of the ${name}` }];
}

/** `2026-W47` of a date: the week of ISO 8601, from Monday, in the year that has its Thursday. */
function isoWeek(date: string): string {
  const day = new Date(`${date}T00:00:00Z`);
  const thursday = new Date(day.getTime() + (3 - ((day.getUTCDay() + 6) % 7)) * 86_400_000);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * 86_400_000)) + 1;
  return `${year}-W${String(week).padStart(2, "0")}`;
}
