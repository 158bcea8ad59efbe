import pLimit from "p-limit";
import { fanOut } from "../lib/fan-out.ts";
import type { Report } from "../lib/report.ts";
import type { Connection } from "../postgres/connection.ts";
import { countRows, type DatabaseFacts, type TableEntry } from "../postgres/database-facts.ts";
import { createScript, settingsScript } from "../postgres/database-scripts.ts";
import type { Programs } from "../postgres/programs.ts";
import { dumpRoles, type RoleDump } from "../postgres/roles.ts";
import type { ServerFacts } from "../postgres/server-facts.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { toolOutput } from "../postgres/tools.ts";
import type { LogicalFacts } from "../repo/manifest.ts";
import { type DumpPart, partArguments, planParts } from "./parts.ts";
import { takeSnapshot } from "./snapshot.ts";
import { isAlive, storeFile, type Target } from "./target.ts";

export interface DatabaseDump {
  database: string;
  /** Its name in progress events. */
  task: string;
  connection: Connection;
  programs: Programs;
  server: ServerFacts;
  jobs: number;
  wholeBelowBytes: number;
  /** False leaves out the row counts, which cost one more read of every table. */
  countRows: boolean;
  /** How long it waits for a lock on a table. */
  lockWaitMs: number;
  report: Report;
  /** Counts the stored bytes of all parts, for progress; `expected` is a guess at their sum. */
  stored: { bytes: number; expected?: number };
  signal: AbortSignal;
}

/**
 * Dumps one database into every target that is alive, all of it in one snapshot, with nothing on a local disk. Gives
 * what the manifest says of it. Fails when PostgreSQL does; a store's failure is in its target.
 */
export async function dumpDatabase(dump: DatabaseDump, targets: readonly Target[]): Promise<LogicalFacts> {
  const { connection, database, signal } = dump;
  return withSession(connection, { database, signal }, async (session) => {
    const { facts, tables } = await takeSnapshot(session, dump.lockWaitMs);
    if (facts.subscriptions > 0 && !dump.server.superuser) warnOfSubscriptions(dump, facts.subscriptions);
    const roles = await dumpRoles(session);
    await storeText(targets, "roles", roles.script);
    await storeText(targets, "database", createScript(database, facts));
    await storeText(targets, "settings", await settingsScript(session, facts));
    const counted = await dumpParts({ ...dump, encoding: facts.encoding }, session, tables, targets);
    await session.query("COMMIT");
    return logicalFacts(facts, roles, tables, counted);
  });
}

/** pg_dump leaves them out, says so on its standard error and exits 0. */
function warnOfSubscriptions({ database, connection, report }: DatabaseDump, count: number): void {
  report({
    type: "warning",
    message: `the ${count} subscriptions of database ${database} are not backed up: ${connection.user} is no superuser`,
    hint: "back up as a superuser, or note how they were created",
  });
}

async function storeText(targets: readonly Target[], role: "roles" | "database" | "settings", text: string) {
  const file = { name: `${role}.sql`, role, compressed: true };
  await Promise.all(targets.filter(isAlive).map((target) => storeFile(target, file, once(Buffer.from(text)))));
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

interface EncodedDump extends DatabaseDump {
  /** The database's own. */
  encoding: string;
}

/**
 * Runs pg_dump for every part, `jobs` at a time, while the session counts the rows in the same snapshot. When a part
 * fails nobody waits for the count, which ends with the session.
 */
async function dumpParts(
  dump: EncodedDump,
  session: Session,
  tables: readonly TableEntry[],
  targets: readonly Target[],
): Promise<Map<TableEntry, number>> {
  const parts = planParts({ ...dump, tables });
  const [exported] = await session.query<{ snapshot: string }>("SELECT pg_export_snapshot() AS snapshot");
  const snapshot = exported?.snapshot ?? "";
  const stop = new AbortController();
  const signal = AbortSignal.any([dump.signal, stop.signal, session.lost]);
  const limit = pLimit(dump.jobs);
  const work = parts.map((part, index) => limit(() => dumpPart({ ...dump, signal }, snapshot, part, index, targets)));
  const counting = countTables(dump, session, tables);
  for (const each of [...work, counting]) each.catch((error: unknown) => stop.abort(error));
  await Promise.allSettled(work);
  // What was first; a part that was ended says the same as what ended it.
  if (stop.signal.aborted) throw stop.signal.reason;
  return counting;
}

async function dumpPart(
  dump: EncodedDump,
  snapshot: string,
  part: DumpPart,
  index: number,
  targets: readonly Target[],
): Promise<void> {
  const alive = targets.filter(isAlive);
  if (alive.length === 0) return;
  const { programs, connection, database, signal } = dump;
  const locks = `--lock-wait-timeout=${dump.lockWaitMs}`;
  const args = [...dumpArguments(dump, alive), `--snapshot=${snapshot}`, locks, ...partArguments(part)];
  const source = toolOutput({ programs, connection, database, signal }, "pg_dump", args);
  const name = part.role === "data" ? `data-${String(index + 1).padStart(3, "0")}.dump` : `${part.role}.dump`;
  const file = { name, role: part.role, compressed: compressesItself(programs) };
  const [first] = alive;
  let failure: unknown;
  const outcomes = await fanOut(
    failing(source, (error) => {
      failure = error;
    }),
    alive.map((target) => (branch) => storeFile(target, file, branch, target === first ? progress(dump) : undefined)),
  );
  if (failure !== undefined) throw failure;
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** pg_dump compresses by zstd itself from 16 on, which spares a copy of all its output through this process. */
function compressesItself(programs: Programs): boolean {
  return programs.major >= 16;
}

/** In the database's own encoding: converting loses what the other one has no character for, or fails on it. */
function dumpArguments({ programs, encoding }: EncodedDump, [first]: readonly Target[]): string[] {
  const level = first?.repository.compression.level ?? 1;
  const compress = compressesItself(programs) ? `zstd:${level}` : "0";
  return ["--format=custom", "--no-password", `--encoding=${encoding}`, `--compress=${compress}`];
}

/** Passes `source` on, and tells of its failure apart from those of its consumers. */
async function* failing(source: AsyncIterable<Uint8Array>, onFailure: (error: unknown) => void) {
  try {
    yield* source;
  } catch (error) {
    onFailure(error);
    throw error;
  }
}

/** Adds up what all parts have stored so far. */
function progress({ report, task, stored }: DatabaseDump): (bytes: number) => void {
  return (bytes) => {
    stored.bytes += bytes;
    report({ type: "progress", task, bytes: stored.bytes, totalBytes: stored.expected });
  };
}

/** What holds no rows of its own has no count, nor what recovery cannot read or only an extension knows. */
async function countTables(
  { countRows: wanted, server }: DatabaseDump,
  session: Session,
  tables: readonly TableEntry[],
): Promise<Map<TableEntry, number>> {
  if (!wanted) return new Map();
  const countable = tables.filter(
    (table) => table.kind === "r" && !table.ofExtension && !(table.unlogged && server.inRecovery),
  );
  const counts = await countRows(session, countable);
  return new Map(countable.map((table, index) => [table, counts[index] ?? 0]));
}

function logicalFacts(
  { tablespace: _, subscriptions: __, tablespaces, ...facts }: DatabaseFacts,
  roles: RoleDump,
  tables: readonly TableEntry[],
  counted: Map<TableEntry, number>,
): LogicalFacts {
  return {
    ...facts,
    ...(tablespaces.length === 0 ? {} : { tablespaces }),
    roles: roles.names,
    passwordsIncluded: roles.passwordsIncluded,
    tables: tables.map((table) => {
      const rows = counted.get(table);
      const { oid, schema, name, partitionOf, ofExtension, bytes, rowsEstimate } = table;
      return {
        ...{ oid, schema, name, bytes, rowsEstimate },
        ...(partitionOf === null ? {} : { partitionOf }),
        ...(ofExtension ? { ofExtension } : {}),
        ...(rows === undefined ? {} : { rows }),
      };
    }),
  };
}
