import { identifier } from "./quote.ts";
import type { Session } from "./session.ts";

/** What `pg_database` says, in names that fit every major: 15 and 16 say `daticulocale`, 17 on `datlocale`. */
export interface DatabaseFacts {
  /** Where the server's WAL is, `X/Y`. */
  lsn: string;
  owner: string;
  encoding: string;
  locale: {
    provider: "libc" | "icu" | "builtin";
    collate: string;
    ctype: string;
    locale?: string;
    icuRules?: string;
    collationVersion?: string;
  };
  /** -1: no limit. */
  connectionLimit: number;
  tablespace: string;
  /** Those that are named for single tables or indexes. */
  tablespaces: string[];
  /** Bytes on the server's disk. */
  sizeBytes: number;
  extensions: { name: string; version: string; schema: string }[];
  largeObjects: number;
  subscriptions: number;
}

/** Facts of the session's own database. */
export async function databaseFacts(session: Session): Promise<DatabaseFacts> {
  const [row] = await session.query<{ facts: DatabaseFacts }>(
    `SELECT json_build_object(
       'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,
       'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
       'locale', json_strip_nulls(json_build_object(
         'provider', CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
         'collate', d.datcollate, 'ctype', d.datctype,
         'locale', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'),
         'icuRules', to_jsonb(d)->>'daticurules', 'collationVersion', d.datcollversion)),
       'connectionLimit', d.datconnlimit, 'tablespace', t.spcname, 'sizeBytes', pg_database_size(d.oid),
       'tablespaces', (SELECT coalesce(json_agg(DISTINCT s.spcname), '[]') FROM pg_class c
         JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid >= 16384),
       'extensions', (SELECT coalesce(json_agg(json_build_object('name', extname, 'version', extversion,
           'schema', nspname) ORDER BY extname), '[]')
         FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace),
       'largeObjects', (SELECT count(*) FROM pg_largeobject_metadata),
       'subscriptions', (SELECT count(*) FROM pg_subscription WHERE subdbid = d.oid)) AS facts
     FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()`,
  );
  if (row === undefined) throw new Error("pg_database has no row for current_database()");
  return row.facts;
}

export interface TableEntry {
  oid: number;
  schema: string;
  name: string;
  /** The oid of the partitioned table that it is a partition of. */
  partitionOf: number | null;
  /** pg_class.relkind: r table, p partitioned, f foreign, m materialized view. */
  kind: "r" | "p" | "f" | "m";
  /** An extension's own table: the extension makes it, and only part of its rows is the user's. */
  ofExtension: boolean;
  /** Readable in recovery and after a crash only when not. */
  unlogged: boolean;
  /** As the planner estimates; -1 where never analyzed. */
  rowsEstimate: number;
  /** With indexes and TOAST. */
  bytes: number;
}

/** The tables of the session's database but the system's and the temporary ones, biggest first. */
export async function listTables(session: Session): Promise<TableEntry[]> {
  return session.query<TableEntry>(
    `SELECT c.oid::int8::float8 AS oid, n.nspname AS schema, c.relname AS name,
       (SELECT inhparent::int8::float8 FROM pg_inherits WHERE inhrelid = c.oid AND c.relispartition) AS "partitionOf",
       c.relkind AS kind, c.relpersistence = 'u' AS unlogged,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
         AS "ofExtension",
       c.reltuples::float8 AS "rowsEstimate",
       coalesce(CASE WHEN c.relkind IN ('r', 'm') THEN pg_total_relation_size(c.oid) END, 0)::float8 AS bytes
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     ORDER BY bytes DESC, schema, name`,
  );
}

/** Tables counted in one statement: few round trips, and no statement too large for the planner. */
const tablesAStatement = 100;

/** The rows of each table, in the session's snapshot and in the order given: `only` the table's own, not its children's. */
export async function countRows(
  session: Session,
  tables: readonly { schema: string; name: string }[],
): Promise<number[]> {
  const counts: number[] = [];
  for (let first = 0; first < tables.length; first += tablesAStatement) {
    const batch = tables.slice(first, first + tablesAStatement);
    const selects = batch.map(
      ({ schema, name }, index) =>
        `SELECT ${index} AS index, count(*)::float8 AS rows FROM ONLY ${identifier(schema)}.${identifier(name)}`,
    );
    const rows = await session.query<{ rows: number }>(`${selects.join(" UNION ALL ")} ORDER BY index`);
    counts.push(...rows.map((row) => row.rows));
  }
  return counts;
}
