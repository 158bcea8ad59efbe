import { open } from "node:fs/promises";
import { parseSegmentName } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { noNews, type RecoveryNews, readLog } from "./recovery-log.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { lastReplayedTime } from "./recovery-times.ts";

export interface LogFollower {
  /** All that the log tells up to now. */
  read(): Promise<RecoveryNews>;
  /** Resolves once the news are such, or `ended` has: to the news then. Fails when the run is cancelled. */
  until(such: (news: RecoveryNews) => boolean, ended: Promise<unknown>): Promise<RecoveryNews>;
  /** Reports the end of the progress. */
  stop(): Promise<void>;
}

interface Followed {
  plan: Pick<RecoveryPlan, "instance" | "backup" | "walSegments">;
  dataDir: string;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

const pauseMs = 100;
/** To know the time means to read a segment. */
const timeEveryMs = 2000;

/** Reads a server's log as it grows, and reports how far its recovery is. */
export function followLog(path: string, { plan, dataDir, clock, report, signal }: Followed): LogFollower {
  const task = `recover ${plan.instance}`;
  const { segmentBytes } = plan.backup.base;
  const startedMs = clock.monotonicMs();
  const stopping = new AbortController();
  const log = linesOf(path);
  let news = noNews();
  report({ type: "start", task, totalBytes: plan.walSegments * segmentBytes });
  // One reading after the other, as each goes on where the last has ended.
  let reading: Promise<RecoveryNews> = Promise.resolve(news);
  const read = () => {
    reading = reading.then(async () => {
      news = readLog(news, await log());
      return news;
    });
    return reading;
  };
  const bytes = () => Math.min(news.segments, plan.walSegments) * segmentBytes;
  const time = timeReached(dataDir, segmentBytes, clock);
  const progress = async () => {
    while (!stopping.signal.aborted) {
      await read();
      const phase = phaseOf(news, plan.walSegments, await time(news));
      report({ type: "progress", task, bytes: bytes(), totalBytes: plan.walSegments * segmentBytes, phase });
      await clock.delay(pauseMs, stopping.signal).catch(() => undefined);
    }
  };
  const following = progress();
  return {
    read,
    until: async (such, ended) => {
      const end = ended.then(() => true as const);
      for (;;) {
        const pause = clock.delay(pauseMs, signal).catch(() => undefined);
        const isOver = await Promise.race([end, pause]);
        if (such(await read()) || isOver === true) return news;
        signal.throwIfAborted();
      }
    },
    stop: async () => {
      stopping.abort();
      await following;
      await read();
      const seconds = (clock.monotonicMs() - startedMs) / 1000;
      const summary = `${news.segments} segments, replayed to ${news.redoDone ?? news.lsn ?? "their end"}`;
      report({ type: "done", task, bytes: bytes(), seconds, summary });
    },
  };
}

/** `at 0/5000000, 2026-11-21T12:00:00Z, segment 12 of 40`. */
function phaseOf({ lsn, segment, segments }: RecoveryNews, of: number, time: string | undefined): string | undefined {
  const at = lsn ?? segment;
  if (at === undefined) return undefined;
  const count = segments === 0 ? [] : [`segment ${segments} of ${Math.max(segments, of)}`];
  return [`at ${at}`, ...(time === undefined ? [] : [time]), ...count].join(", ");
}

/** The moment of the last transaction before the segment that is replayed now; looked up now and then. */
function timeReached(dataDir: string, segmentBytes: number, clock: Clock) {
  let known: string | undefined;
  let lookedMs = clock.monotonicMs();
  return async ({ segment }: RecoveryNews): Promise<string | undefined> => {
    const place = segment === undefined ? undefined : parseSegmentName(segment, segmentBytes);
    if (place === undefined || clock.monotonicMs() - lookedMs < timeEveryMs) return known;
    const { timeline, startLsn: endLsn } = place;
    known = (await lastReplayedTime({ dataDir, segmentBytes, timeline, endLsn, most: 1 })) ?? known;
    lookedMs = clock.monotonicMs();
    return known;
  };
}

/** Gives the lines that have come to the file since the last call; a line without its end is kept for the next. */
function linesOf(path: string): () => Promise<string[]> {
  let offset = 0;
  let rest = "";
  return async () => {
    const file = await unlessAbsent(open(path));
    if (file === undefined) return [];
    try {
      const { size } = await file.stat();
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - offset), 0, size - offset, offset);
      offset += bytesRead;
      const lines = `${rest}${buffer.toString("latin1", 0, bytesRead)}`.split("\n");
      rest = lines.pop() ?? "";
      return lines;
    } finally {
      await file.close();
    }
  };
}
