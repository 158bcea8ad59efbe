import { PgkitError } from "../lib/errors.ts";
import { identifier } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { toolInput, toolOutput } from "../postgres/tools.ts";
import type { TableFacts } from "../repo/manifest.ts";
import type { RestoreDependencies } from "./database.ts";
import { connectionString } from "./load.ts";
import { detachPartitions } from "./partitions.ts";
import type { RestorePlan } from "./plan.ts";
import { restoreTarget } from "./target.ts";

/**
 * Copies the plan's tables out of the loaded database into a new schema of the live one, with their rows, indexes,
 * constraints and own sequences, in a single transaction; what is there is not touched. Foreign keys stay out.
 */
export async function copyBeside(plan: RestorePlan, dependencies: RestoreDependencies): Promise<void> {
  const { connection, programs, signal } = dependencies;
  const { live, schema, tables } = beside(plan);
  await withSession(connection, { database: plan.loading, signal }, async (session) => {
    await detachPartitions(session, tables);
    await moveInto(session, schema, tables);
  });
  const source = toolOutput({ programs, connection, database: plan.loading, signal }, "pg_dump", [
    ...["--format=custom", "--compress=0", "--no-password", "--no-publications", "--strict-names"],
    `--schema=${identifier(schema)}`,
  ]);
  const target = restoreTarget({ programs, connection, database: live, signal });
  const args = ["--single-transaction", "--exit-on-error", "--no-password", connectionString(live)];
  await toolInput(target, "pg_restore", args, source);
}

/** Fails with `refused-overwrite` when the live database has the schema that the tables are to come into. */
export async function refuseExistingSchema(
  plan: Pick<RestorePlan, "copyInto" | "besideSchema">,
  { connection, signal }: Pick<RestoreDependencies, "connection" | "signal">,
): Promise<void> {
  const { copyInto: live = "", besideSchema: schema = "" } = plan;
  const there = await withSession(connection, { database: live, signal }, (session) =>
    session.query("SELECT FROM pg_namespace WHERE nspname = $1", [schema]),
  );
  if (there.length === 0) return;
  throw new PgkitError("refused-overwrite", `database ${live} has a schema ${schema} already`, {
    hint: "drop or rename it first, or restore the tables into a new database by --as NAME",
  });
}

/** Of the owner of the first table, who else could not reach it there. */
async function moveInto(session: Session, schema: string, tables: readonly TableFacts[]): Promise<void> {
  const [first] = tables;
  const [owner] = await session.query<{ name: string }>(
    `SELECT pg_get_userbyid(relowner) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE nspname = $1 AND relname = $2`,
    [first?.schema, first?.name],
  );
  await session.query(`CREATE SCHEMA ${identifier(schema)} AUTHORIZATION ${identifier(owner?.name ?? "")}`);
  for (const table of tables) {
    const name = [table.schema, table.name].map(identifier).join(".");
    await session.query(`ALTER TABLE ${name} SET SCHEMA ${identifier(schema)}`);
  }
}

function beside({ copyInto, besideSchema, tables }: RestorePlan) {
  if (copyInto === undefined || besideSchema === undefined || tables === "all") {
    throw new PgkitError("bug", "tables are to be copied beside others, and it is not said which or where");
  }
  return { live: copyInto, schema: besideSchema, tables };
}
