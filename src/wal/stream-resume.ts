import { type Lsn, parseSegmentName, segmentAt, segmentName } from "../lib/lsn.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type Lineage, listWal, readGaps } from "../repo/wal.ts";
import type { SignalOption } from "../store/store.ts";
import { type TimelinePath, timelineOfSegment } from "./stream-path.ts";

export interface ResumeRequest {
  repository: RepositoryReader;
  lineage: Lineage;
  segmentBytes: number;
  path: TimelinePath;
  /** What the slot keeps begins here. */
  slotLsn: Lsn;
  /** It was made just now: it says nothing of what is stored. */
  isNewSlot: boolean;
}

/** Segments are stored several at a time, so that a kill leaves holes: only among so many at the end. */
const holesAmong = 160n;

/**
 * The segment that is not stored yet, from which on everything is to be stored; `undefined` when the repository has
 * nothing of this server.
 */
export async function firstMissing(request: ResumeRequest, options: SignalOption = {}): Promise<Lsn | undefined> {
  const size = BigInt(request.segmentBytes);
  const slotSegment = segmentAt(1, request.slotLsn, request.segmentBytes).startLsn;
  if (!request.isNewSlot) {
    const near = await storedFrom(request, slotSegment - size, options);
    // What is right before the slot's segment, or a part of that itself, is there: all before it is, too.
    if (near.whole.has(slotSegment - size) || near.whole.has(slotSegment) || near.partial.has(slotSegment)) {
      return firstHole(near.whole, slotSegment, size);
    }
  }
  const all = await storedFrom(request, 0n, options);
  const last = [...all.whole].reduce((a, b) => (b > a ? b : a), -1n);
  const lastPartial = [...all.partial].reduce((a, b) => (b > a ? b : a), -1n);
  if (last < 0n) return lastPartial < 0n ? undefined : lastPartial;
  return await lastRunEnd(request, all.whole, last, options);
}

async function lastRunEnd(
  { repository, lineage, segmentBytes }: ResumeRequest,
  whole: ReadonlySet<Lsn>,
  last: Lsn,
  options: SignalOption,
): Promise<Lsn> {
  const size = BigInt(segmentBytes);
  const gaps = await readGaps(repository, lineage, options);
  const first = [...whole].reduce((a, b) => (b < a ? b : a), last);
  const from = last - holesAmong * size;
  for (let lsn = from > first ? from : first; lsn <= last; lsn += size) {
    const given = gaps.some(({ fromLsn, toLsn }) => fromLsn < lsn + size && lsn < toLsn);
    if (!whole.has(lsn) && !given) return lsn;
  }
  return last + size;
}

function firstHole(whole: ReadonlySet<Lsn>, from: Lsn, size: bigint): Lsn {
  let lsn = from;
  while (whole.has(lsn)) lsn += size;
  return lsn;
}

/** The stored segments from `fromLsn` on, each under the timeline by which the server has it. */
async function storedFrom(
  { repository, lineage, segmentBytes, path }: ResumeRequest,
  fromLsn: Lsn,
  options: SignalOption,
): Promise<{ whole: Set<Lsn>; partial: Set<Lsn> }> {
  const size = BigInt(segmentBytes);
  const [whole, partial] = [new Set<Lsn>(), new Set<Lsn>()];
  for (const { timeline, endLsn } of path) {
    if (endLsn !== undefined && endLsn < fromLsn) continue;
    const after = fromLsn < size ? {} : { after: segmentName({ timeline, startLsn: fromLsn - size }, segmentBytes) };
    for await (const { name, kind } of listWal(repository, lineage, { timeline, ...after, ...options })) {
      const segment = parseSegmentName(name.slice(0, 24), segmentBytes);
      if (segment === undefined || timelineOfSegment(path, segment.startLsn, segmentBytes) !== timeline) continue;
      if (kind === "segment") whole.add(segment.startLsn);
      if (kind === "partial") partial.add(segment.startLsn);
    }
  }
  return { whole, partial };
}
