import { type Lsn, segmentAt, segmentName } from "../lib/lsn.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { findWal, readWal } from "../repo/wal.ts";
import type { SegmentRun, TimelineWal, WalInventory } from "../repo/wal-inventory.ts";
import type { SignalOption } from "../store/store.ts";
import { continuesFromBefore, firstTransaction, type LastInWal, lastIn } from "./segment.ts";
import type { Transaction } from "./segment-transaction.ts";

export interface StoredTransactionOptions extends SignalOption {
  /** Only what ends at or before it; the newest that is stored of the timeline where left out. */
  endLsn?: Lsn | undefined;
  /** How far back to look; to the beginning of the run where left out. */
  sinceLsn?: Lsn | undefined;
}

/**
 * The last transaction of a timeline that is stored with no segment missing before it back to `sinceLsn`: the latest
 * moment that recovery along this timeline reaches. Reads the newest segment, partial ones too, and older ones only while
 * none was found. `undefined` where there is none.
 */
export async function lastStoredTransaction(
  repository: RepositoryReader,
  inventory: WalInventory,
  timeline: number,
  options: StoredTransactionOptions = {},
): Promise<Transaction | undefined> {
  return (await lastStored(repository, inventory, timeline, options)).transaction;
}

/** The same, and the last record of any kind, which is in the segments that are read for it. */
export async function lastStored(
  repository: RepositoryReader,
  inventory: WalInventory,
  timeline: number,
  { endLsn, sinceLsn = 0n, signal }: StoredTransactionOptions = {},
): Promise<LastInWal> {
  let recordLsn: Lsn | undefined;
  const stretch = stretchAt(inventory, timeline, endLsn);
  if (stretch === undefined) return { transaction: undefined, recordLsn };
  const unit = BigInt(inventory.lineage.segmentBytes);
  const stop = stretch.startLsn > sinceLsn ? stretch.startLsn : sinceLsn - (sinceLsn % unit);
  let later: Buffer | undefined;
  for (let at = stretch.lastSegment; at >= stop; at -= unit) {
    const segment = await readAt(repository, inventory, timeline, at, { signal });
    if (segment === undefined) continue;
    // The last record of a segment may end in the next one.
    const found = lastIn(later === undefined ? segment : Buffer.concat([segment, later]), endLsn);
    recordLsn ??= found.recordLsn;
    if (found.transaction !== undefined) return { transaction: found.transaction, recordLsn };
    later = continuesFromBefore(segment) ? segment : undefined;
  }
  return { transaction: undefined, recordLsn };
}

/** The first transaction that begins in a run; reads on while none was found. */
export async function firstStoredTransaction(
  repository: RepositoryReader,
  inventory: WalInventory,
  timeline: number,
  { startLsn, endLsn }: Pick<SegmentRun, "startLsn" | "endLsn">,
  { signal }: SignalOption = {},
): Promise<Transaction | undefined> {
  for (let at = startLsn; at < endLsn; at += BigInt(inventory.lineage.segmentBytes)) {
    const segment = await readAt(repository, inventory, timeline, at, { signal });
    const found = segment && firstTransaction(segment);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The run, with the partial segment that may follow it, that holds the byte before `endLsn`, or the last one. */
function stretchAt(
  { lineage, timelines }: WalInventory,
  timeline: number,
  endLsn: Lsn | undefined,
): { startLsn: Lsn; lastSegment: Lsn } | undefined {
  const unit = BigInt(lineage.segmentBytes);
  const own = timelines.find((candidate) => candidate.timeline === timeline);
  const stretches = own === undefined ? [] : stretchesOf(own, unit);
  if (endLsn === undefined) return stretches.at(-1);
  const { startLsn } = segmentAt(timeline, endLsn - 1n, lineage.segmentBytes);
  const holding = stretches.find((one) => one.startLsn <= startLsn && startLsn <= one.lastSegment);
  return holding && { startLsn: holding.startLsn, lastSegment: startLsn };
}

function stretchesOf({ runs, partial }: TimelineWal, unit: bigint): { startLsn: Lsn; lastSegment: Lsn }[] {
  const stretches = runs.map(({ startLsn, endLsn }) => ({ startLsn, lastSegment: endLsn - unit }));
  const last = stretches.at(-1);
  if (partial === undefined) return stretches;
  if (last === undefined || last.lastSegment + unit < partial.startLsn) {
    stretches.push({ startLsn: partial.startLsn, lastSegment: partial.startLsn });
  } else if (last.lastSegment + unit === partial.startLsn) {
    last.lastSegment = partial.startLsn;
  }
  return stretches;
}

async function readAt(
  repository: RepositoryReader,
  { lineage }: WalInventory,
  timeline: number,
  startLsn: Lsn,
  options: SignalOption,
): Promise<Buffer | undefined> {
  const name = segmentName({ timeline, startLsn }, lineage.segmentBytes);
  const whole = await findWal(repository, lineage, name, options);
  const file = whole ?? (await findWal(repository, lineage, `${name}.partial`, options));
  return file && (await readWal(repository, file, options));
}
