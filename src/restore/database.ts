import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { identifier } from "../postgres/quote.ts";
import { withSession } from "../postgres/session.ts";
import { runTool, type ToolTarget, toolInput } from "../postgres/tools.ts";
import { readSmallFile } from "../repo/files.ts";
import type { LogicalFacts, Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { compareWithManifest } from "./compare.ts";
import { copyTables, refuseExistingTables } from "./copy-tables.ts";
import { dropLeftovers, markAsRestoring, unmark } from "./leftovers.ts";
import { loadDatabase } from "./load.ts";
import type { RestorePlan } from "./plan.ts";
import { maintenanceDatabase, swapDatabases } from "./swap.ts";

export interface RestoreDependencies {
  repository: RepositoryReader;
  connection: Connection;
  /** Of the target server's major. */
  programs: Programs;
  report: Report;
  signal: AbortSignal;
}

export interface RestoreResult {
  /** The name under which the restored database, or the live one that tables came back into, is found. */
  database: string;
  /** The live database's new name, where it was replaced. */
  keptAs?: string;
  tables: number;
  rows: number;
  /** What could not be brought back with single tables, such as a foreign key that the live rows break. */
  notRestored: string[];
}

/**
 * Does what the plan says: loads the database beside all others under a name of its own, compares it with what the
 * manifest recorded, and only then gives it its final name. After a failure the loaded database is dropped, after a kill
 * the next restore drops it; what was there before is untouched in both cases.
 */
export async function restoreDatabase(
  plan: RestorePlan,
  backup: Manifest,
  dependencies: RestoreDependencies,
): Promise<RestoreResult> {
  const { connection, signal } = dependencies;
  const facts = backup.logical as LogicalFacts;
  const maintenance = await maintenanceDatabase(connection, plan.to.database);
  const target = { ...dependencies, database: maintenance };
  if (plan.copyInto !== undefined) await refuseExistingTables(plan, plan.copyInto, dependencies);
  await dropLeftovers(connection, maintenance, dependencies.report, signal);
  await runScript(target, dependencies, backup, "roles", plan.rolesToUpdate.length > 0 ? ["update_roles=on"] : []);
  try {
    await runScript(target, dependencies, backup, "database", [`database=${plan.loading}`]);
    await withSession(connection, { database: maintenance, signal }, (session) =>
      markAsRestoring(session, plan.loading, plan.backup),
    );
    const { rows } = await loadAndVerify(plan, backup, dependencies);
    await runScript(target, dependencies, backup, "settings", [`database=${plan.loading}`]);
    const notRestored = await takeItsPlace(plan, backup, dependencies, maintenance);
    const tables = plan.tables === "all" ? facts.tables.length : plan.tables.length;
    const kept = plan.keptAs === undefined ? {} : { keptAs: plan.keptAs };
    return { database: plan.to.database, ...kept, tables, rows, notRestored };
  } catch (error) {
    await dropLoading(plan, connection, maintenance, dependencies.report);
    throw error;
  }
}

async function loadAndVerify(
  plan: RestorePlan,
  backup: Manifest,
  dependencies: RestoreDependencies,
): Promise<{ rows: number }> {
  const { connection, programs, repository, report, signal } = dependencies;
  const task = `restore ${plan.from.database}`;
  const totalBytes = plan.data ? plan.files.reduce((sum, file) => sum + file.plainBytes, 0) : undefined;
  report({ type: "start", task, totalBytes });
  let bytes = 0;
  const onBytes = (more: number) => {
    bytes += more;
    report({ type: "progress", task, bytes, totalBytes });
  };
  // A crash in the middle costs only the load: what it is renamed to is committed, and flushed, as usual.
  const target: ToolTarget = {
    programs,
    connection,
    database: plan.loading,
    settings: { synchronous_commit: "off" },
    signal,
  };
  await loadDatabase({ repository, plan, target, onBytes });
  report({ type: "progress", task, bytes, totalBytes, phase: "analyze and verify" });
  if (plan.data) await runTool(target, "vacuumdb", ["--analyze-only", "--quiet", `--jobs=${plan.jobs}`]);
  return verifyLoaded(plan, backup, dependencies);
}

/** Fails with `verification-failed` when tables or rows are not those that the manifest recorded. */
async function verifyLoaded(
  plan: RestorePlan,
  backup: Manifest,
  { connection, signal }: RestoreDependencies,
): Promise<{ rows: number }> {
  const facts = backup.logical as LogicalFacts;
  const chosen = plan.tables;
  const rowsOf = chosen === "all" ? facts.tables : chosen;
  // Without the data the recorded rows say nothing; with single tables, only theirs do.
  const expected = facts.tables.map(({ rows, ...table }) => {
    const counted =
      plan.data &&
      rows !== undefined &&
      rowsOf.some((each) => each.schema === table.schema && each.name === table.name);
    return counted ? { ...table, rows } : table;
  });
  const largeObjects = plan.data && chosen === "all";
  const problems = await withSession(connection, { database: plan.loading, signal }, (session) =>
    compareWithManifest(session, { ...facts, tables: expected }, { rows: plan.data, largeObjects }),
  );
  if (problems.length === 0)
    return { rows: expected.reduce((sum, table) => sum + ("rows" in table ? table.rows : 0), 0) };
  const message = `what was restored of ${backup.id} differs from the backup: ${problems.slice(0, 5).join("; ")}`;
  throw new PgkitError("verification-failed", message, {
    hint: "nothing was changed; run pgkit verify on the backup, or restore another one",
  });
}

/** Gives the loaded database its final name, or copies the tables out of it; gives what could not come along. */
async function takeItsPlace(
  plan: RestorePlan,
  backup: Manifest,
  dependencies: RestoreDependencies,
  maintenance: string,
): Promise<string[]> {
  const { connection, signal } = dependencies;
  const { loading, to, keptAs, copyInto } = plan;
  if (copyInto !== undefined) {
    const notRestored = await copyTables({ plan, backup, live: copyInto }, dependencies);
    await dropDatabase(connection, maintenance, loading, signal);
    return notRestored;
  }
  if (keptAs !== undefined) {
    await swapDatabases(connection, { live: to.database, restored: loading, keptAs }, signal);
    return [];
  }
  await withSession(connection, { database: maintenance, signal }, async (session) => {
    await session.query("BEGIN");
    await unmark(session, loading);
    await session.query(`ALTER DATABASE ${identifier(loading)} RENAME TO ${identifier(to.database)}`);
    await session.query("COMMIT");
  });
  return [];
}

async function runScript(
  target: Omit<ToolTarget, "signal"> & { signal: AbortSignal },
  { repository }: RestoreDependencies,
  backup: Manifest,
  role: "roles" | "database" | "settings",
  variables: readonly string[],
): Promise<void> {
  const file = backup.files.find((each) => each.role === role);
  if (file === undefined) {
    throw new PgkitError("manifest-corrupt", `backup ${backup.id} has no file of role ${role}`, {
      hint: "run pgkit verify on it, and restore from another backup",
    });
  }
  const script = await readSmallFile(repository, file, { signal: target.signal });
  const { programs, connection, database, signal } = target;
  const assignments = ["ON_ERROR_STOP=1", ...variables].map((assignment) => `--set=${assignment}`);
  await toolInput(
    { programs, connection, database, signal },
    "psql",
    ["-X", "-q", "-w", ...assignments, "-f", "-"],
    one(script),
  );
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** After a failure, so without the run's signal, which may be its reason. */
async function dropLoading(
  plan: RestorePlan,
  connection: Connection,
  maintenance: string,
  report: Report,
): Promise<void> {
  try {
    await dropDatabase(connection, maintenance, plan.loading);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    report({
      type: "warning",
      message: `database ${plan.loading} of the failed restore could not be dropped: ${why}`,
      hint: "the next restore drops it, or DROP DATABASE by hand",
    });
  }
}

async function dropDatabase(
  connection: Connection,
  maintenance: string,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  await withSession(connection, { database: maintenance, signal }, async (session) => {
    await session.query(`DROP DATABASE IF EXISTS ${identifier(name)} WITH (FORCE)`);
  });
}
