import { PgkitError } from "../lib/errors.ts";
import { identifier } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";

/** A table with rows of its own, as logical replication sees it: a partition, but not the table that it is one of. */
export interface PublishedTable {
  schema: string;
  name: string;
  /** By which a row is found on the other side; `none`: a published UPDATE or DELETE would fail. */
  identity: "index" | "full" | "none";
  unlogged: boolean;
  /** Which rows are the user's, where an extension made the table: `WHERE ...`, or empty for all. */
  filter: string | null;
  bytes: number;
}

/**
 * The tables whose rows a move carries, biggest first. Of those that extensions make, only the ones that they declare to
 * hold rows of the user (pg_extension_config_dump), as in a dump.
 */
export async function publishedTables(session: Session): Promise<PublishedTable[]> {
  return session.query<PublishedTable>(
    `WITH config AS (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS filter FROM pg_extension)
     SELECT n.nspname AS schema, c.relname AS name, c.relpersistence = 'u' AS unlogged,
       nullif(config.filter, '') AS filter, pg_table_size(c.oid)::float8 AS bytes,
       CASE WHEN c.relreplident = 'f' THEN 'full'
         WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
           AND (i.indisreplident OR (i.indisprimary AND c.relreplident = 'd'))) THEN 'index'
         ELSE 'none' END AS identity
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN config ON config.oid = c.oid
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND (config.oid IS NOT NULL OR NOT EXISTS (SELECT FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
     ORDER BY bytes DESC, 1, 2`,
  );
}

/** Fails with `move-refused` where following the source would fail, or would make the application's own statements fail. */
export function refuseUnpublishable(tables: readonly PublishedTable[]): void {
  const unlogged = tables.filter((table) => table.unlogged);
  if (unlogged.length > 0) {
    throw new PgkitError("move-refused", `rows of unlogged tables cannot be replicated: ${namesOf(unlogged)}`, {
      hint: `${unlogged.map((table) => `ALTER TABLE ${qualified(table)} SET LOGGED;`).join(" ")} or move with --offline`,
    });
  }
  const bare = tables.filter((table) => table.identity === "none");
  if (bare.length === 0) return;
  const message = `tables without a primary key cannot be followed, and their UPDATE and DELETE would fail: ${namesOf(bare)}`;
  throw new PgkitError("move-refused", message, {
    hint: `add a primary key, or ${bare.map((table) => `ALTER TABLE ${qualified(table)} REPLICA IDENTITY FULL;`).join(" ")} or move with --offline`,
  });
}

/** The list of a CREATE PUBLICATION. */
export function publicationList(tables: readonly PublishedTable[]): string {
  return tables
    .map((table) => `${qualified(table)}${table.filter === null ? "" : ` ${parenthesized(table.filter)}`}`)
    .join(", ");
}

/**
 * Whether all published values can travel in binary form: types of PostgreSQL's own that have send and receive. What is
 * made of other types holds their oids, which differ between servers.
 */
export async function isBinarySafe(session: Session): Promise<boolean> {
  const [row] = await session.query<{ safe: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
       WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         AND a.attnum > 0 AND NOT a.attisdropped
         AND (t.oid >= 16384 OR t.typsend = 0 OR t.typreceive = 0 OR t.typname IN ('_aclitem', 'aclitem'))) AS safe`,
  );
  return row?.safe === true;
}

export function qualified({ schema, name }: { schema: string; name: string }): string {
  return `${identifier(schema)}.${identifier(name)}`;
}

function namesOf(tables: readonly PublishedTable[]): string {
  const names = tables.slice(0, 10).map(({ schema, name }) => `${schema}.${name}`);
  return tables.length > names.length
    ? `${names.join(", ")} and ${tables.length - names.length} more`
    : names.join(", ");
}

/** `WHERE condition`, as extensions write it, in the parentheses that a publication wants. */
function parenthesized(filter: string): string {
  return `WHERE (${filter.trim().replace(/^where\s/i, "")})`;
}
