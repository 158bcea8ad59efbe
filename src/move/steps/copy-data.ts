import { PgkitError } from "../../lib/errors.ts";
import type { Session } from "../../postgres/session.ts";
import { planCopies, relationOf } from "../copy-plan.ts";
import { copyTables } from "../copy-tables.ts";
import { dropPostData } from "../drop-post-data.ts";
import { buildEarly, comingTables } from "../early-builds.ts";
import { copyLargeObjects, countLargeObjects, unlinkAll } from "../large-objects.ts";
import { type SourceTable, sourceTables } from "../source-tables.ts";
import { hasReached, requireOurs, setStage, stageOf } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";

export interface CopiedData {
  tables: number;
  largeObjects: number;
  /** `undefined` where an earlier run had copied them. */
  rows?: number | undefined;
}

export const copyDataStep: Step<{ bytes: number }, CopiedData> = {
  name: "copy-data",
  does: "copies all rows and large objects from server to server, several tables at once and big ones in parts, as of one moment; big indexes are built as soon as their table is there",
  mode: "offline",
  check: async (context, plan) => {
    if (plan === undefined) return "todo";
    if (await hasReached(context, "data copied")) return "done";
    return (await stageOf(context)) === "schema copied" && (await context.session("target", hasRows))
      ? "partial"
      : "todo";
  },
  prepare: async (context) => {
    const tables = await context.session("source", sourceTables);
    return { bytes: tables.reduce((sum, { bytes }) => sum + bytes, 0) };
  },
  run,
  verify: async (context, { largeObjects }) => {
    const found = await context.session("target", countLargeObjects);
    if (found === largeObjects) return;
    const message = `database ${context.move.database} on ${context.target.instance} has ${found} large objects, not ${largeObjects}`;
    throw new PgkitError("verification-failed", message, { hint: "roll the move back and begin anew" });
  },
  undo: async (context) => {
    const stage = await stageOf(context);
    if (stage === "absent" || stage === "foreign" || stage === "made") return;
    await setStage(context, "schema copied");
    await empty(context);
  },
};

async function run(context: MoveContext): Promise<CopiedData> {
  await requireOurs(context);
  if (await hasReached(context, "data copied")) {
    const tables = await context.session("source", sourceTables);
    return { tables: tables.length, largeObjects: await context.session("source", countLargeObjects) };
  }
  if (!(await hasReached(context, "schema copied"))) throw new Error("copy-data before copy-schema");
  await empty(context);
  const copied = await context.session("source", async (session) => {
    const snapshot = await exportSnapshot(session);
    const result = await copyAll(context, await sourceTables(session), { snapshot, lost: session.lost });
    await session.query("COMMIT");
    return result;
  });
  await setStage(context, "data copied");
  return copied;
}

/** A copy that was cut cannot go on: its snapshot is gone. It begins anew, without the indexes that were built meanwhile. */
async function empty(context: MoveContext): Promise<void> {
  await context.session("target", async (session) => {
    const tables = (await sourceTables(session)).filter(({ condition }) => condition === undefined);
    const filled = tables.some(({ blocks }) => blocks > 0);
    await unlinkAll(session);
    if (!filled) return;
    // In one statement, so that foreign keys between them do not matter.
    await session.query(`TRUNCATE ONLY ${tables.map(relationOf).join(", ONLY ")}`);
  });
  await dropPostData(context);
}

async function exportSnapshot(session: Session): Promise<string> {
  await session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const [row] = await session.query<{ snapshot: string }>("SELECT pg_export_snapshot() AS snapshot");
  if (row === undefined) throw new Error("pg_export_snapshot gave no row");
  return row.snapshot;
}

async function copyAll(
  context: MoveContext,
  tables: readonly SourceTable[],
  { snapshot, lost }: { snapshot: string; lost: AbortSignal },
): Promise<CopiedData> {
  const { move, clock, report } = context;
  const task = `copy ${move.database}`;
  const totalBytes = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  const startedMs = clock.monotonicMs();
  let [bytes, told] = [0, 0];
  const onBytes = (more: number) => {
    bytes += more;
    if (bytes - told < reportedBytes) return;
    told = bytes;
    report({ type: "progress", task, bytes, totalBytes: Math.max(bytes, totalBytes) });
  };
  report({ type: "start", task, totalBytes });
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, lost, stop.signal]);
  const copies = planCopies(tables, move.options.jobs);
  const coming = comingTables(signal);
  const oids = tables.map(({ oid }) => oid);
  const all = [
    copyTables(context, { copies, snapshot, onBytes, onTable: coming.add, signal }),
    copyLargeObjects(context, snapshot, signal),
    buildEarly({ ...context, signal }, coming, oids),
  ] as const;
  for (const each of all) each.catch((error: unknown) => stop.abort(error));
  await Promise.allSettled(all);
  stop.signal.throwIfAborted();
  const [rows, largeObjects] = await Promise.all(all);
  const seconds = (clock.monotonicMs() - startedMs) / 1000;
  report({ type: "done", task, bytes, seconds, summary: `${rows} rows of ${tables.length} tables` });
  return { tables: tables.length, largeObjects, rows };
}

const reportedBytes = 8 * 1024 ** 2;

async function hasRows(session: Session): Promise<boolean> {
  const tables = await sourceTables(session);
  const own = tables.filter(({ condition }) => condition === undefined);
  return own.some(({ blocks }) => blocks > 0) || (await countLargeObjects(session)) > 0;
}
