import type { DatabaseFacts } from "../postgres/database-facts.ts";
import { createScript } from "../postgres/database-scripts.ts";
import { identifier } from "../postgres/quote.ts";
import { type ToolTarget, toolInput } from "../postgres/tools.ts";
import { dropDatabase } from "../restore/drop.ts";
import { restoreTarget } from "../restore/target.ts";
import { closeStatement } from "./gate.ts";
import { foreignDatabase, markStatement, stageOf } from "./stage.ts";
import type { MoveContext } from "./step.ts";

/** What the target's database is made from; of the source, taken before. */
export interface DatabasePlan {
  facts: Pick<DatabaseFacts, "owner" | "encoding" | "locale" | "tablespace">;
  /** For psql, with `:"database"`. */
  grants: readonly string[];
  /** Who may connect, as SQL spells them: given when it is opened, where it is closed by taking it away. */
  connects: readonly string[];
  /** The true comment, which the move's mark stands in for. */
  comment: string | null;
}

/**
 * Makes the empty database on the target: owner, encoding, locale, tablespace and grants as on the source, closed to all but
 * pgkit. It is made under a name of the move's own, and gets its name when it is closed and marked: killed at any
 * moment, whatever stands there can be told to be ours.
 */
export async function makeTargetDatabase(context: MoveContext, plan: DatabasePlan): Promise<void> {
  if ((await stageOf(context)) === "foreign") throw foreignDatabase(context);
  await dropDraft(context);
  const { database } = context.move;
  const statements = [
    ...plan.grants,
    closeStatement(draftName(context)),
    markStatement(context, "made", ':"database"'),
    `ALTER DATABASE :"database" RENAME TO ${identifier(database)}`,
  ];
  const script = `${createScript(database, plan.facts)}${statements.map((each) => `${each};\n`).join("")}`;
  await runOnTarget(context, script, draftName(context));
}

/** Drops it, and what a killed `makeTargetDatabase` has left; never one that this move has not made. */
export async function dropTargetDatabase(context: MoveContext): Promise<void> {
  await dropDraft(context);
  const stage = await stageOf(context);
  if (stage === "absent" || stage === "foreign") return;
  await drop(context, context.move.database);
}

/** Empties the target's database by making it anew. */
export async function remakeTargetDatabase(context: MoveContext, plan: DatabasePlan): Promise<void> {
  await dropTargetDatabase(context);
  await makeTargetDatabase(context, plan);
}

/** Runs a script by psql on the target, outside of the moved database, with `:"database"` set. */
export async function runOnTarget(context: MoveContext, script: string, database: string): Promise<void> {
  const { connection } = context.target;
  const target = await targetOf(context, connection.database);
  const args = ["-X", "-q", "-w", "--set=ON_ERROR_STOP=1", `--set=database=${database}`, "-f", "-"];
  // No signal ends it: the server would go on with CREATE DATABASE and be done after we have looked for what to undo.
  await toolInput({ ...target, signal: undefined }, "psql", args, one(Buffer.from(script)));
}

/** For the programs that load: of the target's major, with no time limit of role or database, and quick to commit. */
export async function targetOf(
  context: MoveContext,
  database = context.move.database,
  settings: Readonly<Record<string, string>> = {},
): Promise<ToolTarget> {
  const { connection } = context.target;
  const programs = await context.programs();
  const { signal } = context;
  return restoreTarget({ programs, connection, database, signal, applicationName: "pgkit move", settings });
}

/** The source, for dumps that the target's major loads: its programs, which may be newer than the server. */
export async function sourceFor({ programs, source, move, signal }: MoveContext): Promise<ToolTarget> {
  const { connection } = source;
  const own = { programs: await programs(), connection, database: move.database, signal };
  return restoreTarget({ ...own, applicationName: "pgkit move" }, move.source.major);
}

async function dropDraft(context: MoveContext): Promise<void> {
  await drop(context, draftName(context));
}

async function drop({ target }: MoveContext, name: string): Promise<void> {
  await dropDatabase(target.connection, { name, maintenance: target.connection.database, force: true });
}

/** Nobody else gives a database such a name. */
function draftName({ move }: MoveContext): string {
  return `pgkit move ${move.id}`;
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
