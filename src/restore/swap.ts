import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Connection } from "../postgres/connection.ts";
import { identifier, literal } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import { unmark } from "./leftovers.ts";
import type { Hold } from "./loading.ts";

export interface Renaming {
  /** The database that was loaded. */
  restored: string;
  /** What it is to be called. */
  name: string;
  /** The live database has that name; it is kept under this one. */
  keptAs?: string | undefined;
}

/**
 * Gives the restored database its name, in one transaction, so that there is never no database of that name where there
 * was one, whenever this is killed. A rename needs the databases to itself: a second session ends the others' until it
 * has, while the rename's lock keeps new ones waiting. When the rename fails nothing was changed, and the restored
 * database stays under the name it has.
 */
export async function giveName(
  connection: Connection,
  renaming: Renaming,
  { hold, maintenance, signal }: { hold: Hold; maintenance: string; signal: AbortSignal },
): Promise<void> {
  const options = { database: maintenance, signal };
  await withSession(connection, options, (renamer) =>
    withSession(connection, options, async (ender) => {
      await renamer.query("BEGIN");
      // From here to its end, the transaction's lock keeps other restores from dropping what looks like a leftover.
      await unmark(renamer, renaming.restored);
      await hold.release();
      const renamed = rename(renamer, renaming, hold);
      let settled = false;
      renamed.then(
        () => (settled = true),
        () => (settled = true),
      );
      while (!settled) await endSessions(ender, renaming);
      await renamed;
      hold.keep();
    }),
  );
}

/** A database to be connected to while `busy` is renamed, created or dropped. */
export function maintenanceDatabase(connection: Connection, busy: string): string {
  if (connection.database !== busy) return connection.database;
  return busy === "postgres" ? "template1" : "postgres";
}

async function rename(session: Session, { restored, name, keptAs }: Renaming, hold: Hold): Promise<void> {
  try {
    if (keptAs !== undefined) await session.query(`ALTER DATABASE ${identifier(name)} RENAME TO ${identifier(keptAs)}`);
    await session.query(`ALTER DATABASE ${identifier(restored)} RENAME TO ${identifier(name)}`);
    await session.query("COMMIT");
  } catch (cause) {
    if (!isPgkitError(cause, "postgres-failed", "postgres-denied", "database-missing")) throw cause;
    await session.query("ROLLBACK");
    await unmark(session, restored);
    hold.keep();
    // duplicate_database: somebody made one of that name since the restore was planned.
    const code = sqlStateOf(cause) === "42P04" ? "refused-overwrite" : cause.code;
    throw new PgkitError(code, `the restored database could not be named ${name}: ${cause.message}`, {
      hint: `it is complete and stays as ${restored}: rename it by hand, or drop it; nothing else was changed`,
      cause,
    });
  }
}

async function endSessions(session: Session, { name, restored, keptAs }: Renaming): Promise<void> {
  const busy = keptAs === undefined ? [restored] : [restored, name];
  await session.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname IN (${busy.map(literal).join(", ")}) AND pid <> pg_backend_pid()`,
  );
  await session.query("SELECT pg_sleep(0.05)");
}
