import type { Lsn } from "../lib/lsn.ts";

/** A WAL record; `bytes` are all of it, without the page headers in between. */
export interface WalRecord {
  lsn: Lsn;
  /** Where the next one may begin at the earliest. */
  endLsn: Lsn;
  xid: number;
  info: number;
  resourceManager: number;
  bytes: Buffer;
}

export interface Page {
  magic: number;
  flags: number;
  timeline: number;
  lsn: Lsn;
  /** How much of the record that began on an earlier page is still to come. */
  remaining: number;
  /** Where its data begin. */
  headerBytes: number;
}

/** The flags of a page and the sizes of its headers, as xlog_internal.h has them. */
export const continuesRecord = 0x0001;
export const hasLongHeader = 0x0002;
const shortHeaderBytes = 24;
export const longHeaderBytes = 40;
const recordHeaderBytes = 24;

/** What PostgreSQL numbers the resource manager of its own WAL records, and the record that ends a segment early. */
const xlogManager = 0;
const xlogSwitch = 0x40;

/** The page header at `offset`, `undefined` where the bytes end before its end. All numbers are little-endian: see `readSegmentHeader`. */
export function readPage(bytes: Buffer, offset: number): Page | undefined {
  if (bytes.length < offset + shortHeaderBytes) return undefined;
  const flags = bytes.readUInt16LE(offset + 2);
  return {
    magic: bytes.readUInt16LE(offset),
    flags,
    timeline: bytes.readUInt32LE(offset + 4),
    lsn: bytes.readBigUInt64LE(offset + 8),
    remaining: bytes.readUInt32LE(offset + 16),
    headerBytes: (flags & hasLongHeader) === 0 ? shortHeaderBytes : longHeaderBytes,
  };
}

/** How the pages of the WAL in `bytes` are laid out; the first begins a segment. */
export interface PageLayout {
  bytes: Buffer;
  magic: number;
  startLsn: Lsn;
  blockBytes: number;
  segmentBytes: number;
}

/**
 * The records that begin in a segment, or in several one after the other, and are whole in it, in order. Ends where the
 * WAL does: at zeros, at what an earlier use of the file left behind, or with the bytes.
 */
export function* walkRecords(layout: PageLayout): Generator<WalRecord> {
  let previous: Lsn | undefined;
  let at: number | undefined = firstRecord(layout, 0);
  while (at !== undefined) {
    const length = layout.bytes.length < at + 4 ? 0 : layout.bytes.readUInt32LE(at);
    if (length < recordHeaderBytes) return;
    const taken = take(layout, at, length);
    if ("resumeAt" in taken) {
      at = taken.resumeAt;
      continue;
    }
    const record = recordOf(layout, at, taken);
    const follows = taken.bytes.readBigUInt64LE(8);
    // As recovery does: a record that does not name the one before it is what an earlier use of the file left behind.
    if (previous === undefined ? follows >= record.lsn : follows !== previous) return;
    previous = record.lsn;
    yield record;
    at = nextRecord(layout, endsSegment(record) ? roundUp(taken.end, layout.segmentBytes) : roundUp(taken.end, 8));
  }
}

/** True for the record after which a segment is left, whatever room there was. */
export function endsSegment({ resourceManager, info }: Pick<WalRecord, "resourceManager" | "info">): boolean {
  return resourceManager === xlogManager && (info & 0xf0) === xlogSwitch;
}

function recordOf({ startLsn }: PageLayout, at: number, { bytes, end }: { bytes: Buffer; end: number }): WalRecord {
  return {
    lsn: startLsn + BigInt(at),
    endLsn: startLsn + BigInt(roundUp(end, 8)),
    xid: bytes.readUInt32LE(4),
    info: bytes.readUInt8(16),
    resourceManager: bytes.readUInt8(17),
    bytes,
  };
}

function nextRecord(layout: PageLayout, at: number): number | undefined {
  return at % layout.blockBytes === 0 ? firstRecord(layout, at) : at;
}

/** Where the first record begins that begins on the page at `offset` or after; `undefined` where the WAL ends before. */
function firstRecord(layout: PageLayout, offset: number): number | undefined {
  const page = validPage(layout, offset);
  if (page === undefined) return undefined;
  const data = offset + page.headerBytes;
  if ((page.flags & continuesRecord) === 0) return data;
  const skipped = take(layout, data, page.remaining);
  return "resumeAt" in skipped ? skipped.resumeAt : nextRecord(layout, roundUp(skipped.end, 8));
}

/**
 * `length` bytes of one record from `at` on, over the headers of the pages in between, and where they end. Where the next
 * page does not go on with it, the server was stopped before it wrote the rest: reading resumes there, if it is a page.
 */
function take(
  layout: PageLayout,
  at: number,
  length: number,
): { bytes: Buffer; end: number } | { resumeAt: number | undefined } {
  const parts: Buffer[] = [];
  let offset = at;
  for (let missing = length; ; ) {
    const pageEnd = roundUp(offset + 1, layout.blockBytes);
    const part = layout.bytes.subarray(offset, Math.min(pageEnd, offset + missing));
    parts.push(part);
    missing -= part.length;
    if (missing === 0) return { bytes: parts.length === 1 ? part : Buffer.concat(parts), end: offset + part.length };
    const page = validPage(layout, pageEnd);
    if (page === undefined) return { resumeAt: undefined };
    if ((page.flags & continuesRecord) === 0 || page.remaining !== missing) {
      return { resumeAt: firstRecord(layout, pageEnd) };
    }
    offset = pageEnd + page.headerBytes;
  }
}

function validPage({ bytes, magic, startLsn }: PageLayout, offset: number): Page | undefined {
  const page = readPage(bytes, offset);
  return page !== undefined && page.magic === magic && page.lsn === startLsn + BigInt(offset) ? page : undefined;
}

function roundUp(offset: number, unit: number): number {
  return Math.ceil(offset / unit) * unit;
}
