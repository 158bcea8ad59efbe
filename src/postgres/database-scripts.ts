import type { DatabaseFacts } from "./database-facts.ts";
import { identifier, literal, settingClause } from "./quote.ts";
import type { Session } from "./session.ts";

/**
 * For psql: makes the database, empty, with its encoding, locale and owner; under another name with `-v database=NAME`.
 * A tablespace that is missing is replaced by the default one.
 */
export function createScript(
  database: string,
  facts: Pick<DatabaseFacts, "owner" | "encoding" | "locale" | "tablespace">,
): string {
  const tablespace = literal(facts.tablespace);
  return `${header(database, "database.sql", "makes the database, empty")}
CREATE DATABASE :"database" WITH TEMPLATE template0 ENCODING ${literal(facts.encoding)} ${localeClause(facts.locale)};
ALTER DATABASE :"database" OWNER TO ${identifier(facts.owner)};
SELECT format('ALTER DATABASE %I SET TABLESPACE %I', :'database', spcname)
  FROM pg_catalog.pg_tablespace WHERE spcname = ${tablespace} AND spcname <> 'pg_default' \\gexec
`;
}

/**
 * For psql, after the load: the database's settings, connection limit, grants, comment and labels. After, because a
 * setting such as default_transaction_read_only would stop the load.
 */
export async function settingsScript(session: Session, { connectionLimit }: DatabaseFacts): Promise<string> {
  const statements = [
    ...(connectionLimit === -1 ? [] : [`ALTER DATABASE :"database" CONNECTION LIMIT ${connectionLimit}`]),
    ...(await settingStatements(session)),
    ...(await grantStatements(session)),
    ...(await commentStatements(session)),
    ...(await labelStatements(session)),
  ];
  const title = header(session.database, "settings.sql", "sets what belongs to the database itself");
  return [title, "BEGIN;", ...statements.map((statement) => `${statement};`), "COMMIT;", ""].join("\n");
}

function header(database: string, file: string, does: string): string {
  // A line break in a database's name would end the comment.
  const name = JSON.stringify(database);
  return `-- Of database ${name}, for psql: ${does}.
-- psql -X -v ON_ERROR_STOP=1 [-v database=NAME] -f ${file}
\\encoding UTF8
\\if :{?database} \\else \\set database ${psqlQuoted(database)} \\endif`;
}

/** A string as psql's own backslash commands take it. */
function psqlQuoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll("\n", "\\n")}'`;
}

function localeClause({ provider, collate, ctype, locale, icuRules }: DatabaseFacts["locale"]): string {
  const own =
    provider === "icu" && locale !== undefined
      ? ` ICU_LOCALE ${literal(locale)}${icuRules === undefined ? "" : ` ICU_RULES ${literal(icuRules)}`}`
      : provider === "builtin" && locale !== undefined
        ? ` BUILTIN_LOCALE ${literal(locale)}`
        : "";
  return `LOCALE_PROVIDER ${provider} LC_COLLATE ${literal(collate)} LC_CTYPE ${literal(ctype)}${own}`;
}

/** Of the database and of roles in it. As all statements here for psql, with `:"database"` as the database's name. */
export async function settingStatements(session: Session): Promise<string[]> {
  const rows = await session.query<{ role: string | null; entries: string[] }>(
    `SELECT r.rolname AS role, s.setconfig AS entries FROM pg_db_role_setting s
       JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
       LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY r.rolname NULLS FIRST`,
  );
  return rows.flatMap(({ role, entries }) => {
    const target = role === null ? 'DATABASE :"database"' : `ROLE ${identifier(role)} IN DATABASE :"database"`;
    return entries.map((entry) => `ALTER ${target} ${settingClause(entry)}`);
  });
}

/**
 * A database with no ACL of its own keeps the default, in which PUBLIC may connect; one with an empty ACL grants nothing
 * to anybody.
 */
export async function grantStatements(session: Session): Promise<string[]> {
  const [own] = await session.query<{ owner: string }>(
    `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database
     WHERE datname = current_database() AND datacl IS NOT NULL`,
  );
  if (own === undefined) return [];
  const rows = await session.query<{ grantee: string | null; privilege: string; grantable: boolean }>(
    `SELECT r.rolname AS grantee, a.privilege_type AS privilege,
       a.is_grantable AS grantable
     FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE d.datname = current_database() AND (a.grantee = 0 OR r.oid IS NOT NULL)
     ORDER BY r.rolname NULLS FIRST, a.privilege_type`,
  );
  return [
    `REVOKE ALL ON DATABASE :"database" FROM PUBLIC, ${identifier(own.owner)}`,
    ...rows.map(({ grantee, privilege, grantable }) => {
      const to = grantee === null ? "PUBLIC" : identifier(grantee);
      return `GRANT ${privilege} ON DATABASE :"database" TO ${to}${grantable ? " WITH GRANT OPTION" : ""}`;
    }),
  ];
}

async function commentStatements(session: Session): Promise<string[]> {
  const comments = await session.query<{ comment: string | null }>(
    `SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = current_database()`,
  );
  return comments.flatMap(({ comment }) =>
    comment === null ? [] : [`COMMENT ON DATABASE :"database" IS ${literal(comment)}`],
  );
}

export async function labelStatements(session: Session): Promise<string[]> {
  const labels = await session.query<{ provider: string; label: string }>(
    `SELECT l.provider, l.label FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
     WHERE l.classoid = 'pg_database'::regclass AND d.datname = current_database()`,
  );
  return labels.map(
    ({ provider, label }) => `SECURITY LABEL FOR ${identifier(provider)} ON DATABASE :"database" IS ${literal(label)}`,
  );
}
