import { budget } from "../lib/budget.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { matchesPattern } from "../lib/pattern.ts";
import type { Report } from "../lib/report.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { type DatabaseEntry, listDatabases, type ServerFacts, serverFacts } from "../postgres/server-facts.ts";
import { withSession } from "../postgres/session.ts";
import { newestManifest } from "../repo/backups.ts";
import { storedBytesOf } from "../repo/files.ts";
import type { Manifest } from "../repo/manifest.ts";
import { type Repository, refreshGuide } from "../repo/repository.ts";
import { type DatabaseDump, dumpDatabase } from "./database.ts";
import { gaveWay, lockWaitMs } from "./snapshot.ts";
import { commitTarget, discard, isAlive, newTargets, type Target } from "./target.ts";

export interface LogicalBackupRequest {
  instance: string;
  connection: Connection;
  /** The databases by name; all but the excluded when empty. */
  databases: readonly string[];
  /** Patterns; `undefined` includes all. A database that is named is neither asked for here nor excluded. */
  include: readonly string[] | undefined;
  exclude: readonly string[];
  /** Connections that the run may hold on the server at once. */
  connections: number;
  /** Parallel jobs inside one big database. */
  jobs: number;
  /** Below this many bytes a database is one archive. */
  wholeBelowBytes: number;
  countRows: boolean;
  /** How long a backup of a database waits for a lock on a table before it begins anew; a minute when left out. */
  lockWaitMs?: number;
}

/** A repository with the signal that ends its part of the run, such as the loss of its lease. */
export interface BackupDestination {
  repository: Repository;
  signal: AbortSignal;
}

export interface BackupDependencies {
  programsFor: (major: number) => Promise<Programs>;
  pgkitVersion: string;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface BackupOutcome {
  made: { repository: string; manifest: Manifest }[];
  failures: BackupFailure[];
}

/** `database` is absent where a repository failed as a whole. */
export interface BackupFailure {
  database?: string;
  repository?: string;
  error: unknown;
}

/**
 * Backs up each database into every destination: several databases at once within the connection budget, the biggest
 * first. A database or a repository that fails does not stop the others; what failed is named in the outcome. Fails as a
 * whole only when the server cannot be asked, or a named database is not there.
 */
export async function backupLogical(
  request: LogicalBackupRequest,
  destinations: readonly BackupDestination[],
  dependencies: BackupDependencies,
): Promise<BackupOutcome> {
  const { connection, connections } = request;
  const { signal } = dependencies;
  const { server, databases } = await withSession(connection, { signal }, async (session) => ({
    server: await serverFacts(session),
    databases: chooseDatabases(await listDatabases(session), request),
  }));
  for (const { name } of databases.filter((database) => database.invalid)) warnOfInvalid(name, dependencies.report);
  const programs = await dependencies.programsFor(server.major);
  const run: Run = { ...request, ...dependencies, server, programs, outcome: { made: [], failures: [] } };
  const usable = await writeGuides(run, destinations);
  const budgetOfConnections = budget(Math.max(2, connections));
  await Promise.all(
    databases
      .filter((database) => !database.invalid)
      .map((database) => {
        // One connection counts the rows and holds the snapshot.
        const parallel =
          database.sizeBytes >= request.wholeBelowBytes ? Math.min(request.jobs, connections - 1) || 1 : 1;
        return budgetOfConnections.spend(1 + parallel, () => backupOne(run, database, parallel, usable));
      }),
  );
  return run.outcome;
}

interface Run extends LogicalBackupRequest, BackupDependencies {
  server: ServerFacts;
  programs: Programs;
  outcome: BackupOutcome;
}

/** The databases of an instance that a backup is asked to take. Fails with `database-missing`. */
export function chooseDatabases(
  all: readonly DatabaseEntry[],
  request: Pick<LogicalBackupRequest, "instance" | "databases" | "include" | "exclude">,
): DatabaseEntry[] {
  const { databases, include, exclude } = request;
  if (databases.length === 0) {
    return all.filter(
      ({ name, allowsConnections }) =>
        allowsConnections && (include?.some(matchesPattern(name)) ?? true) && !exclude.some(matchesPattern(name)),
    );
  }
  const missing = databases.filter((name) => !all.some((database) => database.name === name));
  if (missing.length === 0) return all.filter((database) => databases.includes(database.name));
  throw new PgkitError(
    "database-missing",
    `there is no database ${missing.join(", ")} in instance ${request.instance}`,
    {
      hint: `it has: ${all.map((database) => database.name).join(", ")}`,
    },
  );
}

function warnOfInvalid(database: string, report: Report): void {
  report({
    type: "warning",
    message: `database ${database} is not backed up: it is what a DROP DATABASE that was cut has left, and holds nothing`,
    hint: `DROP DATABASE it to its end`,
  });
}

async function writeGuides(run: Run, destinations: readonly BackupDestination[]): Promise<BackupDestination[]> {
  const usable: BackupDestination[] = [];
  for (const destination of destinations) {
    const { repository, signal } = destination;
    try {
      await refreshGuide(repository, { signal });
      usable.push(destination);
    } catch (error) {
      if (run.signal.aborted) throw error;
      run.outcome.failures.push({ repository: repository.where, error });
    }
  }
  return usable;
}

/** Never fails but for the run's end: what goes wrong is in the outcome. */
async function backupOne(
  run: Run,
  database: DatabaseEntry,
  jobs: number,
  destinations: readonly BackupDestination[],
  lastAttempt = false,
): Promise<void> {
  run.signal.throwIfAborted();
  const { clock, report } = run;
  const task = `${run.instance}/${database.name}`;
  const startedAt = clock.now();
  const startedMs = clock.monotonicMs();
  const { id, targets } = newTargets(run, database.name, destinations, startedAt);
  if (targets.length === 0) return;
  report({ type: "start", task });
  const stored = { bytes: 0 };
  if (database.sizeBytes >= run.wholeBelowBytes) guessTotal(run, database, destinations, stored);
  try {
    const dump = { lockWaitMs, ...run, database: database.name, jobs, task, stored };
    const facts = await dumpDatabase(dump, targets);
    const manifest = { ...manifestOf(run, id, startedAt), database: database.name, logical: facts };
    await Promise.all(targets.filter(isAlive).map((target) => commit(run, target, manifest)));
  } catch (error) {
    if (!lastAttempt && gaveWay(error) && !run.signal.aborted) {
      await Promise.all(targets.map((target) => discard(target, report)));
      report({ type: "warning", message: `the backup of ${task} gave way to DDL that waited for it, and begins anew` });
      return backupOne(run, database, jobs, destinations, true);
    }
    for (const target of targets) target.failure ??= error;
  }
  await Promise.all(targets.filter((target) => !isAlive(target)).map((target) => discard(target, report)));
  run.signal.throwIfAborted();
  for (const { failure, repository } of targets) {
    if (failure !== undefined)
      run.outcome.failures.push({ database: database.name, repository: repository.where, error: failure });
  }
  conclude(task, targets, (clock.monotonicMs() - startedMs) / 1000, report);
}

/** From the last backup, and what the database has grown since: a progress bar without an end tells nobody when to sleep. */
function guessTotal(
  { instance, signal }: Run,
  { name, sizeBytes }: DatabaseEntry,
  [first]: readonly BackupDestination[],
  stored: DatabaseDump["stored"],
): void {
  if (first === undefined) return;
  newestManifest(first.repository, { instance, database: name, signal }).then(
    (last) => {
      if (last?.logical === undefined || last.logical.sizeBytes === 0) return;
      stored.expected = Math.round((last.storedBytes * sizeBytes) / last.logical.sizeBytes);
    },
    // It is only the bar that does without: a store that fails is met, and told, by the backup itself.
    () => undefined,
  );
}

function manifestOf(run: Run, id: string, startedAt: Date) {
  const { version, systemId } = run.server;
  return {
    ...{ id, kind: "logical" as const, instance: run.instance, startedAt: rfc3339(startedAt) },
    server: { version, systemId },
    tools: { pgkit: run.pgkitVersion, pgDump: run.programs.version },
  };
}

async function commit(run: Run, target: Target, manifest: Parameters<typeof commitTarget>[1]): Promise<void> {
  const committed = await commitTarget(target, manifest, run.clock);
  if (committed !== undefined) run.outcome.made.push({ repository: target.repository.where, manifest: committed });
}

function conclude(task: string, targets: readonly Target[], seconds: number, report: Report): void {
  const failed = targets.find((target) => !isAlive(target));
  const whole = targets.find(isAlive);
  if (whole !== undefined) report({ type: "done", task, bytes: storedBytesOf(whole.files), seconds });
  if (failed === undefined) return;
  const { failure } = failed;
  const message = failure instanceof Error ? failure.message : String(failure);
  report({ type: "failed", task, message, hint: isPgkitError(failure) ? failure.hint : undefined });
}
