import type { Lsn } from "../lib/lsn.ts";
import type { BaseFacts } from "./manifest.ts";
import type { TimelineWal, WalInventory } from "./wal-inventory.ts";

/** The part of a path that is read from the files of one timeline; both ends are beginnings of segments. */
export interface Leg {
  timeline: number;
  startLsn: Lsn;
  /** Exclusive; `undefined` on the last leg, which goes on. */
  endLsn: Lsn | undefined;
}

/**
 * Whose files recovery to a timeline reads: those of its ancestors up to the segment in which each was left, which is read
 * from the next timeline's files, as it begins with a copy. A timeline whose history is not stored is read alone.
 */
export function legsTo({ lineage, histories }: WalInventory, timeline: number): Leg[] {
  const ancestors = histories.find((history) => history.timeline === timeline)?.ancestors ?? [];
  const unit = BigInt(lineage.segmentBytes);
  let startLsn = 0n;
  const legs: Leg[] = [];
  for (const ancestor of ancestors) {
    const endLsn = ancestor.endLsn - (ancestor.endLsn % unit);
    legs.push({ timeline: ancestor.timeline, startLsn, endLsn });
    startLsn = endLsn;
  }
  return [...legs, { timeline, startLsn, endLsn: undefined }];
}

/** True when recovery from a base backup can follow to the timeline: it is on it, or stopped before its own was left. */
export function leadsTo(
  { histories }: Pick<WalInventory, "histories">,
  base: { timeline: number; stopLsn: Lsn },
  timeline: number,
): boolean {
  if (base.timeline === timeline) return true;
  const ancestors = histories.find((history) => history.timeline === timeline)?.ancestors ?? [];
  return ancestors.some((ancestor) => ancestor.timeline === base.timeline && ancestor.endLsn >= base.stopLsn);
}

/** WAL along the path to a timeline with no segment missing in it. */
export interface Stretch {
  startLsn: Lsn;
  /** Exclusive; a partial segment at the end counts as if it were whole. */
  endLsn: Lsn;
  /** By leg, in order. */
  parts: { timeline: number; startLsn: Lsn; endLsn: Lsn }[];
  /** When the last file of it was stored. */
  storedAt: Date;
}

/** What is stored of the path to a timeline, in order; between two of them WAL is missing. */
export function stretchesTo(inventory: WalInventory, timeline: number): Stretch[] {
  const stretches: Stretch[] = [];
  for (const leg of legsTo(inventory, timeline)) {
    const own = inventory.timelines.find((candidate) => candidate.timeline === leg.timeline);
    for (const piece of own === undefined ? [] : piecesOf(own, BigInt(inventory.lineage.segmentBytes))) {
      const startLsn = piece.startLsn > leg.startLsn ? piece.startLsn : leg.startLsn;
      const endLsn = leg.endLsn !== undefined && leg.endLsn < piece.endLsn ? leg.endLsn : piece.endLsn;
      if (startLsn >= endLsn) continue;
      const part = { timeline: leg.timeline, startLsn, endLsn };
      const last = stretches.at(-1);
      if (last?.endLsn !== startLsn) {
        stretches.push({ startLsn, endLsn, parts: [part], storedAt: piece.storedAt });
        continue;
      }
      last.parts.push(part);
      last.endLsn = endLsn;
      if (piece.storedAt > last.storedAt) last.storedAt = piece.storedAt;
    }
  }
  return stretches;
}

/** The whole segments, and the partial one after them. */
function piecesOf({ runs, partial }: TimelineWal, unit: bigint): { startLsn: Lsn; endLsn: Lsn; storedAt: Date }[] {
  const whole = runs.map(({ startLsn, endLsn, lastStoredAt }) => ({ startLsn, endLsn, storedAt: lastStoredAt }));
  if (partial === undefined) return whole;
  const { startLsn, storedAt } = partial;
  return [...whole, { startLsn, endLsn: startLsn + unit, storedAt }].toSorted((a, b) =>
    a.startLsn < b.startLsn ? -1 : 1,
  );
}

/** The segments that a base backup needs to become consistent: from its first to the end of the one it stops in. */
export function ownWal({
  startLsn,
  stopLsn,
  segmentBytes,
}: Pick<BaseFacts, "segmentBytes"> & { startLsn: Lsn; stopLsn: Lsn }): { startLsn: Lsn; endLsn: Lsn } {
  const unit = BigInt(segmentBytes);
  // A backup that stops right at the beginning of a segment needs nothing of it.
  const last = stopLsn > startLsn ? stopLsn - 1n : stopLsn;
  return { startLsn: startLsn - (startLsn % unit), endLsn: last - (last % unit) + unit };
}
