import { identifier } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { type ContentTable, tablesWithColumns } from "../../restore/content-sql.ts";

/** A table whose rows both servers must have alike. */
export interface ProvableTable extends ContentTable {
  /** Of its heap alone. */
  readonly pages: number;
  /** The columns of a unique index that holds for every row, by which a row is found on the other server. */
  readonly key: readonly KeyColumn[] | undefined;
}

export interface KeyColumn {
  readonly name: string;
  /** As a cast spells it. */
  readonly type: string;
}

/** The tables of the session's database, biggest first, and of extensions' tables those rows that are the user's. */
export async function provableTables(session: Session): Promise<ProvableTable[]> {
  const [tables, ofExtensions, keys] = await sequentially(session);
  const byName = new Map(keys.map((each) => [qualified(each), each]));
  return [...tables, ...ofExtensions].map((table) => {
    const found = byName.get(qualified(table));
    return { ...table, pages: found?.pages ?? 0, key: found?.key ?? undefined };
  });
}

/** As messages call it: quoted where SQL needs that. */
export function nameOf({ schema, name }: { schema: string; name: string }): string {
  return [schema, name].map((part) => (/^[a-z_][a-z0-9_]*$/.test(part) ? part : identifier(part))).join(".");
}

/** As SQL spells it. */
export function qualified({ schema, name }: { schema: string; name: string }): string {
  return `${identifier(schema)}.${identifier(name)}`;
}

async function sequentially(session: Session) {
  const tables = await tablesWithColumns(session);
  return [tables, await configurationTables(session), await keysOfTables(session)] as const;
}

/** pg_extension.extconfig: tables that CREATE EXTENSION makes, and the condition for the rows that a dump takes along. */
async function configurationTables(session: Session): Promise<ContentTable[]> {
  const rows = await session.query<ContentTable & { where: string | null }>(
    `SELECT n.nspname AS schema, c.relname AS name, pg_table_size(c.oid)::float8 AS bytes,
       (SELECT coalesce(json_agg(attname ORDER BY attnum), '[]') FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns,
       NULLIF(regexp_replace(x.condition, '^\\s*WHERE', '', 'i'), '') AS where
     FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS x (oid, condition)
       JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' ORDER BY 1, 2`,
  );
  return rows.map(({ where, ...table }) => ({ ...table, ...(where === null ? {} : { where }) }));
}

interface FoundKey {
  schema: string;
  name: string;
  pages: number;
  key: KeyColumn[] | null;
}

/** The primary key before the replica identity before any other; not those that are partial, deferrable or of expressions. */
async function keysOfTables(session: Session): Promise<FoundKey[]> {
  return session.query<FoundKey>(
    `SELECT n.nspname AS schema, c.relname AS name,
       (pg_relation_size(c.oid) / current_setting('block_size')::int)::float8 AS pages, k.key
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) ORDER BY p.place) AS key
       FROM (SELECT i.* FROM pg_index i
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
               AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts > 0
               AND NOT EXISTS (SELECT FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS u (n)
                 JOIN pg_attribute z ON z.attrelid = c.oid AND z.attnum = u.n WHERE NOT z.attnotnull)
             ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indexrelid LIMIT 1) i,
         unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS p (attnum, place)
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.attnum) k ON true
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`,
  );
}
