import type { Lsn } from "../lib/lsn.ts";
import type { TimelineWal, WalInventory } from "../repo/wal-inventory.ts";
import type { Leg } from "./recovery-path.ts";

/** Stored WAL on the way of a recovery. */
export interface Stretch {
  timeline: number;
  startLsn: Lsn;
  endLsn: Lsn;
  /** Stored bytes of one segment, on average. */
  segmentStoredBytes: number;
}

export interface Coverage {
  /** Without a gap, in the order of the way. */
  stretches: Stretch[];
  /** Where it ends: the first byte that is not there. */
  endLsn: Lsn;
  /** What is missing there, when later WAL of the way is stored. */
  gap: { timeline: number; startLsn: Lsn; endLsn: Lsn } | undefined;
}

/**
 * How far the stored WAL reaches on the way from `from` without a gap. A segment in which a timeline begins holds a copy
 * of what came before, so it is taken from the later timeline; where that one is not stored, the former's serves up to
 * the switch.
 */
export function coverage(
  legs: readonly Leg[],
  from: Lsn,
  wal: WalInventory | undefined,
  segmentBytes: number,
): Coverage {
  const size = BigInt(segmentBytes);
  const all = legs.flatMap((leg, index) => stretchesOf(leg, index === 0, wal, size));
  const stretches: Stretch[] = [];
  let at = from - (from % size);
  for (;;) {
    const next = all.findLast(({ startLsn, endLsn }) => startLsn <= at && at < endLsn);
    if (next === undefined) break;
    stretches.push({ ...next, startLsn: at });
    at = next.endLsn;
  }
  const later = all.filter(({ startLsn }) => startLsn > at).map(({ startLsn }) => startLsn);
  const resumesAt = later.reduce<Lsn | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined);
  const timeline = legs.findLast(({ startLsn }) => startLsn <= at)?.timeline ?? legs[0]?.timeline ?? 0;
  const gap = resumesAt === undefined ? undefined : { timeline, startLsn: at, endLsn: resumesAt };
  return { stretches: wholeSegments(stretches, size), endLsn: stretches.length === 0 ? from : at, gap };
}

/** The segment of a switch belongs to the later timeline alone, where that has it. */
function wholeSegments(stretches: readonly Stretch[], size: bigint): Stretch[] {
  return stretches
    .map((stretch, index) => {
      const nextStart = stretches[index + 1]?.startLsn;
      const startLsn = stretch.startLsn - (stretch.startLsn % size);
      return {
        ...stretch,
        startLsn,
        endLsn: nextStart === undefined ? stretch.endLsn : nextStart - (nextStart % size),
      };
    })
    .filter(({ startLsn, endLsn }) => startLsn < endLsn);
}

/** The same up to the segment that holds the byte before `until`, or all of it. */
export function upTo({ stretches }: Coverage, until: Lsn, segmentBytes: number): Stretch[] {
  const size = BigInt(segmentBytes);
  const limit = ((until + size - 1n) / size) * size;
  return stretches
    .filter(({ startLsn }) => startLsn < limit)
    .map((stretch) => (stretch.endLsn > limit ? { ...stretch, endLsn: limit } : stretch));
}

export function segmentsIn({ startLsn, endLsn }: { startLsn: Lsn; endLsn: Lsn }, segmentBytes: number): number {
  const size = BigInt(segmentBytes);
  return Number((endLsn + size - 1n) / size - startLsn / size);
}

/** Leg by leg; of the segment of the switch only what is before it. */
function stretchesOf({ timeline, startLsn, endLsn }: Leg, first: boolean, wal: WalInventory | undefined, size: bigint) {
  const stored = wal?.timelines.find((each) => each.timeline === timeline);
  const begin = first ? 0n : startLsn - (startLsn % size);
  return stored === undefined
    ? []
    : piecesOf(stored, timeline, size)
        .filter((piece) => piece.endLsn > begin && (endLsn === undefined || piece.startLsn < endLsn))
        .map((piece) => ({ ...piece, endLsn: least(piece.endLsn, endLsn) }));
}

function piecesOf({ runs, partial }: TimelineWal, timeline: number, size: bigint): Stretch[] {
  const pieces = runs.map((run) => ({
    timeline,
    startLsn: run.startLsn,
    endLsn: run.endLsn,
    segmentStoredBytes: run.storedBytes / Math.max(1, run.segments),
  }));
  if (partial === undefined) return pieces;
  const { startLsn, storedBytes } = partial;
  return [...pieces, { timeline, startLsn, endLsn: startLsn + size, segmentStoredBytes: storedBytes }];
}

function least(lsn: Lsn, limit: Lsn | undefined): Lsn {
  return limit !== undefined && limit < lsn ? limit : lsn;
}
