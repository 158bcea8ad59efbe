import { identifier } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { type Found, type Known, refusal, some, warning } from "./known.ts";

/** What a target asks for where pgkit is no superuser there, as on a managed server. */
export async function managedRisks(known: Known): Promise<Found[]> {
  const { context, target } = known;
  if (target.superuser) return [];
  const owned = await context.session("source", ownedBySuperusers);
  return [...rightsRisks(known), ...superuserObjectRisks(known, owned), ...(await extensionRisks(known))];
}

function rightsRisks({ context, target }: Known): Found[] {
  const { user, may } = target;
  const to = context.target.instance;
  const needed = Object.entries(may).filter(([right]) => right !== "REPLICATION" || context.move.options.reverseFeed);
  const missing = needed.filter(([, has]) => !has).map(([right]) => right);
  if (missing.length === 0) return [];
  const attributes = missing.filter((right) => !right.startsWith("pg_"));
  const groups = missing.filter((right) => right.startsWith("pg_"));
  const hint = [
    ...(attributes.length === 0 ? [] : [`ALTER ROLE ${identifier(user)} ${attributes.join(" ")}`]),
    ...(groups.length === 0 ? [] : [`GRANT ${groups.join(", ")} TO ${identifier(user)}`]),
  ].join("; ");
  return [refusal(`${user} is no superuser on ${to}, and lacks ${missing.join(", ")} there`, hint)];
}

/** What only a superuser can make. */
function superuserObjectRisks({ context, target, database }: Known, owned: readonly string[]): Found[] {
  const found = [
    ...(database.eventTriggers.length === 0 ? [] : [`event triggers ${some(database.eventTriggers)}`]),
    ...(database.libraries.length === 0 ? [] : [`functions in C (${some(database.libraries)})`]),
    ...(owned.length === 0 ? [] : [`objects that belong to superusers (${some(owned)})`]),
  ];
  return found.map((what) =>
    refusal(
      `${what} cannot be made on ${context.target.instance} by ${target.user}, which is no superuser there`,
      "drop them or give them to the application's role (ALTER ... OWNER TO) on the source",
    ),
  );
}

async function ownedBySuperusers(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    `SELECT DISTINCT c.oid::regclass::text AS name FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
     WHERE r.rolsuper AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     UNION SELECT format('schema %I', nspname) FROM pg_namespace n JOIN pg_roles r ON r.oid = nspowner
     WHERE r.rolsuper AND n.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
     UNION SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_roles r ON r.oid = proowner
     WHERE r.rolsuper AND p.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
     ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

/** Some managed servers let their administrator make more than PostgreSQL itself would. */
async function extensionRisks({ context, target, database }: Known): Promise<Found[]> {
  const names = database.extensions.map(({ name }) => name);
  const rows = await context.session(
    "target",
    (session) =>
      session.query<{ name: string }>(
        `SELECT name FROM pg_available_extension_versions WHERE name = ANY ($1) AND superuser GROUP BY name HAVING NOT bool_or(trusted)`,
        [names],
      ),
    context.target.connection.database,
  );
  if (rows.length === 0) return [];
  const message = `the extensions ${some(rows.map(({ name }) => name))} are made by superusers alone, and ${target.user} is none on ${context.target.instance}`;
  return [warning(message, "look whether that server lets its administrator make them, before the move stops there")];
}
