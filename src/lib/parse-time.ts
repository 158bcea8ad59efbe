import { parseDuration } from "./parse.ts";

/** A moment that a person wrote. */
export interface Moment {
  /** To the millisecond, rounded down. */
  readonly time: Date;
  /** RFC 3339 in UTC with every digit that was written, such as `2026-11-21T02:00:00.123456Z`. */
  readonly exact: string;
  /** The time zone it was read in because the text names no offset; `undefined` where none had to be assumed. */
  readonly assumedZone: string | undefined;
}

/**
 * Reads RFC 3339, `YYYY-MM-DD[ HH:MM[:SS[.ffffff]]]` in `timeZone`, or a time relative to `now` such as `-15m`.
 * `{ wrong }` says in a sentence why it is none of them, also for a local time that a clock change skips or repeats.
 */
export function parseTime(text: string, options: { now: Date; timeZone: string }): Moment | { wrong: string } {
  const trimmed = text.trim();
  if (/^[-+]/.test(trimmed)) return relativeTime(trimmed, options.now);
  const found = written.exec(trimmed);
  if (found === null) return { wrong: `must be ${timeForms}` };
  const [, date, hourAndMinute = "00:00", seconds = "00", fraction = "", offset] = found;
  const wall = new Date(`${date}T${hourAndMinute}:${seconds}Z`);
  if (Number.isNaN(wall.getTime()) || !wall.toISOString().startsWith(`${date}T`)) {
    return { wrong: "is no date and time of the calendar" };
  }
  if (offset !== undefined) return moment(wall.getTime() - offsetMs(offset), fraction, undefined);
  const times = momentsOfWallTime(wall.getTime(), options.timeZone);
  const [first, second] = times;
  if (first === undefined) return { wrong: `does not exist in ${options.timeZone}: a clock change skips it` };
  if (second !== undefined) {
    const both = times.map((ms) => moment(ms, fraction, undefined).exact).join(" or ");
    return { wrong: `happens twice in ${options.timeZone}: write ${both}` };
  }
  return moment(first, fraction, options.timeZone);
}

/** Completes "must be". */
export const timeForms =
  "a time such as 2026-11-21T02:00:00Z, '2026-11-21 02:00' (in --time-zone, by default UTC) or -15m (that long ago)";

const written =
  /^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,6})\d*)?)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?)?$/;

function relativeTime(text: string, now: Date): Moment | { wrong: string } {
  const ms = parseDuration(text.slice(1));
  if (ms === undefined) return { wrong: `must be ${timeForms}` };
  const time = now.getTime() + (text.startsWith("-") ? -ms : ms);
  return { time: new Date(time), exact: new Date(time).toISOString(), assumedZone: undefined };
}

function offsetMs(offset: string): number {
  if (/^z$/i.test(offset)) return 0;
  const digits = offset.slice(1).replace(":", "");
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2) || 0);
  return (offset.startsWith("-") ? -minutes : minutes) * 60_000;
}

function moment(wholeSecondsMs: number, fraction: string, assumedZone: string | undefined): Moment {
  const time = new Date(wholeSecondsMs + Math.floor(Number(`0.${fraction || 0}`) * 1000));
  const digits = fraction === "" ? "" : `.${fraction}`;
  return { time, exact: `${new Date(wholeSecondsMs).toISOString().slice(0, 19)}${digits}Z`, assumedZone };
}

/** Every moment at which clocks in the zone show this wall time: none in a skipped hour, two in a repeated one. */
function momentsOfWallTime(wallMs: number, timeZone: string): number[] {
  const aDay = 86_400_000;
  const offsets = new Set([wallMs - aDay, wallMs, wallMs + aDay].map((ms) => zoneOffsetMs(ms, timeZone)));
  return [...offsets]
    .map((offset) => wallMs - offset)
    .filter((ms) => ms + zoneOffsetMs(ms, timeZone) === wallMs)
    .sort((a, b) => a - b);
}

/** What clocks in the zone are ahead of UTC at a moment, in ms. */
function zoneOffsetMs(atMs: number, timeZone: string): number {
  const parts = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  }).formatToParts(new Date(atMs));
  const part = (type: string) => Number(parts.find((one) => one.type === type)?.value);
  const wall = Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second"));
  return wall - Math.floor(atMs / 1000) * 1000;
}

/** True when this machine knows the time zone, such as `UTC`, `Europe/Berlin` or `+02:00`. */
export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** `2026-11-21 03:00:00 +01:00`: a moment on the clocks of a zone, with their offset. */
export function inZone(time: Date, timeZone: string): string {
  const offset = zoneOffsetMs(time.getTime(), timeZone);
  const wall = new Date(time.getTime() + offset).toISOString();
  const minutes = Math.abs(Math.round(offset / 60_000));
  const two = (number: number) => String(number).padStart(2, "0");
  const sign = offset < 0 ? "-" : "+";
  return `${wall.slice(0, 10)} ${wall.slice(11, 19)} ${sign}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}
