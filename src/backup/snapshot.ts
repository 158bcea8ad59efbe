import { isPgkitError } from "../lib/errors.ts";
import { type DatabaseFacts, databaseFacts, listTables, type TableEntry } from "../postgres/database-facts.ts";
import { identifier } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";

/**
 * How long a backup waits for a lock. DDL that came after the snapshot waits for ours, and behind it all who use the
 * table: better this backup gives way than they wait for its end.
 */
export const lockWaitMs = 60_000;

/** How often the snapshot is taken anew when a table was dropped before it could be locked. */
const attempts = 10;

/**
 * Begins the transaction whose snapshot all of the backup reads, and locks its tables, so that none of them is changed or
 * dropped before pg_dump and the count come to it. The locks let everything through but DDL, as pg_dump's own do.
 */
export async function takeSnapshot(
  session: Session,
  waitMs: number,
): Promise<{ facts: DatabaseFacts; tables: TableEntry[] }> {
  for (let attempt = 1; ; attempt++) {
    await session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    // Already asking for a table's size waits for its lock.
    await session.query(`SET LOCAL lock_timeout = ${waitMs}`);
    const facts = await databaseFacts(session);
    const tables = await listTables(session);
    try {
      await lockTables(session, tables);
      return { facts, tables };
    } catch (error) {
      // undefined_table, invalid_schema_name: in this moment somebody drops them.
      if (attempt === attempts || !["42P01", "3F000"].includes(sqlStateOf(error) ?? "")) throw error;
      await session.query("ROLLBACK");
    }
  }
}

/** True for the failure of a backup that waited for a lock in vain, its own or pg_dump's. */
export function gaveWay(error: unknown): boolean {
  if (sqlStateOf(error) === "55P03") return true;
  return isPgkitError(error, "tool-failed") && error.message.includes("Query was: LOCK TABLE");
}

async function lockTables(session: Session, tables: readonly TableEntry[]): Promise<void> {
  const lockable = tables.filter(({ kind }) => kind === "r" || kind === "p");
  for (let first = 0; first < lockable.length; first += 500) {
    const names = lockable
      .slice(first, first + 500)
      .map(({ schema, name }) => `${identifier(schema)}.${identifier(name)}`);
    await session.query(`LOCK TABLE ONLY ${names.join(", ONLY ")} IN ACCESS SHARE MODE`);
  }
}
