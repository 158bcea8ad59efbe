import { PgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn } from "../lib/lsn.ts";
import { addressOf, type Connection } from "./connection.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";

/** A server as the one who follows it sees it. */
export interface FollowedServer {
  version: string;
  major: number;
  systemId: string;
  timeline: number;
  /** The end of the WAL that a crash of the server would not lose. */
  flushLsn: Lsn;
  segmentBytes: number;
}

/**
 * A session on the server that takes writes: of several hosts the first that does. Gives with it the connection to that
 * one host alone. Fails with `postgres-unreachable` when none does at the moment.
 */
export async function openPrimary(
  connection: Connection,
  options: SessionOptions,
): Promise<{ session: Session; connection: Connection }> {
  const failures: unknown[] = [];
  for (const host of connection.hosts) {
    const one = { ...connection, hosts: [host], parameters: withoutTarget(connection.parameters) };
    try {
      const session = await openSession(one, options);
      if (!(await inRecovery(session))) return { session, connection: one };
      await session.close();
      failures.push(
        new PgkitError("postgres-unreachable", `the server on ${addressOf(one)} is a standby that takes no writes`, {
          hint: "name its primary in the instance's url, too; pgkit wal stream follows whichever of them is promoted",
        }),
      );
    } catch (error) {
      failures.push(error);
    }
  }
  throw failures.find((error) => !isUnreachable(error)) ?? failures[0];
}

/** Fails with `server-settings`, or `postgres-denied`, naming all that hinders following this server by a slot. */
export async function assertFollowable(session: Session, { user }: Connection): Promise<void> {
  const [row] = await session.query<{ level: string; senders: number; slots: number; allowed: boolean }>(
    `SELECT current_setting('wal_level') AS level, current_setting('max_wal_senders')::int AS senders,
       current_setting('max_replication_slots')::int AS slots,
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user) AS allowed`,
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  const wrong = [
    ...(row.level === "minimal" ? ["wal_level is minimal, and must be replica or logical"] : []),
    ...(row.senders === 0 ? ["max_wal_senders is 0"] : []),
    ...(row.slots === 0 ? ["max_replication_slots is 0"] : []),
  ];
  if (wrong.length > 0) {
    throw new PgkitError("server-settings", `the server cannot be followed: ${wrong.join("; ")}`, {
      hint: "pgkit pitr enable --method stream sets it; then restart the server",
    });
  }
  if (row.allowed) return;
  throw new PgkitError("postgres-denied", `the user ${user} has no REPLICATION privilege, which a slot needs`, {
    hint: `as a superuser: ALTER ROLE "${user}" REPLICATION, and let it in for "replication" in pg_hba.conf`,
  });
}

/** Of a server that takes writes. */
export async function followedServer(session: Session): Promise<FollowedServer> {
  const [row] = await session.query<Omit<FollowedServer, "flushLsn"> & { flush: string }>(
    `SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       (SELECT system_identifier::text FROM pg_control_system()) AS "systemId",
       ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int AS timeline,
       pg_current_wal_flush_lsn()::text AS flush, pg_size_bytes(current_setting('wal_segment_size'))::int AS "segmentBytes"`,
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  const { flush, ...facts } = row;
  return { ...facts, flushLsn: parseLsn(flush) };
}

/**
 * Takes the session's advisory lock of this name, which the server gives back at the moment this process ends. Gives the
 * other session that has it, `undefined` when it is ours.
 */
export async function lockAgainst(session: Session, name: string): Promise<{ by: string } | undefined> {
  const key = `hashtextextended('pgkit wal stream ' || $1, 0)`;
  const [row] = await session.query<{ ours: boolean }>(`SELECT pg_try_advisory_lock(${key}) AS ours`, [name]);
  if (row?.ours === true) return undefined;
  const [other] = await session.query<{ by: string }>(
    `SELECT format('%s from %s since %s', a.usename, coalesce(a.client_addr::text, 'a local socket'), date_trunc('second', a.backend_start)) AS by
     FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND (l.classid::bigint << 32 | l.objid::bigint) = ${key}`,
    [name],
  );
  return { by: other?.by ?? "another session" };
}

async function inRecovery(session: Session): Promise<boolean> {
  const [row] = await session.query<{ standby: boolean }>("SELECT pg_is_in_recovery() AS standby");
  return row?.standby === true;
}

/** The programs would ask for it of the one host that is chosen already. */
function withoutTarget({ target_session_attrs: _, ...rest }: Connection["parameters"]): Connection["parameters"] {
  return rest;
}

function isUnreachable(error: unknown): boolean {
  return error instanceof PgkitError && error.code === "postgres-unreachable";
}
