import type { CatalogKind } from "./kinds.ts";
import { notOurs, ofExtension, sortedArray, userSchema } from "./kinds-sql.ts";

/** Without what the server keeps there for itself: 17.12 notes a version of each column, which differs between servers. */
const columnOptions = sortedArray("(SELECT array_agg(o) FROM unnest(a.attoptions) AS o WHERE o !~ '^pg_attver=')");

const relations = `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace`;
const usersOwn = `${userSchema} AND c.relpersistence <> 't' AND NOT ${ofExtension("pg_class", "c.oid")}`;
const name = `format('%I.%I', n.nspname, c.relname)`;

/** Tables, views, sequences, and what hangs on them. */
export const relationKinds: readonly CatalogKind[] = [
  {
    kind: "relation",
    sql: `SELECT ${name} AS identity, jsonb_build_object(
        'kind', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
          WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE c.relkind::text END,
        'owner', c.relowner::regrole::text, 'persistence', c.relpersistence::text, 'populated', c.relispopulated,
        'options', ${sortedArray("c.reloptions")}, 'TOAST options', ${sortedArray("t.reloptions")},
        'access method', CASE WHEN c.relkind IN ('r', 'm') THEN a.amname END,
        'row security', c.relrowsecurity, 'forced row security', c.relforcerowsecurity,
        'replica identity', c.relreplident::text,
        'partition key', pg_get_partkeydef(c.oid), 'partition bound', pg_get_expr(c.relpartbound, c.oid),
        'parents', (SELECT jsonb_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid),
        'type', CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END,
        'server', s.srvname, 'foreign options', ${sortedArray("f.ftoptions")}) AS definition
      FROM ${relations} LEFT JOIN pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_am a ON a.oid = c.relam
        LEFT JOIN pg_foreign_table f ON f.ftrelid = c.oid LEFT JOIN pg_foreign_server s ON s.oid = f.ftserver
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND ${usersOwn}`,
  },
  {
    // pg_dump puts the inherited columns of a child first, so that only others keep their place.
    kind: "column",
    sql: `SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS identity, jsonb_build_object(
        'position', CASE WHEN c.relispartition OR NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
          THEN row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END,
        'type', format_type(a.atttypid, a.atttypmod), 'NOT NULL', a.attnotnull,
        'default', pg_get_expr(d.adbin, d.adrelid), 'identity', a.attidentity::text, 'generated', a.attgenerated::text,
        'collation', CASE WHEN a.attcollation <> 0 THEN a.attcollation::regcollation::text END,
        'storage', a.attstorage::text, 'compression', a.attcompression::text, 'options', ${columnOptions},
        'foreign options', ${sortedArray("a.attfdwoptions")}, 'statistics', NULLIF(a.attstattarget, -1)) AS definition
      FROM ${relations} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ${usersOwn}`,
  },
  {
    kind: "view definition",
    sql: `SELECT ${name} AS identity, jsonb_build_object('definition', pg_get_viewdef(c.oid)) AS definition
      FROM ${relations} WHERE c.relkind IN ('v', 'm') AND ${usersOwn}`,
  },
  {
    kind: "index",
    sql: `SELECT ${name} AS identity, jsonb_build_object('definition', pg_get_indexdef(c.oid),
        'valid', i.indisvalid AND i.indisready AND i.indislive, 'clustered', i.indisclustered,
        'replica identity', i.indisreplident, 'immediate', i.indimmediate,
        'parent', (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid),
        'statistics', (SELECT jsonb_agg(attstattarget ORDER BY attnum) FROM pg_attribute
          WHERE attrelid = c.oid AND attstattarget >= 0)) AS definition
      FROM ${relations} JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class r ON r.oid = i.indrelid
      WHERE r.relkind <> 't' AND ${usersOwn}`,
  },
  {
    // NOT NULL is told with the column; up to 17 it has no constraint of its own. Those that a partition inherits follow.
    kind: "constraint",
    sql: `SELECT format('%I on %s', k.conname, CASE k.conrelid WHEN 0 THEN format_type(k.contypid, NULL)
          ELSE k.conrelid::regclass::text END) AS identity,
        jsonb_build_object('definition', pg_get_constraintdef(k.oid), 'validated', k.convalidated) AS definition
      FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
      WHERE k.contype NOT IN ('n', 't') AND (k.contype <> 'f' OR k.conparentid = 0) AND ${userSchema}
        AND NOT ${ofExtension("pg_class", "k.conrelid")} AND NOT ${ofExtension("pg_type", "k.contypid")}`,
  },
  {
    kind: "trigger",
    sql: `SELECT format('%I on %s', t.tgname, t.tgrelid::regclass) AS identity,
        jsonb_build_object('definition', pg_get_triggerdef(t.oid), 'enabled', t.tgenabled::text) AS definition
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE NOT t.tgisinternal AND ${notOurs("t.tgname")} AND ${usersOwn}`,
  },
  {
    kind: "rule",
    sql: `SELECT format('%I on %s', r.rulename, c.oid::regclass) AS identity,
        jsonb_build_object('definition', pg_get_ruledef(r.oid), 'enabled', r.ev_enabled::text) AS definition
      FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE r.rulename <> '_RETURN' AND ${usersOwn}`,
  },
  {
    kind: "policy",
    sql: `SELECT format('%I on %s', p.polname, c.oid::regclass) AS identity, jsonb_build_object(
        'command', p.polcmd::text, 'permissive', p.polpermissive,
        'roles', (SELECT jsonb_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE r::regrole::text END ORDER BY r::regrole::text)
          FROM unnest(p.polroles) AS r),
        'USING', pg_get_expr(p.polqual, p.polrelid), 'WITH CHECK', pg_get_expr(p.polwithcheck, p.polrelid)) AS definition
      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE ${usersOwn}`,
  },
  {
    kind: "statistics object",
    sql: `SELECT format('%I.%I', n.nspname, s.stxname) AS identity, jsonb_build_object(
        'definition', pg_get_statisticsobjdef(s.oid), 'owner', s.stxowner::regrole::text,
        'statistics', NULLIF(s.stxstattarget, -1)) AS definition
      FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
      WHERE ${userSchema} AND NOT ${ofExtension("pg_statistic_ext", "s.oid")}`,
  },
  {
    kind: "sequence definition",
    sql: `SELECT ${name} AS identity, jsonb_build_object('type', format_type(s.seqtypid, NULL), 'start', s.seqstart::text,
        'increment', s.seqincrement::text, 'minimum', s.seqmin::text, 'maximum', s.seqmax::text, 'cache', s.seqcache, 'cycle', s.seqcycle,
        'owned by', (SELECT format('%s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d
          JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('a', 'i'))) AS definition
      FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE ${usersOwn}`,
  },
];
