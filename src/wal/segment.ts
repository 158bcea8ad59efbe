import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseSegmentName, timelineOf } from "../lib/lsn.ts";
import {
  continuesRecord,
  hasLongHeader,
  longHeaderBytes,
  readPage,
  type WalRecord,
  walkRecords,
} from "./segment-records.ts";
import { isIntact, type Transaction, transactionOf } from "./segment-transaction.ts";

/** What the first page of every segment says of itself. */
export interface SegmentHeader {
  magic: number;
  /** The server's major; `undefined` for a magic number of a major that is newer than this pgkit. */
  major: number | undefined;
  /** Of the first page: in the segment that a timeline began in, it is the one before. */
  timeline: number;
  startLsn: Lsn;
  /** Of pg_control, in decimal digits. */
  systemId: string;
  segmentBytes: number;
  blockBytes: number;
}

/** XLOG_PAGE_MAGIC of each major; it changes whenever the format of WAL records does. */
const majors: ReadonlyMap<number, number> = new Map([
  [0xd10d, 14],
  [0xd110, 15],
  [0xd113, 16],
  [0xd116, 17],
  [0xd118, 18],
]);

/**
 * The header of a segment, of which the first 40 bytes are enough. WAL is in the byte order of the server's machine; it
 * is read as that of x86 and ARM. Fails with `wal-invalid`; `name` is for the message.
 */
export function readSegmentHeader(segment: Uint8Array, name = "it"): SegmentHeader {
  const bytes = bufferOf(segment);
  const page = bytes.length < longHeaderBytes ? undefined : readPage(bytes, 0);
  if (page === undefined) throw invalid(name, `it has ${bytes.length} bytes, fewer than its first header`);
  if (page.magic >> 8 !== 0xd1 || (page.flags & hasLongHeader) === 0) {
    throw invalid(name, `it begins with ${bytes.toString("hex", 0, 4)}, which is no first page of a segment`);
  }
  return {
    magic: page.magic,
    major: majors.get(page.magic),
    timeline: page.timeline,
    startLsn: page.lsn,
    systemId: bytes.readBigUInt64LE(24).toString(),
    segmentBytes: bytes.readUInt32LE(32),
    blockBytes: bytes.readUInt32LE(36),
  };
}

/** Fails with `wal-invalid` unless the segment is whole and is what its name, or that of its `.partial`, and the lineage say. */
export function checkSegment(
  segment: Uint8Array,
  name: string,
  lineage: { systemId: string; segmentBytes: number },
): SegmentHeader {
  const header = readSegmentHeader(segment, name);
  const place = parseSegmentName(name.slice(0, 24), lineage.segmentBytes);
  if (place === undefined) throw invalid(name, "that is not the name of a segment");
  if (header.systemId !== lineage.systemId) {
    throw invalid(name, `it is of system ${header.systemId}, and the archive of ${lineage.systemId}`);
  }
  if (header.segmentBytes !== lineage.segmentBytes) {
    throw invalid(name, `it says segments of ${header.segmentBytes} bytes, and the archive ${lineage.segmentBytes}`);
  }
  if (!name.endsWith(".partial") && segment.length !== lineage.segmentBytes) {
    throw invalid(name, `it has ${segment.length} bytes of ${lineage.segmentBytes}`);
  }
  if (header.startLsn !== place.startLsn) {
    throw invalid(name, `it begins at ${formatLsn(header.startLsn)}, and its name says ${formatLsn(place.startLsn)}`);
  }
  // The segment that a timeline begins in begins with what it has from the one before.
  if (header.timeline > timelineOf(name)) {
    throw invalid(name, `it is of timeline ${header.timeline}, and its name says ${timelineOf(name)}`);
  }
  return header;
}

/**
 * The last transaction whose record is whole in the segment, or in the segments of `bytes` one after the other, and ends
 * at or before `endLsn`. `undefined` where there is none. The zeros at the end of a partial one may be left out.
 */
export function lastTransaction(segment: Uint8Array, endLsn?: Lsn): Transaction | undefined {
  return lastIn(segment, endLsn).transaction;
}

export interface LastInWal {
  transaction: Transaction | undefined;
  /** Where the last record of any kind begins that recovery can read. */
  recordLsn: Lsn | undefined;
}

/** The last transaction, as `lastTransaction` gives it, and the last record. */
export function lastIn(segment: Uint8Array, endLsn?: Lsn): LastInWal {
  const { major, records } = recordsIn(segment);
  let transaction: Transaction | undefined;
  let [last, before]: (WalRecord | undefined)[] = [];
  for (const record of records) {
    if (endLsn !== undefined && record.endLsn > endLsn) break;
    transaction = transactionOf(record, major) ?? transaction;
    [last, before] = [record, last];
  }
  // Of a partial segment the last record's own end may be zeros still.
  const whole = last === undefined || isIntact(last.bytes) ? last : before;
  return { transaction, recordLsn: whole?.lsn };
}

/** The first transaction whose record begins in the segment at or after `fromLsn`, as `lastTransaction` gives the last. */
export function firstTransaction(segment: Uint8Array, fromLsn: Lsn = 0n): Transaction | undefined {
  for (const transaction of transactionsIn(segment)) if (transaction.lsn >= fromLsn) return transaction;
  return undefined;
}

/** True when the segment begins with the rest of a record of the one before. */
export function continuesFromBefore(segment: Uint8Array): boolean {
  return ((readPage(bufferOf(segment), 0)?.flags ?? 0) & continuesRecord) !== 0;
}

function recordsIn(segment: Uint8Array): { major: number | undefined; records: Iterable<WalRecord> } {
  const { major, ...header } = readSegmentHeader(segment);
  return { major, records: walkRecords({ bytes: padded(segment, header.segmentBytes), ...header }) };
}

function* transactionsIn(segment: Uint8Array): Generator<Transaction> {
  const { major, records } = recordsIn(segment);
  for (const record of records) {
    const transaction = transactionOf(record, major);
    if (transaction !== undefined) yield transaction;
  }
}

/** A record at the end of a partial segment may end in zeros that were left out. */
function padded(segment: Uint8Array, segmentBytes: number): Buffer {
  const missing = (segmentBytes - (segment.length % segmentBytes)) % segmentBytes;
  return missing === 0 ? bufferOf(segment) : Buffer.concat([segment, Buffer.alloc(missing)]);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function invalid(name: string, what: string): PgkitError {
  return new PgkitError("wal-invalid", `${name} is not what its name says: ${what}`, {
    hint: "which server wrote it? nothing was stored or restored from it",
  });
}
