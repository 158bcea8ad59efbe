import { chooseDatabases } from "../../backup/logical.ts";
import { budget } from "../../lib/budget.ts";
import { matchesPattern } from "../../lib/pattern.ts";
import { identifier } from "../../postgres/quote.ts";
import { type DatabaseEntry, listDatabases } from "../../postgres/server-facts.ts";
import { type Session, withSession } from "../../postgres/session.ts";
import { onCancel } from "../../store/cancel.ts";
import type { Found, Ledger } from "../ledger.ts";
import type { InstanceUnderCheck, Interview } from "./instance.ts";
import { type DatabaseRights, rightsIn, tellPrivileges } from "./privileges.ts";
import { some } from "./some.ts";

/** Patterns; `include: undefined` is every database but the templates. */
export interface DatabaseChoice {
  readonly include: readonly string[] | undefined;
  readonly exclude: readonly string[];
}

/** Sessions to databases at once, besides the one that is open anyway; fewer where backups may not have so many. */
const sessionsAtOnce = 2;

/** Which databases a backup takes, and what it would miss in each. Gives their names. */
export async function checkDatabases(
  ledger: Ledger,
  interview: Interview,
  instance: InstanceUnderCheck,
): Promise<readonly string[] | undefined> {
  const chosen = await interview.ask("databases", async (session, found) => {
    const all = await listDatabases(session);
    const taken = chooseDatabases(all, { instance: instance.name, databases: [], ...instance.databases });
    tellChoice(found, all, taken, instance);
    const closed = await session.query<{ name: string }>(
      "SELECT datname AS name FROM pg_database WHERE NOT has_database_privilege(oid, 'CONNECT')",
    );
    return { names: taken.map(({ name }) => name), closed: closed.map(({ name }) => name) };
  });
  if (chosen === undefined) return undefined;
  const limit = budget(Math.max(1, Math.min(sessionsAtOnce, instance.connections - 1)));
  const looks = chosen.names.map((database) => {
    const inside = ledger.about(`database ${instance.name}/${database}`);
    return chosen.closed.includes(database)
      ? tellClosed(inside, interview, database)
      : limit.spend(1, () => lookInto(inside, interview, database));
  });
  const looked = await Promise.all(looks);
  await ledger.run("backup privileges", async (found) => tellPrivileges(found, interview, looked));
  return chosen.names;
}

function tellChoice(
  found: Found,
  all: readonly DatabaseEntry[],
  taken: readonly DatabaseEntry[],
  { name, databases: { include } }: InstanceUnderCheck,
) {
  const names = taken.map((database) => database.name);
  const left = all.map((database) => database.name).filter((each) => !names.includes(each));
  const without = left.length === 0 ? "" : `, without ${some(left)}`;
  const unmatched = (include ?? []).filter((pattern) => !all.some((each) => matchesPattern(each.name)(pattern)));
  const remedy = `correct databases of instance ${name}; there are: ${some(all.map((each) => each.name))}`;
  if (names.length === 0) return found.error(`no database is backed up${without}`, remedy, "config");
  if (unmatched.length > 0)
    return found.warning(`databases.include names ${some(unmatched)}, and there is no such database`, remedy);
  found.ok(`${names.length} to back up: ${some(names)}${without}`);
}

async function tellClosed(inside: Ledger, { connection: { user } }: Interview, database: string): Promise<undefined> {
  await inside.run("privileges", async (found) => {
    const remedy = `GRANT CONNECT ON DATABASE ${identifier(database)} TO ${identifier(user)}`;
    found.error(`${user} may not connect to it`, remedy, "postgres-denied");
  });
}

/** One session a database, for what can only be seen from inside. */
async function lookInto(
  inside: Ledger,
  { connection, server }: Interview,
  database: string,
): Promise<DatabaseRights | undefined> {
  const options = { database, applicationName: "pgkit check" };
  return inside.run(
    "privileges",
    (found) =>
      withSession(connection, { ...options, signal: found.signal }, async (session) => {
        const stop = onCancel(found.signal, () => void session.close());
        try {
          await inside.run("indexes", (told) => tellInvalidIndexes(session, told), { failsAs: "warning" });
          return await rightsIn(session, found, connection.user, server.superuser);
        } finally {
          stop();
        }
      }),
    { late: "postgres-unreachable" },
  );
}

/** They cost every write and serve no query; CREATE INDEX CONCURRENTLY leaves one when it fails. */
async function tellInvalidIndexes(session: Session, found: Found): Promise<void> {
  const rows = await session.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT i.indisvalid AND c.relkind = 'i'
       AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) ORDER BY 1, 2`,
  );
  if (rows.length === 0) return;
  const names = rows.map(({ schema, name }) => `${identifier(schema)}.${identifier(name)}`);
  const rebuild = names.slice(0, 3).map((each) => `REINDEX INDEX CONCURRENTLY ${each}`);
  found.warning(`invalid indexes: ${some(names)}`, `${rebuild.join("; ")}, or drop them`);
}
