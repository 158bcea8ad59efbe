import { streamerName } from "./archiving.ts";
import type { Session } from "./session.ts";

/** How archiving goes, as the server sees it. LSNs as `X/Y`. What the user may not see is `undefined`, and named. */
export interface ArchivingHealth {
  /** The server's clock. */
  now: Date;
  inRecovery: boolean;
  timeline: number;
  /** Written last; of a standby, received or replayed last. */
  currentLsn: string;
  archiver: ArchiverFacts;
  /** Segments that wait for archive_command. */
  waiting: { files: number; oldestAt: Date | undefined } | undefined;
  walDir: { files: number; bytes: number } | undefined;
  /** pg_wal grows to about this by itself: max_wal_size and wal_keep_size. */
  usualWalBytes: number;
  slots: SlotHealth[];
  /** Connections of pgkit wal stream. */
  streamers: number;
  dataDirectory: string | undefined;
  /** What the user would need to see the rest. */
  unseen: string[];
}

/** pg_stat_archiver. */
export interface ArchiverFacts {
  archived: number;
  lastArchived: { wal: string; at: Date } | undefined;
  failed: number;
  lastFailed: { wal: string; at: Date } | undefined;
}

export interface SlotHealth {
  name: string;
  physical: boolean;
  active: boolean;
  walStatus: string | undefined;
  restartLsn: string | undefined;
  /** WAL that the server keeps for it. */
  retainedBytes: number | undefined;
  /** That may still be written before it loses WAL; `undefined` where max_slot_wal_keep_size sets no limit. */
  safeBytes: number | undefined;
  /** Since when nobody uses it; from PostgreSQL 17 on. */
  inactiveSince: Date | undefined;
}

export async function archivingHealth(session: Session): Promise<ArchivingHealth> {
  const [row] = await session.query<Row>(overview, [streamerName]);
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  const waiting = row.mayListStatus ? await waitingSegments(session) : undefined;
  const [walDir] = row.mayListWal
    ? await session.query<{ files: number; bytes: number }>(
        "SELECT count(*)::int AS files, coalesce(sum(size), 0)::float8 AS bytes FROM pg_ls_waldir()",
      )
    : [];
  const [directory] = row.mayReadSettings
    ? await session.query<{ path: string }>("SELECT current_setting('data_directory') AS path")
    : [];
  const all = row.mayListStatus && row.mayListWal && row.mayReadSettings;
  return {
    now: new Date(row.nowMs),
    ...{ inRecovery: row.inRecovery, timeline: row.timeline, currentLsn: row.currentLsn },
    archiver: {
      ...{ archived: row.archived, failed: row.failed },
      lastArchived: event(row.lastArchivedWal, row.lastArchivedMs),
      lastFailed: event(row.lastFailedWal, row.lastFailedMs),
    },
    ...{ waiting, walDir, usualWalBytes: row.usualWalBytes, streamers: row.streamers },
    slots: await slotHealth(session, row.currentLsn),
    dataDirectory: directory?.path,
    unseen: all ? [] : [`GRANT pg_monitor TO the user ${row.user}`],
  };
}

interface Row {
  nowMs: number;
  user: string;
  inRecovery: boolean;
  timeline: number;
  currentLsn: string;
  archived: number;
  lastArchivedWal: string | null;
  lastArchivedMs: number | null;
  failed: number;
  lastFailedWal: string | null;
  lastFailedMs: number | null;
  usualWalBytes: number;
  streamers: number;
  mayListStatus: boolean;
  mayListWal: boolean;
  mayReadSettings: boolean;
}

/** A standby writes no WAL of its own: what it has received counts. */
const currentLsn = `CASE WHEN pg_is_in_recovery()
  THEN coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0') ELSE pg_current_wal_lsn() END`;

const bytesOf = (name: string) =>
  `(SELECT setting::float8 * 1024 * 1024 FROM pg_settings WHERE name = '${name}' AND unit = 'MB')`;

const overview = `
  SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS "nowMs", session_user::text AS user,
    pg_is_in_recovery() AS "inRecovery", (${currentLsn})::text AS "currentLsn",
    CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
      ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline,
    archived_count::float8 AS archived, last_archived_wal AS "lastArchivedWal",
    (extract(epoch FROM last_archived_time) * 1000)::float8 AS "lastArchivedMs",
    failed_count::float8 AS failed, last_failed_wal AS "lastFailedWal",
    (extract(epoch FROM last_failed_time) * 1000)::float8 AS "lastFailedMs",
    ${bytesOf("max_wal_size")} + ${bytesOf("wal_keep_size")} AS "usualWalBytes",
    (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = $1) AS streamers,
    has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS "mayListStatus",
    has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS "mayListWal",
    pg_has_role('pg_read_all_settings', 'USAGE') AS "mayReadSettings"
  FROM pg_stat_archiver`;

async function waitingSegments(session: Session): Promise<ArchivingHealth["waiting"]> {
  const [row] = await session.query<{ files: number; oldestMs: number | null }>(
    `SELECT count(*)::int AS files, (extract(epoch FROM min(modification)) * 1000)::float8 AS "oldestMs"
     FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'`,
  );
  return { files: row?.files ?? 0, oldestAt: row?.oldestMs == null ? undefined : new Date(row.oldestMs) };
}

async function slotHealth(session: Session, current: string): Promise<SlotHealth[]> {
  // The row as JSON: an older server refuses the name inactive_since.
  const rows = await session.query<{ slot: Record<string, unknown>; retained: number | null }>(
    `SELECT to_jsonb(s) AS slot, pg_wal_lsn_diff($1::pg_lsn, restart_lsn)::float8 AS retained
     FROM pg_replication_slots s ORDER BY slot_name`,
    [current],
  );
  const text = (value: unknown) => (typeof value === "string" ? value : undefined);
  return rows.map(({ slot, retained }) => {
    const inactive = text(slot["inactive_since"]);
    return {
      name: String(slot["slot_name"]),
      physical: slot["slot_type"] === "physical",
      active: slot["active"] === true,
      walStatus: text(slot["wal_status"]),
      restartLsn: text(slot["restart_lsn"]),
      retainedBytes: retained === null ? undefined : Math.max(0, retained),
      safeBytes: typeof slot["safe_wal_size"] === "number" ? slot["safe_wal_size"] : undefined,
      inactiveSince: inactive === undefined ? undefined : new Date(inactive),
    };
  });
}

function event(wal: string | null, atMs: number | null): { wal: string; at: Date } | undefined {
  return wal === null || atMs === null ? undefined : { wal, at: new Date(atMs) };
}
