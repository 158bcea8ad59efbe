import type pg from "pg";
import { connectToAny } from "./connect.ts";
import { addressOf, type Connection } from "./connection.ts";
import { postgresError } from "./session-errors.ts";

/** One connection to one database. Close it; it is one of the few that the server has. */
export interface Session {
  readonly database: string;
  /** Aborted, with why, when the connection is lost; also between two queries. */
  readonly lost: AbortSignal;
  /** The rows of one statement. Fails with `postgres-failed`, `postgres-denied` or `postgres-unreachable`. */
  query<Row>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

export interface SessionOptions {
  database?: string;
  applicationName?: string;
  signal?: AbortSignal | undefined;
}

/** An older server refuses the name transaction_timeout. */
const atLeast17 = "current_setting('server_version_num')::int >= 170000";

/** As `openSession` promises it. */
const unhindered = `SELECT set_config('search_path', 'pg_catalog', false), set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('idle_session_timeout', '0', false), set_config('default_transaction_read_only', 'off', false), set_config('row_security', 'off', false),
       set_config('DateStyle', 'ISO', false),
       CASE WHEN version() ~ 'linux' THEN set_config('client_connection_check_interval', '1s', false) END,
       CASE WHEN ${atLeast17} THEN set_config('transaction_timeout', '0', false) END`;

/**
 * Opens a session on the first host that answers. `search_path` is emptied of all but the system's own, so that nothing
 * in the database can stand in for what a query names, and no timeout or read-only default of database or role applies.
 */
export async function openSession(connection: Connection, options: SessionOptions = {}): Promise<Session> {
  return (await openSessionWithClient(connection, options)).session;
}

/** The same, with the driver's client for what it cannot do itself: only this folder knows the driver. */
export async function openSessionWithClient(
  connection: Connection,
  options: SessionOptions,
): Promise<{ session: Session; client: pg.Client }> {
  const { applicationName = "pgkit", signal, database = connection.database } = options;
  signal?.throwIfAborted();
  const client = await connectToAny(connection, { database, applicationName });
  const where = `database ${database} on ${addressOf(connection)}`;
  const lost = new AbortController();
  // A connection that dies between two queries is reported by the next one; without a listener it would end the process.
  client.on("error", (error) => {
    lost.abort(postgresError(error, where));
  });
  const query = async <Row>(sql: string, values: readonly unknown[] = []): Promise<Row[]> => {
    signal?.throwIfAborted();
    lost.signal.throwIfAborted();
    try {
      return (await client.query(sql, [...values])).rows as Row[];
    } catch (cause) {
      signal?.throwIfAborted();
      throw postgresError(cause, where);
    }
  };
  // Cuts the connection when a query is under way, which fails then; the server sees that within a second.
  const cut = () => void client.end();
  signal?.addEventListener("abort", cut);
  const close = () => {
    signal?.removeEventListener("abort", cut);
    return client.end();
  };
  await query(unhindered).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  return { session: { database, lost: lost.signal, query, close }, client };
}

/** Runs `use` with a session and closes it, whatever happens. */
export async function withSession<Result>(
  connection: Connection,
  options: SessionOptions,
  use: (session: Session) => Promise<Result>,
): Promise<Result> {
  const session = await openSession(connection, options);
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}
