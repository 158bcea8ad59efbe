import { literal } from "../../postgres/quote.ts";
import type { CatalogKind, CatalogScope } from "./kinds.ts";

/**
 * The database itself, its settings, and its roles. Not its connection limit, which is 0 on both sides while writes are
 * blocked; nor the version of its collation, which may differ, as all indexes are built anew.
 */
export function serverKinds(scope: CatalogScope): readonly CatalogKind[] {
  return [
    {
      kind: "database",
      sql: `SELECT quote_ident(d.datname) AS identity, jsonb_build_object('owner', d.datdba::regrole::text,
          'encoding', pg_encoding_to_char(d.encoding), 'LC_COLLATE', d.datcollate, 'LC_CTYPE', d.datctype,
          'provider', d.datlocprovider::text, 'locale', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'),
          'rules', to_jsonb(d)->>'daticurules', 'template', d.datistemplate,
          'granted', (SELECT coalesce(jsonb_agg(g ORDER BY g COLLATE "C"), '[]') FROM (
            SELECT DISTINCT format('%s to %s%s', a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
              CASE WHEN a.is_grantable THEN ' with grant option' END) AS g
            FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a) AS all_of_it),
          'comment', c.description) AS definition
        FROM pg_database d LEFT JOIN pg_shdescription c ON c.objoid = d.oid AND c.classoid = 'pg_database'::regclass
        WHERE d.datname = current_database()`,
    },
    {
      kind: "settings",
      sql: `SELECT concat_ws(' ', 'of', 'role ' || r.rolname || ' in', 'the database') AS identity, jsonb_object_agg(
          split_part(e, '=', 1), substr(e, strpos(e, '=') + 1)) AS definition
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
          LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS e GROUP BY r.rolname`,
    },
    { kind: "role", sql: roles(scope) },
    { kind: "membership", sql: memberships(scope) },
  ];
}

function roles({ roles: names, verifiers, salt }: CatalogScope): string {
  // A verifier is never shown, not even where it differs: a digest by a salt of this comparison stands for it.
  const password = verifiers ? `'password (digest)', md5(${literal(salt)} || r.rolpassword),` : "";
  return `SELECT quote_ident(r.rolname) AS identity, jsonb_build_object(${password} 'SUPERUSER', r.rolsuper,
      'INHERIT', r.rolinherit, 'CREATEROLE', r.rolcreaterole, 'CREATEDB', r.rolcreatedb, 'LOGIN', r.rolcanlogin,
      'REPLICATION', r.rolreplication, 'BYPASSRLS', r.rolbypassrls, 'CONNECTION LIMIT', r.rolconnlimit,
      'VALID UNTIL', r.rolvaliduntil, 'comment', shobj_description(r.oid, 'pg_authid'),
      'settings', (SELECT jsonb_object_agg(split_part(e, '=', 1), substr(e, strpos(e, '=') + 1))
        FROM pg_db_role_setting s, unnest(s.setconfig) AS e WHERE s.setrole = r.oid AND s.setdatabase = 0)) AS definition
    FROM ${verifiers ? "pg_authid" : "pg_roles"} r WHERE r.rolname = ANY (${namesArray(names)})`;
}

/** 15 knows the admin option alone. */
function memberships({ roles: names, lowestMajor }: CatalogScope): string {
  const options =
    lowestMajor < 16
      ? ""
      : `, 'INHERIT', bool_or((to_jsonb(a)->>'inherit_option')::bool), 'SET', bool_or((to_jsonb(a)->>'set_option')::bool)`;
  return `SELECT format('of %I in %I', m.rolname, g.rolname) AS identity,
      jsonb_build_object('ADMIN', bool_or(a.admin_option)${options}) AS definition
    FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
    WHERE m.rolname = ANY (${namesArray(names)}) AND (g.rolname = ANY (${namesArray(names)}) OR g.rolname ~ '^pg_')
    GROUP BY m.rolname, g.rolname`;
}

function namesArray(names: readonly string[]): string {
  return `ARRAY[${names.map(literal).join(", ")}]::name[]`;
}
