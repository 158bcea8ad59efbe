import { writeFile as writeLocalFile } from "node:fs/promises";
import { join } from "node:path";
import pLimit from "p-limit";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { scratchError } from "../lib/scratch.ts";
import { ownedScratchFolder, removeOwnedScratch } from "../lib/scratch-folder.ts";
import { runTool, type ToolTarget, toolInput } from "../postgres/tools.ts";
import { checkStored, readFile } from "../repo/files.ts";
import type { StoredFile } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type ArchiveEntry, isForeignKey, isWanted, listArchive, useList } from "./archive-list.ts";
import type { RestorePlan } from "./plan.ts";

export interface Load {
  repository: RepositoryReader;
  plan: RestorePlan;
  /** The empty database. */
  target: ToolTarget;
  /** Told of every piece of an archive's bytes that was read. */
  onBytes: (bytes: number) => void;
}

const always = ["--exit-on-error", "--no-password"];

/** What every pg_restore into the plan's database is given. */
function common({ missingTablespaces }: RestorePlan, target: ToolTarget): string[] {
  return [
    ...always,
    ...(missingTablespaces.length === 0 ? [] : ["--no-tablespaces"]),
    connectionString(target.database),
  ];
}

/**
 * Loads what the plan says into an empty database: schema, data in `jobs` streams at once straight from the store, then
 * indexes and constraints in `jobs` processes. Only the schema of a backup in parts touches a local disk. Stops at the
 * first error.
 */
export async function loadDatabase(load: Load): Promise<void> {
  const scratch = await ownedScratchFolder("pgkit-restore-");
  try {
    const archive = load.plan.files.find((file) => file.role === "archive");
    if (archive === undefined) await loadParts(load, scratch);
    else await loadWhole(load, archive, scratch);
  } catch (error) {
    throw scratchError(error);
  } finally {
    await removeOwnedScratch(scratch);
  }
}

async function loadWhole(load: Load, archive: StoredFile, scratch: string): Promise<void> {
  const { plan, target } = load;
  const selection = plan.data ? await selectEntries(load, archive, scratch) : ["--schema-only"];
  // Of all that an archive holds pg_restore reads no more than it needs.
  const options = { mayStopReading: selection.length > 0 };
  await blamingDamage(load, archive, () =>
    toolInput(target, "pg_restore", [...common(plan, target), ...selection], open(load, archive), options),
  );
}

async function loadParts(load: Load, scratch: string): Promise<void> {
  const { plan, target } = load;
  const schema = join(scratch, "schema.dump");
  await writeLocalFile(schema, open(load, fileOf(plan, "schema")), { mode: 0o600 });
  await runTool(target, "pg_restore", [...common(plan, target), "--section=pre-data", schema]);
  const limit = pLimit(plan.jobs);
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, ...(target.signal === undefined ? [] : [target.signal])]);
  const dataFiles = plan.files.filter((file) => file.role === "data");
  const work = dataFiles.map((file, index) =>
    limit(() => loadData({ ...load, target: { ...target, signal } }, file, join(scratch, `data-${index}.list`))),
  );
  for (const each of work) each.catch((error: unknown) => stop.abort(error));
  await Promise.allSettled(work);
  stop.signal.throwIfAborted();
  const selection = await selectEntries(load, fileOf(plan, "schema"), scratch);
  const parallel = ["--section=post-data", `--jobs=${plan.jobs}`];
  await runTool(oneCoreAJob(target, plan), "pg_restore", [...common(plan, target), ...parallel, ...selection, schema]);
}

/**
 * Each job builds its own index on its own core: with workers of the server's besides, two jobs on two cores were
 * measured to take 7.3 s for what takes 5.4 s without.
 */
function oneCoreAJob(target: ToolTarget, { jobs }: RestorePlan): ToolTarget {
  return jobs < 2 ? target : { ...target, settings: { ...target.settings, max_parallel_maintenance_workers: "0" } };
}

async function loadData(load: Load, file: StoredFile, listFile: string): Promise<void> {
  load.target.signal?.throwIfAborted();
  const { plan, target } = load;
  const args = [...common(plan, target), "--section=data"];
  if (plan.tables !== "all") {
    const entries = (await entriesOf(load, file)).filter((entry) => isWanted(entry, tablesOf(plan)));
    if (entries.length === 0) return;
    await writeLocalFile(listFile, useList(entries));
    args.push(`--use-list=${listFile}`);
  }
  const options = { mayStopReading: plan.tables !== "all" };
  await blamingDamage(load, file, () => toolInput(target, "pg_restore", args, open(load, file), options));
}

/** With single tables: all entries but the other tables' rows and the foreign keys, which would point at nothing. */
async function selectEntries(load: Load, archive: StoredFile, scratch: string): Promise<string[]> {
  const { plan } = load;
  if (plan.tables === "all") return [];
  const entries = await entriesOf(load, archive);
  const wanted = entries.filter((entry) => !isForeignKey(entry) && isWanted(entry, tablesOf(plan)));
  const listFile = join(scratch, "entries.list");
  await writeLocalFile(listFile, useList(wanted));
  return [`--use-list=${listFile}`];
}

function tablesOf(plan: RestorePlan) {
  return plan.tables === "all" ? [] : plan.tables;
}

/** The database's name for pg_restore, which takes PGDATABASE for none at all, and a bare name with "=" for more. */
export function connectionString(database: string): string {
  return `--dbname=dbname='${database.replaceAll(/['\\]/g, "\\$&")}'`;
}

function fileOf(plan: RestorePlan, role: StoredFile["role"]): StoredFile {
  const file = plan.files.find((each) => each.role === role);
  if (file !== undefined) return file;
  throw new PgkitError("manifest-corrupt", `backup ${plan.backup} has no file of role ${role}`, {
    hint: "run pgkit verify on it, and restore from another backup",
  });
}

async function entriesOf(load: Load, file: StoredFile): Promise<ArchiveEntry[]> {
  return blamingDamage(load, file, () => listArchive(load.target, open(load, file)));
}

/** What pg_restore makes of a damaged archive depends on the byte; the damage itself shows only when all was read. */
async function blamingDamage<Result>(
  { repository, target }: Load,
  file: StoredFile,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (isPgkitError(error, "tool-failed")) await checkStored(repository, file, { signal: target.signal });
    throw error;
  }
}

async function* open(load: Load, file: StoredFile): AsyncGenerator<Uint8Array> {
  for await (const piece of readFile(load.repository, file, { signal: load.target.signal })) {
    load.onBytes(piece.length);
    yield piece;
  }
}
