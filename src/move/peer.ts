import { PgkitError } from "../lib/errors.ts";
import type { Connection } from "../postgres/connection.ts";
import { literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";

/** How a server finds the other one for its subscription. */
export interface PeerAccess {
  /** libpq's connection string. */
  conninfo: string;
  /** The file on the server's machine that holds the password; `undefined` where none was written. */
  passfile: string | undefined;
  /** Why the password stands in the connection string, where it does. */
  exposed: string | undefined;
}

/**
 * Lets the server of `session` connect to `peer`. The password goes into a file in the server's data directory that only
 * its own user reads, and the connection string names that file. Where the server does not let pgkit write it, the string
 * holds the password, which only superusers can read (pg_subscription.subconninfo).
 */
export async function grantPeerAccess(
  session: Session,
  { peer, database, name }: { peer: Connection; database: string; name: string },
): Promise<PeerAccess> {
  const base = conninfoOf(peer, database);
  if (peer.password === undefined) return { conninfo: base, passfile: undefined, exposed: undefined };
  const password = peer.password.reveal();
  try {
    const passfile = await silently(session, () => writePassfile(session, name, password));
    return { conninfo: `${base} passfile=${quoted(passfile)}`, passfile, exposed: undefined };
  } catch (error) {
    if (sqlStateOf(error) === undefined || !(error instanceof PgkitError)) throw error;
    return { conninfo: `${base} password=${quoted(password)}`, passfile: undefined, exposed: error.message };
  }
}

/**
 * One transaction of which the server logs nothing, where its user may say so: neither the text of a statement, nor what
 * was bound to it, nor where it failed. A setting made for it alone is gone afterwards, as the session is used again.
 */
export async function silently<T>(session: Session, use: () => Promise<T>): Promise<T> {
  await session.query("BEGIN");
  try {
    await session.query(
      `SELECT set_config(name, value, true) FROM (VALUES ('log_statement', 'none'), ('log_duration', 'off'),
         ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'), ('log_transaction_sample_rate', '0'),
         ('log_min_messages', 'panic'), ('log_min_error_statement', 'panic'), ('log_parameter_max_length', '0'),
         ('log_parameter_max_length_on_error', '0'), ('auto_explain.log_min_duration', '-1'), ('pgaudit.log', 'none'))
       AS quiet (name, value) WHERE current_setting('is_superuser')::bool`,
    );
    const result = await use();
    await session.query("COMMIT");
    return result;
  } catch (error) {
    if (!session.lost.aborted) await session.query("ROLLBACK");
    throw error;
  }
}

/** Removes what `grantPeerAccess` wrote for this subscription; that there is nothing is no error. */
export async function revokePeerAccess(session: Session, name: string): Promise<void> {
  if (!(await mayRunPrograms(session))) return;
  await toProgram(session, "''", `cat >/dev/null && rm -f "${passfileName(name)}"`);
}

/**
 * The text of no statement holds the password, and nothing that the server logs of this session does: it is bound to a
 * setting of the session, which COPY reads. The working directory of a server process is its data directory.
 */
async function writePassfile(session: Session, name: string, password: string): Promise<string> {
  const line = `*:*:*:*:${password.replaceAll("\\", "\\\\").replaceAll(":", "\\:")}`;
  await session.query("SELECT set_config('pgkit.passfile', $1, true)", [line]);
  const file = passfileName(name);
  await toProgram(session, "current_setting('pgkit.passfile')", `umask 077 && rm -f "${file}" && cat > "${file}"`);
  const [row] = await session.query<{ folder: string }>("SELECT current_setting('data_directory') AS folder");
  return `${row?.folder}/${passfileName(name)}`;
}

/** Base backups leave out what begins with `pgsql_tmp`, so that the password is in none of them. */
function passfileName(name: string): string {
  return `pgsql_tmp_${name}.pass`;
}

async function toProgram(session: Session, expression: string, shell: string): Promise<void> {
  // COPY's text form doubles backslashes. Its csv form, with a quote and a delimiter that no line holds, leaves them.
  const options = `(FORMAT csv, QUOTE E'\\x01', ESCAPE E'\\x01', DELIMITER E'\\x02')`;
  await session.query(`COPY (SELECT ${expression}) TO PROGRAM ${literal(shell)} WITH ${options}`);
}

async function mayRunPrograms(session: Session): Promise<boolean> {
  const [row] = await session.query<{ may: boolean }>(
    "SELECT pg_has_role('pg_execute_server_program', 'USAGE') AND pg_has_role('pg_read_all_settings', 'USAGE') AS may",
  );
  return row?.may === true;
}

/** Without the application's name: the subscription's own is then the walsender's. */
function conninfoOf(peer: Connection, database: string): string {
  const { application_name: _, options: __, ...parameters } = peer.parameters;
  const parts: Record<string, string> = {
    host: peer.hosts.map(({ host }) => host).join(","),
    port: peer.hosts.map(({ port }) => String(port)).join(","),
    user: peer.user,
    dbname: database,
    sslmode: peer.sslMode,
    connect_timeout: "10",
    keepalives_idle: "10",
    keepalives_interval: "5",
    keepalives_count: "3",
    ...parameters,
  };
  return Object.entries(parts)
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(" ");
}

/** As libpq reads a value: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING */
function quoted(value: string): string {
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
