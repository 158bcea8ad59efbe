import { identifier, literal } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import type { Found } from "../ledger.ts";
import type { Interview } from "./instance.ts";
import { some } from "./some.ts";

/** What the backup's user may do in one database. */
export interface DatabaseRights {
  database: string;
  /** Everything that pg_dump reads is open to it. */
  complete: boolean;
  /** `pg_authid`, which is granted in each database by itself, tells the roles' SCRAM verifiers. */
  readsVerifiers: boolean;
}

/** Above this many names one role that may read everything is the shorter remedy. */
const namesInARemedy = 5;

/** Tells exactly what pg_dump would stumble over in the session's database. A superuser may do everything. */
export async function rightsIn(
  session: Session,
  found: Found,
  user: string,
  superuser: boolean,
): Promise<DatabaseRights> {
  const { database } = session;
  if (superuser) return { database, complete: true, readsVerifiers: true };
  const told = [
    tellUnreadable(found, user, await unreadable(session)),
    tellRowSecurity(found, user, await filtered(session)),
    tellLargeObjects(found, user, await closedLargeObjects(session)),
  ];
  const [access] = await session.query<{ readable: boolean }>(
    "SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable",
  );
  return { database, complete: !told.includes(true), readsVerifiers: access?.readable === true };
}

/** Sums up what was seen in each database; `undefined` where it could not be looked into. */
export function tellPrivileges(
  found: Found,
  { connection: { user }, server }: Interview,
  looked: readonly (DatabaseRights | undefined)[],
) {
  if (server.superuser) return found.ok(`${user} is a superuser`);
  const rights = looked.filter((each) => each !== undefined);
  const blind = rights.filter(({ readsVerifiers }) => !readsVerifiers).map(({ database }) => database);
  if (blind.length > 0) {
    found.warning(
      `${user} may not see the roles' passwords (SCRAM verifiers) in ${some(blind)}: roles are restored without them`,
      `in each: GRANT SELECT ON pg_catalog.pg_authid TO ${identifier(user)}`,
    );
  }
  const complete = rights.filter((each) => each.complete).length;
  if (complete === looked.length) found.ok(`${user} may read all of ${looked.length} database(s)`);
}

/** What a restore does besides: only a warning, as another user may be the one who restores. */
export async function restorePrivileges(
  session: Session,
  found: Found,
  { connection: { user }, server }: Interview,
): Promise<void> {
  if (server.superuser) return found.ok(`${user} is a superuser`);
  const [row] = await session.query<{ databases: boolean; roles: boolean; signal: boolean }>(
    `SELECT rolcreatedb AS databases, rolcreaterole AS roles, pg_has_role('pg_signal_backend', 'USAGE') AS signal
     FROM pg_roles WHERE rolname = current_user`,
  );
  const name = identifier(user);
  const missing = [
    ...(row?.databases === true ? [] : [["make databases", `ALTER ROLE ${name} CREATEDB`] as const]),
    ...(row?.roles === true ? [] : [["make roles", `ALTER ROLE ${name} CREATEROLE`] as const]),
    ...(row?.signal === true
      ? []
      : [["end others' sessions (--replace)", `GRANT pg_signal_backend TO ${name}`] as const]),
  ];
  if (missing.length === 0) return found.ok(`${user} may make databases and roles, and end sessions`);
  found.warning(
    `${user} can back up, but not restore: it may not ${missing.map(([what]) => what).join(", ")}`,
    missing.map(([, statement]) => statement).join("; "),
  );
}

interface Relation {
  kind: "SCHEMA" | "TABLE" | "SEQUENCE";
  name: string;
}

/** Of extensions only the tables whose rows are the user's are dumped (pg_extension.extconfig). */
async function unreadable(session: Session): Promise<Relation[]> {
  return session.query<Relation>(
    `SELECT 'SCHEMA' AS kind, quote_ident(nspname) AS name FROM pg_namespace
     WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT has_schema_privilege(oid, 'USAGE')
     UNION ALL
     SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT has_table_privilege(c.oid, 'SELECT')
       AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
           AND NOT c.oid = ANY (coalesce(e.extconfig, '{}')))
     ORDER BY 1, 2`,
  );
}

function tellUnreadable(found: Found, user: string, closed: readonly Relation[]): boolean {
  if (closed.length === 0) return false;
  const to = `TO ${identifier(user)}`;
  const named = (kind: Relation["kind"]) => closed.filter((each) => each.kind === kind).map(({ name }) => name);
  const grants = (
    [
      ["SCHEMA", "USAGE"],
      ["TABLE", "SELECT"],
      ["SEQUENCE", "SELECT"],
    ] as const
  ).flatMap(([kind, right]) => {
    const names = named(kind);
    return names.length === 0 ? [] : [`GRANT ${right} ON ${kind} ${names.join(", ")} ${to}`];
  });
  found.error(
    `${user} may not read ${some(closed.map(({ kind, name }) => `${kind.toLowerCase()} ${name}`))}`,
    closed.length > namesInARemedy ? `GRANT pg_read_all_data ${to}` : grants.join("; "),
    "postgres-denied",
  );
  return true;
}

/** pg_dump fails on a table whose rows would be filtered, as it must not take some for all. */
async function filtered(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid) ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

function tellRowSecurity(found: Found, user: string, tables: readonly string[]): boolean {
  if (tables.length === 0) return false;
  const message = `row level security hides rows of ${some(tables)} from ${user}, so that pg_dump fails`;
  found.error(message, `ALTER ROLE ${identifier(user)} BYPASSRLS`, "postgres-denied");
  return true;
}

/** pg_read_all_data does not cover them. */
async function closedLargeObjects(session: Session): Promise<number> {
  const [row] = await session.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_largeobject_metadata m
     WHERE NOT current_setting('lo_compat_privileges')::bool AND NOT pg_has_role(m.lomowner, 'USAGE')
       AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
         AND CASE a.grantee WHEN 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END)`,
  );
  return row?.count ?? 0;
}

function tellLargeObjects(found: Found, user: string, count: number): boolean {
  if (count === 0) return false;
  const grant = `format('GRANT SELECT ON LARGE OBJECT %s TO %I', o, ${literal(user).trim()})`;
  found.error(
    `${user} may not read ${count} large object(s), which pg_read_all_data does not cover`,
    `DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP EXECUTE ${grant}; END LOOP; END $$`,
    "postgres-denied",
  );
  return true;
}
