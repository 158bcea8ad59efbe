import type { Connection } from "../../postgres/connection.ts";
import { identifier } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import type { Found } from "../ledger.ts";
import type { Interview } from "./instance.ts";

/** Whether others on the network can read what goes over the connection. */
export async function transport(session: Session, found: Found, connection: Connection): Promise<void> {
  const [row] = await session.query<{ ssl: boolean; version: string; cipher: string }>(
    "SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
  );
  const { sslMode } = connection;
  if (staysHere(connection)) return found.ok("the connection stays on this machine");
  if (row?.ssl !== true) {
    return found.warning(
      `the connection is not encrypted (sslmode=${sslMode}): the password's proof and all data cross the network in clear`,
      "set ssl = on with a certificate on the server, then sslmode=verify-full and sslrootcert in the instance's url",
    );
  }
  const by = `${row.version} with ${row.cipher}`;
  if (sslMode === "prefer" || sslMode === "allow" || sslMode === "disable") {
    return found.warning(
      `encrypted by ${by}, but sslmode=${sslMode} goes on without when somebody in between refuses it`,
      "set sslmode=verify-full with sslrootcert in the instance's url, or at least sslmode=require",
    );
  }
  const checked = sslMode === "verify-full" ? "" : `; sslmode=verify-full would also prove whose server it is`;
  found.ok(`encrypted by ${by} (sslmode=${sslMode})${checked}`);
}

/** Whether the password is known, and kept as SCRAM. The verifier itself is not read. */
export async function authentication(session: Session, found: Found, { connection, server }: Interview): Promise<void> {
  const method = await methodOf(session, server.major);
  const stored = await storedAs(session);
  const user = identifier(connection.user);
  if (stored.password === "md5" || method === "md5") {
    return found.warning(
      `the password of ${connection.user} is stored as an MD5 hash, which PostgreSQL is about to drop`,
      `SET password_encryption = 'scram-sha-256'; then set it anew: \\password ${user}`,
    );
  }
  const unasked = method === "trust" || (method === undefined && connection.password === undefined);
  if (unasked && !staysHere(connection) && connection.parameters["sslcert"] === undefined) {
    return found.warning(
      `the server lets ${connection.user} in without a password`,
      "use scram-sha-256 in pg_hba.conf, and name the password by passwordFrom",
    );
  }
  if (stored.encryption === "md5") {
    return found.warning(
      "the server stores new passwords as MD5 hashes",
      "ALTER SYSTEM SET password_encryption = 'scram-sha-256'; SELECT pg_reload_conf()",
    );
  }
  if (connection.password === undefined) return found.ok(`${connection.user} needs no password`);
  found.ok(`the password is known${stored.password === "scram" ? " and stored as SCRAM" : ""}`);
}

/** How the session was let in: `trust`, `md5`, `scram-sha-256`, ...; `undefined` before 16, which does not tell. */
async function methodOf(session: Session, major: number): Promise<string | undefined> {
  if (major < 16) return undefined;
  const [row] = await session.query<{ method: string | null }>("SELECT split_part(system_user, ':', 1) AS method");
  return row?.method ?? "trust";
}

interface Stored {
  /** Of new passwords. */
  encryption: string;
  /** Of the user's own; `undefined` where this user may not see, or has none. */
  password: "scram" | "md5" | undefined;
}

async function storedAs(session: Session): Promise<Stored> {
  const [setting] = await session.query<{ encryption: string; readable: boolean }>(
    `SELECT current_setting('password_encryption') AS encryption,
       has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable`,
  );
  const encryption = setting?.encryption ?? "";
  if (setting?.readable !== true) return { encryption, password: undefined };
  const [role] = await session.query<{ kind: string | null }>(
    `SELECT CASE WHEN rolpassword LIKE 'md5%' THEN 'md5' WHEN rolpassword LIKE 'SCRAM-%' THEN 'scram' END AS kind
     FROM pg_authid WHERE rolname = session_user`,
  );
  return { encryption, password: role?.kind === "md5" || role?.kind === "scram" ? role.kind : undefined };
}

function staysHere({ hosts }: Connection): boolean {
  return hosts.every(({ host }) => host.startsWith("/") || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host));
}
