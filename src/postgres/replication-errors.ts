import { PgkitError } from "../lib/errors.ts";
import { identifier } from "./quote.ts";
import { isServerError, postgresError } from "./session-errors.ts";

/** What went wrong on a replication connection of `user`, with what to do about it. */
export function replicationError(error: unknown, where: string, user: string): unknown {
  const known = error instanceof PgkitError ? error : postgresError(error, where);
  const cause = error instanceof PgkitError ? error.cause : error;
  if (!(known instanceof PgkitError) || !isServerError(cause)) return known;
  const { message } = cause;
  if (/no pg_hba\.conf entry for replication/.test(message)) {
    const hint = `add to the server's pg_hba.conf, and reload it: host replication ${identifier(user)} ADDRESS scram-sha-256`;
    return new PgkitError("postgres-denied", known.message, { hint, cause });
  }
  if (/replication role to start walsender|permission denied to start WAL sender/.test(message)) {
    const hint = `as a superuser: ALTER ROLE ${identifier(user)} REPLICATION;`;
    return new PgkitError("postgres-denied", known.message, { hint, cause });
  }
  if (/max_wal_senders/.test(message)) {
    const hint = "raise max_wal_senders (needs a restart), or end one of pg_stat_replication";
    return new PgkitError("server-settings", known.message, { hint, cause });
  }
  if (/WAL level not sufficient/.test(message)) {
    const hint = "ALTER SYSTEM SET wal_level = 'replica'; then restart the server";
    return new PgkitError("server-settings", known.message, { hint, cause });
  }
  return known;
}
