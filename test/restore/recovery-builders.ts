import { parseLsn } from "../../src/lib/lsn.ts";
import type { WalInventory } from "../../src/repo/wal-inventory.ts";
import type { BaseManifest, RecoveryRequest, StoredEnd } from "../../src/restore/recovery-plan.ts";
import { microseconds, momentText, type RecoveryTarget } from "../../src/restore/recovery-target.ts";

export const segmentBytes = 0x100_0000;
export const systemId = "7390000000000000001";

/** The position at the beginning of segment `number`, or a part of it further. */
export function at(number: number): bigint {
  return BigInt(Math.round(number * 256)) * (BigInt(segmentBytes) / 256n);
}

/** 12:00 on a certain day, and so many seconds. */
export function moment(seconds: number): string {
  return momentText(microseconds("2026-11-21T12:00:00Z") + BigInt(Math.round(seconds * 1_000_000)));
}

export function base(
  id: string,
  facts: { timeline?: number; start: number; stop: number; stoppedAt: number } & Partial<
    Omit<BaseManifest["base"], "stoppedAt">
  >,
  rest: Partial<BaseManifest> = {},
): BaseManifest {
  const { timeline = 1, start, stop, stoppedAt, ...more } = facts;
  const lsn = (number: number) => `${at(number) >> 32n}/${(at(number) & 0xffff_ffffn).toString(16).toUpperCase()}`;
  return {
    format: 1,
    id,
    kind: "base",
    repository: "r",
    instance: "shared",
    startedAt: moment(stoppedAt - 60),
    finishedAt: moment(stoppedAt),
    server: { version: "15.4", systemId },
    tools: { pgkit: "0" },
    plainBytes: 1000,
    storedBytes: 100,
    proof: "read-back",
    files: [
      {
        ...{ name: "base.tar.zst", role: "base", encoding: [], plainBytes: 1000, plainSha256: "0".repeat(64) },
        volumes: [{ key: `files/shared/${id}/base.tar.zst`, storedBytes: 100, sha256: "0".repeat(64) }],
      },
    ],
    base: {
      timeline,
      startLsn: lsn(start),
      stopLsn: lsn(stop),
      stoppedAt: moment(stoppedAt).replace("Z", stoppedAt % 1 === 0 ? ".000000Z" : "Z"),
      segmentBytes,
      walIncluded: false,
      engine: "protocol",
      fromStandby: false,
      label: "pgkit",
      checkpoint: "fast",
      dataChecksums: true,
      sizeBytes: 5000,
      tablespaces: [],
      databases: [],
      ...more,
    },
    ...rest,
  };
}

/** Timelines as lists of segment numbers [from, to), and histories as the switches [timeline, position]. */
export function wal(
  timelines: Record<number, [number, number][]>,
  histories: Record<number, [number, number][]> = {},
  more: { systemId?: string; partial?: { timeline: number; segment: number } } = {},
): WalInventory {
  const storedAt = new Date(moment(0));
  return {
    lineage: {
      ...{ instance: "shared", systemId: more.systemId ?? systemId, segmentBytes },
      ...{ serverVersion: "15.4", createdAt: moment(0) },
    },
    timelines: Object.entries(timelines).map(([timeline, runs]) => ({
      timeline: Number(timeline),
      runs: runs.map(([from, to]) => ({
        ...{ startLsn: at(from), endLsn: at(to), segments: to - from, storedBytes: (to - from) * 50 },
        ...{ firstStoredAt: storedAt, lastStoredAt: storedAt },
      })),
      ...(more.partial?.timeline === Number(timeline)
        ? { partial: { name: "x", startLsn: at(more.partial.segment), storedAt, storedBytes: 10 } }
        : {}),
    })),
    histories: Object.entries(histories).map(([timeline, switches]) => ({
      timeline: Number(timeline),
      ancestors: switches.map(([ancestor, position]) => ({ timeline: ancestor, endLsn: at(position), reason: "test" })),
    })),
    gaps: [],
  };
}

/** The last transaction before `end`, at a position and a moment; the last record begins a little before `end`. */
export function last(timeline: number, end: number, position?: number, seconds?: number, system = systemId): StoredEnd {
  const known = position === undefined || seconds === undefined ? undefined : { position, seconds };
  return {
    ...{ systemId: system, timeline, endLsn: at(end) },
    last: known && { lsn: at(known.position), timeUs: microseconds(moment(known.seconds)) },
    lastRecordLsn: at(end) - 0x20n,
  };
}

export function to(target: RecoveryTarget, more: Partial<RecoveryRequest> = {}): RecoveryRequest {
  return { target, timeline: "latest", action: "promote", ...more };
}

export function toTime(seconds: number, inclusive = true): RecoveryTarget {
  const text = moment(seconds);
  return { type: "time", time: new Date(text), text, inclusive };
}

export function toLsn(position: number | string): RecoveryTarget {
  return { type: "lsn", lsn: typeof position === "string" ? parseLsn(position) : at(position), inclusive: true };
}
