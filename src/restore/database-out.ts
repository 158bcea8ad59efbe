import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { backupLogical } from "../backup/logical.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Manifest } from "../repo/manifest.ts";
import { openOrCreateRepository, type Repository } from "../repo/repository.ts";
import { fileStore } from "../store/file.ts";
import { proveContent } from "./content.ts";
import { type RestoreResult, restoreDatabase } from "./database.ts";
import type { Run } from "./database-at.ts";
import { targetFacts, uniqueName } from "./logical.ts";
import { planRestore, type RestorePlan } from "./plan.ts";

/**
 * Dumps the database out of the recovered server, in parallel and into files of the scratch folder, and loads them into
 * the live one as a restore from a logical backup does; then compares the content of both.
 */
export async function loadFrom(
  run: Run,
  { connection: scratch, folder }: { connection: Connection; folder: string },
): Promise<RestoreResult> {
  const { plan, connection, programs, clock, report, signal } = run;
  const repository = await newRepository(join(folder, "dump"), run);
  const dumped = await dump(run, scratch, repository);
  // Of the instance and the moment that it is of, not of the scratch server.
  const backup: Manifest = { ...dumped, instance: plan.recovery.instance, startedAt: momentOf(plan, dumped) };
  const facts = await targetFacts(connection, plan.to.database, signal);
  const request = {
    as: plan.besideSchema === undefined ? plan.to.database : undefined,
    replace: plan.keptAs !== undefined,
    ...{ tables: plan.tables, schemaOnly: false, jobs: plan.jobs, updateRoles: plan.updateRoles },
    besideSchema: plan.besideSchema,
  };
  const target = { instance: plan.to.instance, ...facts };
  const restorePlan = planRestore(backup, request, target, { now: plan.now, unique: uniqueName(clock) });
  const prove = (loaded: RestorePlan) => compare(run, scratch, loaded);
  return restoreDatabase(restorePlan, backup, {
    ...{ repository, connection, programs: programs.live, report, signal },
    ...(plan.contentCheck ? { prove } : {}),
  });
}

/** Nobody else can read it, and it is gone with the scratch folder: what it costs counts, not what it is safe from. */
async function newRepository(path: string, { clock, signal }: Run): Promise<Repository> {
  await mkdir(path, { mode: 0o700 });
  const settings = {
    compression: { level: 1, threads: 2 },
    ...{ recipients: [], identities: () => Promise.resolve([]), volumeBytes: 32 * 1024 ** 3 },
  };
  return openOrCreateRepository(fileStore({ path, clock }), settings, clock, { signal });
}

/** A table is dumped by one process; below this size a database is not worth several. */
const wholeBelowBytes = 128 * 1024 ** 2;

async function dump(run: Run, connection: Connection, repository: Repository): Promise<Manifest> {
  const { plan, programs, pgkitVersion, clock, report, signal } = run;
  const { made, failures } = await backupLogical(
    {
      instance: "scratch",
      connection,
      databases: [plan.database],
      ...{ include: undefined, exclude: [], connections: plan.jobs + 2, jobs: plan.jobs },
      ...{ wholeBelowBytes, countRows: true },
    },
    [{ repository, signal }],
    { programsFor: () => Promise.resolve(programs.scratch), pgkitVersion, clock, report, signal },
  );
  const [first] = made;
  if (first === undefined) throw failures[0]?.error;
  return first.manifest;
}

function momentOf({ recovery: { target } }: Run["plan"], { startedAt }: Manifest): string {
  return target.type === "time" ? target.text : startedAt;
}

async function compare(run: Run, scratch: Connection, { loading, tables, jobs }: RestorePlan): Promise<void> {
  const { plan, connection, clock, report, signal } = run;
  await proveContent({
    from: { connection: scratch, database: plan.database },
    to: { connection, database: loading },
    ...(tables === "all" ? {} : { tables }),
    ...{ jobs, clock, report, signal },
  });
}
