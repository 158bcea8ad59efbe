import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { listDatabases, serverFacts } from "../postgres/server-facts.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { listBackups } from "../repo/backups.ts";
import { mayBeLater } from "../repo/layout.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type RestoreResult, restoreDatabase } from "./database.ts";
import { planRestore, type RestorePlan, type RestoreRequest, type TargetFacts } from "./plan.ts";
import { maintenanceDatabase } from "./swap.ts";

export interface LogicalRestore {
  repository: RepositoryReader;
  backup: Manifest;
  request: RestoreRequest;
  /** The instance to restore into. */
  instance: string;
  connection: Connection;
  programsFor: (major: number) => Promise<Programs>;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

/** Asks the target server and plans; nothing is changed. `run` does what the plan says. */
export async function prepareRestore(
  restore: LogicalRestore,
): Promise<{ plan: RestorePlan; run: () => Promise<RestoreResult> }> {
  const { backup, request, instance, connection, signal, clock } = restore;
  const facts = await targetFacts(connection, request.as ?? backup.database ?? "", signal);
  const plan = planRestore(backup, request, { instance, ...facts }, { now: clock.now(), unique: uniqueName(clock) });
  const programs = await restore.programsFor(facts.server.major);
  return { plan, run: () => restoreDatabase(plan, backup, { ...restore, programs }) };
}

/** What a restore has to know of the server that it goes to; `busy` is the database that will be made or replaced. */
export async function targetFacts(
  connection: Connection,
  busy: string,
  signal: AbortSignal,
): Promise<Omit<TargetFacts, "instance">> {
  // The database that the connection names may be the one that is gone.
  const database = maintenanceDatabase(connection, busy);
  return withSession(connection, { database, signal }, async (session) => ({
    server: await serverFacts(session),
    databases: await listDatabases(session),
    roles: await names(session, "SELECT rolname AS name FROM pg_roles"),
    tablespaces: await names(session, "SELECT spcname AS name FROM pg_tablespace"),
    extensions: await names(session, "SELECT name FROM pg_available_extensions"),
  }));
}

/** Keeps the databases of two restores at once apart. */
export function uniqueName(clock: Clock): string {
  return Math.floor(clock.random() * 0x1_0000_0000)
    .toString(16)
    .padStart(8, "0");
}

async function names(session: Session, sql: string): Promise<string[]> {
  return (await session.query<{ name: string }>(sql)).map(({ name }) => name);
}

/**
 * The newest backup of a database. Fails with `backup-missing`, naming the databases that there are backups of, and where
 * a newer one has a manifest that cannot be read: an older one is restored only when it is asked for.
 */
export async function newestBackup(
  repository: RepositoryReader,
  { instance, database, signal }: { instance: string; database: string; signal: AbortSignal },
): Promise<Manifest> {
  const { backups, unreadable } = await listBackups(repository, { instance, signal });
  const logical = backups.filter((backup) => backup.kind === "logical");
  const newest = logical.findLast((backup) => backup.database === database);
  const startedAt = newest && new Date(newest.startedAt);
  const newer = unreadable.findLast(({ id }) => mayBeLater(id, database, startedAt))?.error;
  if (newer !== undefined) {
    const hint = newest === undefined ? newer.hint : `restore the one before it by --backup ${newest.id}`;
    throw new PgkitError(newer.code, newer.message, { ...(hint === undefined ? {} : { hint }), cause: newer });
  }
  if (newest !== undefined) return newest;
  const known = [...new Set(logical.map((backup) => backup.database))].join(", ") || "none";
  const message = `there is no backup of database ${database} of instance ${instance} in ${repository.where}`;
  throw new PgkitError("backup-missing", message, { hint: `databases with backups: ${known}` });
}
