import { isPgkitError } from "../../lib/errors.ts";
import type { Connection } from "../../postgres/connection.ts";
import { withSession } from "../../postgres/session.ts";
import type { Endpoint, Switcher } from "../../switch/switcher.ts";
import type { MoveContext } from "../step.ts";
import { type Found, type Known, refusal, some, warning } from "./known.ts";

/** Who uses the database, and whether those who do are switched. */
export async function trafficRisks(known: Known): Promise<Found[]> {
  const { context } = known;
  const risks = await Promise.all(context.switchers.map((switcher) => switcherRisks(known, switcher)));
  return [...otherUsers(known), ...noSwitcher(known), ...risks.flat()];
}

/** One role by one name from several addresses is one application with several replicas. */
function otherUsers({ context: { source }, database }: Known): Found[] {
  const clients = database.sessions.map(
    ({ user, application }) => `${user}${application === "" ? "" : ` (${application})`}`,
  );
  const unique = [...new Set(clients)];
  if (unique.length < 2) return [];
  const message = `${unique.length} different clients use the database on ${source.instance} now: ${some(unique)}`;
  return [warning(message, "each that is not pointed to the target by the switch is refused on the source afterwards")];
}

function noSwitcher({ context: { move, switchers } }: Known): Found[] {
  if (switchers.length > 0) return [];
  const message = "nothing points the application to the target: pgkit knows no switch for it";
  const key = move.application === undefined ? "applications" : `applications.${move.application}.switch`;
  return [warning(message, `give it by ${key} or --switch-command; or point it there by hand right after the move`)];
}

async function switcherRisks(known: Known, switcher: Switcher): Promise<Found[]> {
  const { context } = known;
  let endpoint: Endpoint;
  try {
    endpoint = await switcher.current(context.signal);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!isPgkitError(error)) throw error;
    return [
      refusal(
        `${switcher.where} does not say where it points: ${error.message}`,
        error.hint ?? "can it be reached from here?",
      ),
    ];
  }
  const planned = await switcher.plan?.(
    { ...context.target.endpoint, database: context.move.database },
    context.signal,
  );
  return [
    ...(await pointsRisks(known, switcher, endpoint)),
    ...(planned?.refusals ?? []).map(({ message, hint }) => refusal(message, hint)),
    ...(planned?.warnings ?? []).map(({ message, hint }) => warning(message, hint)),
  ];
}

async function pointsRisks(known: Known, { where }: Switcher, endpoint: Endpoint): Promise<Found[]> {
  const { context, source, target } = known;
  const { database } = context.move;
  const address = `${endpoint.host}:${endpoint.port}`;
  const to = `instances.${context.source.instance}.endpoint`;
  if (endpoint.database !== database) {
    return [
      refusal(
        `${where} points at database ${endpoint.database}, and ${database} is to be moved`,
        "is it the switch of another application?",
      ),
    ];
  }
  const systemId = await systemIdAt(context, endpoint);
  if (systemId === source.systemId) return [];
  if (systemId === target.systemId) {
    return [
      refusal(
        `${where} points at ${address} already, which is ${context.target.instance}`,
        "is a move of it under way or done? pgkit move status",
      ),
    ];
  }
  if (systemId !== undefined) {
    return [
      refusal(
        `${where} points at ${address}, which is neither server of the move (system id ${systemId})`,
        "does the application live on another instance?",
      ),
    ];
  }
  if (isSpelled(context, endpoint)) return [];
  const message = `${where} points at ${address}, and nobody can tell from here whether that is ${context.source.instance}`;
  return [warning(message, `where it is, say so by ${to}: { host: ${endpoint.host}, port: ${endpoint.port} }`)];
}

/** As the configuration spells the source, for applications or for pgkit. */
function isSpelled({ source }: MoveContext, { host, port }: Endpoint): boolean {
  const known = [source.endpoint, ...source.connection.hosts, ...source.peer.hosts];
  return known.some((each) => each.host === host && each.port === port);
}

/**
 * Asks the server there as the application itself would; `undefined` where no password is known or it cannot be asked
 * from here, such as for a name that only resolves inside a cluster.
 */
async function systemIdAt(
  context: MoveContext,
  { host, port, database, user, password }: Endpoint,
): Promise<string | undefined> {
  if (user === undefined || password === undefined) return undefined;
  const connection: Connection = {
    ...{ hosts: [{ host, port }], user, password, database, sslMode: "prefer" },
    parameters: { connect_timeout: "5" },
  };
  try {
    return await withSession(
      connection,
      { database, applicationName: "pgkit move", signal: context.signal },
      async (session) => {
        const [row] = await session.query<{ id: string }>(
          "SELECT system_identifier::text AS id FROM pg_control_system()",
        );
        return row?.id;
      },
    );
  } catch (error) {
    context.signal.throwIfAborted();
    if (isPgkitError(error)) return undefined;
    throw error;
  }
}
