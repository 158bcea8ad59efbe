import { PgkitError } from "../lib/errors.ts";
import { addressOf } from "../postgres/connection.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { moveApplicationName } from "./sessions.ts";
import type { MoveServer } from "./step.ts";

/** The first half of the advisory locks' keys: "pgkm". */
const lockSpace = 0x70676b6d;

/**
 * Runs `run` while no other pgkit moves this database, from or to either server. The locks are the servers' own, held by
 * a connection each: they end with this process, however that ends, so that a run after one that was killed need not wait
 * for a lease to expire. The signal is aborted when a connection is lost. Fails with `locked`.
 */
export async function exclusively<T>(
  servers: readonly MoveServer[],
  database: string,
  signal: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const [server, ...others] = servers;
  if (server === undefined) return run(signal);
  const options = { applicationName: `${moveApplicationName} lock`, signal };
  return withSession(server.connection, options, async (session) => {
    await lock(session, server, database);
    return exclusively(others, database, AbortSignal.any([signal, session.lost]), run);
  });
}

async function lock(session: Session, server: MoveServer, database: string): Promise<void> {
  const [row] = await session.query<{ locked: boolean }>(
    `SELECT pg_try_advisory_lock(${lockSpace}, hashtext($1)) AS locked`,
    [database],
  );
  if (row?.locked === true) return;
  const [holder] = await session.query<{ who: string }>(
    `SELECT format('%s from %s', a.usename, coalesce(a.client_addr::text, 'a socket')) AS who
     FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.classid = ${lockSpace} AND l.objid::int8 = hashtext($1)::int8 & 4294967295 LIMIT 1`,
    [database],
  );
  const where = `${server.instance} (${addressOf(server.connection)})`;
  throw new PgkitError(
    "locked",
    `another pgkit is moving ${database} on ${where}: ${holder?.who ?? "it has just ended"}`,
    {
      hint: "wait for it; pgkit move status tells how far it is. After a kill its connection ends within seconds",
    },
  );
}
