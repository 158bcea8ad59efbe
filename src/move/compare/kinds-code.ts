import type { CatalogKind } from "./kinds.ts";
import { notOurs, ofExtension, sortedArray, userSchema } from "./kinds-sql.ts";

/** A catalog whose objects are in schemas, by the names of its columns. */
function inSchema(catalog: string, prefix: string, definition: string, where = "true"): string {
  return `SELECT format('%I.%I', n.nspname, o.${prefix}name) AS identity, jsonb_build_object(
      'owner', o.${prefix}owner::regrole::text, ${definition}) AS definition
    FROM ${catalog} o JOIN pg_namespace n ON n.oid = o.${prefix}namespace
    WHERE ${userSchema} AND ${where} AND NOT ${ofExtension(catalog, "o.oid")}`;
}

const usersFunction = `${userSchema} AND ${notOurs("p.proname")} AND NOT ${ofExtension("pg_proc", "p.oid")}`;

/** Types, functions, operators: what SQL is made with. */
export const codeKinds: readonly CatalogKind[] = [
  {
    kind: "function",
    sql: `SELECT p.oid::regprocedure::text AS identity, jsonb_build_object('owner', p.proowner::regrole::text,
        'definition', pg_get_functiondef(p.oid)) AS definition
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind <> 'a' AND ${usersFunction}`,
  },
  {
    kind: "aggregate",
    sql: `SELECT p.oid::regprocedure::text AS identity, jsonb_build_object('owner', p.proowner::regrole::text,
        'function', g.aggtransfn::text, 'final', g.aggfinalfn::text, 'combine', g.aggcombinefn::text,
        'state', format_type(g.aggtranstype, NULL), 'initial', g.agginitval, 'parallel', p.proparallel::text,
        'moving', g.aggmtransfn::text, 'operator', g.aggsortop::regoperator::text) AS definition
      FROM pg_proc p JOIN pg_aggregate g ON g.aggfnoid = p.oid JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE ${usersFunction}`,
  },
  {
    // The types of tables, arrays and multiranges follow from others.
    kind: "type",
    sql: `SELECT format_type(t.oid, NULL) AS identity, jsonb_build_object('owner', t.typowner::regrole::text,
        'kind', CASE t.typtype WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite'
          ELSE t.typtype::text END,
        'base', CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
        'default', t.typdefault, 'NOT NULL', t.typnotnull,
        'collation', CASE WHEN t.typcollation <> 0 THEN t.typcollation::regcollation::text END,
        'labels', (SELECT jsonb_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
        'attributes', CASE WHEN t.typtype = 'c' THEN (SELECT jsonb_agg(format('%I %s %s', a.attname,
            format_type(a.atttypid, a.atttypmod), CASE WHEN a.attcollation <> 0 THEN a.attcollation::regcollation END)
            ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END,
        'range', (SELECT format('%s %s %s %s', format_type(r.rngsubtype, NULL), r.rngcollation, r.rngcanonical, r.rngsubdiff)
          FROM pg_range r WHERE r.rngtypid = t.oid)) AS definition
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE t.typtype IN ('d', 'e', 'r', 'c', 'b') AND t.typcategory <> 'A' AND ${userSchema}
        AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
        AND NOT ${ofExtension("pg_type", "t.oid")}`,
  },
  {
    kind: "operator",
    sql: `SELECT o.oid::regoperator::text AS identity, jsonb_build_object('owner', o.oprowner::regrole::text,
        'function', o.oprcode::text, 'result', format_type(o.oprresult, NULL), 'commutator', o.oprcom::regoperator::text,
        'negator', o.oprnegate::regoperator::text, 'restrict', o.oprrest::text, 'join', o.oprjoin::text,
        'merges', o.oprcanmerge, 'hashes', o.oprcanhash) AS definition
      FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
      WHERE o.oprcode <> 0 AND ${userSchema} AND NOT ${ofExtension("pg_operator", "o.oid")}`,
  },
  {
    kind: "operator class",
    sql: inSchema(
      "pg_opclass",
      "opc",
      `'type', format_type(o.opcintype, NULL), 'default', o.opcdefault, 'method', (SELECT amname FROM pg_am WHERE oid = o.opcmethod)`,
    ),
  },
  {
    kind: "operator family",
    sql: inSchema(
      "pg_opfamily",
      "opf",
      `'operators', (SELECT jsonb_agg(format('%s %s', amopstrategy, amopopr::regoperator) ORDER BY amopstrategy, amopopr::regoperator::text)
         FROM pg_amop WHERE amopfamily = o.oid),
       'functions', (SELECT jsonb_agg(format('%s %s', amprocnum, amproc::regprocedure) ORDER BY amprocnum, amproc::regprocedure::text)
         FROM pg_amproc WHERE amprocfamily = o.oid)`,
    ),
  },
  {
    kind: "collation",
    sql: inSchema(
      "pg_collation",
      "coll",
      `'provider', o.collprovider::text, 'deterministic', o.collisdeterministic, 'LC_COLLATE', o.collcollate,
       'LC_CTYPE', o.collctype, 'locale', coalesce(to_jsonb(o)->>'colllocale', to_jsonb(o)->>'colliculocale'),
       'rules', to_jsonb(o)->>'collicurules'`,
    ),
  },
  {
    kind: "conversion",
    sql: inSchema(
      "pg_conversion",
      "con",
      `'from', pg_encoding_to_char(o.conforencoding), 'to', pg_encoding_to_char(o.contoencoding),
       'function', o.conproc::text, 'default', o.condefault`,
    ),
  },
  {
    kind: "text search dictionary",
    sql: inSchema(
      "pg_ts_dict",
      "dict",
      `'template', (SELECT tmplname FROM pg_ts_template WHERE oid = o.dicttemplate), 'options', o.dictinitoption`,
    ),
  },
  {
    kind: "text search configuration",
    sql: inSchema(
      "pg_ts_config",
      "cfg",
      `'parser', (SELECT prsname FROM pg_ts_parser WHERE oid = o.cfgparser),
       'mapping', (SELECT jsonb_agg(format('%s: %s', maptokentype, mapdict::regdictionary) ORDER BY maptokentype, mapseqno)
         FROM pg_ts_config_map WHERE mapcfg = o.oid)`,
    ),
  },
  {
    kind: "cast",
    sql: `SELECT format('%s AS %s', format_type(k.castsource, NULL), format_type(k.casttarget, NULL)) AS identity,
        jsonb_build_object('function', k.castfunc::regprocedure::text, 'context', k.castcontext::text,
        'method', k.castmethod::text) AS definition
      FROM pg_cast k WHERE k.oid >= 16384 AND NOT ${ofExtension("pg_cast", "k.oid")}`,
  },
  {
    kind: "language",
    sql: `SELECT quote_ident(l.lanname) AS identity, jsonb_build_object('owner', l.lanowner::regrole::text,
        'trusted', l.lanpltrusted, 'handler', l.lanplcallfoid::regproc::text) AS definition
      FROM pg_language l WHERE l.oid >= 16384 AND NOT ${ofExtension("pg_language", "l.oid")}`,
  },
  {
    kind: "event trigger",
    sql: `SELECT quote_ident(t.evtname) AS identity, jsonb_build_object('owner', t.evtowner::regrole::text,
        'event', t.evtevent, 'function', t.evtfoid::regproc::text, 'enabled', t.evtenabled::text,
        'tags', ${sortedArray("t.evttags")}) AS definition
      FROM pg_event_trigger t WHERE ${notOurs("t.evtname")} AND NOT ${ofExtension("pg_event_trigger", "t.oid")}`,
  },
];
