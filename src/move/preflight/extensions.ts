import { identifier } from "../../postgres/quote.ts";
import { type Found, type Known, refusal, warning } from "./known.ts";

/** Those that fail, or do nothing, unless the server has loaded their library when it started. */
const preloaded: Readonly<Record<string, { library: string; required: boolean }>> = {
  timescaledb: { library: "timescaledb", required: true },
  citus: { library: "citus", required: true },
  pg_cron: { library: "pg_cron", required: true },
  pg_stat_statements: { library: "pg_stat_statements", required: false },
  pgaudit: { library: "pgaudit", required: false },
  pg_stat_kcache: { library: "pg_stat_kcache", required: false },
  pg_wait_sampling: { library: "pg_wait_sampling", required: false },
};

/** Whether the target can make the extensions that the database has. */
export async function extensionRisks(known: Known): Promise<Found[]> {
  const { context, database } = known;
  const to = context.target.instance;
  const available = await context.session("target", availableExtensions, context.target.connection.database);
  return database.extensions.flatMap(({ name, version }) => {
    const found = available.get(name);
    if (found === undefined) {
      const message = `extension ${name} ${version} is not installed on ${to}`;
      return [refusal(message, `install its package for PostgreSQL ${known.target.major} on the machine of ${to}`)];
    }
    return [...versionRisks(name, version, found, to), ...preloadRisks(known, name)];
  });
}

interface Available {
  /** What CREATE EXTENSION makes. */
  version: string;
  versions: string[];
}

async function availableExtensions(session: {
  query<Row>(sql: string): Promise<Row[]>;
}): Promise<Map<string, Available>> {
  const rows = await session.query<Available & { name: string }>(
    `SELECT e.name, e.default_version AS version,
       (SELECT json_agg(v.version) FROM pg_available_extension_versions v WHERE v.name = e.name) AS versions
     FROM pg_available_extensions e`,
  );
  return new Map(rows.map(({ name, ...available }) => [name, available]));
}

/** A dump names no version, so that the target makes the one that it has by default. */
function versionRisks(name: string, version: string, { version: made, versions }: Available, to: string): Found[] {
  if (made === version) return [];
  const message = `extension ${name} is ${version} on the source, and would be ${made} on ${to}`;
  if (!versions.includes(version)) return [warning(message, "read what has changed in it between the two")];
  const update = `ALTER EXTENSION ${identifier(name)} UPDATE TO '${made}'`;
  return [warning(message, `on the source before the move, where it has that version: ${update}`)];
}

function preloadRisks({ context, source, target }: Known, name: string): Found[] {
  const entry = preloaded[name];
  if (entry === undefined) return [];
  const setting = "shared_preload_libraries";
  if (!librariesOf(source.settings[setting]).includes(entry.library)) return [];
  const there = librariesOf(target.settings[setting]);
  if (there.includes(entry.library)) return [];
  const to = context.target.instance;
  const message = `extension ${name} needs ${entry.library} in ${setting} on ${to}, which has ${there.join(", ") || "none"}`;
  const all = [...there, entry.library].map((library) => `'${library}'`).join(", ");
  return [
    (entry.required ? refusal : warning)(message, `ALTER SYSTEM SET ${setting} = ${all}, then restart the server`),
  ];
}

function librariesOf(setting: string | undefined): string[] {
  return (setting ?? "").split(",").flatMap((name) => name.trim().replaceAll('"', "") || []);
}
