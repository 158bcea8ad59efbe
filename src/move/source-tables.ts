import type { Session } from "../postgres/session.ts";

/** A table whose rows are copied. */
export interface SourceTable {
  oid: number;
  schema: string;
  name: string;
  /** On the disk, with TOAST, without indexes. */
  bytes: number;
  /** Of the table itself. */
  blocks: number;
  /** Stored in the ordinary way, so that rows can be found by their block and frozen as they are copied. */
  heap: boolean;
  /** That are stored; what is generated is so anew. */
  columns: string[];
  /** All columns have a binary form that means the same on another server. */
  binary: boolean;
  /** Of the database, by its PostgreSQL name. */
  encoding: string;
  /** Of an extension's own table: which rows are the user's, as `WHERE ...`, empty for all. */
  condition?: string | undefined;
}

/**
 * The tables with rows of their own, as a dump would take them: no partitioned, foreign and temporary ones; of those that
 * extensions have made only what they say to be the user's.
 */
export async function sourceTables(session: Session): Promise<SourceTable[]> {
  const rows = await session.query<{ facts: SourceTable & { condition: string | null } }>(
    `SELECT json_build_object('oid', c.oid::int8, 'schema', nspname, 'name', relname, 'bytes', pg_table_size(c.oid),
       'blocks', pg_relation_size(c.oid) / current_setting('block_size')::int,
       'heap', (SELECT amname = 'heap' FROM pg_am WHERE pg_am.oid = c.relam),
       'columns', coalesce(columns, '[]'), 'binary', coalesce(portable, true) AND getdatabaseencoding() = 'UTF8',
       'encoding', getdatabaseencoding(), 'condition', config.condition) AS facts
     FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension) AS config ON config.oid = c.oid,
     LATERAL (SELECT json_agg(attname ORDER BY attnum) AS columns, bool_and(${isPortable}) AS portable
       FROM pg_attribute JOIN pg_type t ON t.oid = atttypid LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
       WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '') AS a
     WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
       AND (config.oid IS NOT NULL OR NOT EXISTS (SELECT FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
     ORDER BY pg_table_size(c.oid) DESC, 1::text`,
  );
  return rows.map(({ facts }) => ({ ...facts, condition: facts.condition ?? undefined }));
}

/**
 * Binary is faster to write and to read, and safe for what PostgreSQL itself brings, but for types that send oids, which are
 * others on the target (reg..., and within arrays and composites those of the user's types), and xml, which looks at
 * the client's encoding. Enums are sent as their labels. A type of an extension can change its binary form with its version.
 */
const isPortable = `CASE WHEN coalesce(b.typtype, t.typtype) = 'e' THEN true
  ELSE coalesce(b.oid, t.oid) < 16384 AND coalesce(b.typtype, t.typtype) IN ('b', 'r', 'm')
    AND coalesce(b.typname, t.typname) !~ '^_?(reg|xml|aclitem)' AND coalesce(b.typreceive, t.typreceive) <> 0 END`;
