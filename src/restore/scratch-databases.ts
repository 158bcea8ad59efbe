import { isPgkitError } from "../lib/errors.ts";
import type { Connection } from "../postgres/connection.ts";
import { type Session, withSession } from "../postgres/session.ts";

export interface DatabaseName {
  name: string;
  oid: number;
}

export async function databasesOf(session: Session): Promise<DatabaseName[]> {
  return session.query<DatabaseName>(
    "SELECT datname AS name, oid::int8::float8 AS oid FROM pg_database WHERE datconnlimit <> -2 ORDER BY 1",
  );
}

/**
 * A connection to a recovered server as its superuser, and the databases that it has. Of the names the first that is there
 * is taken: the one that initdb made may be called otherwise than now. Fails with what the server said to the last.
 */
export async function superuserOf(
  server: Omit<Connection, "user">,
  names: readonly string[],
  signal: AbortSignal,
): Promise<{ connection: Connection; databases: DatabaseName[] }> {
  let refusal: unknown;
  for (const user of names) {
    for (const database of ["postgres", "template1"]) {
      const connection: Connection = { ...server, user, database };
      try {
        const databases = await withSession(connection, { signal }, async (session) => {
          await rollBackPrepared(connection, session, signal);
          return databasesOf(session);
        });
        return { connection, databases };
      } catch (error) {
        if (!isPgkitError(error, "postgres-denied", "database-missing")) throw error;
        refusal = error;
      }
    }
  }
  throw refusal;
}

/** What was prepared and not decided at that moment is not in the data, and would keep its locks for ever. */
async function rollBackPrepared(connection: Connection, session: Session, signal: AbortSignal): Promise<void> {
  const prepared = await session.query<{ gid: string; database: string }>(
    "SELECT gid, database FROM pg_prepared_xacts",
  );
  for (const { gid, database } of prepared) {
    await withSession(connection, { database, signal }, (inside) =>
      inside.query(`ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`),
    );
  }
}
