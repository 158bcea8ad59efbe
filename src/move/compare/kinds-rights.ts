import type { CatalogKind, CatalogScope } from "./kinds.ts";
import { ofExtension, userSchema } from "./kinds-sql.ts";

/** Who may do what with each object, by its ACL; where that is empty, by what the kind of object has from the start. */
export function rightsKinds({ lowestMajor }: Pick<CatalogScope, "lowestMajor">): readonly CatalogKind[] {
  const granted = grants(lowestMajor);
  return [
    {
      kind: "grants on relation",
      sql: `SELECT format('%I.%I', n.nspname, c.relname) AS identity,
          ${granted(`coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))`)} AS definition
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't' AND ${userSchema}
          AND NOT ${ofExtension("pg_class", "c.oid")}`,
    },
    {
      kind: "grants on column",
      sql: `SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS identity, ${granted("a.attacl")} AS definition
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attacl <> '{}' AND a.attnum > 0 AND NOT a.attisdropped AND ${userSchema}
          AND NOT ${ofExtension("pg_class", "c.oid")}`,
    },
    {
      kind: "grants on schema",
      sql: `SELECT quote_ident(n.nspname) AS identity, ${granted("coalesce(n.nspacl, acldefault('n', n.nspowner))")} AS definition
        FROM pg_namespace n WHERE ${userSchema} AND n.nspname !~ '^pgkit_' AND NOT ${ofExtension("pg_namespace", "n.oid")}`,
    },
    {
      kind: "grants on function",
      sql: `SELECT p.oid::regprocedure::text AS identity,
          ${granted("coalesce(p.proacl, acldefault('f', p.proowner))")} AS definition
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE ${userSchema} AND p.proname !~ '^pgkit_' AND NOT ${ofExtension("pg_proc", "p.oid")}`,
    },
    {
      kind: "grants on type",
      sql: `SELECT format_type(t.oid, NULL) AS identity, ${granted("coalesce(t.typacl, acldefault('T', t.typowner))")} AS definition
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype IN ('d', 'e', 'r', 'c', 'b') AND t.typcategory <> 'A' AND ${userSchema}
          AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
          AND NOT ${ofExtension("pg_type", "t.oid")}`,
    },
    ...otherGrants(granted),
    {
      kind: "default privileges",
      sql: `SELECT concat_ws(' ', 'of', d.defaclrole::regrole, 'for', d.defaclobjtype,
            'in ' || NULLIF(d.defaclnamespace, 0)::regnamespace) AS identity,
          ${granted("d.defaclacl")} AS definition FROM pg_default_acl d`,
    },
  ];
}

function otherGrants(granted: (acl: string) => string): readonly CatalogKind[] {
  return [
    {
      kind: "grants on language",
      sql: `SELECT quote_ident(l.lanname) AS identity,
          ${granted("coalesce(l.lanacl, acldefault('l', l.lanowner))")} AS definition
        FROM pg_language l WHERE l.lanpltrusted AND NOT (l.oid >= 16384 AND ${ofExtension("pg_language", "l.oid")} AND l.lanacl IS NULL)`,
    },
    {
      kind: "grants on foreign server",
      sql: `SELECT quote_ident(s.srvname) AS identity,
          ${granted("coalesce(s.srvacl, acldefault('S', s.srvowner))")} AS definition FROM pg_foreign_server s`,
    },
    {
      kind: "grants on foreign-data wrapper",
      sql: `SELECT quote_ident(w.fdwname) AS identity, ${granted("w.fdwacl")} AS definition
        FROM pg_foreign_data_wrapper w WHERE w.fdwacl <> '{}'`,
    },
  ];
}

/** 17 has a privilege MAINTAIN, which an owner has from the start; an older server knows none. Grantors are not compared. */
function grants(lowestMajor: number): (acl: string) => string {
  const known = lowestMajor >= 17 ? "true" : "a.privilege_type <> 'MAINTAIN'";
  return (acl) => `jsonb_build_object('granted', (SELECT coalesce(jsonb_agg(g ORDER BY g COLLATE "C"), '[]') FROM (
      SELECT DISTINCT format('%s to %s%s', a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
        CASE WHEN a.is_grantable THEN ' with grant option' END) AS g
      FROM aclexplode(${acl}) AS a WHERE ${known}) AS all_of_it))`;
}
