import { formatBytes, formatDuration } from "../../lib/parse.ts";
import { identifier, literal } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { findLeftovers } from "../../restore/leftovers.ts";
import type { Found } from "../ledger.ts";
import type { InstanceUnderCheck, Interview } from "./instance.ts";
import { tellSkew } from "./skew.ts";
import { some } from "./some.ts";

/** An hour: no two-phase commit takes so long. */
export const hangingAfterS = 3600;
/** Transactions; the server refuses new ones at 2,100 million, and fails safe by itself from 1,600 million on. */
const oldAge = 1_000_000_000;
const dangerousAge = 1_800_000_000;

/** The state of the server as far as backups, restores or their content depend on it. */
export async function checkServer({ ask, server }: Interview, instance: InstanceUnderCheck): Promise<void> {
  const health = { failsAs: "warning" } as const;
  await ask("connections", (session, found) => connections(session, found, server.superuser, instance), health);
  if (server.inRecovery) await ask("standby", async (_, found) => standby(found), health);
  await ask("clock", clock, health);
  await ask("checksums", checksums, health);
  await ask("collations", collations, health);
  await ask("wraparound", wraparound, health);
  await ask("prepared transactions", (session, found) => preparedTransactions(session, found, hangingAfterS), health);
  await ask("cut restores", cutRestores, health);
}

async function connections(
  session: Session,
  found: Found,
  superuser: boolean,
  { name, connections: wanted }: InstanceUnderCheck,
): Promise<void> {
  const [row] = await session.query<{ most: number; reserved: number; used: number; roleLimit: number }>(
    `SELECT current_setting('max_connections')::int AS most,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
       (SELECT sum(numbackends)::int FROM pg_stat_database) AS used,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user) AS "roleLimit"`,
  );
  const { most = 0, reserved = 0, used = 0, roleLimit = -1 } = row ?? {};
  // The one that asks is free again when backups run.
  const left = most - (superuser ? 0 : reserved) - used + 1;
  const free = roleLimit >= 0 && !superuser ? Math.min(left, roleLimit) : left;
  const message = `${used} of ${most} in use, ${free} free for a backup, which takes up to ${wanted}`;
  const remedy = `set instances.${name}.connections to ${Math.max(2, free)} or less, or raise max_connections or the role's limit`;
  if (free < 2) return found.error(`${message}: it needs 2 at least`, remedy);
  if (free < wanted) return found.warning(message, remedy);
  found.ok(message);
}

function standby(found: Found): void {
  found.warning(
    "this is a standby: it can be backed up, though replay may cancel a long dump, and nothing can be restored into it",
    "set hot_standby_feedback = on, or a larger max_standby_streaming_delay; restore into the primary",
  );
}

async function clock(session: Session, found: Found): Promise<void> {
  const [row] = await session.query<{ ms: number }>(
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms",
  );
  tellSkew(found, (row?.ms ?? 0) - found.now().getTime(), { of: "the server" });
}

async function checksums(session: Session, found: Found): Promise<void> {
  const [row] = await session.query<{ on: boolean }>("SELECT current_setting('data_checksums')::bool AS on");
  if (row?.on === true) return found.ok("the server's pages have checksums");
  found.warning(
    "the server's pages have no checksums: a disk that changes bytes goes unnoticed, into the backups as well",
    "stop the server, pg_checksums --enable --pgdata DIR, start it",
  );
}

/** Indexes on text are sorted as the library did when they were built. */
async function collations(session: Session, found: Found): Promise<void> {
  const rows = await session.query<{ name: string; recorded: string; actual: string }>(
    `SELECT datname AS name, datcollversion AS recorded, pg_database_collation_actual_version(oid) AS actual
     FROM pg_database WHERE datallowconn AND datcollversion <> pg_database_collation_actual_version(oid) ORDER BY 1`,
  );
  for (const { name, recorded, actual } of rows) {
    found.warning(
      `${name} was made with collations of version ${recorded}, and the system has ${actual}: its indexes on text may be wrong`,
      `in ${name}: REINDEX DATABASE ${identifier(name)}; ALTER DATABASE ${identifier(name)} REFRESH COLLATION VERSION`,
    );
  }
  if (rows.length === 0) found.ok("the collations are those that the databases were made with");
}

async function wraparound(session: Session, found: Found): Promise<void> {
  const rows = await session.query<{ name: string; age: number }>(
    `SELECT datname AS name, greatest(age(datfrozenxid), mxid_age(datminmxid))::float8 AS age
     FROM pg_database ORDER BY 2 DESC`,
  );
  for (const { name, age } of rows.filter((each) => each.age > oldAge)) {
    const message = `the oldest transaction of ${name} is ${Math.round(age / 1e6)} million back; the server stops at 2,100 million`;
    const remedy = `in ${name}: VACUUM (FREEZE, VERBOSE); first end what holds it back: old transactions, prepared ones, slots`;
    if (age > dangerousAge) found.error(message, remedy);
    else found.warning(message, remedy);
  }
  const oldest = rows[0]?.age ?? 0;
  if (oldest <= oldAge)
    found.ok(`the oldest transaction is ${(oldest / 1e6).toFixed(1)} million back, of 2,100 million`);
}

/** They hold their locks, which a dump waits for, and keep vacuum from its work. */
export async function preparedTransactions(session: Session, found: Found, olderThanS: number): Promise<void> {
  const rows = await session.query<{ id: string; database: string; ageS: number }>(
    `SELECT gid AS id, database, extract(epoch FROM now() - prepared)::float8 AS "ageS" FROM pg_prepared_xacts
     WHERE extract(epoch FROM now() - prepared) >= $1 ORDER BY prepared`,
    [olderThanS],
  );
  for (const { id, database, ageS } of rows) {
    const statement = literal(id).trim();
    found.warning(
      `the prepared transaction ${id} in ${database} has been waiting for ${formatDuration(ageS * 1000)}, with its locks`,
      `in ${database}: COMMIT PREPARED ${statement}, or ROLLBACK PREPARED ${statement}`,
    );
  }
  if (rows.length === 0) found.ok("none is waiting");
}

async function cutRestores(session: Session, found: Found): Promise<void> {
  const left = await findLeftovers(session);
  if (left.length === 0) return found.ok("none has left a database behind");
  const drops = left.slice(0, 3).map(({ name }) => `DROP DATABASE ${identifier(name)}`);
  const bytes = left.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  found.warning(
    `restores that were cut left ${some(left.map(({ name }) => name))} (${formatBytes(bytes)})`,
    `${drops.join("; ")}; the next restore does it too`,
  );
}
