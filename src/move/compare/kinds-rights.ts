import type { CatalogKind, CatalogScope } from "./kinds.ts";
import { notOurs, ofExtension, userSchema } from "./kinds-sql.ts";

/** Who may do what with each object, by its ACL; where that is empty, by what the kind of object has from the start. */
export function rightsKinds({ lowestMajor }: Pick<CatalogScope, "lowestMajor">): readonly CatalogKind[] {
  return guarded.map(({ kind, identity, acl, from }) => ({
    kind,
    sql: `SELECT ${identity} AS identity, ${granted(acl, lowestMajor)} AS definition FROM ${from}`,
  }));
}

/** 17 has a privilege MAINTAIN, which an owner has from the start; an older server knows none. Grantors are not compared. */
function granted(acl: string, lowestMajor: number): string {
  const known = lowestMajor >= 17 ? "true" : "a.privilege_type <> 'MAINTAIN'";
  return `jsonb_build_object('granted', (SELECT coalesce(jsonb_agg(g ORDER BY g COLLATE "C"), '[]') FROM (
      SELECT DISTINCT format('%s to %s%s', a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
        CASE WHEN a.is_grantable THEN ' with grant option' END) AS g
      FROM aclexplode(${acl}) AS a WHERE ${known}) AS all_of_it))`;
}

interface Guarded {
  kind: string;
  identity: string;
  acl: string;
  from: string;
}

const guarded: readonly Guarded[] = [
  {
    kind: "grants on relation",
    identity: "format('%I.%I', n.nspname, c.relname)",
    acl: `coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))`,
    from: `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND ${userSchema}
        AND NOT ${ofExtension("pg_class", "c.oid")}`,
  },
  {
    kind: "grants on column",
    identity: "format('%I.%I.%I', n.nspname, c.relname, t.attname)",
    acl: "t.attacl",
    from: `pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE t.attacl <> '{}' AND t.attnum > 0 AND NOT t.attisdropped AND ${userSchema}
        AND NOT ${ofExtension("pg_class", "c.oid")}`,
  },
  {
    kind: "grants on schema",
    identity: "quote_ident(n.nspname)",
    acl: "coalesce(n.nspacl, acldefault('n', n.nspowner))",
    from: `pg_namespace n WHERE ${userSchema} AND ${notOurs("n.nspname")} AND NOT ${ofExtension("pg_namespace", "n.oid")}`,
  },
  {
    kind: "grants on function",
    identity: "p.oid::regprocedure::text",
    acl: "coalesce(p.proacl, acldefault('f', p.proowner))",
    from: `pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE ${userSchema} AND ${notOurs("p.proname")} AND NOT ${ofExtension("pg_proc", "p.oid")}`,
  },
  {
    kind: "grants on type",
    identity: "format_type(t.oid, NULL)",
    acl: "coalesce(t.typacl, acldefault('T', t.typowner))",
    from: `pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE t.typtype IN ('d', 'e', 'r', 'c', 'b') AND t.typcategory <> 'A' AND ${userSchema}
        AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
        AND NOT ${ofExtension("pg_type", "t.oid")}`,
  },
  {
    kind: "grants on language",
    identity: "quote_ident(l.lanname)",
    acl: "coalesce(l.lanacl, acldefault('l', l.lanowner))",
    from: `pg_language l WHERE l.lanpltrusted AND (l.lanacl IS NOT NULL OR NOT ${ofExtension("pg_language", "l.oid")})`,
  },
  {
    kind: "grants on foreign server",
    identity: "quote_ident(s.srvname)",
    acl: "coalesce(s.srvacl, acldefault('S', s.srvowner))",
    from: "pg_foreign_server s",
  },
  {
    kind: "grants on foreign-data wrapper",
    identity: "quote_ident(w.fdwname)",
    acl: "w.fdwacl",
    from: "pg_foreign_data_wrapper w WHERE w.fdwacl <> '{}'",
  },
  {
    kind: "default privileges",
    identity: `concat_ws(' ', 'of', d.defaclrole::regrole, 'for', d.defaclobjtype,
      'in ' || NULLIF(d.defaclnamespace, 0)::regnamespace)`,
    acl: "d.defaclacl",
    from: "pg_default_acl d",
  },
];
