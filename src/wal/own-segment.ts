import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError } from "../lib/errors.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { checkSegment } from "./segment.ts";
import { endsSegment, walkRecords } from "./segment-records.ts";

/**
 * True when the data directory has the segment itself, whole to its end, as one has that was restored from a backup with
 * its WAL inside: recovery asks the archive first and then takes that one. In a segment that ends earlier it would end short.
 */
export async function hasOwnSegment(
  dataDir: string,
  name: string,
  lineage: { systemId: string; segmentBytes: number },
): Promise<boolean> {
  const bytes = await unlessAbsent(readFile(join(dataDir, "pg_wal", name)));
  if (bytes === undefined) return false;
  try {
    const header = checkSegment(bytes, name, lineage);
    return isFull({ bytes, ...header });
  } catch (error) {
    // What a server made in advance, or renamed for later use.
    if (isPgkitError(error, "wal-invalid")) return false;
    throw error;
  }
}

/** Its last record switches to the next segment, ends with it, or goes on in the next one. */
function isFull(layout: Parameters<typeof walkRecords>[0]): boolean {
  const { bytes, startLsn, segmentBytes, blockBytes } = layout;
  let last: { lsn: bigint; end: number } | undefined;
  for (const record of walkRecords(layout)) {
    if (endsSegment(record)) return true;
    last = { lsn: record.lsn, end: Number(record.endLsn - startLsn) };
  }
  if (last === undefined) return false;
  if (last.end >= segmentBytes) return true;
  const at = last.end % blockBytes === 0 ? last.end + shortHeaderBytes : last.end;
  if (at + linkAt + 8 > segmentBytes) return false;
  const goesOn = bytes.readBigUInt64LE(at + linkAt) === last.lsn;
  return goesOn && at + bytes.readUInt32LE(at) > segmentBytes;
}

const shortHeaderBytes = 24;
/** Of a record's header: the position of the record before it. */
const linkAt = 8;
