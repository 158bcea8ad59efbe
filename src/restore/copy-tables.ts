import { PgkitError } from "../lib/errors.ts";
import { identifier } from "../postgres/quote.ts";
import { withSession } from "../postgres/session.ts";
import { type ToolTarget, toolInput, toolOutput } from "../postgres/tools.ts";
import { readFile } from "../repo/files.ts";
import type { Manifest, TableFacts } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import type { RestoreDependencies } from "./database.ts";
import { addForeignKeys, readPostData, tryToAdd } from "./foreign-keys.ts";
import { connectionString } from "./load.ts";
import { detachPartitions } from "./partitions.ts";
import type { RestorePlan } from "./plan.ts";
import { restoreTarget } from "./target.ts";

/**
 * Copies the plan's tables, with all that belongs to them, out of the loaded database into the live one, in a single
 * transaction; their places among partitions and their foreign keys follow one by one. Gives those of these that the
 * live rows do not fit.
 */
export async function copyTables(
  { plan, backup, live }: { plan: RestorePlan; backup: Manifest; live: string },
  { connection, programs, repository, signal }: RestoreDependencies,
): Promise<string[]> {
  const tables = chosen(plan);
  const attachments = await withSession(connection, { database: plan.loading, signal }, (session) =>
    detachPartitions(session, tables),
  );
  const patterns = tables.map(({ schema, name }) => `--table=${[schema, name].map(identifier).join(".")}`);
  const source = toolOutput({ programs, connection, database: plan.loading, signal }, "pg_dump", [
    ...["--format=custom", "--compress=0", "--no-password", "--strict-names"],
    ...patterns,
  ]);
  const target = restoreTarget({ programs, connection, database: live, signal });
  const args = ["--single-transaction", "--exit-on-error", "--no-password", connectionString(live)];
  // Read before anything is changed: later a store that fails would leave the tables without their foreign keys.
  const postData = await postDataOf(target, { backup, repository });
  await toolInput(target, "pg_restore", args, source);
  // The tables are in the live database now. What follows is not to be stopped: nobody would know what is missing.
  const failures: string[] = [];
  await withSession(connection, { database: live }, async (session) => {
    for (const statement of attachments) {
      const failure = await tryToAdd(session, statement);
      if (failure !== undefined) failures.push(failure);
    }
  });
  const script = { script: postData, encoding: backup.logical?.encoding ?? "UTF8" };
  return [...failures, ...(await addForeignKeys({ connection, database: live }, script, tables))];
}

async function postDataOf(
  target: ToolTarget,
  { backup, repository }: { backup: Manifest; repository: RepositoryReader },
): Promise<Buffer> {
  const schema = backup.files.find((file) => file.role === "schema" || file.role === "archive");
  if (schema === undefined) return Buffer.alloc(0);
  return readPostData(target, readFile(repository, schema, { signal: target.signal }));
}

/** Fails with `refused-overwrite` when the live database has one of the plan's tables. */
export async function refuseExistingTables(
  plan: RestorePlan,
  live: string,
  { connection, signal }: Pick<RestoreDependencies, "connection" | "signal">,
): Promise<void> {
  const tables = chosen(plan);
  const there = await withSession(connection, { database: live, signal }, (session) =>
    session.query<{ name: string }>(
      `SELECT nspname || '.' || relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
       WHERE (nspname, relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))`,
      [tables.map((table) => table.schema), tables.map((table) => table.name)],
    ),
  );
  if (there.length === 0) return;
  const names = there.map(({ name }) => name).join(", ");
  throw new PgkitError("refused-overwrite", `database ${live} has ${names} already`, {
    hint: "rename it first, or restore the table into a new database by --as NAME",
  });
}

function chosen({ tables }: RestorePlan): readonly TableFacts[] {
  return tables === "all" ? [] : tables;
}
