import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { withSession } from "../postgres/session.ts";
import { runTool } from "../postgres/tools.ts";
import type { LogicalFacts, Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { compareWithManifest } from "./compare.ts";
import { copyBeside, refuseExistingSchema } from "./copy-beside.ts";
import { copyTables, refuseExistingTables } from "./copy-tables.ts";
import { dropLeftovers } from "./leftovers.ts";
import { connectionString, loadDatabase } from "./load.ts";
import { type Hold, type Loading, withLoadingDatabase } from "./loading.ts";
import type { RestorePlan } from "./plan.ts";
import { runScript } from "./script.ts";
import { giveName, maintenanceDatabase } from "./swap.ts";
import { restoreTarget } from "./target.ts";

export interface RestoreDependencies {
  repository: RepositoryReader;
  connection: Connection;
  /** Of the target server's major. */
  programs: Programs;
  /** A further look at the loaded database, before it gets its name or its tables are copied. */
  prove?: ((plan: RestorePlan) => Promise<void>) | undefined;
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
  const { connection, report, signal } = dependencies;
  const maintenance = maintenanceDatabase(connection, plan.to.database);
  const script = { backup, database: maintenance };
  if (plan.besideSchema !== undefined) await refuseExistingSchema(plan, dependencies);
  else if (plan.copyInto !== undefined) await refuseExistingTables(plan, plan.copyInto, dependencies);
  await dropLeftovers(connection, maintenance, report, signal);
  const updating = plan.rolesToUpdate.length > 0 ? ["update_roles=on"] : [];
  await runScript({ ...script, role: "roles", variables: updating }, dependencies);
  return withLoadingDatabase({ plan, backup, maintenance }, dependencies, async (hold) => {
    const { rows } = await loadAndVerify(plan, backup, dependencies);
    await dependencies.prove?.(plan);
    await runScript({ ...script, role: "settings", variables: [`database=${plan.loading}`] }, dependencies);
    const notRestored = await takeItsPlace({ plan, backup, maintenance }, dependencies, hold);
    const tables = plan.tables === "all" ? (backup.logical as LogicalFacts).tables.length : plan.tables.length;
    const kept = plan.keptAs === undefined ? {} : { keptAs: plan.keptAs };
    return { database: plan.to.database, ...kept, tables, rows, notRestored };
  });
}

const analyze = ["--analyze-only", "--quiet", "--no-password"];

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
  const target = restoreTarget({
    ...{ programs, connection, signal },
    database: plan.loading,
    settings: { synchronous_commit: "off" },
  });
  if (plan.missingTablespaces.length > 0) {
    const message = `instance ${plan.to.instance} has no tablespace ${plan.missingTablespaces.join(", ")}`;
    report({ type: "warning", message, hint: "all of the database goes into its own tablespace" });
  }
  await loadDatabase({ repository, plan, target, onBytes });
  report({ type: "progress", task, bytes, totalBytes, phase: "analyze and verify" });
  // Reading the rows to count them and to sample them goes side by side; when one fails, both are waited for.
  const [verified, analyzed] = await Promise.allSettled([
    verifyLoaded(plan, backup, dependencies),
    plan.data
      ? runTool(target, "vacuumdb", [...analyze, `--jobs=${plan.jobs}`, connectionString(plan.loading)])
      : undefined,
  ]);
  if (verified.status === "rejected") throw verified.reason;
  if (analyzed.status === "rejected") throw analyzed.reason;
  return verified.value;
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
  { plan, backup, maintenance }: Loading,
  dependencies: RestoreDependencies,
  hold: Hold,
): Promise<string[]> {
  const { connection, signal } = dependencies;
  const { loading, to, keptAs, copyInto } = plan;
  if (plan.besideSchema !== undefined) {
    await copyBeside(plan, dependencies);
    return [];
  }
  if (copyInto !== undefined) return copyTables({ plan, backup, live: copyInto }, dependencies);
  await giveName(connection, { restored: loading, name: to.database, keptAs }, { hold, maintenance, signal });
  return [];
}
