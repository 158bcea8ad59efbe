import { PgkitError } from "../../lib/errors.ts";
import { databaseFacts } from "../../postgres/database-facts.ts";
import { grantStatements } from "../../postgres/database-scripts.ts";
import type { Session } from "../../postgres/session.ts";
import { isClosed } from "../gate.ts";
import { foreignDatabase, onTarget, requireOurs, stageOf } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";
import { type DatabasePlan, dropTargetDatabase, makeTargetDatabase } from "../target-database.ts";

export const createDatabaseStep: Step<DatabasePlan, { database: string }> = {
  name: "create-database",
  does: "makes the database on the target, with owner, encoding, locale and grants of the source, closed to all but pgkit",
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
    const { session, target, move } = context;
    if (await session("target", (server) => isClosed(server, move.database), target.connection.database)) return;
    throw new PgkitError("verification-failed", `database ${move.database} on ${target.instance} is open to others`, {
      hint: "somebody has opened it: its data is not whole yet; close it (CONNECTION LIMIT 0) and resume the move",
    });
  },
  undo: (context) => dropTargetDatabase(context),
};

async function prepare(context: MoveContext): Promise<DatabasePlan> {
  const plan = await context.session("source", async (session): Promise<DatabasePlan> => {
    const { owner, encoding, locale, tablespace } = await databaseFacts(session);
    const [own] = await session.query<{ comment: string | null }>(
      "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = current_database()",
    );
    const grants = await grantStatements(session);
    const connects = await connectStatements(session);
    return { facts: { owner, encoding, locale, tablespace }, grants, connects, comment: own?.comment ?? null };
  });
  await warnOfTablespace(context, plan.facts.tablespace, context.move.database);
  return plan;
}

/** Also by the default, where the database has no ACL of its own. */
async function connectStatements(session: Session): Promise<string[]> {
  const rows = await session.query<{ who: string }>(
    `SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
         || CASE WHEN a.is_grantable AND a.grantee <> datdba THEN ' WITH GRANT OPTION' ELSE '' END AS who
     FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a
     WHERE datname = current_database() AND a.privilege_type = 'CONNECT' ORDER BY 1`,
  );
  return rows.map(({ who }) => who);
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
