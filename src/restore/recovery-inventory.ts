import pLimit from "p-limit";
import type { Lsn } from "../lib/lsn.ts";
import { parseLsn } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import { listBackups } from "../repo/backups.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { readWalInventories, type TimelineWal, type WalInventory } from "../repo/wal-inventory.ts";
import type { SignalOption } from "../store/store.ts";
import { lastStored } from "../wal/segment-stored.ts";
import { pathTo } from "./recovery-path.ts";
import type { BaseManifest, RecoveryInventory, StoredEnd } from "./recovery-plan.ts";
import { microseconds } from "./recovery-target.ts";

const parallelReads = 4;

/**
 * All that a recovery of the instance can be planned from: its base backups, the WAL of every server that it has been, and
 * the last transaction and record before each end of that WAL, for which a segment or a few are read. A manifest that cannot be read
 * is warned of and left out.
 */
export async function readRecoveryInventory(
  repository: RepositoryReader,
  instance: string,
  { report, signal }: SignalOption & { report: Report },
): Promise<RecoveryInventory> {
  const { backups, unreadable } = await listBackups(repository, { instance, signal });
  for (const { id, error } of unreadable) {
    report({ type: "warning", message: `${id} is left out: ${error.message}`, hint: error.hint });
  }
  const bases = backups.filter(isBase);
  const wal = await readWalInventories(repository, [instance], { signal });
  const limit = pLimit(parallelReads);
  const ends = await Promise.all(
    wal.flatMap((inventory) =>
      placesOf(inventory, firstLsn(bases, inventory)).map((place) =>
        limit(() => readEnd(repository, inventory, place, { signal })),
      ),
    ),
  );
  return { instance, backups: bases, wal, ends };
}

function isBase(manifest: Manifest): manifest is BaseManifest {
  return manifest.kind === "base" && manifest.base !== undefined;
}

interface Place {
  timeline: number;
  endLsn: Lsn;
  /** A timeline of which the segments are looked into as well: the next holds a copy of what is before a switch. */
  copyOn?: number;
  sinceLsn: Lsn;
}

/** Where a recovery may have to end: the ends of all runs behind the first backup, and every switch. */
function placesOf(inventory: WalInventory, sinceLsn: Lsn): Place[] {
  const runEnds = inventory.timelines.flatMap((wal) =>
    endsOf(wal, BigInt(inventory.lineage.segmentBytes)).map((endLsn) => ({ timeline: wal.timeline, endLsn })),
  );
  const switches = inventory.timelines.flatMap(({ timeline }) => {
    const { legs } = pathTo(timeline, inventory);
    return legs.flatMap(({ timeline: left, endLsn }, index) =>
      endLsn === undefined ? [] : [{ timeline: left, endLsn, copyOn: legs[index + 1]?.timeline ?? timeline }],
    );
  });
  const unique = new Map([...switches, ...runEnds].map((place) => [`${place.timeline}/${place.endLsn}`, place]));
  return [...unique.values()].filter(({ endLsn }) => endLsn > sinceLsn).map((place) => ({ ...place, sinceLsn }));
}

function endsOf({ runs, partial }: TimelineWal, size: bigint): Lsn[] {
  return [...runs.map(({ endLsn }) => endLsn), ...(partial === undefined ? [] : [partial.startLsn + size])];
}

function firstLsn(bases: readonly BaseManifest[], { lineage }: WalInventory): Lsn {
  const starts = bases
    .filter(({ server }) => server.systemId === lineage.systemId)
    .map(({ base }) => parseLsn(base.startLsn));
  return starts.reduce<Lsn | undefined>((a, b) => (a === undefined || b < a ? b : a), undefined) ?? 0n;
}

async function readEnd(
  repository: RepositoryReader,
  inventory: WalInventory,
  { timeline, endLsn, copyOn, sinceLsn }: Place,
  { signal }: SignalOption,
): Promise<StoredEnd> {
  const options = { endLsn, sinceLsn, signal };
  const own = await lastStored(repository, inventory, timeline, options);
  const useCopy = own.transaction === undefined && copyOn !== undefined;
  const copy = useCopy ? await lastStored(repository, inventory, copyOn, options) : own;
  const found = copy.transaction;
  const last = found && { timeUs: microseconds(found.timeText), lsn: found.lsn };
  const lastRecordLsn = own.recordLsn ?? copy.recordLsn;
  return { systemId: inventory.lineage.systemId, timeline, endLsn, last, lastRecordLsn };
}
