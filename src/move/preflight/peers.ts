import { isPgkitError } from "../../lib/errors.ts";
import { identifier, literal } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { grantPeerAccess, revokePeerAccess, silently } from "../peer.ts";
import type { Side } from "../step.ts";
import { type Found, type Known, onlineRefusal, refusal } from "./known.ts";

/** Of what is made in a transaction that is rolled back. */
const probe = "pgkit_probe";

/**
 * Whether each server reaches the other as `peer` says, with pg_hba.conf and password: it is asked to subscribe, in a
 * transaction that is rolled back. Without a slot, and to a publication that there is not, which is only a warning.
 */
export async function peerRisks(known: Known): Promise<Found[]> {
  const { context, source, target } = known;
  const { mode, options } = context.move;
  const receivers: Side[] = [
    ...(mode === "online" ? (["target"] as const) : []),
    ...(options.reverseFeed ? (["source"] as const) : []),
  ];
  if (!source.superuser || source.systemId === target.systemId) return [];
  const risks = await Promise.all(receivers.map((side) => reach(known, side)));
  return risks.flat();
}

async function reach({ context }: Known, receiver: Side): Promise<Found[]> {
  const sender = receiver === "source" ? "target" : "source";
  const { peer } = context[sender];
  // The moved database is not on the target yet.
  const database = sender === "source" ? context.move.database : context.target.connection.database;
  const maintenance = context[receiver].connection.database;
  const error = await context.session(receiver, (session) => tryToSubscribe(session, peer, database), maintenance);
  // Of the database that is only asked in; the moved one will be its own to make things in.
  if (error === undefined || /permission denied for database/.test(error)) return [];
  const may = /must be superuser|privileges of the|permission denied to create subscription/i;
  if (receiver === "target" && may.test(error)) return [mayNotSubscribe(context, error)];
  const [from, to] = [context[sender].instance, context[receiver].instance];
  const message = `${to} does not reach ${from} for logical replication: ${error}`;
  return [
    refusal(
      message,
      `let it in by a line of pg_hba.conf on ${from}; where ${to} needs another address, name it by instances.${from}.peer`,
    ),
  ];
}

function mayNotSubscribe({ target }: Known["context"], error: string): Found {
  const { instance, connection } = target;
  return onlineRefusal(
    `${connection.user} may not subscribe on ${instance}: ${error}`,
    `GRANT pg_create_subscription TO ${identifier(connection.user)} there, which PostgreSQL 16 and newer have`,
  );
}

async function tryToSubscribe(
  session: Session,
  peer: Parameters<typeof grantPeerAccess>[1]["peer"],
  database: string,
): Promise<string | undefined> {
  const { conninfo } = await grantPeerAccess(session, { peer, database, name: probe });
  const options = "connect = true, create_slot = false, enabled = false, copy_data = false, slot_name = NONE";
  const statement = `CREATE SUBSCRIPTION ${probe} CONNECTION %L PUBLICATION ${probe} WITH (${options})`;
  const failed = "pgkit: it can be done";
  // The exception at its end takes back what was made; nothing of it is ever committed.
  const body = `BEGIN EXECUTE format(${literal(statement)}, current_setting('pgkit.conninfo')); RAISE EXCEPTION ${literal(failed)}; END`;
  try {
    await silently(session, async () => {
      await session.query("SELECT set_config('pgkit.conninfo', $1, true)", [conninfo]);
      await session.query(`DO ${literal(body)}`);
    });
    return undefined;
  } catch (error) {
    if (!isPgkitError(error, "postgres-failed", "postgres-denied", "postgres-unreachable")) throw error;
    return error.message.includes(failed) ? undefined : error.message;
  } finally {
    await revokePeerAccess(session, probe);
  }
}
