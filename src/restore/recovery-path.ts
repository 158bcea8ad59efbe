import type { Lsn } from "../lib/lsn.ts";
import { parseLsn } from "../lib/lsn.ts";
import type { BaseFacts } from "../repo/manifest.ts";
import type { WalInventory } from "../repo/wal-inventory.ts";

/** What one timeline has of the way to another: from where it was begun to where the next one left it. */
export interface Leg {
  timeline: number;
  startLsn: Lsn;
  /** `undefined` on the last timeline of the way, which goes on. */
  endLsn: Lsn | undefined;
}

/**
 * The way from the first timeline to this one, as its history file tells it; the timeline alone where no history is
 * stored. `historyKnown` is false then, unless it is the first timeline, which has none.
 */
export function pathTo(timeline: number, wal: WalInventory | undefined): { legs: Leg[]; historyKnown: boolean } {
  const history = wal?.histories.find((each) => each.timeline === timeline);
  const legs: Leg[] = [];
  let startLsn = 0n;
  for (const ancestor of history?.ancestors ?? []) {
    legs.push({ timeline: ancestor.timeline, startLsn, endLsn: ancestor.endLsn });
    startLsn = ancestor.endLsn;
  }
  legs.push({ timeline, startLsn, endLsn: undefined });
  return { legs, historyKnown: history !== undefined || timeline === 1 };
}

/** The way on from a base backup, `undefined` when it is not on the way: on another timeline, or behind a switch. */
export function legsFrom(base: BaseFacts, legs: readonly Leg[]): Leg[] | undefined {
  const [startLsn, stopLsn] = [parseLsn(base.startLsn), parseLsn(base.stopLsn)];
  const index = legs.findIndex(({ timeline }) => timeline === base.timeline);
  const first = legs[index];
  if (first === undefined || (first.endLsn !== undefined && stopLsn > first.endLsn)) return undefined;
  return [{ ...first, startLsn }, ...legs.slice(index + 1)];
}

/** Every timeline of which a backup, WAL or a history is stored, newest first. */
export function knownTimelines(wal: WalInventory | undefined, bases: readonly BaseFacts[]): number[] {
  const all = [
    ...bases.map(({ timeline }) => timeline),
    ...(wal?.timelines ?? []).map(({ timeline }) => timeline),
    ...(wal?.histories ?? []).map(({ timeline }) => timeline),
  ];
  return [...new Set(all)].sort((a, b) => b - a);
}

/** Where a timeline leaves the way: what it has from there on is not on it. `undefined`: they have nothing in common. */
export function divergence(timeline: number, legs: readonly Leg[], wal: WalInventory | undefined): Lsn | undefined {
  const theirs = pathTo(timeline, wal).legs;
  for (const leg of theirs.toReversed()) {
    const common = legs.find((ours) => ours.timeline === leg.timeline);
    if (common === undefined) continue;
    const ends = [leg.endLsn, common.endLsn].filter((lsn) => lsn !== undefined);
    return ends.reduce<Lsn | undefined>((least, lsn) => (least === undefined || lsn < least ? lsn : least), undefined);
  }
  return undefined;
}
