import { isPgkitError } from "../../lib/errors.ts";
import { identifier, literal, settingClause } from "../../postgres/quote.ts";
import { dumpRoles } from "../../postgres/roles.ts";
import type { Session } from "../../postgres/session.ts";
import { applicationPasswords, applicationRoles, comparePasswords } from "../role-passwords.ts";
import type { MoveContext } from "../step.ts";
import { type Found, type Known, refusal, some, warning } from "./known.ts";

/** Whether the roles can be the same on the target, and who else uses them. */
export async function roleRisks(known: Known): Promise<Found[]> {
  const { context } = known;
  const { names, here, elsewhere } = await context.session("source", async (session) => {
    const needed = await dumpRoles(session);
    const facts = await roleFacts(session, needed.names);
    return { names: needed.names, here: facts, elsewhere: await usedElsewhere(session, needed.names) };
  });
  const maintenance = context.target.connection.database;
  const there = await context.session("target", (session) => roleFacts(session, names), maintenance);
  return [
    ...superuserRisks(known, here),
    ...here.flatMap((role) =>
      conflict(
        known,
        role,
        there.find(({ name }) => name === role.name),
      ),
    ),
    ...(await passwordRisks(known, here, there)),
    ...verifierRisks(known, here, there),
    ...elsewhere.map(({ role, databases }) =>
      warning(
        `role ${role} has objects or grants in ${some(databases)} of ${context.source.instance} too`,
        "it stays there when the move is finished; on the target it is a role of its own, with the same password",
      ),
    ),
  ];
}

interface RoleFacts {
  name: string;
  oid: number;
  attributes: Record<string, boolean | number | string | null>;
  settings: string[];
  /** `null` also where it may not be read. */
  verifier: string | null;
  readable: boolean;
}

async function roleFacts(session: Session, names: readonly string[]): Promise<RoleFacts[]> {
  const [access] = await session.query<{ readable: boolean }>(
    "SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT') AS readable",
  );
  const readable = access?.readable === true;
  return session.query<RoleFacts>(
    `SELECT r.rolname AS name, r.oid::int8::float8 AS oid, ${readable} AS readable,
       ${readable ? "r.rolpassword" : "NULL"} AS verifier,
       coalesce((SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0), '{}') AS settings,
       json_build_object('SUPERUSER', r.rolsuper, 'INHERIT', r.rolinherit, 'CREATEROLE', r.rolcreaterole,
         'CREATEDB', r.rolcreatedb, 'LOGIN', r.rolcanlogin, 'REPLICATION', r.rolreplication,
         'BYPASSRLS', r.rolbypassrls, 'CONNECTION LIMIT', r.rolconnlimit, 'VALID UNTIL', r.rolvaliduntil) AS attributes
     FROM ${readable ? "pg_authid" : "pg_roles"} r WHERE r.rolname = ANY ($1) ORDER BY 1`,
    [names],
  );
}

/** Neither CONNECTION LIMIT 0 nor any grant keeps a superuser out. */
function superuserRisks({ context, database }: Known, here: readonly RoleFacts[]): Found[] {
  const owner = here.find(({ name, oid }) => name === database.owner && oid !== bootstrapOid);
  const writers = new Set([
    ...(owner?.attributes["SUPERUSER"] === true && owner.attributes["LOGIN"] === true ? [owner.name] : []),
    ...database.sessions.filter(({ superuser }) => superuser).map(({ user }) => user),
  ]);
  return [...writers].map((user) => {
    const message = `${user} is a superuser on ${context.source.instance}: its writes cannot be held back while the database is moved`;
    const remedy = `ALTER ROLE ${identifier(user)} NOSUPERUSER`;
    const bootstrap = here.some(({ name, oid }) => name === user && oid === bootstrapOid);
    return bootstrap || user === context.source.connection.user
      ? refusal(message, `end its sessions in the database, and let the application use a role of its own`)
      : refusal(message, `${remedy}, or end its sessions where it is no part of the application`);
  });
}

const bootstrapOid = 10;

function conflict({ context }: Known, here: RoleFacts, there: RoleFacts | undefined): Found[] {
  // The first superuser is each server's own.
  if (there === undefined || there.oid === bootstrapOid || here.oid === bootstrapOid) return [];
  const differing = Object.entries(here.attributes).filter(([name, value]) => there.attributes[name] !== value);
  const to = context.target.instance;
  const risks: Found[] = [];
  if (differing.length > 0) {
    const what = differing
      .map(([name, value]) => `${name} is ${there.attributes[name]} there and ${value} here`)
      .join(", ");
    const weighs = differing.some(([name]) => ["SUPERUSER", "LOGIN", "BYPASSRLS"].includes(name));
    const remedy = `on ${to}, where nobody else uses it: ALTER ROLE ${identifier(here.name)} ${differing.map(([name, value]) => attributeClause(name, value)).join(" ")}`;
    risks.push(
      (weighs ? refusal : warning)(`${to} has a role ${here.name} already, which stays as it is: ${what}`, remedy),
    );
  }
  return [...risks, ...settingRisks(to, here, there)];
}

/** As `copy-roles` judges it, which would refuse it later: an application that cannot log in is found out too late. */
async function passwordRisks({ context, database }: Known, here: readonly RoleFacts[], there: readonly RoleFacts[]) {
  const passwords = await knownPasswords(context);
  const applications = applicationRoles(passwords, database.owner);
  const to = context.target.instance;
  return here.flatMap((role): Found[] => {
    const other = there.find(({ name }) => name === role.name);
    if (other === undefined || other.oid === bootstrapOid || role.attributes["LOGIN"] !== true) return [];
    const verdict = comparePasswords(asSeen(role), asSeen(other), passwords.get(role.name));
    if (verdict === "same") return [];
    const message = `${to} has a role ${role.name} already, ${verdict === "different" ? "with another password" : "perhaps with another password"}`;
    const remedy = `DROP ROLE ${identifier(role.name)} there where nobody uses it; or set the same password by ALTER ROLE`;
    return [(applications.includes(role.name) ? refusal : warning)(message, remedy)];
  });
}

/** None of a switch that does not answer, which is told elsewhere. */
async function knownPasswords(context: MoveContext): Promise<Awaited<ReturnType<typeof applicationPasswords>>> {
  try {
    return await applicationPasswords(context);
  } catch (error) {
    context.signal.throwIfAborted();
    if (isPgkitError(error)) return new Map();
    throw error;
  }
}

function asSeen({ name, attributes, verifier, readable }: RoleFacts) {
  return { name, login: attributes["LOGIN"] === true, traits: {}, verifier: readable ? verifier : undefined };
}

function settingRisks(to: string, here: RoleFacts, there: RoleFacts): Found[] {
  const missing = here.settings.filter((entry) => !there.settings.includes(entry));
  if (missing.length === 0) return [];
  const hint = missing.map((entry) => `ALTER ROLE ${identifier(here.name)} ${settingClause(entry)}`).join("; ");
  return [warning(`${to} has a role ${here.name} already, without its settings ${some(missing)}`, hint)];
}

function attributeClause(name: string, value: boolean | number | string | null): string {
  if (typeof value === "boolean") return value ? name : `NO${name}`;
  if (typeof value === "number") return `${name} ${value}`;
  return `${name} ${literal(value ?? "infinity").trim()}`;
}

function verifierRisks({ context }: Known, here: readonly RoleFacts[], there: readonly RoleFacts[]): Found[] {
  const closed = here.filter(({ readable, name }) => !readable && !there.some((role) => role.name === name));
  if (closed.length === 0) return [];
  const { user } = context.source.connection;
  const message = `${user} may not read the passwords of ${some(closed.map(({ name }) => name))}: they are made without one, unless the application's Secret has it`;
  return [warning(message, `GRANT SELECT ON pg_catalog.pg_authid TO ${identifier(user)}`)];
}

/** Databases in which a role owns something or has been granted something; not those that are shared by all. */
async function usedElsewhere(
  session: Session,
  names: readonly string[],
): Promise<{ role: string; databases: string[] }[]> {
  return session.query(
    `SELECT r.rolname AS role, json_agg(DISTINCT d.datname) AS databases
     FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid
       JOIN pg_database d ON d.oid = coalesce(NULLIF(s.dbid, 0), CASE WHEN s.classid = 'pg_database'::regclass THEN s.objid END)
     WHERE s.refclassid = 'pg_authid'::regclass AND r.rolname = ANY ($1) AND r.oid <> 10
       AND d.datname <> current_database() GROUP BY 1 ORDER BY 1`,
    [names],
  );
}
