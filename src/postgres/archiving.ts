import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import { identifier, literal } from "./quote.ts";
import type { Session } from "./session.ts";

/** The name by which pgkit wal stream connects. */
export const streamerName = "pgkit wal stream";

/** The settings that archiving depends on; the last three are only read. */
export const archivingSettings = [
  ...(["wal_level", "archive_mode", "archive_command", "archive_library", "archive_timeout", "summarize_wal"] as const),
  ...(["max_wal_senders", "max_replication_slots", "max_wal_size", "wal_keep_size", "wal_segment_size"] as const),
] as const;

export type SettingName = (typeof archivingSettings)[number];

export interface Setting {
  /** What the server runs with, in pg_settings' own unit. */
  running: string;
  /** `postmaster`: a change needs a restart. */
  context: string;
  /** As pg_settings has it, e.g. `command line`; ALTER SYSTEM does not reach that one. */
  source: string;
  pendingRestart: boolean;
  /** Without any file that says otherwise. */
  byDefault: string;
}

/** An entry of one of the server's configuration files; of several of one name the last counts. */
export interface FileSetting {
  name: string | undefined;
  value: string | undefined;
  file: string;
  line: number;
  /** Written by ALTER SYSTEM. */
  auto: boolean;
  /** Why it cannot be applied, which keeps the whole reload from being; that it waits for a restart is none. */
  error: string | undefined;
}

export interface Slot {
  name: string;
  physical: boolean;
  active: boolean;
  /** `reserved`, `extended`, `unreserved` or `lost`. */
  walStatus: string | undefined;
  restartLsn: string | undefined;
  /** Bytes that may still be written before the slot loses WAL; `undefined` where nothing limits it. */
  safeBytes: number | undefined;
}

export interface ArchivingFacts {
  /** By name; what the server's major does not have is not in it. */
  settings: ReadonlyMap<string, Setting>;
  /** `undefined`: the user may not read pg_file_settings. */
  files: readonly FileSetting[] | undefined;
  slots: readonly Slot[];
  /** Standbys, streamers and base backups that are connected. */
  senders: number;
  /** Connections of pgkit wal stream. */
  streamers: number;
  user: string;
  /** The user may replicate: has the attribute, or is a superuser. */
  mayReplicate: boolean;
  /** Settings that the user may not change by ALTER SYSTEM. */
  notAlterable: readonly string[];
  mayReload: boolean;
}

/** What the server is set to, and what the session's user may change. */
export async function archivingFacts(session: Session): Promise<ArchivingFacts> {
  const settings = await session.query<Setting & { name: string }>(
    `SELECT name, setting AS running, context, source, pending_restart AS "pendingRestart",
       coalesce(boot_val, '') AS "byDefault"
     FROM pg_settings WHERE name = ANY($1)`,
    [archivingSettings],
  );
  const [rights] = await session.query<Rights>(
    `SELECT session_user AS user,
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user) AS "mayReplicate",
       (SELECT coalesce(array_agg(name), '{}') FROM unnest($1::text[]) name
        WHERE NOT has_parameter_privilege(name, 'ALTER SYSTEM')) AS "notAlterable",
       has_function_privilege('pg_reload_conf()', 'EXECUTE') AS "mayReload",
       has_table_privilege('pg_file_settings', 'SELECT')
         AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE') AS "mayReadFiles",
       (SELECT count(*)::int FROM pg_stat_replication) AS senders,
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = $2) AS streamers`,
    [settings.map(({ name }) => name), streamerName],
  );
  if (rights === undefined) throw new Error("a SELECT without FROM gave no row");
  const { mayReadFiles, ...rest } = rights;
  return {
    ...rest,
    settings: new Map(settings.map(({ name, ...setting }) => [name, setting])),
    files: mayReadFiles ? await fileSettings(session) : undefined,
    slots: await replicationSlots(session),
  };
}

interface Rights
  extends Pick<ArchivingFacts, "user" | "mayReplicate" | "notAlterable" | "mayReload" | "senders" | "streamers"> {
  mayReadFiles: boolean;
}

export async function fileSettings(session: Session): Promise<FileSetting[]> {
  const rows = await session.query<Record<"name" | "value" | "file" | "error", string | null> & { line: number }>(
    `SELECT f.name, f.setting AS value, f.sourcefile AS file, f.sourceline AS line,
       CASE WHEN s.pending_restart THEN NULL ELSE f.error END AS error
     FROM pg_file_settings f LEFT JOIN pg_settings s ON lower(s.name) = lower(f.name) ORDER BY f.seqno`,
  );
  return rows.map(({ name, value, file, line, error }) => ({
    name: name ?? undefined,
    value: value ?? undefined,
    file: file ?? "",
    line,
    auto: file?.endsWith("/postgresql.auto.conf") === true,
    error: error ?? undefined,
  }));
}

export async function replicationSlots(session: Session): Promise<Slot[]> {
  const rows = await session.query<Omit<Slot, "walStatus" | "restartLsn" | "safeBytes"> & Record<string, unknown>>(
    `SELECT slot_name AS name, slot_type = 'physical' AS physical, active, wal_status AS "walStatus",
       restart_lsn::text AS "restartLsn", safe_wal_size::float8 AS "safeBytes"
     FROM pg_replication_slots ORDER BY 1`,
  );
  return rows.map(({ name, physical, active, walStatus, restartLsn, safeBytes }) => ({
    ...{ name, physical, active },
    walStatus: typeof walStatus === "string" ? walStatus : undefined,
    restartLsn: typeof restartLsn === "string" ? restartLsn : undefined,
    safeBytes: typeof safeBytes === "number" ? safeBytes : undefined,
  }));
}

/** The statement that sets a setting in postgresql.auto.conf, or takes it out of there (`undefined`). */
export function alterSystem(name: string, value: string | undefined): string {
  return value === undefined
    ? `ALTER SYSTEM RESET ${identifier(name)}`
    : `ALTER SYSTEM SET ${identifier(name)} = ${literal(value).trim()}`;
}

/** How long a server may take to read its files again; it is a matter of milliseconds. */
const reloadMs = 15_000;

/** Has the server read its configuration files again, and returns when this session runs with them. */
export async function reloadConfiguration(session: Session, clock: Clock, signal?: AbortSignal): Promise<void> {
  const loadedAt = "SELECT extract(epoch FROM pg_conf_load_time())::text AS at";
  const [before] = await session.query<{ at: string }>(loadedAt);
  const [sent] = await session.query<{ ok: boolean }>("SELECT pg_reload_conf() AS ok");
  if (sent?.ok !== true) throw notReloaded("it could not be told");
  const startedMs = clock.monotonicMs();
  for (;;) {
    const [now] = await session.query<{ at: string }>(loadedAt);
    if (now?.at !== before?.at) return;
    if (clock.monotonicMs() - startedMs > reloadMs) throw notReloaded("it has not done so within 15 s");
    await clock.delay(20, signal);
  }
}

function notReloaded(why: string): PgkitError {
  return new PgkitError("postgres-failed", `the server was to read its configuration files again: ${why}`, {
    hint: "look into the server's log, then run this again",
  });
}
