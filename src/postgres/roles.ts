import { identifier, literal, settingClause } from "./quote.ts";
import type { Session } from "./session.ts";

export interface RoleDump {
  /** The roles that the database needs, by name. */
  names: string[];
  /** False where the session's user may not read pg_authid, so that the roles have no passwords here. */
  passwordsIncluded: boolean;
  /** For psql: makes the roles that are missing, and with `-v update_roles=on` alters those that are there. */
  script: string;
}

/**
 * The roles that the session's database needs: its owner, the owners and grantees of what is in it, those with settings
 * for it, who is a member of these, and what any of them is a member of. PostgreSQL's own roles (`pg_...`) are
 * everywhere and left out.
 */
export async function dumpRoles(session: Session): Promise<RoleDump> {
  const [access] = await session.query<{ readable: boolean }>(
    `SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable`,
  );
  const passwordsIncluded = access?.readable === true;
  const roles = await neededRoles(session, passwordsIncluded);
  const memberships = await membershipsAmong(session, roles);
  const names = roles.map((role) => role.name);
  return { names, passwordsIncluded, script: rolesScript(roles, memberships) };
}

interface Role {
  oid: number;
  name: string;
  attributes: Record<string, boolean>;
  connectionLimit: number;
  validUntil: string | null;
  password: string | null;
  settings: string[];
  comment: string | null;
}

interface Membership {
  group: string;
  member: string;
  options: { admin_option?: boolean; inherit_option?: boolean; set_option?: boolean };
}

async function neededRoles(session: Session, withPasswords: boolean): Promise<Role[]> {
  const [catalog, password] = withPasswords ? ["pg_authid", "r.rolpassword"] : ["pg_roles", "NULL"];
  return session.query<Role>(
    `WITH RECURSIVE db AS (SELECT * FROM pg_database WHERE datname = current_database()),
     base AS (
       SELECT datdba AS oid FROM db
       UNION SELECT s.refobjid FROM pg_shdepend s, db WHERE s.refclassid = 'pg_authid'::regclass
         AND (s.dbid = db.oid OR (s.classid = 'pg_database'::regclass AND s.objid = db.oid))
       UNION SELECT (aclexplode(datacl)).grantee FROM db
       UNION SELECT setrole FROM pg_db_role_setting, db WHERE setdatabase = db.oid
       UNION SELECT subowner FROM pg_subscription, db WHERE subdbid = db.oid
       UNION SELECT 10 WHERE ${ownsSomething}
     ),
     members AS (
       SELECT oid FROM base
       UNION SELECT m.member FROM members JOIN pg_auth_members m ON m.roleid = members.oid
         JOIN pg_roles r ON r.oid = m.member WHERE NOT r.rolsuper AND members.oid <> 10
     ),
     needed AS (SELECT oid FROM members UNION SELECT m.roleid FROM needed JOIN pg_auth_members m ON m.member = needed.oid)
     SELECT r.oid::int8::float8 AS oid, r.rolname AS name, r.rolconnlimit AS "connectionLimit",
       json_build_object('SUPERUSER', r.rolsuper, 'INHERIT', r.rolinherit, 'CREATEROLE', r.rolcreaterole,
         'CREATEDB', r.rolcreatedb, 'LOGIN', r.rolcanlogin, 'REPLICATION', r.rolreplication,
         'BYPASSRLS', r.rolbypassrls) AS attributes,
       r.rolvaliduntil::text AS "validUntil", ${password} AS password, shobj_description(r.oid, 'pg_authid') AS comment,
       coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0), '{}') AS settings
     FROM ${catalog} r WHERE r.oid IN (SELECT oid FROM needed) AND r.rolname !~ '^pg_' ORDER BY r.rolname`,
  );
}

/**
 * The bootstrap superuser (oid 10) owns things without an entry in pg_shdepend. What extensions made does not count:
 * CREATE EXTENSION makes it again, for whoever runs it.
 */
const ownsSomething = [
  ["pg_namespace", "nspowner"],
  ["pg_class", "relowner"],
  ["pg_proc", "proowner"],
  ["pg_type", "typowner"],
  ["pg_operator", "oprowner"],
  ["pg_opclass", "opcowner"],
  ["pg_opfamily", "opfowner"],
  ["pg_collation", "collowner"],
  ["pg_conversion", "conowner"],
  ["pg_language", "lanowner"],
  ["pg_largeobject_metadata", "lomowner"],
  ["pg_ts_dict", "dictowner"],
  ["pg_ts_config", "cfgowner"],
  ["pg_foreign_data_wrapper", "fdwowner"],
  ["pg_foreign_server", "srvowner"],
  ["pg_event_trigger", "evtowner"],
  ["pg_publication", "pubowner"],
  ["pg_statistic_ext", "stxowner"],
  ["pg_default_acl", "defaclrole"],
]
  .map(
    ([catalog, owner]) => `EXISTS (SELECT FROM ${catalog} o WHERE o.${owner} = 10 AND o.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '${catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e'))`,
  )
  .join(" OR ");

async function membershipsAmong(session: Session, roles: readonly Role[]): Promise<Membership[]> {
  return session.query<Membership>(
    `SELECT g.rolname AS group, m.rolname AS member, to_jsonb(a) - 'oid' AS options
     FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
     WHERE a.member = ANY ($1::int8[]::oid[]) AND (a.roleid = ANY ($1::int8[]::oid[]) OR g.rolname ~ '^pg_')
     ORDER BY 1, 2, a.grantor`,
    [roles.map((role) => role.oid)],
  );
}

function rolesScript(roles: readonly Role[], memberships: readonly Membership[]): string {
  if (roles.length === 0) return "-- The database needs no roles but PostgreSQL's own.\n";
  const names = roles.map((role) => `(${literal(role.name)})`).join(", ");
  const statements = [...roles.flatMap(roleStatements), ...memberships.flatMap(membershipStatements)];
  return `-- The roles of one database, for psql: psql -X -v ON_ERROR_STOP=1 -f roles.sql
-- Roles that exist already are left as they are; -v update_roles=on alters them too.
\\encoding UTF8
\\if :{?update_roles} \\else \\set update_roles off \\endif
BEGIN;
CREATE TEMPORARY TABLE pgkit_missing ON COMMIT DROP AS
  SELECT name FROM (VALUES ${names}) AS needed (name)
  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name);
SELECT statement FROM (VALUES
  ${statements.map((text, index) => `(${index}, ${text})`).join(",\n  ")}
) AS v (step, roles, runs, applies, statement),
LATERAL (SELECT EXISTS (SELECT FROM pgkit_missing WHERE name::text = ANY (roles)) AS is_new) AS state
WHERE applies AND ((is_new AND runs <> 'existing')
  OR (:'update_roles' = 'on' AND (runs = 'any' OR (runs = 'existing' AND NOT is_new))))
ORDER BY step \\gexec
COMMIT;
`;
}

function roleStatements(role: Role): string[] {
  const attributes = Object.entries(role.attributes).map(([name, set]) => (set ? name : `NO${name}`));
  const options = [
    ...attributes,
    `CONNECTION LIMIT ${role.connectionLimit}`,
    ...(role.password === null ? [] : [`PASSWORD ${literal(role.password).trim()}`]),
    ...(role.validUntil === null ? [] : [`VALID UNTIL ${literal(role.validUntil)}`]),
  ].join(" ");
  const name = identifier(role.name);
  return [
    statement([role.name], "new", `CREATE ROLE ${name} WITH ${options}`),
    statement([role.name], "existing", `ALTER ROLE ${name} WITH ${options}`),
    ...role.settings.map((entry) => statement([role.name], "any", `ALTER ROLE ${name} ${settingClause(entry)}`)),
    ...(role.comment === null
      ? []
      : [statement([role.name], "any", `COMMENT ON ROLE ${name} IS ${literal(role.comment)}`)]),
  ];
}

/**
 * From 16 on, whoever makes a role has its ADMIN option already, from above, and cannot be given it again by himself; but
 * the rest he can take.
 */
function membershipStatements(membership: Membership): string[] {
  const { group, member, options } = membership;
  const runs = (applies: string, sql: string) => statement([group, member], "any", sql, applies);
  if (options.admin_option !== true) return [runs("true", grant(membership))];
  const others = `(current_user <> ${literal(member)} OR current_setting('is_superuser')::bool)`;
  const useful = options.inherit_option !== false || options.set_option !== false;
  const withoutAdmin = grant({ ...membership, options: { ...options, admin_option: false } });
  return [runs(others, grant(membership)), ...(useful ? [runs(`NOT ${others}`, withoutAdmin)] : [])];
}

/** One row of the script's VALUES: it runs where one of these roles is new, where it exists, or in any case. */
function statement(roles: readonly string[], runs: "new" | "existing" | "any", sql: string, applies = "true"): string {
  return `ARRAY[${roles.map(literal).join(", ")}]::text[], '${runs}', ${applies}, ${literal(sql)}`;
}

/** The options of 16 and newer are named only there: 15 knows the admin option alone. */
function grant({ group, member, options }: Membership): string {
  const named = [
    ...(options.admin_option === true ? ["ADMIN OPTION"] : []),
    ...(options.inherit_option === undefined ? [] : [`INHERIT ${options.inherit_option ? "TRUE" : "FALSE"}`]),
    ...(options.set_option === undefined ? [] : [`SET ${options.set_option ? "TRUE" : "FALSE"}`]),
  ].join(", ");
  return `GRANT ${identifier(group)} TO ${identifier(member)}${named === "" ? "" : ` WITH ${named}`}`;
}
