import pLimit from "p-limit";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn, parseSegmentName, timelineOf } from "../lib/lsn.ts";
import type { SignalOption } from "../store/store.ts";
import type { RepositoryReader } from "./repository.ts";
import { type GapRecord, type LineageFacts, listLineages, listWal, readGaps, readWal, type WalFile } from "./wal.ts";

/** All WAL that is stored of one lineage. */
export interface WalInventory {
  lineage: LineageFacts;
  /** By number. */
  timelines: TimelineWal[];
  /** By timeline; a timeline whose history file is not stored has none. */
  histories: TimelineHistory[];
  gaps: GapRecord[];
}

export interface TimelineWal {
  timeline: number;
  /** By position; between two of them WAL is missing. */
  runs: SegmentRun[];
  /** The last partial segment that is not stored whole; it counts only where it goes on where the last run ends. */
  partial?: { name: string; startLsn: Lsn; storedAt: Date; storedBytes: number };
}

/** Whole segments one after the other, with none missing in between. */
export interface SegmentRun {
  startLsn: Lsn;
  /** Exclusive. */
  endLsn: Lsn;
  segments: number;
  storedBytes: number;
  firstStoredAt: Date;
  lastStoredAt: Date;
}

/** The timelines that this one comes from, oldest first, and where each was left. */
export interface TimelineHistory {
  timeline: number;
  ancestors: { timeline: number; endLsn: Lsn; reason: string }[];
}

const parallelReads = 8;

/** A lineage with the files that its inventory was made of. */
export interface StoredWal {
  inventory: WalInventory;
  /** By name. */
  files: readonly WalFile[];
}

export interface WalInventoryOptions extends SignalOption {
  /**
   * Given what cannot be read, which is then left out: a history file, for one, that is encrypted where no identity is at
   * hand. Left out itself, reading fails.
   */
  unreadable?: ((error: PgkitError) => void) | undefined;
}

/** One listing of the lineage, and a request for each of its history files and gaps. */
export async function readWalInventory(
  repository: RepositoryReader,
  lineage: LineageFacts,
  options: WalInventoryOptions = {},
): Promise<WalInventory> {
  return (await readStored(repository, lineage, options)).inventory;
}

/** The inventories of all lineages of these instances. */
export async function readWalInventories(
  repository: RepositoryReader,
  instances: Iterable<string>,
  options: WalInventoryOptions = {},
): Promise<WalInventory[]> {
  const inventories: WalInventory[] = [];
  for (const instance of new Set(instances)) {
    for (const lineage of await listLineages(repository, instance, options)) {
      inventories.push(await readWalInventory(repository, lineage, options));
    }
  }
  return inventories;
}

/** All WAL of the repository, with its files. */
export async function readAllWal(
  repository: RepositoryReader,
  options: WalInventoryOptions = {},
): Promise<StoredWal[]> {
  const wal: StoredWal[] = [];
  for (const lineage of await listLineages(repository, undefined, options)) {
    wal.push(await readStored(repository, lineage, options));
  }
  return wal;
}

async function readStored(
  repository: RepositoryReader,
  lineage: LineageFacts,
  { signal, unreadable }: WalInventoryOptions,
): Promise<StoredWal> {
  const files: WalFile[] = [];
  for await (const file of listWal(repository, lineage, { signal })) files.push(file);
  const limit = pLimit(parallelReads);
  const read = async (file: WalFile) => {
    try {
      return [parseHistory(file.name, (await readWal(repository, file, { signal })).toString("utf8"))];
    } catch (error) {
      if (unreadable === undefined || !isPgkitError(error, ...unreadableCodes)) throw error;
      unreadable(error);
      return [];
    }
  };
  const histories = files.filter(({ kind }) => kind === "history").map((file) => limit(read, file));
  const inventory = {
    lineage,
    timelines: timelinesOf(files, lineage.segmentBytes),
    histories: (await Promise.all(histories)).flat(),
    gaps: await readGaps(repository, lineage, { signal, unreadable }),
  };
  return { inventory, files };
}

const unreadableCodes = ["identity-required", "identity-wrong", "object-corrupt", "wal-invalid"] as const;

/** Pure: the runs and the partial segment of each timeline, from files in any order. */
export function timelinesOf(
  files: readonly Pick<WalFile, "name" | "kind" | "storedAt" | "storedBytes">[],
  segmentBytes: number,
): TimelineWal[] {
  const byTimeline = Map.groupBy(
    files.filter(({ kind }) => kind === "segment" || kind === "partial"),
    ({ name }) => timelineOf(name),
  );
  return [...byTimeline]
    .toSorted(([a], [b]) => a - b)
    .map(([timeline, own]) => {
      const sorted = own.toSorted((a, b) => (a.name < b.name ? -1 : 1));
      const whole = sorted.filter(({ kind }) => kind === "segment");
      const names = new Set(whole.map(({ name }) => name));
      const partial = sorted.findLast(({ kind, name }) => kind === "partial" && !names.has(name.slice(0, 24)));
      const runs = runsOf(whole, segmentBytes);
      if (partial === undefined) return { timeline, runs };
      const { name, storedAt, storedBytes } = partial;
      return { timeline, runs, partial: { name, startLsn: startOf(name, segmentBytes), storedAt, storedBytes } };
    });
}

/**
 * `TLI.history` as timeline.c reads it: a line an ancestor with its number, where it was left, and why. Fails with
 * `wal-invalid`.
 */
export function parseHistory(name: string, text: string): TimelineHistory {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.trimStart().startsWith("#"));
  const ancestors = lines.map((line) => {
    const [, timeline, lsn, reason = ""] = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)\s*(.*)$/.exec(line) ?? [];
    if (timeline === undefined || lsn === undefined) {
      throw new PgkitError("wal-invalid", `${name} has a line that is no ancestor: ${JSON.stringify(line)}`, {
        hint: "it was cut or changed; is the file still in pg_wal of the server, or in another archive?",
      });
    }
    return { timeline: Number(timeline), endLsn: parseLsn(lsn), reason: reason.trim() };
  });
  return { timeline: timelineOf(name), ancestors };
}

function runsOf(
  segments: readonly Pick<WalFile, "name" | "storedAt" | "storedBytes">[],
  segmentBytes: number,
): SegmentRun[] {
  const runs: SegmentRun[] = [];
  for (const { name, storedAt, storedBytes } of segments) {
    const startLsn = startOf(name, segmentBytes);
    const endLsn = startLsn + BigInt(segmentBytes);
    const last = runs.at(-1);
    if (last?.endLsn !== startLsn) {
      runs.push({ startLsn, endLsn, segments: 1, storedBytes, firstStoredAt: storedAt, lastStoredAt: storedAt });
      continue;
    }
    last.endLsn = endLsn;
    last.segments++;
    last.storedBytes += storedBytes;
    if (storedAt < last.firstStoredAt) last.firstStoredAt = storedAt;
    if (storedAt > last.lastStoredAt) last.lastStoredAt = storedAt;
  }
  return runs;
}

function startOf(name: string, segmentBytes: number): Lsn {
  const place = parseSegmentName(name.slice(0, 24), segmentBytes);
  if (place === undefined) throw new PgkitError("bug", `${name} is not the name of a segment`);
  return place.startLsn;
}
