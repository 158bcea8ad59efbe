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

/** What the server warns of for each damaged file, while it sends a base backup. */
export function damagedFileIn(notice: string): string | undefined {
  return /checksum verification fail\w* in file "(?:\.\/)?([^"]+)"/.exec(notice)?.[1];
}

/** `page-corrupt` where that is why a base backup failed, else the error as it is. `files` are those warned of. */
export function pageError(error: unknown, files: readonly string[]): unknown {
  if (!(error instanceof PgkitError) || !/checksum (error occurred|verification failure)/.test(error.message))
    return error;
  const named = [...new Set(files)].join(", ") || "files that its log names";
  return new PgkitError("page-corrupt", `the server found pages with wrong checksums in ${named}`, {
    hint: "nothing was kept; pg_filenode_relation tells the table: restore it from an older backup, and check the disk",
    cause: error,
  });
}
