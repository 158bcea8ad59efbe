import { literal } from "../../postgres/quote.ts";
import type { CatalogKind, CatalogScope } from "./kinds.ts";
import { firstUserOid, notOurs, ofExtension, sortedArray } from "./kinds-sql.ts";

/** Schemas, extensions, and how data comes from and goes to elsewhere. */
export function dataKinds({ salt }: Pick<CatalogScope, "salt">): readonly CatalogKind[] {
  return [
    ...plainKinds,
    {
      // The options hold a password as often as not.
      kind: "user mapping",
      sql: `SELECT format('%I on %I', m.usename, m.srvname) AS identity, jsonb_build_object('options (digest)',
          md5(${literal(salt)} || ${sortedArray("m.umoptions")}::text)) AS definition
        FROM pg_user_mappings m`,
    },
  ];
}

const plainKinds: readonly CatalogKind[] = [
  {
    kind: "schema",
    sql: `SELECT quote_ident(n.nspname) AS identity, jsonb_build_object('owner', n.nspowner::regrole::text) AS definition
        FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND ${notOurs("n.nspname")} AND NOT ${ofExtension("pg_namespace", "n.oid")}`,
  },
  {
    // Who ran CREATE EXTENSION owns it; a dump does not say who that was.
    kind: "extension",
    sql: `SELECT quote_ident(e.extname) AS identity, jsonb_build_object('version', e.extversion,
          'schema', quote_ident(n.nspname)) AS definition
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace`,
  },
  {
    kind: "foreign-data wrapper",
    sql: `SELECT quote_ident(w.fdwname) AS identity, jsonb_build_object('owner', w.fdwowner::regrole::text,
          'handler', w.fdwhandler::regproc::text, 'options', ${sortedArray("w.fdwoptions")}) AS definition
        FROM pg_foreign_data_wrapper w WHERE NOT ${ofExtension("pg_foreign_data_wrapper", "w.oid")}`,
  },
  {
    kind: "foreign server",
    sql: `SELECT quote_ident(s.srvname) AS identity, jsonb_build_object('owner', s.srvowner::regrole::text,
          'wrapper', (SELECT fdwname FROM pg_foreign_data_wrapper WHERE oid = s.srvfdw), 'type', s.srvtype,
          'version', s.srvversion, 'options', ${sortedArray("s.srvoptions")}) AS definition
        FROM pg_foreign_server s WHERE NOT ${ofExtension("pg_foreign_server", "s.oid")}`,
  },
  {
    kind: "publication",
    sql: `SELECT quote_ident(p.pubname) AS identity, jsonb_build_object('owner', p.pubowner::regrole::text,
          'all tables', p.puballtables, 'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete,
          'truncate', p.pubtruncate, 'by root', p.pubviaroot,
          'tables', (SELECT jsonb_agg(format('%s %s %s', r.prrelid::regclass, r.prattrs, pg_get_expr(r.prqual, r.prrelid))
            ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
          'schemas', (SELECT jsonb_agg(s.pnnspid::regnamespace::text ORDER BY s.pnnspid::regnamespace::text)
            FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)) AS definition
        FROM pg_publication p WHERE ${notOurs("p.pubname")}`,
  },
  {
    kind: "comment",
    sql: `SELECT format('%s %s', i.type, i.identity) AS identity, jsonb_build_object('text', d.description) AS definition
        FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
        WHERE (d.objoid >= ${firstUserOid} OR d.classoid IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass))
          AND coalesce(i.schema, '') !~ '^pg_' AND coalesce(i.name, '') !~ '^pg(kit)?_'
          AND i.identity NOT IN ('information_schema') AND NOT (${ofExtensionAnywhere("d.classoid", "d.objoid")})`,
  },
  {
    kind: "security label",
    sql: `SELECT format('%s %s for %s', l.objtype, l.objname, l.provider) AS identity,
          jsonb_build_object('label', l.label) AS definition
        FROM pg_seclabels l WHERE l.objtype NOT IN ('database', 'role', 'tablespace', 'subscription')`,
  },
  {
    // Some have as many as rows, so that all are one.
    kind: "large objects",
    sql: `SELECT 'all' AS identity, jsonb_build_object('count', count(*), 'owners and grants (digest)',
          coalesce(sum(hashtextextended(concat_ws(' ', o.oid, o.lomowner::regrole, ${sortedArray("o.lomacl::text[]")}), 0)), 0)::text)
          AS definition FROM pg_largeobject_metadata o`,
  },
];

/** Of an extension's own, comments come with it; that on the extension itself is the user's. */
function ofExtensionAnywhere(classOid: string, oid: string): string {
  return `EXISTS (SELECT FROM pg_depend e WHERE e.classid = ${classOid} AND e.objid = ${oid} AND e.deptype = 'e')`;
}
