import { type CopySession, copyBetween, openCopySession } from "../postgres/copy-stream.ts";
import { literal } from "../postgres/quote.ts";
import { unifyTexts } from "../restore/content-sql.ts";
import type { TableCopy } from "./copy-plan.ts";
import type { MoveContext } from "./step.ts";

export interface TableCopies {
  copies: readonly TableCopy[];
  /** Exported on the source: all workers read the same moment. */
  snapshot: string;
  onBytes: (bytes: number) => void;
  /** Told of each table when the last copy of it is committed. */
  onTable: (oid: number) => void;
  /** The workers of one run end together. */
  signal: AbortSignal;
}

/** Runs the copies, `jobs` at once, in their order; gives the rows copied. Ends all with the first that fails. */
export async function copyTables(context: MoveContext, work: TableCopies): Promise<number> {
  const left = [...work.copies];
  const open = new Map<number, number>();
  for (const { oid } of left) open.set(oid, (open.get(oid) ?? 0) + 1);
  const committed = ({ oid }: TableCopy) => {
    const others = (open.get(oid) ?? 0) - 1;
    open.set(oid, others);
    if (others === 0) work.onTable(oid);
  };
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  let rows = 0;
  const worker = () =>
    withPair(context, { ...work, signal }, async (from, to) => {
      for (let copy = left.shift(); copy !== undefined; copy = left.shift()) {
        rows += await copyOne(from, to, copy, { ...work, signal });
        committed(copy);
      }
    });
  const workers = Array.from({ length: Math.min(context.move.options.jobs, work.copies.length) }, worker);
  for (const each of workers) each.catch((error: unknown) => stop.abort(error));
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  return rows;
}

async function copyOne(
  from: CopySession,
  to: CopySession,
  copy: TableCopy,
  { onBytes, signal }: TableCopies,
): Promise<number> {
  await to.query("BEGIN");
  if (copy.before !== undefined) await to.query(copy.before);
  const sides = { from: { session: from, sql: copy.from }, to: { session: to, sql: copy.to } };
  const { rows } = await copyBetween({ ...sides, onBytes, signal });
  await to.query("COMMIT");
  return rows;
}

async function withPair<T>(
  { source, target, move }: MoveContext,
  { snapshot, signal }: TableCopies,
  use: (from: CopySession, to: CopySession) => Promise<T>,
): Promise<T> {
  const options = { database: move.database, applicationName: "pgkit move", signal };
  const from = await openCopySession(source.connection, options);
  try {
    const to = await openCopySession(target.connection, options);
    try {
      await Promise.all([prepareSource(from, snapshot), prepareTarget(to)]);
      return await use(from, to);
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

async function prepareSource(session: CopySession, snapshot: string): Promise<void> {
  await unifyTexts(session);
  await session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  await session.query(`SET TRANSACTION SNAPSHOT ${literal(snapshot)}`);
}

/** What is lost when the target crashes is copied again: only the mark that all is there has to be on its disk. */
async function prepareTarget(session: CopySession): Promise<void> {
  await unifyTexts(session);
  await session.query(
    // Without the right to set the role there are still no triggers: they are made after the rows.
    `SELECT set_config(name, value, false) FROM (VALUES ('synchronous_commit', 'off'), ('session_replication_role', 'replica'))
       AS v (name, value) WHERE has_parameter_privilege(name, 'SET')`,
  );
}
