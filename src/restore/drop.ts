import type { Connection } from "../postgres/connection.ts";
import { identifier } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";

/**
 * Drops a database that a restore has made, unless it is gone already; with `force` it ends sessions that are in it. Its
 * subscriptions go first, since PostgreSQL drops no database that has one. They are copies: what the original uses on
 * the publisher stays.
 */
export async function dropDatabase(
  connection: Connection,
  { name, maintenance, force, signal }: { name: string; maintenance: string; force: boolean; signal?: AbortSignal },
): Promise<void> {
  await withSession(connection, { database: maintenance, signal }, async (session) => {
    const [found] = await session.query<{ subscriptions: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_subscription WHERE subdbid = d.oid) AS subscriptions
       FROM pg_database d WHERE datname = $1`,
      [name],
    );
    if (found?.subscriptions) await withSession(connection, { database: name, signal }, dropSubscriptions);
    await session.query(`DROP DATABASE IF EXISTS ${identifier(name)}${force ? " WITH (FORCE)" : ""}`);
  });
}

async function dropSubscriptions(session: Session): Promise<void> {
  // A restored event trigger could refuse what follows; those on event triggers themselves do not exist.
  for (const { name } of await session.query<{ name: string }>("SELECT evtname AS name FROM pg_event_trigger"))
    await session.query(`DROP EVENT TRIGGER ${identifier(name)}`);
  const subscriptions = await session.query<{ name: string }>(
    `SELECT subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
     WHERE d.datname = current_database()`,
  );
  for (const { name } of subscriptions) {
    const subscription = `SUBSCRIPTION ${identifier(name)}`;
    await session.query(`ALTER ${subscription} DISABLE`);
    // Without this, dropping it would drop the slot on the publisher, which is the live subscription's.
    await session.query(`ALTER ${subscription} SET (slot_name = NONE)`);
    await session.query(`DROP ${subscription}`);
  }
}
