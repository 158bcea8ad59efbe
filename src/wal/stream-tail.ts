import { open } from "node:fs/promises";
import { crc32c } from "../lib/crc32c.ts";
import { PgkitError } from "../lib/errors.ts";

/** The segment that pg_receivewal is writing, as far as it is there; the buffer is used again for the next one. */
export interface Tail {
  name: string;
  /** Of the whole segment; only the first `length` bytes are WAL. */
  bytes: Buffer;
  /** Up to the last byte that is not zero, or the end of the last record: what there is to store. */
  length: number;
  /** Where the last whole record ends, from the segment's start, with the zeros up to a multiple of 8 that belong to it. */
  recordEnd: number;
}

const pageBytes = 8192;
/** Of xlog_internal.h: the page begins with the rest of a record of the page before. */
const continues = 1;
const shortHeader = 24;
const longHeader = 40;
const recordHeader = 24;

/** A tail of nothing yet. */
export function newTail(segmentBytes: number): Tail {
  return { name: "", bytes: Buffer.alloc(segmentBytes), length: 0, recordEnd: 0 };
}

/**
 * Reads on in the file `path` of the segment `name`, which others are writing. The file has its full size from the start
 * and is zero where nothing has come: what is there is told by the pages' own addresses and the records' own lengths.
 * False when the file is gone: it is complete by now and has its final name.
 */
export async function readTail(tail: Tail, name: string, path: string, startLsn: bigint): Promise<boolean> {
  if (tail.name !== name) Object.assign(tail, { name, length: 0, recordEnd: 0 });
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) return false;
  try {
    // The last page may have been read when half of it was there.
    let offset = tail.length - (tail.length % pageBytes);
    for (let step = 4 * pageBytes; offset < tail.bytes.length; step = 512 * 1024) {
      const wanted = Math.min(step, tail.bytes.length - offset);
      const { bytesRead } = await file.read(tail.bytes, offset, wanted, offset);
      const end = endOfPages(tail.bytes, offset, bytesRead, startLsn);
      tail.length = Math.max(tail.length, lastNonZero(tail.bytes, offset, end));
      if (end < offset + wanted) break;
      offset = end;
    }
  } finally {
    await file.close();
  }
  findRecordEnd(tail);
  tail.length = Math.max(tail.length, tail.recordEnd);
  return true;
}

/** Where the pages that have come end: each tells its own place in the WAL. */
function endOfPages(bytes: Buffer, from: number, count: number, startLsn: bigint): number {
  let end = from;
  while (end + pageBytes <= from + count && bytes.readBigUInt64LE(end + 8) === startLsn + BigInt(end)) end += pageBytes;
  return end;
}

function lastNonZero(bytes: Buffer, from: number, end: number): number {
  let last = end;
  while (last > from && bytes[last - 1] === 0) last -= 1;
  return last;
}

/** Goes on from the last record found; stops at the first that is not whole. */
function findRecordEnd(tail: Tail): void {
  for (;;) {
    const start = tail.recordEnd === 0 ? firstRecord(tail) : afterPageHeader(tail, tail.recordEnd);
    if (start === undefined || start + 4 > tail.length) return;
    const total = tail.bytes.readUInt32LE(start);
    if (total < recordHeader) return;
    const end = skip(tail, start, total);
    if (end === undefined) return;
    // The zeros at the end of what has come may belong to a record, or be of what has not come.
    if (end.at > tail.length && !isWhole(tail, start, total)) return;
    tail.recordEnd = Math.min(tail.bytes.length, end.at + ((8 - (end.at % 8)) % 8));
  }
}

/** Behind what the first page has of the last record of the segment before; `undefined` when that fills all there is. */
function firstRecord(tail: Tail): number | undefined {
  if (tail.length < longHeader) return undefined;
  const info = tail.bytes.readUInt16LE(2);
  const rest = tail.bytes.readUInt32LE(16);
  if ((info & continues) === 0) return longHeader;
  const end = skip(tail, longHeader, rest);
  return end === undefined ? undefined : afterPageHeader(tail, end.at + ((8 - (end.at % 8)) % 8));
}

/** Where the first record from here on begins; `undefined` when that page has not come. */
function afterPageHeader(tail: Tail, offset: number): number | undefined {
  if (offset >= tail.bytes.length) return undefined;
  if (offset % pageBytes !== 0) return offset;
  return offset < tail.length ? offset + shortHeader : undefined;
}

/**
 * Where `count` bytes of a record from `offset` end, over the headers of pages. A record that a crash of the server cut
 * is not continued by its next page: that page's first record is where it ends. `undefined`: not all of it has come.
 */
function skip(tail: Tail, offset: number, count: number): { at: number } | undefined {
  let at = offset;
  let left = count;
  for (;;) {
    const room = pageBytes - (at % pageBytes);
    if (left <= room) return { at: at + left };
    left -= room;
    at += room;
    if (at + shortHeader > tail.length) return undefined;
    if ((tail.bytes.readUInt16LE(at + 2) & continues) === 0) return { at };
    at += shortHeader;
  }
}

/** The record's own checksum: over its data, then over its header without the checksum. */
function isWhole(tail: Tail, start: number, total: number): boolean {
  const record = Buffer.alloc(total);
  let at = start;
  for (let copied = 0; copied < total; ) {
    const room = Math.min(pageBytes - (at % pageBytes), total - copied);
    tail.bytes.copy(record, copied, at, at + room);
    copied += room;
    at += room + shortHeader;
  }
  return (crc32c(record.subarray(0, 20), crc32c(record.subarray(recordHeader))) | 0) === record.readInt32LE(20);
}

/** Fails with `wal-invalid`: pages of another size are of a server that was compiled so. */
export function assertPageSize(walBlockBytes: number): void {
  if (walBlockBytes === pageBytes) return;
  throw new PgkitError(
    "wal-invalid",
    `the server writes WAL in pages of ${walBlockBytes} bytes, pgkit knows ${pageBytes}`,
    {
      hint: "use --method archive",
    },
  );
}
