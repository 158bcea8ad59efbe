import { formatLsn, type Lsn, parseLsn } from "../lib/lsn.ts";
import type { BaseFacts, Manifest } from "./manifest.ts";
import type { GapRecord } from "./wal.ts";
import type { WalInventory } from "./wal-inventory.ts";
import { leadsTo, ownWal, type Stretch, stretchesTo } from "./wal-path.ts";

/** A span of time of which every moment can be restored, along one timeline of one server. */
export interface RecoveryWindow {
  instance: string;
  systemId: string;
  timeline: number;
  /** When the first of its backups stopped. */
  from: Date;
  /** The last transaction that is stored with nothing missing before it. */
  to: Date;
  /** True where nobody could read the WAL: `to` is then when the last of it was stored. */
  toIsEstimate: boolean;
  toLsn: string;
  /** What is missing right after it, where WAL behind it is stored or known to have been given up. */
  gaps: WindowGap[];
  /** The base backups in it, oldest first. */
  backups: string[];
}

export interface WindowGap {
  timeline: number;
  /** The first byte that is missing, and the first that is there again. */
  fromLsn: string;
  toLsn: string;
  /** The last transaction before it, and the first one after it; absent where that is not known. */
  from?: Date | undefined;
  to?: Date | undefined;
  /** Where it was recorded. */
  reason?: string | undefined;
}

/** The first and the last transaction of a stretch of WAL; absent where there is none. */
export interface StretchTimes {
  first?: Date | undefined;
  last?: { time: Date; endLsn: Lsn } | undefined;
  /** True where the WAL could not be read, as no identity is at hand. */
  unread?: boolean | undefined;
}

/** A stretch of WAL along the path to a timeline, and the base backups whose recovery runs into it. */
export interface WindowStretch {
  /** By which `recoveryWindows` finds its times. */
  key: string;
  inventory: WalInventory;
  timeline: number;
  stretch: Stretch | undefined;
  backups: BaseBackup[];
  /** Missing WAL, and what is stored behind it. */
  gap: { toLsn: Lsn; record: GapRecord | undefined; next: string | undefined } | undefined;
}

export type BaseBackup = Manifest & { base: BaseFacts };

/** Pure: the windows of all lineages, by instance, age of the server and timeline; `times` by `WindowStretch.key`. */
export function recoveryWindows(
  backups: readonly Manifest[],
  inventories: readonly WalInventory[],
  times: ReadonlyMap<string, StretchTimes>,
): RecoveryWindow[] {
  return windowStretches(backups, inventories).flatMap((found) => {
    const [first] = found.backups;
    return first === undefined ? [] : [windowOf(found, first, times)];
  });
}

/** Pure: where the times of transactions are to be read, in order. Those without backups only follow a gap. */
export function windowStretches(backups: readonly Manifest[], inventories: readonly WalInventory[]): WindowStretch[] {
  const usable = withWholeChain(backups);
  return inventories.flatMap((inventory) => {
    const { instance, systemId } = inventory.lineage;
    const own = usable.filter((backup) => backup.instance === instance && backup.server.systemId === systemId);
    const numbers = [...inventory.timelines.map(({ timeline }) => timeline), ...own.map(({ base }) => base.timeline)];
    return [...new Set(numbers)].toSorted((a, b) => a - b).flatMap((timeline) => alongPath(inventory, timeline, own));
  });
}

/** Every base backup whose parents, to the full one, are there. */
export function withWholeChain(backups: readonly Manifest[]): BaseBackup[] {
  const byId = new Map(backups.map((backup) => [`${backup.instance}/${backup.id}`, backup]));
  const isWhole = ({ instance, parent }: Manifest): boolean => {
    const seen = new Set<string>();
    for (let id = parent; id !== undefined; ) {
      const found: Manifest | undefined = byId.get(`${instance}/${id}`);
      if (found === undefined || seen.has(id)) return false;
      seen.add(id);
      id = found.parent;
    }
    return true;
  };
  return backups.filter(isBase).filter(isWhole);
}

function isBase(backup: Manifest): backup is BaseBackup {
  return backup.kind === "base" && backup.base !== undefined;
}

function alongPath(inventory: WalInventory, timeline: number, backups: readonly BaseBackup[]): WindowStretch[] {
  const there = backups
    .filter(({ base }) => leadsTo(inventory, { timeline: base.timeline, stopLsn: parseLsn(base.stopLsn) }, timeline))
    .toSorted((a, b) => stoppedAt(a) - stoppedAt(b));
  const stretches = stretchesTo(inventory, timeline);
  const keyOf = (lsn: Lsn) =>
    `${inventory.lineage.instance}/${inventory.lineage.systemId}/${timeline}/${formatLsn(lsn)}`;
  const found = stretches.map((stretch, index): WindowStretch => {
    const next = stretches[index + 1];
    return {
      ...{ key: keyOf(stretch.endLsn), inventory, timeline, stretch },
      backups: there.filter(({ base }) => isIn(stretch, base)),
      gap: gapAfter(inventory, stretch, next, next && keyOf(next.endLsn)),
    };
  });
  const inNone = there.filter(
    ({ base }) => base.walIncluded && base.timeline === timeline && !stretches.some((stretch) => isIn(stretch, base)),
  );
  const alone = inNone.map(
    (backup): WindowStretch => ({
      ...{ key: "", inventory, timeline, stretch: undefined, backups: [backup], gap: undefined },
    }),
  );
  return [...found, ...alone];
}

/** True when recovery of the backup reads on in the stretch. What it has with it need not be stored besides. */
function isIn(stretch: Stretch, base: BaseFacts): boolean {
  const [startLsn, stopLsn] = [parseLsn(base.startLsn), parseLsn(base.stopLsn)];
  const own = ownWal({ startLsn, stopLsn, segmentBytes: base.segmentBytes });
  const from = base.walIncluded ? own.endLsn - BigInt(base.segmentBytes) : own.startLsn;
  return stretch.startLsn <= from && own.endLsn <= stretch.endLsn;
}

function gapAfter(
  { gaps }: WalInventory,
  stretch: Stretch,
  next: Stretch | undefined,
  key: string | undefined,
): WindowStretch["gap"] {
  const timelines = new Set([...stretch.parts, ...(next?.parts ?? [])].map(({ timeline }) => timeline));
  const end = next?.startLsn;
  const record = gaps.find(
    ({ timeline, fromLsn, toLsn }) =>
      timelines.has(timeline) && toLsn > stretch.endLsn && (end === undefined || fromLsn < end),
  );
  const toLsn = end ?? record?.toLsn;
  return toLsn === undefined ? undefined : { toLsn, record, next: key };
}

function windowOf(
  { key, inventory, timeline, stretch, backups, gap }: WindowStretch,
  first: BaseBackup,
  times: ReadonlyMap<string, StretchTimes>,
): RecoveryWindow {
  const { last, unread = false } = times.get(key) ?? {};
  const newest = new Date(Math.max(...backups.map(stoppedAt)));
  const known = unread ? stretch?.storedAt : last?.time;
  const { instance, systemId } = inventory.lineage;
  const reachedLsn = last?.endLsn ?? stretch?.endLsn ?? parseLsn(first.base.stopLsn);
  return {
    ...{ instance, systemId, timeline, from: new Date(stoppedAt(first)) },
    to: known !== undefined && known > newest ? known : newest,
    toIsEstimate: unread,
    toLsn: formatLsn(reachedLsn),
    gaps: gap === undefined || stretch === undefined ? [] : [gapOf(stretch, gap, last?.time, times)],
    backups: backups.map(({ id }) => id),
  };
}

function gapOf(
  stretch: Stretch,
  { toLsn, record, next }: NonNullable<WindowStretch["gap"]>,
  from: Date | undefined,
  times: ReadonlyMap<string, StretchTimes>,
): WindowGap {
  const to = next === undefined ? undefined : times.get(next)?.first;
  return {
    timeline: record?.timeline ?? stretch.parts.at(-1)?.timeline ?? 0,
    fromLsn: formatLsn(stretch.endLsn),
    toLsn: formatLsn(toLsn),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(record === undefined ? {} : { reason: record.reason }),
  };
}

function stoppedAt({ base }: BaseBackup): number {
  return Date.parse(base.stoppedAt);
}
