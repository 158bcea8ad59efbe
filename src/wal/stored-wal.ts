import { formatLsn, type Lsn, segmentName } from "../lib/lsn.ts";
import { listBackups } from "../repo/backups.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type GapRecord, type LineageFacts, listLineages, listWal, readGaps, type WalFile } from "../repo/wal.ts";
import { type TimelineWal, timelinesOf } from "../repo/wal-inventory.ts";
import type { SignalOption } from "../store/store.ts";

/** What a repository has of an instance's WAL and base backups. LSNs as `X/Y`. */
export interface StoredWal {
  repository: string;
  /** Oldest first. */
  lineages: StoredLineage[];
}

export interface StoredLineage {
  systemId: string;
  createdAt: string;
  serverVersion: string;
  timelines: StoredTimeline[];
  /** WAL that was given up. */
  recordedGaps: { timeline: number; fromLsn: string; toLsn: string; reason: string; recordedAt: string }[];
  baseBackups: StoredBase[];
}

export interface StoredTimeline {
  timeline: number;
  fromLsn: string;
  /** What is stored ends here; a part of a segment that is stored besides does not count. */
  toLsn: string;
  /** PostgreSQL's name of the last file. */
  lastFile: string;
  /** By the store's clock. */
  lastStoredAt: Date;
  segments: number;
  storedBytes: number;
  /** Between the first and the last; of before the oldest base backup they mean nothing. */
  missing: { fromLsn: string; toLsn: string }[];
}

export interface StoredBase {
  id: string;
  timeline: number;
  startLsn: string;
  stoppedAt: string;
  startedAt: string;
}

/**
 * Reads the list of WAL files, the records of gaps and, unless they are given, the manifests (oldest first); nothing that
 * an age identity is needed for.
 */
export async function readStoredWal(
  repository: RepositoryReader,
  instance: string,
  { backups: known, signal }: SignalOption & { backups?: readonly Manifest[] } = {},
): Promise<StoredWal> {
  const lineages = await listLineages(repository, instance, { signal });
  const backups = known ?? (await listBackups(repository, { instance, signal })).backups;
  const stored: StoredLineage[] = [];
  for (const lineage of lineages) {
    const files: WalFile[] = [];
    for await (const file of listWal(repository, lineage, { signal })) files.push(file);
    const gaps = await readGaps(repository, lineage, { signal });
    const baseBackups = backups.flatMap(({ id, instance: of, server, base, startedAt }): StoredBase[] => {
      if (base === undefined || of !== instance || server.systemId !== lineage.systemId) return [];
      const { timeline, startLsn, stoppedAt } = base;
      return [{ id, timeline, startLsn, stoppedAt, startedAt }];
    });
    stored.push({ ...lineageOf(lineage, files, gaps), baseBackups });
  }
  return { repository: repository.where, lineages: stored };
}

function lineageOf(
  lineage: LineageFacts,
  files: readonly WalFile[],
  gaps: readonly GapRecord[],
): Omit<StoredLineage, "baseBackups"> {
  const { systemId, createdAt, serverVersion, segmentBytes } = lineage;
  return {
    ...{ systemId, createdAt, serverVersion },
    timelines: timelinesOf(files, segmentBytes).flatMap((each) => timelineOf(each, segmentBytes)),
    recordedGaps: gaps.map(({ timeline, fromLsn, toLsn, reason, recordedAt }) => ({
      ...{ timeline, fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn), reason, recordedAt },
    })),
  };
}

function timelineOf({ timeline, runs, partial }: TimelineWal, segmentBytes: number): StoredTimeline[] {
  const [first, last] = [runs[0], runs.at(-1)];
  const fromLsn = first?.startLsn ?? partial?.startLsn;
  const toLsn = last?.endLsn ?? partial?.startLsn;
  if (fromLsn === undefined || toLsn === undefined) return [];
  const times = [last?.lastStoredAt, partial?.storedAt].filter((time) => time !== undefined);
  const lastStoredAt = new Date(Math.max(...times.map((time) => time.getTime())));
  const whole = (end: Lsn) => segmentName({ timeline, startLsn: end - BigInt(segmentBytes) }, segmentBytes);
  return [
    {
      ...{ timeline, fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn), lastStoredAt },
      lastFile: partial !== undefined && partial.startLsn >= toLsn ? partial.name : whole(toLsn),
      segments: runs.reduce((sum, { segments }) => sum + segments, 0),
      storedBytes: runs.reduce((sum, { storedBytes }) => sum + storedBytes, partial?.storedBytes ?? 0),
      missing: missingIn(runs),
    },
  ];
}

function missingIn(runs: TimelineWal["runs"]): { fromLsn: string; toLsn: string }[] {
  return runs.flatMap(({ endLsn }, index) => {
    const next = runs[index + 1];
    return next === undefined ? [] : [{ fromLsn: formatLsn(endLsn), toLsn: formatLsn(next.startLsn) }];
  });
}
