import pLimit from "p-limit";
import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import { type Session, withSession } from "../postgres/session.ts";
import {
  type ContentTable,
  hashOfTable,
  largeObjects,
  sequences,
  tablesWithColumns,
  unifyTexts,
} from "./content-sql.ts";

export interface ContentProof {
  /** Both hold the same database: the one it came from, and what was loaded. */
  from: { connection: Connection; database: string };
  to: { connection: Connection; database: string };
  /** Only these; all of the database when left out, with its sequences and large objects. */
  tables?: readonly { schema: string; name: string }[] | undefined;
  /** Tables read at the same time, on both sides. */
  jobs: number;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

/**
 * Compares the content of two databases: of each table, by a hash over the text of all its rows that does not depend on
 * their order; of all sequences and large objects. Both sides are read once, side by side. Materialized views are left
 * out, as they are filled anew. Fails with `verification-failed`, naming what differs.
 */
export async function proveContent(proof: ContentProof): Promise<{ tables: number; rows: number }> {
  const { clock, report, to } = proof;
  const task = `compare ${to.database}`;
  const startedMs = clock.monotonicMs();
  const tables = await tablesOf(proof);
  const totalBytes = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  report({ type: "start", task, totalBytes });
  let bytes = 0;
  const found = await eachTable(proof, tables, (table) => {
    bytes += table.bytes;
    report({ type: "progress", task, bytes, totalBytes });
  });
  const problems = found.flatMap(({ problem }) => problem ?? []);
  if (proof.tables === undefined) problems.push(...(await compareTheRest(proof)));
  const seconds = (clock.monotonicMs() - startedMs) / 1000;
  if (problems.length === 0) {
    const rows = found.reduce((sum, each) => sum + each.rows, 0);
    report({ type: "done", task, bytes, seconds, summary: `${tables.length} tables have the same content` });
    return { tables: tables.length, rows };
  }
  const message = `what was loaded is not what was recovered: ${problems.slice(0, 5).join("; ")}`;
  throw new PgkitError("verification-failed", message, {
    hint: "nothing was changed; does a trigger, a rule or another version of a type change rows on their way in?",
  });
}

async function tablesOf({ from, tables, signal }: ContentProof): Promise<ContentTable[]> {
  const all = await withSession(from.connection, { database: from.database, signal }, tablesWithColumns);
  if (tables === undefined) return all;
  return all.filter(({ schema, name }) => tables.some((each) => each.schema === schema && each.name === name));
}

/** The biggest first, each worker with a session on either side. */
async function eachTable(
  { from, to, jobs, signal }: ContentProof,
  tables: readonly ContentTable[],
  onDone: (table: ContentTable) => void,
): Promise<{ problem?: string; rows: number }[]> {
  const results: { problem?: string; rows: number }[] = [];
  const left = [...tables];
  const limit = pLimit(jobs);
  const stop = new AbortController();
  const ending = AbortSignal.any([signal, stop.signal]);
  const workers = Array.from({ length: Math.min(jobs, tables.length) }, () =>
    limit(() =>
      withBoth({ from, to, signal: ending }, async (here, there) => {
        for (let table = left.shift(); table !== undefined; table = left.shift()) {
          results.push(await compareTable(here, there, table));
          onDone(table);
        }
      }),
    ),
  );
  for (const each of workers) each.catch((error: unknown) => stop.abort(error));
  await Promise.allSettled(workers);
  if (stop.signal.aborted) throw stop.signal.reason;
  return results;
}

async function withBoth<Result>(
  { from, to, signal }: Pick<ContentProof, "from" | "to" | "signal">,
  use: (here: Session, there: Session) => Promise<Result>,
): Promise<Result> {
  return withSession(from.connection, { database: from.database, signal }, (here) =>
    withSession(to.connection, { database: to.database, signal }, async (there) => {
      await Promise.all([unifyTexts(here), unifyTexts(there)]);
      return use(here, there);
    }),
  );
}

async function compareTable(here: Session, there: Session, table: ContentTable) {
  const [wanted, found] = await Promise.all([hashOfTable(here, table), hashOfTable(there, table)]);
  const { rows } = wanted;
  if (rows === found.rows && wanted.hash === found.hash) return { rows };
  const name = `table ${table.schema}.${table.name}`;
  if (rows !== found.rows) return { rows, problem: `${name} has ${found.rows} rows, it had ${rows}` };
  return { rows, problem: `${name} has the same ${rows} rows in number, with other content` };
}

async function compareTheRest({ from, to, signal }: ContentProof): Promise<string[]> {
  return withBoth({ from, to, signal }, async (here, there) => {
    const [wanted, found] = await Promise.all([sequences(here), sequences(there)]);
    const differing = wanted.filter(({ name, last }) => {
      const other = found.find((each) => each.name === name);
      return other?.readable !== false && other?.last !== last;
    });
    const objects = await Promise.all([largeObjects(here), largeObjects(there)]);
    const [objectsWanted, objectsFound] = objects;
    return [
      ...differing.map(({ name }) => `sequence ${name} is elsewhere`),
      ...(objectsWanted !== undefined && objectsFound !== undefined && objectsWanted !== objectsFound
        ? ["the large objects have other content"]
        : []),
    ];
  });
}
