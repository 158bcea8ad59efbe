import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Connection } from "../postgres/connection.ts";
import { withSession } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import { spellAddress } from "../switch/switch-errors.ts";
import type { Endpoint } from "../switch/switcher.ts";
import type { MoveContext, Side } from "./step.ts";

/** An endpoint that does not answer from here must not cost the block its time. */
const connectTimeoutS = "3";

/** too_many_connections, or no privilege: what whoever logs in to the closed database is told, once the password was right. */
const closedStates: readonly (string | undefined)[] = ["53300", "42501"];

/**
 * Proves that this endpoint leads to the target: as pgkit's own user by the system id, and that the application's user and
 * password, where they are known, let it in there. An endpoint that cannot be reached from here, or does not let pgkit's
 * own user in, proves nothing and is a warning; another server or a refused password fails.
 */
export async function provesTarget(context: MoveContext, where: string, endpoint: Endpoint): Promise<void> {
  const found = await systemIdAt(context, "target", endpoint);
  const wanted = context.move.target.systemId;
  if (found instanceof PgkitError) {
    context.report({
      type: "warning",
      message: `${where} is to point at ${spellAddress(endpoint)}, which could not be proven to be ${context.target.instance}: ${found.message}`,
      hint: "does the application reach its database there? after the switch, pgkit move rollback leads it back",
    });
    return;
  }
  if (found !== wanted) {
    throw new PgkitError(
      "system-mismatch",
      `${where} is to point at ${spellAddress(endpoint)}, a server with the system id ${found}, and not at ${context.target.instance} (${wanted})`,
      { hint: `correct instances.${context.target.instance}.endpoint, then pgkit move resume` },
    );
  }
  await letsIn(context, where, endpoint);
}

/** The system id of the server that pgkit's own user finds there, or why it finds none. */
export async function systemIdAt(context: MoveContext, side: Side, endpoint: Endpoint): Promise<string | PgkitError> {
  const { connection } = context[side];
  try {
    return await withSession(
      {
        ...connection,
        hosts: hostsOf(endpoint),
        parameters: { ...connection.parameters, connect_timeout: connectTimeoutS },
      },
      { database: endpoint.database, applicationName: "pgkit move", signal: context.signal },
      async (session) => {
        const [row] = await session.query<{ id: string }>(
          "SELECT system_identifier::text AS id FROM pg_control_system()",
        );
        return row?.id ?? "";
      },
    );
  } catch (error) {
    context.signal.throwIfAborted();
    if (isPgkitError(error)) return error;
    throw error;
  }
}

/** The database is closed to all but pgkit: to be told so takes the right password. */
async function letsIn(context: MoveContext, where: string, endpoint: Endpoint): Promise<void> {
  const { user, password, database } = endpoint;
  if (user === undefined || password === undefined) return;
  const connection: Connection = {
    ...{ user, password, database, hosts: hostsOf(endpoint), sslMode: "prefer" },
    parameters: { connect_timeout: connectTimeoutS },
  };
  try {
    await withSession(connection, { applicationName: "pgkit move", signal: context.signal }, async () => undefined);
  } catch (error) {
    context.signal.throwIfAborted();
    if (closedStates.includes(sqlStateOf(error))) return;
    throw new PgkitError(
      "postgres-denied",
      `${where} is to point at ${spellAddress(endpoint)}, which does not let ${user} in: ${messageOf(error)}`,
      {
        hint: `give ${user} on ${context.target.instance} the password that the application has, and let it in by pg_hba.conf`,
        cause: error,
      },
    );
  }
}

/** An endpoint may have several hosts, with their own ports where those differ. */
function hostsOf({ host, port }: Endpoint): Connection["hosts"] {
  if (!host.includes(",")) return [{ host, port }];
  return host.split(",").map((entry) => {
    const [, bracketed, plain = "", own] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
    return { host: bracketed ?? plain, port: own === undefined ? port : Number(own) };
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
