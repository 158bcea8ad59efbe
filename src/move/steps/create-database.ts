import { PgkitError } from "../../lib/errors.ts";
import { databaseFacts } from "../../postgres/database-facts.ts";
import { grantStatements } from "../../postgres/database-scripts.ts";
import { foreignDatabase, onTarget, requireOurs, stageOf } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";
import { type DatabasePlan, dropTargetDatabase, makeTargetDatabase } from "../target-database.ts";

export const createDatabaseStep: Step<DatabasePlan, { database: string }> = {
  name: "create-database",
  does: "makes the database on the target, with owner, encoding, locale and grants of the source, closed to all but superusers",
  check: async (context, plan) => {
    const stage = await stageOf(context);
    if (stage === "foreign") throw foreignDatabase(context);
    return stage === "absent" || plan === undefined ? "todo" : "done";
  },
  prepare,
  run: async (context, plan) => {
    if ((await stageOf(context)) === "absent") await makeTargetDatabase(context, plan);
    return { database: context.move.database };
  },
  verify: async (context) => {
    await requireOurs(context);
    const [found] = await onTarget<{ limit: number }>(
      context,
      "SELECT datconnlimit AS limit FROM pg_database WHERE datname = $1",
      [context.move.database],
    );
    if (found?.limit === 0) return;
    const { instance } = context.target;
    throw new PgkitError(
      "verification-failed",
      `database ${context.move.database} on ${instance} has the connection limit ${found?.limit}, not 0`,
      { hint: "somebody has opened it: its data is not whole yet; close it (CONNECTION LIMIT 0) and resume the move" },
    );
  },
  undo: (context) => dropTargetDatabase(context),
};

/** Fails with `move-refused` where pgkit itself would be shut out of the closed database. */
async function prepare(context: MoveContext): Promise<DatabasePlan> {
  const { target, move } = context;
  const [me] = await onTarget<{ superuser: boolean; name: string }>(
    context,
    "SELECT current_setting('is_superuser')::bool AS superuser, current_user AS name",
  );
  if (me?.superuser !== true) {
    throw new PgkitError("move-refused", `${me?.name} is no superuser on ${target.instance}`, {
      hint: "the target's database is closed to all but superusers until the switch: let pgkit connect as one",
    });
  }
  const plan = await context.session("source", async (session): Promise<DatabasePlan> => {
    const { owner, encoding, locale, tablespace } = await databaseFacts(session);
    const [own] = await session.query<{ comment: string | null }>(
      "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = current_database()",
    );
    const grants = await grantStatements(session);
    return { facts: { owner, encoding, locale, tablespace }, grants, comment: own?.comment ?? null };
  });
  await warnOfTablespace(context, plan.facts.tablespace, move.database);
  return plan;
}

async function warnOfTablespace(context: MoveContext, name: string, database: string): Promise<void> {
  const found = await onTarget(context, "SELECT FROM pg_tablespace WHERE spcname = $1", [name]);
  if (found.length > 0) return;
  const message = `tablespace ${name} of database ${database} is not on ${context.target.instance}: it goes to the default one`;
  context.report({
    type: "warning",
    message,
    hint: `CREATE TABLESPACE on ${context.target.instance} first, where that matters`,
  });
}
