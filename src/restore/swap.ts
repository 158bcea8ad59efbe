import { PgkitError } from "../lib/errors.ts";
import type { Connection } from "../postgres/connection.ts";
import { identifier, literal } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { unmark } from "./leftovers.ts";

export interface Swap {
  /** The database that applications use; it is kept as `keptAs`. */
  live: string;
  /** The restored one, which takes its name. */
  restored: string;
  keptAs: string;
}

/**
 * Puts the restored database in the place of the live one by two renames in one transaction, so that there is never
 * none of that name, whenever this is killed. A rename needs the database to itself: a second session ends the live
 * one's sessions until it has, while the rename's lock keeps new ones waiting.
 */
export async function swapDatabases(connection: Connection, swap: Swap, signal?: AbortSignal): Promise<void> {
  const database = await maintenanceDatabase(connection, swap.live);
  await withSession(connection, { database, signal }, (renamer) =>
    withSession(connection, { database, signal }, async (ender) => {
      const renamed = rename(renamer, swap);
      let settled = false;
      renamed.then(
        () => (settled = true),
        () => (settled = true),
      );
      while (!settled) await endSessions(ender, swap);
      await renamed;
    }),
  );
}

/** A database to be connected to while `busy` is renamed, created or dropped. */
export async function maintenanceDatabase(connection: Connection, busy: string): Promise<string> {
  if (connection.database !== busy) return connection.database;
  return busy === "postgres" ? "template1" : "postgres";
}

async function rename(session: Session, { live, restored, keptAs }: Swap): Promise<void> {
  await session.query("BEGIN");
  try {
    await unmark(session, restored);
    await session.query(`ALTER DATABASE ${identifier(live)} RENAME TO ${identifier(keptAs)}`);
    await session.query(`ALTER DATABASE ${identifier(restored)} RENAME TO ${identifier(live)}`);
    await session.query("COMMIT");
  } catch (cause) {
    await session.query("ROLLBACK");
    throw new PgkitError("postgres-failed", `${live} could not be swapped with ${restored}; nothing was changed`, {
      hint: `${restored} is complete: rename it by hand, or run the restore again`,
      cause,
    });
  }
}

async function endSessions(session: Session, { live, restored }: Swap): Promise<void> {
  await session.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname IN (${literal(live)}, ${literal(restored)}) AND pid <> pg_backend_pid()`,
  );
  await session.query("SELECT pg_sleep(0.05)");
}
