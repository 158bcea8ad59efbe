import { formatLsn, segmentName, timelineName, walFileKind } from "../../src/lib/lsn.ts";
import type { BaseFacts, Manifest } from "../../src/repo/manifest.ts";
import type { GapRecord, WalFile } from "../../src/repo/wal.ts";
import { parseHistory, type StoredWal, timelinesOf } from "../../src/repo/wal-inventory.ts";
import { manifestOf } from "./support.ts";

/** Segments are counted here, from 0; a position is `at(segment)` or, inside of it, `at(segment, byte)`. */
export const segmentBytes = 16 * 1024 * 1024;

export function at(segment: number, byte = 0): bigint {
  return BigInt(segment) * BigInt(segmentBytes) + BigInt(byte);
}

export function nameAt(timeline: number, segment: number): string {
  return segmentName({ timeline, startLsn: at(segment) }, segmentBytes);
}

/** A moment an hour later for each segment. */
export function timeAt(segment: number): Date {
  return new Date(Date.parse("2026-11-01T00:00:00Z") + segment * 3_600_000);
}

export interface WalSketch {
  instance?: string;
  systemId?: string;
  /** Which segments are stored, by timeline; `.partial` ones apart. */
  segments: Record<number, readonly number[]>;
  partials?: Record<number, number>;
  /** Where each timeline left its ancestors. */
  histories?: Record<number, readonly { timeline: number; endLsn: bigint }[]>;
  gaps?: readonly { timeline: number; from: number; to: number; reason: string }[];
}

export function walOf({ instance = "shared", systemId = "7000000000000000001", ...sketch }: WalSketch): StoredWal {
  const file = (name: string, storedAt: Date): WalFile => {
    const kind = walFileKind(name);
    if (kind === undefined) throw new Error(name);
    const key = `wal/${instance}/${systemId}/${name.slice(0, 8)}/${name}.zst`;
    return { name, kind, key, encoding: ["zstd"], storedBytes: 10, storedAt };
  };
  const histories = Object.entries(sketch.histories ?? {}).map(([timeline, ancestors]) => {
    const text = ancestors.map((one) => `${one.timeline}\t${formatLsn(one.endLsn)}\tno recovery target`).join("\n");
    return { name: `${timelineName(Number(timeline))}.history`, text };
  });
  const files = [
    ...histories.map(({ name }) => file(name, timeAt(0))),
    ...Object.entries(sketch.segments).flatMap(([timeline, numbers]) =>
      numbers.map((number) => file(nameAt(Number(timeline), number), timeAt(number + 1))),
    ),
    ...Object.entries(sketch.partials ?? {}).map(([timeline, number]) =>
      file(`${nameAt(Number(timeline), number)}.partial`, timeAt(number + 1)),
    ),
  ];
  const gaps = (sketch.gaps ?? []).map(({ timeline, from, to, reason }, nth): GapRecord => {
    const key = `wal/${instance}/${systemId}/gaps/${nth}.json`;
    return { timeline, fromLsn: at(from), toLsn: at(to), reason, recordedAt: "2026-11-01T00:00:00Z", key };
  });
  const lineage = { instance, systemId, segmentBytes, serverVersion: "17.2", createdAt: "2026-11-01T00:00:00Z" };
  const inventory = {
    lineage,
    timelines: timelinesOf(files, segmentBytes),
    histories: histories.map(({ name, text }) => parseHistory(name, text)),
    gaps,
  };
  return { inventory, files: files.toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
}

export interface BaseSketch {
  id: string;
  instance?: string;
  systemId?: string;
  timeline?: number;
  /** It starts and stops in the middle of these segments. */
  start: number;
  stop?: number;
  parent?: string | undefined;
  walIncluded?: boolean;
}

export function baseOf({
  id,
  instance,
  systemId,
  timeline = 1,
  start,
  stop = start,
  parent,
  walIncluded = false,
}: BaseSketch): Manifest & {
  base: BaseFacts;
} {
  const startedAt = new Date(timeAt(start).getTime() + 60_000).toISOString();
  const stoppedAt = new Date(timeAt(stop).getTime() + 120_000).toISOString();
  const of = { ...(instance === undefined ? {} : { instance }), ...(systemId === undefined ? {} : { systemId }) };
  return {
    ...manifestOf({ id, kind: "base", startedAt, ...of }),
    finishedAt: stoppedAt,
    ...(parent === undefined ? {} : { parent }),
    base: {
      ...{ timeline, startLsn: formatLsn(at(start, 40)), stopLsn: formatLsn(at(stop, 5000)), stoppedAt },
      ...{ segmentBytes, walIncluded, engine: "protocol", fromStandby: false, label: "pgkit", checkpoint: "fast" },
      ...{ dataChecksums: true, sizeBytes: 1, tablespaces: [], databases: [{ name: "litellm", oid: 5, sizeBytes: 1 }] },
    },
  };
}

/** From `first` to `last`, both there. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
