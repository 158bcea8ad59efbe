import { type ErrorCode, PgkitError } from "../lib/errors.ts";
import { identifier } from "./quote.ts";
import { isServerError, postgresError } from "./session-errors.ts";

/** What went wrong on a replication connection of `user`, with what to do about it. */
export function replicationError(error: unknown, where: string, user: string): unknown {
  const known = error instanceof PgkitError ? error : postgresError(error, where);
  const cause = error instanceof PgkitError ? error.cause : error;
  if (!(known instanceof PgkitError) || !isServerError(cause)) return known;
  const remedy = remedies.find(({ says }) => says.test(cause.message));
  if (remedy === undefined) return known;
  return new PgkitError(remedy.code, known.message, { hint: remedy.hint(identifier(user)), cause });
}

const remedies: readonly { says: RegExp; code: ErrorCode; hint: (user: string) => string }[] = [
  {
    says: /no pg_hba\.conf entry for replication/,
    code: "postgres-denied",
    hint: (user) => `add to the server's pg_hba.conf, and reload it: host replication ${user} ADDRESS scram-sha-256`,
  },
  {
    says: /replication role to start walsender|permission denied to start WAL sender/,
    code: "postgres-denied",
    hint: (user) => `as a superuser: ALTER ROLE ${user} REPLICATION;`,
  },
  {
    says: /max_wal_senders/,
    code: "server-settings",
    hint: () => "raise max_wal_senders (needs a restart), or end one of pg_stat_replication",
  },
  {
    says: /WAL level not sufficient/,
    code: "server-settings",
    hint: () => "ALTER SYSTEM SET wal_level = 'replica'; then restart the server",
  },
  {
    says: /full_page_writes=off/,
    code: "server-settings",
    hint: () => "on the primary: ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT;",
  },
  {
    says: /WAL segment \w+ has already been removed/,
    code: "postgres-failed",
    hint: () =>
      "raise max_replication_slots or wal_keep_size, so that WAL stays while the backup is taken; run it again",
  },
  {
    says: /WAL summar|incremental backups? (cannot|is not possible)/,
    code: "server-settings",
    hint: () => "keep WAL summaries longer (wal_summary_keep_time), and take a full base backup now: pgkit backup base",
  },
];

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
