import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import { chooseServer } from "../postgres/choose-server.ts";
import { addressOf, type Connection } from "../postgres/connection.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import { assertCanBackup, type InstanceFacts, instanceFacts } from "./base-facts.ts";

/** The server that sends a base backup, and the primary that it follows where it is a standby. */
export interface BaseServers {
  /** One host. */
  connection: Connection;
  session: Session;
  facts: InstanceFacts;
  /** `undefined`: the server that sends is the primary, or no primary answers. */
  primary: Primary | undefined;
}

export interface Primary {
  connection: Connection;
  facts: InstanceFacts;
}

interface ServersRequest {
  instance: string;
  connection: Connection;
  standby: Connection | undefined;
  report: Report;
  signal: AbortSignal;
}

/**
 * Chooses the server that a base backup is taken from and runs `use` with a session of it. Fails with `system-mismatch` when
 * the standby is one of another system, and where the server's settings allow no base backup.
 */
export async function withServers<Result>(
  request: ServersRequest,
  use: (servers: BaseServers) => Promise<Result>,
): Promise<Result> {
  const { instance, signal } = request;
  const connection = await chooseServer(request.standby ?? request.connection, { signal });
  return withSession(connection, { signal }, async (session) => {
    const facts = await instanceFacts(session);
    assertCanBackup(facts, instance);
    const primary = facts.server.inRecovery ? await findPrimary(request) : undefined;
    if (primary !== undefined) assertSameSystem(request, connection, facts, primary);
    return use({ connection, session, facts, primary });
  });
}

async function findPrimary({ connection, signal, report }: ServersRequest): Promise<Primary | undefined> {
  try {
    const primary = await chooseServer(connection, { wanted: "primary", signal });
    return await withSession(primary, { signal }, async (session) => ({
      connection: primary,
      facts: await instanceFacts(session),
    }));
  } catch (error) {
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    report({ type: "warning", message: `the primary of this standby cannot be asked: ${why}`, hint: askPrimaryHint });
    return undefined;
  }
}

const askPrimaryHint = "the backup waits until the primary has filled its current WAL segment, or archive_timeout";

function assertSameSystem(request: ServersRequest, standby: Connection, facts: InstanceFacts, primary: Primary): void {
  const [here, there] = [facts.server.systemId, primary.facts.server.systemId];
  if (here === there) return;
  const message = `the standby ${addressOf(standby)} has the system id ${here}, instance ${request.instance} has ${there}`;
  throw new PgkitError("system-mismatch", message, { hint: "does base.standby name a standby of this instance?" });
}

/**
 * The end of a standby's backup is in the middle of a segment, which its primary archives once it is full: asks the primary
 * to go on to the next one.
 */
export async function switchWal({ primary }: BaseServers, { report, signal }: ServersRequest): Promise<void> {
  if (primary === undefined) return;
  try {
    await withSession(primary.connection, { signal }, (session) => session.query("SELECT pg_switch_wal()"));
  } catch (error) {
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    const { user } = primary.connection;
    const grant = `GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "${user}"`;
    const hint = sqlStateOf(error) === "42501" ? grant : askPrimaryHint;
    report({ type: "warning", message: `the primary does not switch to a new WAL segment: ${why}`, hint });
  }
}
