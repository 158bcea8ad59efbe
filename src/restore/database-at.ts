import { stat, statfs } from "node:fs/promises";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { type Session, withSession } from "../postgres/session.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { refuseExistingSchema } from "./copy-beside.ts";
import type { RestoreResult } from "./database.ts";
import { type DatabaseAtPlan, type DatabaseAtRequest, planDatabaseAt, refuseSmallDisk } from "./database-at-plan.ts";
import { neededFiles } from "./database-files.ts";
import { loadFrom } from "./database-out.ts";
import { targetFacts } from "./logical.ts";
import type { Reached } from "./recover.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { databasesOf, superuserOf } from "./scratch-databases.ts";
import { type RecoveredServer, withRecoveredServer } from "./scratch-recovery.ts";
import { maintenanceDatabase } from "./swap.ts";

export interface DatabaseAt {
  repository: RepositoryReader;
  /** Its action must be to promote. */
  recovery: RecoveryPlan;
  request: DatabaseAtRequest;
  /** The instance to restore into. */
  instance: string;
  connection: Connection;
  /** With `server`, those that can also run one. */
  programsFor: (major: number, options?: { server?: boolean }) => Promise<Programs>;
  /** Where the scratch folder is made. */
  scratch: string;
  pgkitVersion: string;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface DatabaseAtResult extends RestoreResult {
  reached: Reached;
  /** Of the base backup, by the last attempt; and what a whole restore would have written. */
  writtenBytes: number;
  wholeBytes: number;
}

/** Asks the live server and plans; nothing is fetched or changed. `run` does what the plan says. */
export async function prepareDatabaseAt(
  restore: DatabaseAt,
): Promise<{ plan: DatabaseAtPlan; run: () => Promise<DatabaseAtResult> }> {
  const { recovery, request, instance, connection, clock, signal } = restore;
  const busy = request.as ?? request.database;
  const facts = await targetFacts(connection, busy, signal);
  const live = await askLive(restore, maintenanceDatabase(connection, busy), facts.server.systemId);
  await refuseNewTablespaces(recovery, live.tablespaces);
  const plan = planDatabaseAt(recovery, request, { instance, ...facts, oids: live.oids }, clock.now());
  if (plan.besideSchema !== undefined) {
    await refuseExistingSchema({ copyInto: plan.to.database, besideSchema: plan.besideSchema }, restore);
  }
  const programs = {
    scratch: await restore.programsFor(Number.parseInt(recovery.backup.server.version, 10), { server: true }),
    live: await restore.programsFor(facts.server.major),
  };
  const { bavail, bsize } = await statfs(restore.scratch);
  refuseSmallDisk(plan, restore.scratch, bavail * bsize);
  return { plan, run: () => restoreAt({ ...restore, plan, programs, live }) };
}

export interface Run extends DatabaseAt {
  plan: DatabaseAtPlan;
  programs: { scratch: Programs; live: Programs };
  live: Live;
}

interface Live {
  oids: { name: string; oid: number }[];
  /** Who may be the superuser that initdb made, likeliest first. */
  superusers: string[];
  libraries: string[];
  tablespaces: { name: string; oid: number; location: string }[];
}

/** What the live server can tell of the one that was backed up, as far as it is that one and lets us see. */
async function askLive(
  { recovery, connection, signal }: DatabaseAt,
  database: string,
  systemId: string,
): Promise<Live> {
  const same = systemId === recovery.systemId;
  return withSession(connection, { database, signal }, async (session) => {
    const oids = same ? await databasesOf(session) : [];
    const [first] = await session.query<{ name: string }>("SELECT rolname AS name FROM pg_roles WHERE oid = 10");
    const [libraries] = await session.query<{ names: string[] }>(
      `SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
         THEN string_to_array(replace(replace(current_setting('shared_preload_libraries'), ' ', ''), '"', ''), ',')
         ELSE '{}' END AS names`,
    );
    const superusers = [...(first === undefined ? [] : [first.name]), "postgres", connection.user];
    const tablespaces = same ? await tablespacesOf(session) : [];
    return { oids, superusers: [...new Set(superusers)], libraries: same ? (libraries?.names ?? []) : [], tablespaces };
  });
}

async function tablespacesOf(session: Session): Promise<Live["tablespaces"]> {
  return session.query(
    `SELECT spcname AS name, oid::int8::float8 AS oid, pg_tablespace_location(oid) AS location
     FROM pg_tablespace WHERE oid >= 16384 AND pg_tablespace_location(oid) LIKE '/%'`,
  );
}

/**
 * When recovery comes to a CREATE TABLESPACE it makes its folder at the place that was given then, and what it finds
 * there it removes first (create_tablespace_directories): on the live server's machine that would be the live one's files.
 */
async function refuseNewTablespaces({ backup }: RecoveryPlan, live: Live["tablespaces"]): Promise<void> {
  for (const { name, oid, location } of live) {
    if (backup.base.tablespaces.some((each) => each.oid === oid)) continue;
    if ((await unlessAbsent(stat(location))) === undefined) continue;
    const message = `tablespace ${name} (${location}) was made after ${backup.id}, and that folder is on this machine: recovery would empty it`;
    throw new PgkitError("refused-overwrite", message, {
      hint: "run this on another machine, or restore from a base backup taken after it by --backup",
    });
  }
}

/** At most three attempts: with what is known beforehand, with what the first has taught of the database's oid, with all. */
async function restoreAt(run: Run): Promise<DatabaseAtResult> {
  let attempt: Run = run;
  for (;;) {
    const outcome = await tryOnce(attempt);
    if (!("again" in outcome)) return outcome;
    const { why, oids } = outcome.again;
    const whole = oids === undefined || attempt !== run;
    const files = neededFiles(run.recovery.backup.base, { oids: oids ?? [], whole });
    const how = files.left.length === 0 ? "with the files of all databases" : "with the files of that one";
    run.report({ type: "warning", message: `${why}: the recovery is done once more, ${how}` });
    attempt = { ...attempt, plan: { ...attempt.plan, files } };
  }
}

type Outcome = DatabaseAtResult | { again: { why: string; oids?: number[] } };

async function tryOnce(run: Run): Promise<Outcome> {
  const { repository, plan, recovery, programs, live, scratch, clock, report, signal } = run;
  const recovered = { once: false };
  const { files, jobs } = plan;
  const { libraries } = live;
  const request = { repository, plan: recovery, programs: programs.scratch, files, libraries, parent: scratch, jobs };
  try {
    return await withRecoveredServer({ ...request, clock, report, signal }, (server) => {
      recovered.once = true;
      return useServer(run, server);
    });
  } catch (error) {
    // What WAL does to pages that nobody restored may be more than PostgreSQL lets pass.
    if (recovered.once || !isPgkitError(error, "tool-failed")) throw error;
    if (/directory "\/[^"]*" does not exist|permissions on directory "\//.test(error.message)) throw noFolder(error);
    if (files.left.length === 0) throw error;
    return { again: { why: `recovery failed where only the files of ${plan.database} are (${error.message})` } };
  }
}

function noFolder(cause: PgkitError): PgkitError {
  return new PgkitError(cause.code, cause.message, {
    hint: "a tablespace was made after the base backup, in that folder: make an empty one here for the server's user, or restore from a later base backup",
    cause,
  });
}

async function useServer(run: Run, server: RecoveredServer): Promise<Outcome> {
  const { plan, recovery, live } = run;
  const [missed] = server.missed;
  if (missed !== undefined && plan.files.left.length > 0) {
    return { again: { why: `recovery met pages that it lacks, of ${missed}` } };
  }
  const { connection, databases } = await superuserOf(server.connection, live.superusers, run.signal);
  const found = databases.find(({ name }) => name === plan.database);
  if (found === undefined) throw noDatabase(plan, databases);
  const known = recovery.backup.base.databases.some(({ oid }) => oid === found.oid);
  const written = plan.files.left.length === 0 || (known && plan.files.left.every(({ oid }) => oid !== found.oid));
  if (!written) {
    const why = `${plan.database} was ${known ? "called otherwise" : "not there yet"} when ${recovery.backup.id} was taken`;
    return { again: { why, ...(known ? { oids: [found.oid] } : {}) } };
  }
  const result = await loadFrom(run, { ...server, connection });
  const { reached, writtenBytes } = server;
  return { ...result, reached, writtenBytes, wholeBytes: recovery.restoredBytes };
}

function noDatabase({ database, recovery }: DatabaseAtPlan, databases: readonly { name: string }[]): PgkitError {
  const names = databases.map(({ name }) => name).filter((name) => !name.startsWith("template"));
  return new PgkitError(
    "database-missing",
    `there was no database ${database} in ${recovery.instance} at that moment`,
    {
      hint: `there were: ${names.join(", ") || "none"}; was it made later, or called otherwise then?`,
    },
  );
}
