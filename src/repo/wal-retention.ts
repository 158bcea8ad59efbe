import { type Lsn, parseLsn, parseSegmentName, timelineOf } from "../lib/lsn.ts";
import type { Manifest } from "./manifest.ts";
import type { GapRecord, LineageFacts, WalFile } from "./wal.ts";
import type { StoredWal, WalInventory } from "./wal-inventory.ts";
import { leadsTo, ownWal } from "./wal-path.ts";
import { type BaseBackup, withWholeChain } from "./windows.ts";

/** What happens to the WAL of one lineage. */
export interface WalPlan {
  lineage: LineageFacts;
  /** Oldest first, in the order to remove them. */
  remove: WalFile[];
  /** Records of WAL that was given up before all that is kept. */
  removeGaps: GapRecord[];
  kept: { files: number; bytes: number };
  /** Why nothing, or not more, is removed. */
  reasons: string[];
}

export interface WalRetentionInput {
  wal: readonly StoredWal[];
  /** The backups that stay. `pinOnly`: nothing but a pin keeps it, so that only it is kept, not the time after it. */
  keep: readonly { backup: Pick<Manifest, "id" | "instance">; pinOnly: boolean }[];
  /** Every backup that there is. */
  backups: readonly Manifest[];
  unreadable: readonly { instance: string; id: string }[];
  /** Instances of which a backup is under way. */
  busy: ReadonlySet<string>;
  now: Date;
  /** How long the store locks a file after it was stored. */
  retainMs?: number | undefined;
}

/**
 * What of the WAL no kept base backup needs. Pure. From the first segment of the oldest one that a rule keeps on, all
 * stays, on its timeline and on each that comes from it; of one that only a pin keeps, what makes it consistent. Each
 * server is decided by itself: the names of segments of one say nothing about those of another. Timeline histories stay
 * for ever; a partial segment that is stored whole, too, goes.
 */
export function planWal(input: WalRetentionInput): WalPlan[] {
  return input.wal.map(({ inventory, files }) => {
    const { lineage } = inventory;
    const blocked = whyNothing(input, lineage);
    const needed = blocked.length > 0 ? undefined : neededOf(input, inventory);
    const whole = new Set(files.filter(({ kind }) => kind === "segment").map(({ name }) => name));
    const isStale = ({ name, kind }: WalFile) => kind === "partial" && whole.has(name.slice(0, 24));
    const removable =
      needed === undefined ? [] : files.filter((file) => isStale(file) || !isNeeded(file, lineage, needed));
    const locked = removable.filter((file) => isLocked(file, input));
    const remove = removable.filter((file) => !locked.includes(file)).toSorted(oldestFirst);
    const bytes = files.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    return {
      lineage,
      remove,
      removeGaps: needed === undefined ? [] : inventory.gaps.filter((gap) => !isGapNeeded(gap, needed)),
      kept: {
        files: files.length - remove.length,
        bytes: bytes - remove.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      },
      reasons: locked.length === 0 ? blocked : [`${locked.length} files are under object lock`],
    };
  });
}

function whyNothing({ unreadable, busy, backups }: WalRetentionInput, { instance, systemId }: LineageFacts): string[] {
  const unread = unreadable.find((backup) => backup.instance === instance);
  const own = backups.filter(
    (backup) => backup.kind === "base" && backup.instance === instance && backup.server.systemId === systemId,
  );
  return [
    ...(unread === undefined ? [] : [`the manifest of ${unread.id} cannot be read, and it may need any of it`]),
    ...(busy.has(instance) ? [`a backup of ${instance} is under way`] : []),
    ...(own.length === 0 ? ["there is no base backup of this server yet"] : []),
  ];
}

interface Needed {
  /** On a timeline, everything from a position on. */
  from: Map<number, Lsn>;
  ranges: { timeline: number; startLsn: Lsn; endLsn: Lsn }[];
}

/** `undefined` where no kept backup says from where on. */
function neededOf({ keep, backups }: WalRetentionInput, inventory: WalInventory): Needed | undefined {
  const { instance, systemId } = inventory.lineage;
  const needed: Needed = { from: new Map(), ranges: [] };
  const kept = new Map(keep.filter(({ backup }) => backup.instance === instance).map((one) => [one.backup.id, one]));
  const own = backups.filter((backup) => backup.instance === instance && backup.server.systemId === systemId);
  for (const backup of own.filter(isBase)) {
    const pinOnly = kept.get(backup.id)?.pinOnly;
    if (pinOnly === undefined) continue;
    addNeeds(needed, inventory, backup, pinOnly);
  }
  // A base backup whose manifest has no facts of its own could need anything.
  const unknown = own.some((backup) => backup.kind === "base" && !isBase(backup));
  return needed.from.size === 0 || unknown ? undefined : needed;
}

function isBase(backup: Manifest): backup is BaseBackup {
  return backup.kind === "base" && backup.base !== undefined;
}

function addNeeds(needed: Needed, inventory: WalInventory, { base }: BaseBackup, pinOnly: boolean): void {
  const [startLsn, stopLsn] = [parseLsn(base.startLsn), parseLsn(base.stopLsn)];
  const own = ownWal({ startLsn, stopLsn, segmentBytes: inventory.lineage.segmentBytes });
  if (pinOnly) {
    needed.ranges.push({ timeline: base.timeline, ...own });
    return;
  }
  const known = needed.from.get(base.timeline);
  if (known === undefined || own.startLsn < known) needed.from.set(base.timeline, own.startLsn);
  for (const timeline of timelinesOf(inventory)) {
    if (timeline === base.timeline) continue;
    const descends = leadsTo(inventory, { timeline: base.timeline, stopLsn }, timeline);
    // What a timeline comes from is not known without its history, so that it could come from this backup.
    const isUnknown = timeline > 1 && !inventory.histories.some((history) => history.timeline === timeline);
    if (descends || isUnknown) needed.from.set(timeline, 0n);
  }
}

function timelinesOf({ timelines, histories }: WalInventory): Set<number> {
  return new Set([...timelines, ...histories].map(({ timeline }) => timeline));
}

function isNeeded({ name, kind }: WalFile, { segmentBytes }: LineageFacts, { from, ranges }: Needed): boolean {
  const place = parseSegmentName(name.slice(0, 24), segmentBytes);
  if (kind === "history" || place === undefined) return true;
  const { timeline, startLsn } = place;
  const begin = from.get(timeline);
  if (begin !== undefined && startLsn >= begin) return true;
  return ranges.some((range) => range.timeline === timeline && range.startLsn <= startLsn && startLsn < range.endLsn);
}

function isGapNeeded({ timeline, toLsn }: GapRecord, { from }: Needed): boolean {
  const begin = from.get(timeline);
  return begin !== undefined && toLsn > begin;
}

function isLocked({ storedAt }: WalFile, { retainMs, now }: WalRetentionInput): boolean {
  return retainMs !== undefined && storedAt.getTime() + retainMs > now.getTime();
}

function oldestFirst(a: WalFile, b: WalFile): number {
  return timelineOf(a.name) - timelineOf(b.name) || (a.name < b.name ? -1 : 1);
}

/**
 * The backups without which the beginning of a window could not be restored: for each timeline that has WAL of the
 * window, the newest backup that stopped before it and leads there. With backups of one timeline alone, that is the
 * newest of all; after a restore to an earlier moment, an older one may be the only way to the new timeline.
 */
export function windowAnchors<B extends Manifest>(
  backups: readonly B[],
  { inventory }: Pick<StoredWal, "inventory">,
  begin: Date,
): B[] {
  const { instance, systemId } = inventory.lineage;
  const before = withWholeChain(backups)
    .filter((backup) => backup.instance === instance && backup.server.systemId === systemId)
    .filter(({ base }) => Date.parse(base.stoppedAt) < begin.getTime())
    .toSorted((a, b) => Date.parse(b.base.stoppedAt) - Date.parse(a.base.stoppedAt));
  const alive = inventory.timelines.filter(({ runs, partial }) =>
    [...runs.map(({ lastStoredAt }) => lastStoredAt), partial?.storedAt].some((at) => at !== undefined && at >= begin),
  );
  const anchors = alive.flatMap(({ timeline }) => {
    const anchor = before.find(({ base }) =>
      leadsTo(inventory, { timeline: base.timeline, stopLsn: parseLsn(base.stopLsn) }, timeline),
    );
    return anchor === undefined ? [] : [anchor.id];
  });
  return backups.filter(({ id, instance: of }) => of === instance && anchors.includes(id));
}
