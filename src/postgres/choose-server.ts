import { PgkitError } from "../lib/errors.ts";
import { addressOf, type Connection } from "./connection.ts";
import { withSession } from "./session.ts";

/**
 * The one host of a connection that its target_session_attrs ask for, as libpq would choose it, so that several
 * connections reach the same server. `wanted` stands over the connection's own. Fails with `postgres-unreachable` when no
 * host is one.
 */
export async function chooseServer(
  connection: Connection,
  { wanted, signal }: { wanted?: "primary" | "standby"; signal?: AbortSignal | undefined } = {},
): Promise<Connection> {
  const attributes = wanted ?? connection.parameters["target_session_attrs"] ?? "any";
  if (connection.hosts.length === 1 && (attributes === "any" || attributes === "prefer-standby")) return connection;
  const failures: unknown[] = [];
  const others: Connection[] = [];
  for (const host of connection.hosts) {
    signal?.throwIfAborted();
    const single = { ...connection, hosts: [host] };
    try {
      if (fits(attributes, await isStandby(single, signal))) return single;
      others.push(single);
    } catch (error) {
      failures.push(error);
    }
  }
  const [other] = others;
  if (attributes === "prefer-standby" && other !== undefined) return other;
  if (other === undefined) throw failures[0];
  throw new PgkitError("postgres-unreachable", `none of ${addressOf(connection)} is a ${attributes} server`, {
    hint: "name the hosts of all its servers in the URL; target_session_attrs says which one is wanted",
  });
}

function fits(attributes: string, standby: boolean): boolean {
  switch (attributes) {
    case "primary":
    case "read-write":
      return !standby;
    case "standby":
    case "prefer-standby":
    case "read-only":
      return standby;
    default:
      return true;
  }
}

async function isStandby(connection: Connection, signal: AbortSignal | undefined): Promise<boolean> {
  return withSession(connection, { signal }, async (session) => {
    const [row] = await session.query<{ standby: boolean }>("SELECT pg_is_in_recovery() AS standby");
    return row?.standby === true;
  });
}
