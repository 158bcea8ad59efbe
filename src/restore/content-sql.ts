import { identifier } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";

export interface ContentTable {
  schema: string;
  name: string;
  /** That are stored; what is generated is so anew. */
  columns: string[];
  bytes: number;
  /** A condition in SQL for the rows that count; all of them where left out. */
  where?: string | undefined;
}

/** The tables whose rows a dump takes along, biggest first, but for those that extensions make. */
export async function tablesWithColumns(session: Session): Promise<ContentTable[]> {
  return session.query<ContentTable>(
    `SELECT n.nspname AS schema, c.relname AS name, pg_table_size(c.oid)::float8 AS bytes,
       (SELECT coalesce(json_agg(attname ORDER BY attnum), '[]') FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS columns
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND NOT EXISTS (SELECT FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY bytes DESC, 1, 2`,
  );
}

/** Every setting that the text of a value depends on, but for what the session sets anyway. */
export async function unifyTexts(session: Session): Promise<void> {
  await session.query(
    `SELECT set_config('TimeZone', 'UTC', false), set_config('IntervalStyle', 'postgres', false),
       set_config('extra_float_digits', '1', false), set_config('bytea_output', 'hex', false),
       set_config('lc_monetary', 'C', false), set_config('xmlbinary', 'base64', false), set_config('jit', 'off', false)`,
  );
}

/** A 64-bit hash of a row's text: the same on every platform and major in support, after `unifyTexts`. */
export function rowHash({ columns }: Pick<ContentTable, "columns">): string {
  return `hashtextextended(ROW(${columns.map(identifier).join(", ")})::text COLLATE "C", 0)`;
}

/**
 * How many rows a table has itself, without its children, and the sum of the hashes of them all, which does not depend
 * on their order.
 */
export async function hashOfTable(session: Session, table: ContentTable): Promise<{ rows: number; hash: string }> {
  const [found] = await hashesOfTables(session, [table]);
  if (found === undefined) throw new Error("an aggregate gave no row");
  return found;
}

/** `hashOfTable` of several tables in one statement, in their order. */
export async function hashesOfTables(
  session: Session,
  tables: readonly ContentTable[],
): Promise<{ rows: number; hash: string }[]> {
  const selects = tables.map(
    (table, index) =>
      `SELECT ${index} AS index, count(*)::float8 AS rows, coalesce(sum(${rowHash(table)}), 0)::text AS hash
       FROM ONLY ${identifier(table.schema)}.${identifier(table.name)} WHERE ${table.where ?? "true"}`,
  );
  return session.query(`${selects.join(" UNION ALL ")} ORDER BY index`);
}

export async function sequences(session: Session): Promise<{ name: string; last: string | null; readable: boolean }[]> {
  return session.query(
    `SELECT format('%I.%I', schemaname, sequencename) AS name, last_value::text AS last,
       has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable
     FROM pg_sequences s JOIN pg_namespace n ON n.nspname = schemaname
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = sequencename
     WHERE NOT EXISTS (SELECT FROM pg_depend d
       WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`,
  );
}

/** The largest object that is read whole, in pages of 2 KiB. */
const mostPages = 128 * 1024;

/** A hash over all large objects but the very large; `undefined` where the session may not read them all. */
export async function largeObjects(session: Session): Promise<string | undefined> {
  const [may] = await session.query<{ all: boolean }>("SELECT current_setting('is_superuser')::bool AS all");
  if (may?.all !== true) return undefined;
  const [row] = await session.query<{ hash: string }>(
    `SELECT concat_ws(' ', count(*), sum(hashtextextended(oid::text || md5(lo_get(oid)), 0))) AS hash
     FROM pg_largeobject_metadata WHERE oid NOT IN (SELECT loid FROM pg_largeobject WHERE pageno >= ${mostPages})`,
  );
  return row?.hash;
}
