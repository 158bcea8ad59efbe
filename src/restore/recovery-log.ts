/** What a server's log has told so far of its recovery. */
export interface RecoveryNews {
  /** The segment that was read last, and how many were. */
  segment?: string | undefined;
  segments: number;
  /** Where replay is. */
  lsn?: string | undefined;
  /** The moment of the last transaction that was replayed, RFC 3339 UTC. */
  time?: string | undefined;
  /** The target was found: the server's own words. */
  stopped?: string | undefined;
  paused: boolean;
  shutDown: boolean;
  /** The last record that was replayed begins here; known at the end of recovery. */
  redoDone?: string | undefined;
  timeline?: number | undefined;
  /** It is promoted, and up. */
  complete: boolean;
  /** What made the server give up. */
  fatal?: string | undefined;
}

export function noNews(): RecoveryNews {
  return { segments: 0, paused: false, shutDown: false, complete: false };
}

/** The words of xlogrecovery.c and xlog.c in the languageless locale; they are the same from 15 to 18. */
const patterns: readonly [RegExp, (news: RecoveryNews, found: string) => Partial<RecoveryNews>][] = [
  [/restored log file "([0-9A-F]{24})" from archive/, (news, segment) => ({ segment, segments: news.segments + 1 })],
  [/redo (?:starts at|in progress,.* current LSN:) ([0-9A-F]+\/[0-9A-F]+)/, (_, lsn) => ({ lsn })],
  [/LOG: {2}(recovery stopping .*)/, (_, stopped) => ({ stopped })],
  // The one that it stopped after is in it; the one that it stopped before is not.
  [/LOG: {2}recovery stopping after (?:commit|abort) of .*, time (.*)/, (_, time) => ({ time: inUtc(time) })],
  [/LOG: {2}(pausing at the end of recovery)/, () => ({ paused: true })],
  [/LOG: {2}(shutdown at recovery target)/, () => ({ shutDown: true })],
  [/redo done at ([0-9A-F]+\/[0-9A-F]+)/, (_, lsn) => ({ redoDone: lsn, lsn })],
  [/last completed transaction was at log time (.*)/, (_, time) => ({ time: inUtc(time) })],
  [/selected new timeline ID: (\d+)/, (_, number) => ({ timeline: Number(number) })],
  [/LOG: {2}(database system is ready to accept connections)/, () => ({ complete: true })],
  [/(?:FATAL|PANIC): {2}(.*)/, (news, fatal) => ({ fatal: news.fatal ?? fatal })],
];

/** The news with those of more lines of the log. */
export function readLog(news: RecoveryNews, lines: readonly string[]): RecoveryNews {
  let latest = news;
  for (const line of lines) {
    for (const [pattern, change] of patterns) {
      const found = pattern.exec(line)?.[1];
      if (found !== undefined) latest = { ...latest, ...change(latest, found) };
    }
  }
  return latest;
}

/** `2026-11-21 02:00:00.12+00`, as a server logs times whose log_timezone is UTC: without the zeros at their end. */
function inUtc(text: string): string | undefined {
  const [, day, time, fraction = ""] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?\+00/.exec(text) ?? [];
  return day === undefined ? undefined : `${day}T${time}.${fraction.padEnd(6, "0")}Z`;
}
