import { isPgkitError } from "../lib/errors.ts";
import { addressOf } from "../postgres/connection.ts";
import type { Replication } from "../postgres/replication.ts";
import type { Session } from "../postgres/session.ts";
import type { BaseOrder } from "./base-engine.ts";

/**
 * The server sends the WAL of a backup at its end, and may have removed some by then: a slot of this connection, which ends
 * with it, keeps it.
 */
export async function keepWal(order: BaseOrder, replication: Replication): Promise<void> {
  await orWarn(order, () =>
    replication.run({ text: `CREATE_REPLICATION_SLOT "${order.slot}" TEMPORARY PHYSICAL (RESERVE_WAL)` }),
  );
}

/**
 * The same for as long as `take` runs, by a slot of the session: pg_basebackup makes one only where it streams the WAL, which
 * it then writes as an archive of its own.
 */
export async function keepingWal<Result>(
  order: BaseOrder,
  session: Session,
  take: () => Promise<Result>,
): Promise<Result> {
  const { slot } = order;
  const keeps = await orWarn(order, () =>
    session.query("SELECT pg_create_physical_replication_slot($1, true, true)", [slot]),
  );
  const taken = await take();
  // After a failure the session ends, and the slot with it.
  if (keeps) await session.query("SELECT pg_drop_replication_slot($1)", [slot]);
  return taken;
}

async function orWarn({ connection, report }: BaseOrder, make: () => Promise<unknown>): Promise<boolean> {
  try {
    await make();
    return true;
  } catch (error) {
    // Who may not replicate is told so by what comes next.
    if (!isPgkitError(error, "postgres-failed", "postgres-denied")) throw error;
    const message = `${addressOf(connection)} keeps no WAL for this backup: ${error.message}`;
    report({ type: "warning", message, hint: "should it fail since WAL was removed: raise max_replication_slots" });
    return false;
  }
}
