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

/** A position on another timeline's own continuation counts only up to where the path left that timeline. */
export function onPath(path: TimelinePath, position: { timeline: number; lsn: Lsn }): Lsn | undefined {
  const step = path.find(({ timeline }) => timeline === position.timeline);
  if (step === undefined) return undefined;
  return step.endLsn !== undefined && step.endLsn < position.lsn ? step.endLsn : position.lsn;
}
