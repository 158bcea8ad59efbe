import { type Lsn, parseLsn } from "../lib/lsn.ts";

/** The timelines by which a server came to where it is, oldest first; the last one has no end. */
export type TimelinePath = readonly PathStep[];

export interface PathStep {
  timeline: number;
  beginLsn: Lsn;
  endLsn: Lsn | undefined;
}

/** The path to `timeline` by the content of its history file; `undefined` for timeline 1, which has none. */
export function timelinePath(timeline: number, history: string | undefined): TimelinePath {
  const steps: PathStep[] = [];
  let beginLsn = 0n;
  for (const line of (history ?? "").split("\n")) {
    const [, ancestor, end] = /^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/i.exec(line) ?? [];
    if (ancestor === undefined || end === undefined) continue;
    const endLsn = parseLsn(end);
    steps.push({ timeline: Number(ancestor), beginLsn, endLsn });
    beginLsn = endLsn;
  }
  return [...steps, { timeline, beginLsn, endLsn: undefined }];
}

/** Under which timeline the server has the segment at `startLsn`: the last one that began before the segment's end. */
export function timelineOfSegment(path: TimelinePath, startLsn: Lsn, segmentBytes: number): number {
  const size = BigInt(segmentBytes);
  const step = path.findLast(({ beginLsn }) => beginLsn < startLsn + size) ?? path[0];
  if (step === undefined) throw new Error("a path has no timeline");
  return step.timeline;
}

/**
 * What a position that was reached before still says of a server that came by `path` and has `flushLsn`: on another
 * timeline's own continuation it counts up to where the path left that timeline. `undefined` where it says nothing, as of a
 * server that was put back to a moment before.
 */
export function positionOn(
  path: TimelinePath,
  { timeline, lsn }: { timeline: number; lsn: Lsn },
  flushLsn: Lsn,
): { timeline: number; lsn: Lsn } | undefined {
  const step = path.find((each) => each.timeline === timeline);
  if (step === undefined) return undefined;
  const reached = step.endLsn !== undefined && step.endLsn < lsn ? step.endLsn : lsn;
  return reached > flushLsn ? undefined : { timeline, lsn: reached };
}
