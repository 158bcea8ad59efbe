import type { Session } from "../postgres/session.ts";

/** What counts of a role that two servers both have. */
export interface RoleFacts {
  name: string;
  login: boolean;
  /** Attributes, connection limit, expiry, memberships: each under its name, as text, to be compared. */
  traits: Record<string, string>;
  /** `null`: it has no password; `undefined`: the session may not read it. */
  verifier: string | null | undefined;
}

/** Of those of the roles that are there. */
export async function roleFacts(session: Session, names: readonly string[]): Promise<RoleFacts[]> {
  const [access] = await session.query<{ readable: boolean }>(
    "SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable",
  );
  const readable = access?.readable === true;
  const rows = await session.query<RoleFacts & { verifier: string | null }>(
    `SELECT r.rolname AS name, r.rolcanlogin AS login, ${readable ? "r.rolpassword" : "NULL"} AS verifier,
       json_build_object('SUPERUSER', r.rolsuper::text, 'INHERIT', r.rolinherit::text, 'CREATEROLE', r.rolcreaterole::text,
         'CREATEDB', r.rolcreatedb::text, 'LOGIN', r.rolcanlogin::text, 'REPLICATION', r.rolreplication::text,
         'BYPASSRLS', r.rolbypassrls::text, 'CONNECTION LIMIT', r.rolconnlimit::text,
         'VALID UNTIL', coalesce(r.rolvaliduntil::text, 'infinity'),
         'settings', coalesce((SELECT array_to_string(ARRAY(SELECT unnest(setconfig) ORDER BY 1), ', ')
           FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0), ''),
         'membership', array_to_string(ARRAY(SELECT DISTINCT g.rolname FROM pg_auth_members m
           JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid ORDER BY 1), ', ')) AS traits
     FROM ${readable ? "pg_authid" : "pg_roles"} r WHERE r.rolname = ANY ($1) ORDER BY r.rolname`,
    [names],
  );
  return rows.map((row) => ({ ...row, verifier: readable ? row.verifier : undefined }));
}

/** Which traits differ, each with both values; the password is not among them. */
export function differences(source: RoleFacts, target: RoleFacts): string[] {
  return Object.entries(source.traits).flatMap(([trait, value]) => {
    const found = target.traits[trait] ?? "";
    return found === value ? [] : [`${trait} is ${shown(found)} instead of ${shown(value)}`];
  });
}

function shown(value: string): string {
  return value === "" ? "none" : value;
}
