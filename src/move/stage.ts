import { PgkitError } from "../lib/errors.ts";
import { identifier, literal } from "../postgres/quote.ts";
import type { MoveContext } from "./step.ts";

/** How far the target's database is; it says so itself, by its comment, which the true one replaces when the move is finished. */
export type Stage = "made" | "schema copied" | "data copied" | "indexes built";

const stages: readonly Stage[] = ["made", "schema copied", "data copied", "indexes built"];

/**
 * Of the database of the move's name on the target: `absent`, or `foreign` where it has not this move's mark, so that it is
 * nothing of ours.
 */
export async function stageOf(context: MoveContext): Promise<Stage | "absent" | "foreign"> {
  const rows = await onTarget<{ comment: string | null }>(
    context,
    "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
    [context.move.database],
  );
  const [found] = rows;
  if (found === undefined) return "absent";
  return stages.find((stage) => found.comment === markOf(context, stage)) ?? "foreign";
}

/** True where the target's database is as far as this, or further. */
export async function hasReached(context: MoveContext, stage: Stage): Promise<boolean> {
  const found = await stageOf(context);
  return found !== "absent" && found !== "foreign" && stages.indexOf(found) >= stages.indexOf(stage);
}

/** Fails with `refused-overwrite` where the target's database is not ours, with `database-missing` where there is none. */
export async function requireOurs(context: MoveContext): Promise<Stage> {
  const found = await stageOf(context);
  const { database } = context.move;
  const where = `database ${database} on ${context.target.instance}`;
  if (found === "foreign") throw foreignDatabase(context);
  if (found !== "absent") return found;
  throw new PgkitError("database-missing", `${where} is gone, which this move had made`, {
    hint: "who dropped it? roll the move back and begin anew",
  });
}

export function foreignDatabase({ move, target }: MoveContext): PgkitError {
  const message = `database ${move.database} on ${target.instance} is there already and was not made by move ${move.id}`;
  return new PgkitError("refused-overwrite", message, {
    hint: "is it in use? rename or drop it, then run the move again; pgkit does neither to what it has not made",
  });
}

/** Everything before this is on the target's disk when it returns: its commit is not asynchronous. */
export async function setStage(context: MoveContext, stage: Stage): Promise<void> {
  await onTarget(context, `${markStatement(context, stage, identifier(context.move.database))}`);
}

/** The statement for a script; `database` as an identifier. */
export function markStatement(context: MoveContext, stage: Stage, database: string): string {
  return `COMMENT ON DATABASE ${database} IS ${literal(markOf(context, stage))}`;
}

/** Gives the target's database its true comment, that of the source, in the mark's place; for the end of the move. */
export async function unmark(context: MoveContext, comment: string | null): Promise<void> {
  if ((await stageOf(context)) === "foreign") return;
  const text = comment === null ? "NULL" : literal(comment);
  await onTarget(context, `COMMENT ON DATABASE ${identifier(context.move.database)} IS ${text}`);
}

function markOf({ move }: MoveContext, stage: Stage): string {
  return stage === "made" ? `pgkit move ${move.id}` : `pgkit move ${move.id}: ${stage}`;
}

/** One statement on the target, outside of the moved database. */
export async function onTarget<Row>(
  context: MoveContext,
  sql: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const { database } = context.target.connection;
  return context.session("target", (session) => session.query<Row>(sql, values), database);
}
