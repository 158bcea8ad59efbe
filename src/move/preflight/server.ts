import type { Session } from "../../postgres/session.ts";

/** What a server has, and how much of it is left. */
export interface PreflightServer {
  readonly user: string;
  readonly major: number;
  readonly systemId: string;
  readonly inRecovery: boolean;
  readonly superuser: boolean;
  /** Without being one: attributes of the role, and what it is a member of. */
  readonly may: Readonly<
    Record<"CREATEDB" | "CREATEROLE" | "REPLICATION" | "pg_monitor" | "pg_signal_backend", boolean>
  >;
  readonly settings: Readonly<Record<string, string>>;
  /** In use of what the settings allow. */
  readonly used: { connections: number; senders: number; slots: number; workers: number };
  readonly tablespaces: readonly string[];
  /** Of the moved database's name on this server; `null` where there is none. */
  readonly named: { comment: string | null; limit: number } | null;
}

/** Asks the session's server, in one statement. */
export async function preflightServer(session: Session, database: string): Promise<PreflightServer> {
  const [row] = await session.query<{ facts: PreflightServer }>(
    `SELECT json_build_object('user', current_user,
       'major', current_setting('server_version_num')::int / 10000,
       'systemId', (SELECT system_identifier::text FROM pg_control_system()),
       'inRecovery', pg_is_in_recovery(), 'superuser', current_setting('is_superuser')::bool,
       'may', (SELECT json_build_object('CREATEDB', rolcreatedb, 'CREATEROLE', rolcreaterole, 'REPLICATION', rolreplication,
           'pg_monitor', pg_has_role('pg_monitor', 'USAGE'), 'pg_signal_backend', pg_has_role('pg_signal_backend', 'USAGE'))
         FROM pg_roles WHERE rolname = current_user),
       'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name = ANY ($2)),
       'used', json_build_object(
         'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
         'senders', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'),
         'slots', (SELECT count(*) FROM pg_replication_slots),
         'workers', (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%worker')),
       'tablespaces', (SELECT json_agg(spcname) FROM pg_tablespace),
       'named', (SELECT json_build_object('comment', shobj_description(oid, 'pg_database'), 'limit', datconnlimit)
         FROM pg_database WHERE datname = $1)) AS facts`,
    [database, settingNames],
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  return row.facts;
}

const settingNames = [
  ...["wal_level", "max_connections", "superuser_reserved_connections", "max_wal_senders", "max_replication_slots"],
  ...["max_logical_replication_workers", "max_worker_processes", "max_sync_workers_per_subscription"],
  ...["max_prepared_transactions", "max_slot_wal_keep_size", "shared_preload_libraries", "data_directory"],
];

/** How many are left of what the setting allows. */
export function left({ settings, used }: PreflightServer, what: keyof PreflightServer["used"]): number {
  const setting = {
    connections: "max_connections",
    senders: "max_wal_senders",
    slots: "max_replication_slots",
    workers: "max_logical_replication_workers",
  }[what];
  const reserved = what === "connections" ? Number(settings["superuser_reserved_connections"] ?? 0) : 0;
  return Number(settings[setting] ?? 0) - reserved - used[what];
}
