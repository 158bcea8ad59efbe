import type { Session } from "./session.ts";

export interface ServerFacts {
  /** As the server says it, e.g. `15.18`. */
  version: string;
  major: number;
  /** pg_control's system identifier: another one means another cluster. A 64-bit number in decimal. */
  systemId: string;
  /** A standby: nothing can be created on it. */
  inRecovery: boolean;
  maxConnections: number;
  /** The session's user is a superuser. */
  superuser: boolean;
}

/** Facts of the server. `pg_control_system` may be closed to the user: PostgreSQL 15 to 18 leave it open to all. */
export async function serverFacts(session: Session): Promise<ServerFacts> {
  const [row] = await session.query<ServerFacts>(
    `SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       (SELECT system_identifier::text FROM pg_control_system()) AS "systemId",
       pg_is_in_recovery() AS "inRecovery", current_setting('max_connections')::int AS "maxConnections",
       current_setting('is_superuser')::bool AS superuser`,
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  return row;
}

export interface DatabaseEntry {
  name: string;
  sizeBytes: number;
  /** False for one that refuses all connections, such as template0. */
  allowsConnections: boolean;
  /** DROP DATABASE was cut in the middle of it: nothing can be done with it but to drop it again. */
  invalid: boolean;
}

/** The databases of the instance but the templates, biggest first. */
export async function listDatabases(session: Session): Promise<DatabaseEntry[]> {
  return session.query<DatabaseEntry>(
    `SELECT datname AS name, datallowconn AS "allowsConnections", datconnlimit = -2 AS invalid,
       CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) ELSE 0 END::float8 AS "sizeBytes"
     FROM pg_database WHERE NOT datistemplate ORDER BY 3 DESC, 1`,
  );
}
