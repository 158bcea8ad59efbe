import { PgkitError } from "../lib/errors.ts";
import { compactTime } from "../lib/time.ts";
import type { DatabaseEntry, ServerFacts } from "../postgres/server-facts.ts";
import { storedBytesOf } from "../repo/files.ts";
import type { LogicalFacts, Manifest, StoredFile, TableFacts } from "../repo/manifest.ts";

export interface RestoreRequest {
  /** The name to restore under; that of the backup when absent. */
  as?: string | undefined;
  /** Puts the restored database in the place of the live one, which is kept under another name. */
  replace: boolean;
  /**
   * `schema.table` or `table`. With `as`: a database with all of the schema and the rows of these alone, without foreign
   * keys. Without: these tables, which must be missing in the live database, come back in it.
   */
  tables: readonly string[];
  schemaOnly: boolean;
  jobs: number;
  updateRoles: boolean;
  /** With tables and no other name: they come into a new schema of this name, beside the live ones. */
  besideSchema?: string | undefined;
}

export interface TargetFacts {
  instance: string;
  server: ServerFacts;
  databases: readonly DatabaseEntry[];
  /** Names of all roles. */
  roles: readonly string[];
  tablespaces: readonly string[];
  /** Names of the extensions that can be created there. */
  extensions: readonly string[];
}

/** All that a restore will do; `--dry-run` prints it, and then exactly this is done. */
export interface RestorePlan {
  backup: string;
  from: { instance: string; database: string; startedAt: string };
  to: { instance: string; database: string };
  /** The database that is loaded, beside all others, and gets its final name only when it has been verified. */
  loading: string;
  /** With `replace`: the name under which the live database is kept. */
  keptAs?: string;
  /** With tables and no other name: the tables are copied from `loading` into this live database. */
  copyInto?: string;
  /** The new schema of that database that they go to; absent where they go to their own. */
  besideSchema?: string;
  rolesToCreate: string[];
  rolesToUpdate: string[];
  /** The backup's tablespaces that the target lacks: with any, all goes into the database's own. */
  missingTablespaces: string[];
  tables: readonly TableFacts[] | "all";
  data: boolean;
  jobs: number;
  /** Files to fetch, biggest first. */
  files: readonly StoredFile[];
  storedBytes: number;
}

/** PostgreSQL cuts longer names off, which could make two of them the same. */
const longestName = 63;

/**
 * What restoring `backup` on the target means. Pure; `unique` keeps the databases of two restores at once apart. Fails
 * before anything is changed: with `refused-overwrite` when the database exists and is not to be replaced, with `usage`
 * when the server is older than the backup's or is a standby, with `tool-missing` when it lacks an extension.
 */
export function planRestore(
  backup: Manifest,
  request: RestoreRequest,
  target: TargetFacts,
  { now, unique }: { now: Date; unique: string },
): RestorePlan {
  const { logical, database } = backup;
  if (logical === undefined || database === undefined) {
    throw new PgkitError("usage", `${backup.id} is a ${backup.kind} backup, not one of a database`, {
      hint: "pgkit list --json shows the kind of each backup",
    });
  }
  refuseServer(backup, target);
  refuseExtensions(backup, logical, target);
  const name = request.as ?? database;
  const copiesTables = request.tables.length > 0 && request.as === undefined;
  if (copiesTables) refuseTables(name, request, target);
  else refuseName(name, request, target);
  const tables = chooseTables(logical.tables, request.tables);
  if (request.besideSchema !== undefined) refuseSameNames(tables, request.besideSchema);
  const files = neededFiles(backup.files, request);
  return {
    backup: backup.id,
    from: { instance: backup.instance, database, startedAt: backup.startedAt },
    to: { instance: target.instance, database: name },
    loading: shortened(name, `_restoring_${compactTime(now).toLowerCase()}_${unique}`),
    ...(copiesTables ? { copyInto: name } : {}),
    ...(copiesTables && request.besideSchema !== undefined ? { besideSchema: request.besideSchema } : {}),
    ...(request.replace ? { keptAs: nameOfKept(name, now) } : {}),
    rolesToCreate: logical.roles.filter((role) => !target.roles.includes(role)),
    rolesToUpdate: request.updateRoles ? logical.roles.filter((role) => target.roles.includes(role)) : [],
    missingTablespaces: (logical.tablespaces ?? []).filter((name) => !target.tablespaces.includes(name)),
    tables,
    data: !request.schemaOnly,
    jobs: request.jobs,
    files,
    storedBytes: storedBytesOf(files),
  };
}

/** Fails with `usage` when the target is older than the server that was backed up, or a standby. */
export function refuseServer(
  backup: Pick<Manifest, "id" | "server">,
  { server, instance }: Pick<TargetFacts, "server" | "instance">,
): void {
  const major = Number.parseInt(backup.server.version, 10);
  if (server.major < major) {
    throw new PgkitError(
      "usage",
      `${backup.id} is of PostgreSQL ${major}, instance ${instance} runs ${server.version}`,
      {
        hint: `restore to an instance of PostgreSQL ${major} or newer by --to-instance`,
      },
    );
  }
  if (server.inRecovery) {
    throw new PgkitError("usage", `instance ${instance} is a standby: nothing can be restored into it`, {
      hint: "restore to its primary, by --to-instance or with target_session_attrs=read-write in the URL",
    });
  }
}

function refuseExtensions({ id }: Manifest, { extensions }: LogicalFacts, target: TargetFacts): void {
  const missing = extensions.map(({ name }) => name).filter((name) => !target.extensions.includes(name));
  if (missing.length === 0) return;
  throw new PgkitError(
    "tool-missing",
    `${id} needs extensions that instance ${target.instance} does not have: ${missing.join(", ")}`,
    { hint: "install their packages on the server, then run this again" },
  );
}

/** Fails when a database cannot have that name: `usage`, `refused-overwrite`, and to be replaced `database-missing`. */
export function refuseName(
  name: string,
  { replace }: Pick<RestoreRequest, "replace">,
  { databases, instance }: Pick<TargetFacts, "databases" | "instance">,
): void {
  if (Buffer.byteLength(name) > longestName) {
    throw new PgkitError("usage", `the name ${name} is longer than PostgreSQL's ${longestName} bytes`, {
      hint: "give a shorter one by --as",
    });
  }
  const exists = databases.some((database) => database.name === name);
  if (exists && !replace) {
    throw new PgkitError("refused-overwrite", `database ${name} exists in instance ${instance}`, {
      hint: "restore beside it by --as NAME, or in its place by --replace, which keeps the old one under another name",
    });
  }
  if (!exists && replace) {
    throw new PgkitError("database-missing", `there is no database ${name} in instance ${instance} to replace`, {
      hint: "leave --replace out to restore it",
    });
  }
}

/** Fails when tables cannot be brought back into that database: with `usage`, or `database-missing`. */
export function refuseTables(
  name: string,
  { replace }: Pick<RestoreRequest, "replace">,
  { databases, instance }: Pick<TargetFacts, "databases" | "instance">,
): void {
  if (replace) {
    throw new PgkitError(
      "usage",
      "--table brings single tables back beside the others: it cannot be used with --replace",
      {
        hint: "leave --replace out; a table that is there must be renamed or dropped first",
      },
    );
  }
  if (databases.some((database) => database.name === name)) return;
  throw new PgkitError(
    "database-missing",
    `there is no database ${name} in instance ${instance} to bring tables back into`,
    {
      hint: "restore all of it, or into a new database by --as NAME",
    },
  );
}

/** The tables that are asked for, each with its partitions, which hold its rows. */
function chooseTables(all: readonly TableFacts[], wanted: readonly string[]): readonly TableFacts[] | "all" {
  if (wanted.length === 0) return "all";
  const chosen = new Set(wanted.map((text) => oneTable(all, text)));
  // A set's iteration comes to what is added on the way, too: the partitions of partitions.
  for (const { oid } of chosen) {
    const partitions = all.filter((table) => oid !== undefined && table.partitionOf === oid);
    for (const partition of partitions) chosen.add(partition);
  }
  return [...chosen];
}

function oneTable(all: readonly TableFacts[], text: string): TableFacts {
  const matches = all.filter(({ schema, name }) => text === `${schema}.${name}` || text === name);
  const [only, ...others] = matches;
  if (only !== undefined && others.length === 0) return only;
  if (only === undefined) {
    throw new PgkitError("backup-missing", `the backup has no table ${text}`, {
      hint: "pgkit show names its tables",
    });
  }
  const named = matches.map(({ schema, name }) => `${schema}.${name}`).join(", ");
  throw new PgkitError("usage", `several tables are named ${text}: ${named}`, { hint: "name it with its schema" });
}

function refuseSameNames(tables: readonly TableFacts[] | "all", schema: string): void {
  const names = tables === "all" ? [] : tables.map(({ name }) => name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice === undefined) return;
  throw new PgkitError("usage", `several of the tables are named ${twice}, and all would go to the schema ${schema}`, {
    hint: "restore them one after the other, or into a new database by --as NAME",
  });
}

/** With `--schema-only` the data files of a backup in parts are not even fetched. */
function neededFiles(files: readonly StoredFile[], { schemaOnly }: RestoreRequest): StoredFile[] {
  return files
    .filter((file) => file.role !== "data" || !schemaOnly)
    .toSorted((a, b) => storedBytesOf([b]) - storedBytesOf([a]));
}

/** What the live database of that name is called once it was replaced. */
export function nameOfKept(name: string, now: Date): string {
  return shortened(name, `_before_${compactTime(now).toLowerCase()}`);
}

/** `name` and `suffix`, the name cut so that both fit, and never in the middle of a character. */
export function shortened(name: string, suffix: string): string {
  let kept = name;
  while (Buffer.byteLength(kept + suffix) > longestName) kept = [...kept].slice(0, -1).join("");
  return kept + suffix;
}
