import { PgkitError } from "./errors.ts";

/** A position in the WAL, in bytes from its beginning; PostgreSQL prints it as `X/Y`, both hexadecimal. */
export type Lsn = bigint;

/** Fails with `usage` for anything but `X/Y`. */
export function parseLsn(text: string): Lsn {
  const [, high, low] = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text) ?? [];
  if (high === undefined || low === undefined) {
    throw new PgkitError("usage", `"${text}" is not a WAL position`, { hint: "it looks like 0/3000148" });
  }
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;
}

/** A WAL segment by its place: `startLsn` is a multiple of the cluster's segment size. */
export interface Segment {
  timeline: number;
  startLsn: Lsn;
}

/** The segment that holds the byte at `lsn`. */
export function segmentAt(timeline: number, lsn: Lsn, segmentBytes: number): Segment {
  return { timeline, startLsn: lsn - (lsn % BigInt(segmentBytes)) };
}

/** `000000010000000000000003`: timeline, and the segment's number in two halves, as xlog_internal.h spells it. */
export function segmentName({ timeline, startLsn }: Segment, segmentBytes: number): string {
  const perId = 0x1_0000_0000n / BigInt(segmentBytes);
  const number = startLsn / BigInt(segmentBytes);
  return [BigInt(timeline), number / perId, number % perId].map(eightDigits).join("");
}

/** The place of a segment by its name, `undefined` for a name that is no segment's. */
export function parseSegmentName(name: string, segmentBytes: number): Segment | undefined {
  const [, timeline, high, low] = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name) ?? [];
  if (timeline === undefined || high === undefined || low === undefined) return undefined;
  const perId = 0x1_0000_0000n / BigInt(segmentBytes);
  const number = BigInt(`0x${high}`) * perId + BigInt(`0x${low}`);
  return { timeline: Number.parseInt(timeline, 16), startLsn: number * BigInt(segmentBytes) };
}

export type WalFileKind = "segment" | "partial" | "history" | "backup-history";

/** What PostgreSQL calls this file of pg_wal or of an archive, `undefined` for any other name. */
export function walFileKind(name: string): WalFileKind | undefined {
  if (/^[0-9A-F]{24}$/.test(name)) return "segment";
  if (/^[0-9A-F]{24}\.partial$/.test(name)) return "partial";
  if (/^[0-9A-F]{8}\.history$/.test(name)) return "history";
  return /^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name) ? "backup-history" : undefined;
}

/** The timeline of any file of `walFileKind`: the first eight digits of its name. */
export function timelineOf(name: string): number {
  return Number.parseInt(name.slice(0, 8), 16);
}

export function timelineName(timeline: number): string {
  return eightDigits(BigInt(timeline));
}

function eightDigits(number: bigint): string {
  return number.toString(16).toUpperCase().padStart(8, "0");
}
