import { PgkitError } from "../lib/errors.ts";
import { type ServerFacts, serverFacts } from "../postgres/server-facts.ts";
import type { Session } from "../postgres/session.ts";
import type { BaseFacts } from "../repo/manifest.ts";

/** What is known of a server before a base backup of it, by SQL. */
export interface InstanceFacts extends Pick<BaseFacts, "segmentBytes" | "dataChecksums" | "tablespaces" | "databases"> {
  server: ServerFacts;
  /** The timeline that it writes or, as a standby, replays. */
  timeline: number;
  walLevel: string;
  maxWalSenders: number;
  /** summarize_wal, which 17 and newer have. */
  summarizesWal: boolean;
  archiving: ArchivingState;
}

export interface ArchivingState {
  /** archive_mode is on, and there is a command or library that archives. */
  on: boolean;
  /** archive_mode, for messages. */
  mode: string;
}

/** Asks for all of it in two statements. */
export async function instanceFacts(session: Session): Promise<InstanceFacts> {
  const server = await serverFacts(session);
  const [row] = await session.query<Omit<InstanceFacts, "server" | "archiving"> & { on: boolean; mode: string }>(
    `SELECT pg_size_bytes(current_setting('wal_segment_size'))::int AS "segmentBytes",
       current_setting('data_checksums')::bool AS "dataChecksums",
       current_setting('wal_level') AS "walLevel", current_setting('max_wal_senders')::int AS "maxWalSenders",
       coalesce(current_setting('summarize_wal', true) = 'on', false) AS "summarizesWal",
       current_setting('archive_mode') AS mode,
       current_setting('archive_mode') <> 'off' AND
         (SELECT bool_or(setting NOT IN ('', '(disabled)')) FROM pg_settings
          WHERE name IN ('archive_command', 'archive_library')) AS on,
       ${timelineNow} AS timeline,
       (SELECT coalesce(json_agg(json_build_object('oid', oid::int8, 'name', spcname,
          'location', pg_tablespace_location(oid)) ORDER BY oid), '[]') FROM pg_tablespace
        WHERE spcname NOT IN ('pg_default', 'pg_global')) AS tablespaces,
       (SELECT json_agg(json_build_object('name', datname, 'oid', oid::int8, 'sizeBytes',
          CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END) ORDER BY datname)
        FROM pg_database) AS databases`,
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  const { on, mode, ...facts } = row;
  return { ...facts, server, archiving: { on: on ?? false, mode } };
}

/** pg_control's is that of the last checkpoint or restartpoint, which a promotion does not wait for. */
const timelineNow = `(CASE WHEN pg_is_in_recovery() THEN (SELECT coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
    (SELECT timeline_id FROM pg_control_checkpoint())))
  ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END)`;

/** The server's clock, rounded up to the millisecond, as RFC 3339. */
export async function serverClock(session: Session): Promise<string> {
  const [row] = await session.query<{ now: string }>(
    `SELECT to_char((clock_timestamp() + '999 microseconds') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now`,
  );
  return row?.now ?? "";
}

/** Fails with `server-settings` where the server's settings allow no base backup, or with `usage` where its major has none. */
export function assertCanBackup({ server, walLevel, maxWalSenders }: InstanceFacts, instance: string): void {
  if (server.major < 15) {
    const message = `instance ${instance} runs PostgreSQL ${server.version}; base backups need 15 or newer`;
    throw new PgkitError("usage", message, { hint: "pgkit backup logical works with older ones" });
  }
  // Both at once: each needs a restart, and a server of wal_level minimal starts with no senders only.
  const wrong = [
    ...(walLevel === "minimal" ? [{ is: "wal_level is minimal", set: "wal_level = 'replica'" }] : []),
    ...(maxWalSenders < 1 ? [{ is: "max_wal_senders is 0", set: "max_wal_senders = 10" }] : []),
  ];
  if (wrong.length === 0) return;
  const message = `instance ${instance} allows no base backup: ${wrong.map(({ is }) => is).join(", ")}`;
  throw new PgkitError("server-settings", message, {
    hint: `${wrong.map(({ set }) => `ALTER SYSTEM SET ${set};`).join(" ")} then restart the server`,
  });
}
