import { isPgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Connection } from "../postgres/connection.ts";
import { identifier, literal } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { dropDatabase } from "./drop.ts";

/**
 * The application name that marks a database as one being loaded, with the backup's id after it: such a database may be
 * dropped once nobody is connected to it. It goes in the same transaction that gives the database its final name. Not a
 * setting of our own, as PostgreSQL lets only superusers give a database one that it does not know.
 */
const mark = "pgkit.restoring=";
/** SQL, of an entry of `pg_db_role_setting.setconfig`. */
const isMark = `entry LIKE ${literal(`application_name=${mark}%`)}`;

/**
 * For psql, at the end of the script that makes the database: marks it as loaded from `backup`. psql has the whole script
 * before it begins, so that a kill of ours leaves no database without the mark.
 */
export function markScript(backup: string): string {
  return `ALTER DATABASE :"database" SET application_name TO ${literal(mark + backup)};\n`;
}

/** Shows every restore, by the session's application name, that `database` is being made, though nobody is in it yet. */
export async function announce(session: Session, database: string): Promise<void> {
  await session.query(`SELECT set_config('application_name', ${makerOf("$1::text")}, false)`, [database]);
}

/** SQL. A hash, as PostgreSQL cuts application names to 63 bytes of ASCII. */
function makerOf(database: string): string {
  return `'pgkit making ' || md5(${database})`;
}

/** Takes the mark away, unless the backup's own application name has replaced it; part of the caller's transaction. */
export async function unmark(session: Session, database: string): Promise<void> {
  const marked = await session.query(
    `SELECT FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
     WHERE datname = $1 AND EXISTS (SELECT FROM unnest(s.setconfig) entry WHERE ${isMark})`,
    [database],
  );
  if (marked.length > 0) await session.query(`ALTER DATABASE ${identifier(database)} RESET application_name`);
}

/** Drops what restores that were killed have left: marked, and with nobody connected. */
export async function dropLeftovers(
  connection: Connection,
  maintenance: string,
  report: Report,
  signal: AbortSignal,
): Promise<void> {
  await withSession(connection, { database: maintenance, signal }, async (session) => {
    for (const { name } of await findLeftovers(session)) {
      try {
        await dropDatabase(connection, { name, maintenance, force: false, signal });
        report({ type: "note", message: `dropped database ${name}, left by a restore that was cut` });
      } catch (error) {
        // Another restore may have been quicker, or it is not ours to drop: no reason not to restore.
        if (!isPgkitError(error, "postgres-failed", "postgres-denied", "database-missing")) throw error;
        const message = `database ${name}, left by a restore that was cut, could not be dropped: ${error.message}`;
        report({ type: "warning", message, hint: "DROP DATABASE it by hand when nobody needs it" });
      }
    }
  });
}

/** The databases that restores which were killed have left: marked, and with nobody connected. */
export async function findLeftovers(session: Session): Promise<{ name: string; sizeBytes: number }[]> {
  return session.query<{ name: string; sizeBytes: number }>(
    `SELECT datname AS name,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) ELSE 0 END::float8 AS "sizeBytes"
     FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0
     WHERE EXISTS (SELECT FROM unnest(s.setconfig) entry WHERE ${isMark})
       AND NOT EXISTS (SELECT FROM pg_stat_activity a
         WHERE a.datid = d.oid OR a.application_name = ${makerOf("d.datname")})`,
  );
}
