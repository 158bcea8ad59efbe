import { readFile } from "node:fs/promises";
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from "node:tls";
import pg from "pg";
import { PgkitError } from "../lib/errors.ts";
import { addressOf, type Connection } from "./connection.ts";
import { isServerError, postgresError, saysNoTls } from "./session-errors.ts";

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

const connectTimeoutMs = 15_000;
/** An older server refuses the name transaction_timeout. */
const atLeast17 = "current_setting('server_version_num')::int >= 170000";

/**
 * Opens a session on the first host that answers. `search_path` is emptied of all but the system's own, so that nothing
 * in the database can stand in for what a query names, and no timeout or read-only default of database or role applies.
 */
export async function openSession(connection: Connection, options: SessionOptions = {}): Promise<Session> {
  const { applicationName = "pgkit", signal, database = connection.database } = options;
  signal?.throwIfAborted();
  const client = await connectToAny(connection, database, applicationName);
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
  await query(
    `SELECT set_config('search_path', 'pg_catalog', false), set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('idle_session_timeout', '0', false), set_config('default_transaction_read_only', 'off', false), set_config('row_security', 'off', false),
       set_config('DateStyle', 'ISO', false),
       CASE WHEN version() ~ 'linux' THEN set_config('client_connection_check_interval', '1s', false) END,
       CASE WHEN ${atLeast17} THEN set_config('transaction_timeout', '0', false) END`,
  ).catch(async (error: unknown) => {
    await close();
    throw error;
  });
  return { database, lost: lost.signal, query, close };
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

async function connectToAny(connection: Connection, database: string, applicationName: string): Promise<pg.Client> {
  const failures: unknown[] = [];
  for (const address of connection.hosts) {
    for (const ssl of await sslAttempts(connection, address.host)) {
      try {
        return await connectOnce(connection, address, ssl, database, applicationName);
      } catch (error) {
        failures.push(error);
        if (!mayTryNext(error)) break;
      }
    }
  }
  throw postgresError(
    failures.find(isServerError) ?? failures.find((error) => !saysNoTls(error)) ?? failures[0],
    `database ${database} on ${addressOf(connection)} as ${connection.user}`,
  );
}

/** Only what TLS or its lack brought about may go better the other way: a wrong password and a silent host are final. */
function mayTryNext(error: unknown): boolean {
  if (isServerError(error)) return /no pg_hba.conf entry|SSL/i.test(error.message);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return saysNoTls(error) || /^(ERR_|EPROTO|ECONNRESET|EPIPE)/.test(code);
}

async function connectOnce(
  connection: Connection,
  { host, port }: { host: string; port: number },
  ssl: false | ConnectionOptions,
  database: string,
  applicationName: string,
): Promise<pg.Client> {
  const client = new pg.Client({
    host,
    port,
    user: connection.user,
    database,
    password: connection.password?.reveal(),
    ssl,
    application_name: connection.parameters.application_name ?? applicationName,
    options: connection.parameters.options,
    connectionTimeoutMillis: Number(connection.parameters.connect_timeout ?? 0) * 1000 || connectTimeoutMs,
    keepAlive: true,
  });
  // A failed start can report its error twice, the second time as an event.
  client.on("error", () => undefined);
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  client.removeAllListeners("error");
  return client;
}

/** What libpq would try, in its order, for the connection's sslmode. */
async function sslAttempts(connection: Connection, host: string): Promise<(false | ConnectionOptions)[]> {
  if (host.startsWith("/")) return [false];
  switch (connection.sslMode) {
    case "disable":
      return [false];
    case "allow":
      return [false, await tls(connection, host, "none")];
    case "prefer":
      return [await tls(connection, host, "none"), false];
    case "require":
      return [await tls(connection, host, connection.parameters.sslrootcert === undefined ? "none" : "chain")];
    case "verify-ca":
      return [await tls(connection, host, "chain")];
    case "verify-full":
      return [await tls(connection, host, "name")];
  }
}

async function tls(
  { parameters }: Connection,
  host: string,
  check: "none" | "chain" | "name",
): Promise<ConnectionOptions> {
  const { sslrootcert, sslcert, sslkey } = parameters;
  return {
    rejectUnauthorized: check !== "none",
    checkServerIdentity: (_, certificate) => (check === "name" ? identityProblem(host, certificate) : undefined),
    ...(sslrootcert === undefined || sslrootcert === "system" ? {} : { ca: await pem(sslrootcert) }),
    ...(sslcert === undefined ? {} : { cert: await pem(sslcert) }),
    ...(sslkey === undefined ? {} : { key: await pem(sslkey) }),
  };
}

function identityProblem(host: string, certificate: PeerCertificate): Error | undefined {
  if (checkServerIdentity(host, certificate) === undefined) return undefined;
  const names = certificate.subjectaltname ?? `${certificate.subject.CN ?? "no name"}`;
  return new Error(`its certificate is for ${names}, not for ${host}`);
}

async function pem(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new PgkitError("config", `the certificate file ${path} cannot be read`, {
      hint: "check sslrootcert, sslcert and sslkey in the connection URL",
      cause,
    });
  }
}
