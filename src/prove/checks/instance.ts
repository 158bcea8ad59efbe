import { isPgkitError } from "../../lib/errors.ts";
import { addressOf, type Connection } from "../../postgres/connection.ts";
import type { Programs } from "../../postgres/programs.ts";
import { type ServerFacts, serverFacts } from "../../postgres/server-facts.ts";
import { openSession, type Session } from "../../postgres/session.ts";
import type { RetentionPolicy } from "../../repo/retention.ts";
import { onCancel, orCancelled } from "../../store/cancel.ts";
import type { ArchivingServer } from "../../wal/health.ts";
import type { Found, Ledger, RunOptions } from "../ledger.ts";
import { authentication, transport } from "./access.ts";
import { type ArchivingUnderCheck, askArchiving } from "./archiving.ts";
import { checkDatabases, type DatabaseChoice } from "./databases.ts";
import { restorePrivileges } from "./privileges.ts";
import { checkPrograms, checkVersion } from "./programs.ts";
import { checkServer } from "./server.ts";

/** An instance as the configuration has it. */
export interface InstanceUnderCheck {
  readonly name: string;
  readonly databases: DatabaseChoice;
  /** Connections that backups may hold on the server at once. */
  readonly connections: number;
  readonly schedule: {
    readonly logical: string | undefined;
    readonly base?: string | undefined;
    readonly timeZone: string;
    readonly graceMs: number;
  };
  /** Left out where nothing is to be said of continuous archiving. */
  readonly archiving?: ArchivingUnderCheck;
  readonly retention: RetentionPolicy;
  /** With its password. Fails with `config` where that is not to be had. */
  connection(): Promise<Connection>;
  programsFor(major: number, options: { server: boolean }): Promise<Programs>;
}

/** What the checks of the backups need to know of an instance. */
export interface InstanceFacts {
  server: ServerFacts;
  /** Those that a backup takes; `undefined` where they could not be found out. */
  databases: readonly string[] | undefined;
  /** `undefined` where it was not asked for, or could not be found out. */
  archiving: ArchivingServer | undefined;
}

const goodbyeMs = 2_000;

/** A session that is asked one question after the other, each within the deadline. */
export interface Interview {
  readonly connection: Connection;
  readonly server: ServerFacts;
  ask<T>(
    check: string,
    work: (session: Session, found: Found) => Promise<T>,
    options?: RunOptions,
  ): Promise<T | undefined>;
}

/** Gives what was learned, `undefined` when the server cannot be asked. */
export async function checkInstance(ledger: Ledger, instance: InstanceUnderCheck): Promise<InstanceFacts | undefined> {
  const connection = await ledger.run("password", () => instance.connection());
  if (connection === undefined) return undefined;
  const opened = await ledger.run("connection", (found) => connect(connection, found), {
    late: "postgres-unreachable",
  });
  if (opened === undefined) return undefined;
  const { session, server } = opened;
  const interview: Interview = { connection, server, ask: asker(ledger, session) };
  try {
    await checkVersion(ledger, server);
    await checkPrograms(ledger, server, instance);
    await interview.ask("tls", (_, found) => transport(session, found, connection));
    await interview.ask("authentication", (_, found) => authentication(session, found, interview));
    const databases = await checkDatabases(ledger, interview, instance);
    await interview.ask("restore privileges", (_, found) => restorePrivileges(session, found, interview));
    await checkServer(interview, instance);
    const archiving = instance.archiving && (await askArchiving(interview));
    return { server, databases, archiving };
  } finally {
    await closeInTime(session);
  }
}

/** A server that has fallen silent does not say goodbye either; whether it does changes no finding. */
async function closeInTime(session: Session): Promise<void> {
  const limit = AbortSignal.timeout(goodbyeMs);
  await orCancelled(session.close(), limit).catch((error: unknown) => {
    if (!limit.aborted) throw error;
  });
}

async function connect(connection: Connection, found: Found): Promise<{ session: Session; server: ServerFacts }> {
  const session = await openSession(connection, { applicationName: "pgkit check", signal: found.signal });
  // Past the deadline nobody else would close it.
  const stop = onCancel(found.signal, () => void session.close());
  try {
    const server = await serverFacts(session);
    found.ok(`PostgreSQL ${server.version} answers at ${addressOf(connection)} to ${connection.user}`);
    return { session, server };
  } catch (error) {
    await session.close();
    throw error;
  } finally {
    stop();
  }
}

/** Once the connection is lost, every further question would only tell that again. */
function asker(ledger: Ledger, session: Session): Interview["ask"] {
  let lost = false;
  return async (check, work, options = {}) => {
    if (lost) {
      return ledger
        .run(check, async (found) => found.warning("not checked: the connection was lost", "check again"))
        .then(() => undefined);
    }
    return ledger.run(
      check,
      async (found) => {
        const stop = onCancel(found.signal, () => {
          lost = true;
          // With a question under way this cuts the connection, which a server that hangs does not notice.
          void session.close();
        });
        try {
          return await work(session, found);
        } catch (error) {
          lost ||= isPgkitError(error, "postgres-unreachable");
          throw error;
        } finally {
          stop();
        }
      },
      { late: "postgres-unreachable", ...options },
    );
  };
}
