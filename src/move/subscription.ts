import { PgkitError } from "../lib/errors.ts";
import { identifier, literal } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import { dropSlot, readSlot } from "../postgres/slot.ts";
import { endProcesses } from "./end-processes.ts";
import { grantPeerAccess, revokePeerAccess, silently } from "./peer.ts";
import { type PublishedTable, publicationList } from "./published.ts";
import type { MoveContext, Side } from "./step.ts";

/** What of a feed there is: publication and slot on the side that sends, subscription on the one that receives. */
export interface FeedState {
  publication: boolean;
  slot: boolean;
  subscription: "missing" | "enabled" | "disabled";
}

export function otherSide(side: Side): Side {
  return side === "source" ? "target" : "source";
}

/** Asks both servers. A database that is not there has nothing. */
export async function feedState(context: MoveContext, from: Side, name: string): Promise<FeedState> {
  const [sending, receiving] = await Promise.all([
    context.session(from, (session) =>
      session.query<{ publication: boolean; slot: boolean }>(
        `SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS publication,
           EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1) AS slot`,
        [name],
      ),
    ),
    context.session(otherSide(from), (session) => subscriptionState(session, name)),
  ]);
  return { publication: sending[0]?.publication === true, slot: sending[0]?.slot === true, subscription: receiving };
}

export async function subscriptionState(session: Session, name: string): Promise<FeedState["subscription"]> {
  const [row] = await session.query<{ enabled: boolean }>(
    `SELECT subenabled AS enabled FROM pg_subscription
     WHERE subname = $1 AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [name],
  );
  if (row === undefined) return "missing";
  return row.enabled ? "enabled" : "disabled";
}

/** Makes the publication of these tables where there is none; gives whether it made it. */
export async function ensurePublication(session: Session, name: string, tables: readonly PublishedTable[]) {
  const [found] = await session.query("SELECT FROM pg_publication WHERE pubname = $1", [name]);
  if (found !== undefined) return;
  const list = tables.length === 0 ? "" : ` FOR TABLE ${publicationList(tables)}`;
  await session.query(`CREATE PUBLICATION ${identifier(name)}${list}`);
}

/**
 * Makes the slot where there is none. PostgreSQL waits until every transaction that writes at this moment has ended, in
 * any database of the server. Fails with `server-settings`.
 */
export async function ensureSlot(session: Session, name: string): Promise<void> {
  if ((await readSlot(session, name)) !== undefined) return;
  try {
    await session.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [name]);
  } catch (error) {
    const state = sqlStateOf(error);
    if (state === "53400") throw needs("has no free replication slot", "raise max_replication_slots", error);
    if (state === "55000") throw needs("has wal_level below logical", "ALTER SYSTEM SET wal_level = 'logical'", error);
    throw error;
  }
}

function needs(what: string, hint: string, cause: unknown): PgkitError {
  const message = `the server ${what}, which a feed to another one needs`;
  return new PgkitError("server-settings", message, { hint: `${hint}, then restart the server`, cause });
}

export interface SubscriptionOptions {
  from: Side;
  name: string;
  copyData: boolean;
  binary: boolean;
  /** False: made where it is missing, and left as it is where it is not. */
  enabled?: boolean;
}

/** Makes the subscription to the other side where there is none, on the slot that is there; enables it where it is not. */
export async function ensureSubscription(
  context: MoveContext,
  { from, name, copyData, binary, enabled = true }: SubscriptionOptions,
): Promise<void> {
  await context.session(otherSide(from), async (session) => {
    const state = await subscriptionState(session, name);
    if (state === "disabled" && enabled) await enableSubscription(session, name);
    if (state !== "missing") return;
    const server = context[from];
    const access = await grantPeerAccess(session, { peer: server.peer, database: context.move.database, name });
    if (access.exposed !== undefined) warnOfPassword(context, from, access.exposed);
    const options = [
      ...["create_slot = false", `enabled = ${enabled}`, "streaming = off", `slot_name = ${literal(name)}`],
      ...[`copy_data = ${copyData}`, `binary = ${binary}`],
      // What came in by replication itself is not sent back; 15 has no such option.
      ...(context.move[otherSide(from)].major >= 16 && !copyData ? ["origin = none"] : []),
    ];
    await createQuietly(session, name, access.conninfo, options.join(", "));
  });
}

/** The connection string may hold a password: it is in the text of no statement that is sent, and in no log. */
async function createQuietly(session: Session, name: string, conninfo: string, options: string): Promise<void> {
  const statement = `CREATE SUBSCRIPTION ${identifier(name)} CONNECTION %L PUBLICATION ${identifier(name)} WITH (${options})`;
  await silently(session, async () => {
    await session.query("SELECT set_config('pgkit.conninfo', $1, true)", [conninfo]);
    await session.query(
      `DO ${literal(`BEGIN EXECUTE format(${literal(statement)}, current_setting('pgkit.conninfo')); END`)}`,
    );
  });
}

function warnOfPassword({ report, ...context }: MoveContext, from: Side, why: string): void {
  const server = context[otherSide(from)].instance;
  report({
    type: "warning",
    message: `the password for ${context[from].instance} stands in pg_subscription.subconninfo of ${server} until the move is finished: ${why}`,
    hint: "only superusers can read it there; pgkit as a superuser would keep it in a file of the server instead",
  });
}

export async function enableSubscription(session: Session, name: string): Promise<void> {
  await session.query(`ALTER SUBSCRIPTION ${identifier(name)} ENABLE`);
}

/** Stops the subscription's workers for good: it stays, disabled. One that is not there is not an error. */
export async function disableSubscription(session: Session, name: string): Promise<void> {
  if ((await subscriptionState(session, name)) === "missing") return;
  await session.query(`ALTER SUBSCRIPTION ${identifier(name)} DISABLE`);
  // PostgreSQL 15 does not wake an idle worker for that.
  await endProcesses(
    session,
    `SELECT pid FROM pg_stat_subscription WHERE subname = ${literal(name)} AND pid IS NOT NULL`,
  );
}

/**
 * Drops the subscription without asking the other server, which may be gone, and the file with its password. Nothing is an
 * error that is not there.
 */
export async function dropSubscription(session: Session, name: string): Promise<void> {
  if ((await subscriptionState(session, name)) !== "missing") {
    await disableSubscription(session, name);
    await session.query(`ALTER SUBSCRIPTION ${identifier(name)} SET (slot_name = NONE)`);
    await session.query(`DROP SUBSCRIPTION ${identifier(name)}`);
  }
  await revokePeerAccess(session, name);
}

/** Drops slots and publication on the side that sends; also those that an initial copy has left there. */
export async function dropPublication(session: Session, name: string, subscriptionOids: readonly number[] = []) {
  await dropOwnSlot(session, name);
  for (const oid of subscriptionOids) await dropCopySlots(session, oid);
  await session.query(`DROP PUBLICATION IF EXISTS ${identifier(name)}`);
}

/** `pg_<subscription>_sync_<table>_<system>`: left where the copy of a table was cut. */
async function dropCopySlots(session: Session, subscriptionOid: number): Promise<void> {
  const slots = await session.query<{ name: string }>(
    `SELECT slot_name AS name FROM pg_replication_slots
     WHERE database = current_database() AND slot_name LIKE 'pg\\_' || $1::text || '\\_sync\\_%'`,
    [String(subscriptionOid)],
  );
  for (const { name } of slots) await dropOwnSlot(session, name);
}

/** Also where it is in use: that walsender is ended. */
async function dropOwnSlot(session: Session, name: string): Promise<void> {
  await endProcesses(
    session,
    `SELECT active_pid FROM pg_replication_slots
     WHERE slot_name = ${literal(name)} AND active_pid IS NOT NULL AND database = current_database()`,
  );
  await dropSlot(session, name);
}
