import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lib/lsn.ts";
import type { Session } from "../postgres/session.ts";
import type { MoveContext, Side } from "./step.ts";
import { otherSide } from "./subscription.ts";

/**
 * Writes an empty message to the WAL and flushes it with all before it, also where the application commits without
 * waiting (synchronous_commit = off). Gives the position behind it. Needs no `wal_level = logical`.
 */
export async function flushPosition(session: Session): Promise<Lsn> {
  await session.query(
    "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'pgkit', '')",
  );
  const [row] = await session.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
  return parseLsn(row?.lsn ?? "");
}

export interface Confirmation {
  /** The side that sends. */
  from: Side;
  /** The feed's name: of its slot and of its subscription. */
  name: string;
  lsn: Lsn;
  /** Milliseconds between two looks. */
  everyMs?: number;
  /** Called at each look with the bytes that are missing; throws to end the wait. */
  onLook?: (missingBytes: number) => Promise<void> | void;
}

/**
 * Waits until the receiving side has applied and flushed all that the sending one committed before `lsn`: the slot's
 * confirmed position is there. Both servers are kept awake meanwhile: an idle worker would answer after a second, and one
 * whose commits are not flushed yet after up to 0.6 s.
 */
export async function waitConfirmed(context: MoveContext, wait: Confirmation): Promise<void> {
  const { from, name, lsn, everyMs = 4, onLook } = wait;
  await context.session(from, (sending) =>
    context.session(otherSide(from), async (receiving) => {
      for (;;) {
        const [confirmed] = await Promise.all([confirmedBy(sending, name), flushPosition(receiving)]);
        if (confirmed >= lsn) return;
        await onLook?.(Number(lsn - confirmed));
        await flushPosition(sending);
        await context.clock.delay(everyMs, context.signal);
      }
    }),
  );
}

/** The position up to which the subscriber has all. Fails with `move-stopped` where the slot is gone or lost. */
export async function confirmedBy(sending: Session, name: string): Promise<Lsn> {
  const [row] = await sending.query<{ lsn: string | null; status: string | null }>(
    "SELECT confirmed_flush_lsn::text AS lsn, wal_status AS status FROM pg_replication_slots WHERE slot_name = $1",
    [name],
  );
  if (row?.lsn != null && row.status !== "lost") return parseLsn(row.lsn);
  const what = row === undefined ? "is gone" : "has lost WAL that was not sent yet (max_slot_wal_keep_size)";
  throw new PgkitError("move-stopped", `the replication slot ${name} ${what}`, {
    hint: "pgkit move rollback, then move again",
  });
}

/** Skips all that the slot has not sent yet. */
export async function skipTo(session: Session, name: string, lsn: Lsn): Promise<void> {
  if ((await confirmedBy(session, name)) >= lsn) return;
  await session.query("SELECT pg_replication_slot_advance($1, $2::pg_lsn)", [name, formatLsn(lsn)]);
}
