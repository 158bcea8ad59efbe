import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lib/lsn.ts";
import type { Session } from "./session.ts";
import { sqlStateOf } from "./session-errors.ts";

export interface SlotFacts {
  name: string;
  kind: "physical" | "logical";
  /** The server process that uses it at this moment. */
  activePid: number | undefined;
  /** The server keeps all WAL from here on; `undefined` when it keeps none for this slot, or has lost it. */
  restartLsn: Lsn | undefined;
  /** `lost`: WAL that the slot was to keep is removed, and the slot can only be dropped. */
  walStatus: "reserved" | "extended" | "unreserved" | "lost" | undefined;
}

/** What the server says of a slot, `undefined` when there is none of this name. */
export async function readSlot(session: Session, name: string): Promise<SlotFacts | undefined> {
  const [row] = await session.query<{ kind: string; pid: number | null; lsn: string | null; status: string | null }>(
    `SELECT slot_type AS kind, active_pid AS pid, restart_lsn::text AS lsn, wal_status AS status
     FROM pg_replication_slots WHERE slot_name = $1`,
    [name],
  );
  if (row === undefined) return undefined;
  return {
    name,
    kind: row.kind === "physical" ? "physical" : "logical",
    activePid: row.pid ?? undefined,
    restartLsn: row.lsn === null ? undefined : parseLsn(row.lsn),
    walStatus: (row.status as SlotFacts["walStatus"] | null) ?? undefined,
  };
}

/** Makes a physical slot that keeps WAL from this moment on. Fails with `server-settings` when there are too many. */
export async function createSlot(session: Session, name: string): Promise<SlotFacts> {
  try {
    await session.query("SELECT pg_create_physical_replication_slot($1, true)", [name]);
  } catch (error) {
    if (sqlStateOf(error) !== "53400") throw error;
    throw new PgkitError("server-settings", `the server has no room for the replication slot ${name}`, {
      hint: "drop a slot that nobody uses, or raise max_replication_slots and restart the server",
      cause: error,
    });
  }
  const slot = await readSlot(session, name);
  if (slot !== undefined) return slot;
  throw new PgkitError("postgres-failed", `the replication slot ${name} is gone right after it was made`, {
    hint: "does something else drop it?",
  });
}

/** Lets the server remove what is before `lsn`. Also tells it that the slot is in use, when it stays where it is. */
export async function advanceSlot(session: Session, name: string, lsn: Lsn): Promise<void> {
  try {
    await session.query("SELECT pg_replication_slot_advance($1, $2::pg_lsn)", [name, formatLsn(lsn)]);
  } catch (error) {
    if (sqlStateOf(error) === "55006") throw slotTaken(name, undefined, error);
    throw error;
  }
}

/** One that is not there is not an error. Fails with `locked` when somebody uses it. */
export async function dropSlot(session: Session, name: string): Promise<void> {
  try {
    await session.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", [
      name,
    ]);
  } catch (error) {
    if (sqlStateOf(error) === "55006") throw slotTaken(name, undefined, error);
    if (sqlStateOf(error) !== "42704") throw error;
  }
}

export function slotTaken(name: string, pid: number | undefined, cause?: unknown): PgkitError {
  const by = pid === undefined ? "another process" : `the server's process ${pid}`;
  return new PgkitError("locked", `the replication slot ${name} is in use by ${by}`, {
    hint: "pgkit needs a slot of its own: name another by archive.slot, or end what uses it (pg_stat_replication shows it)",
    cause,
  });
}
