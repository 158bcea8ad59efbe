import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError } from "../lib/errors.ts";
import { type Lsn, parseSegmentName, walFileKind } from "../lib/lsn.ts";
import type { Connection } from "../postgres/connection.ts";
import type { RunningServer } from "../postgres/server.ts";
import { withSession } from "../postgres/session.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { lastTransaction, readSegmentHeader } from "../wal/segment.ts";

export interface ReplayedWal {
  dataDir: string;
  segmentBytes: number;
  /** Segments of later timelines lie there, too, when a directory was restored over. */
  timeline: number;
  /** Where replay is. */
  endLsn: Lsn;
  /** How many segments are looked into. */
  most: number;
}

/**
 * The moment of the last transaction that a recovery has replayed, RFC 3339 UTC, by the segments that it left in pg_wal;
 * `undefined` where none of them has one. The server itself tells it only when it is promoted.
 */
export async function lastReplayedTime(wal: ReplayedWal): Promise<string | undefined> {
  const folder = join(wal.dataDir, "pg_wal");
  for (const name of segmentsBefore(await readdir(folder), wal).slice(0, wal.most)) {
    // A restart point may have taken it for new WAL meanwhile.
    const content = await unlessAbsent(readFile(join(folder, name)));
    const last = content !== undefined && begins(content, name, wal) && lastTransaction(content, wal.endLsn);
    if (last) return last.timeText;
  }
  return undefined;
}

/** Restart points rename files to names that will come; what is in them is of an earlier use, or zeros. */
function begins(content: Buffer, name: string, { segmentBytes }: ReplayedWal): boolean {
  try {
    return readSegmentHeader(content, name).startLsn === parseSegmentName(name, segmentBytes)?.startLsn;
  } catch (error) {
    if (isPgkitError(error, "wal-invalid")) return false;
    throw error;
  }
}

/** Where a server is that waits at its target, by its own word; `undefined` where it lets no role `postgres` in. */
export async function askPaused({
  socketDir,
  port,
}: RunningServer): Promise<{ lsn: string; time: string | undefined } | undefined> {
  const connection: Connection = {
    ...{ hosts: [{ host: socketDir, port }], user: "postgres", password: undefined, database: "postgres" },
    ...{ sslMode: "disable", parameters: {} },
  };
  try {
    return await withSession(connection, {}, async (session) => {
      const [row] = await session.query<{ lsn: string; time: string | null }>(
        `SELECT pg_last_wal_replay_lsn()::text AS lsn,
           to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time`,
      );
      return row && { lsn: row.lsn, time: row.time ?? undefined };
    });
  } catch (error) {
    if (isPgkitError(error, "postgres-denied", "database-missing")) return undefined;
    throw error;
  }
}

/** The newest first. */
function segmentsBefore(names: readonly string[], { segmentBytes, timeline, endLsn }: ReplayedWal): string[] {
  return names
    .filter((name) => walFileKind(name) === "segment")
    .flatMap((name) => {
      const place = parseSegmentName(name, segmentBytes);
      return place === undefined ? [] : [{ name, ...place }];
    })
    .filter((place) => place.timeline <= timeline && place.startLsn < endLsn)
    .sort((a, b) => (a.startLsn === b.startLsn ? b.timeline - a.timeline : a.startLsn < b.startLsn ? 1 : -1))
    .map(({ name }) => name);
}
