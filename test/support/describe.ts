import pg from "pg";
import type { Cluster } from "./cluster.ts";

/** All that a user would miss of a database, as text: two databases are the same when their descriptions are. */
export interface Description {
  /** Every object's definition, owner, grants, comment and label, as pg_dump writes them. */
  schema: string[];
  /** The rows of every table and materialized view, sorted; by their hash where they are many. */
  rows: Record<string, string>;
  sequences: Record<string, string>;
  largeObjects: unknown[];
  extensions: unknown[];
  /** What belongs to the database as a whole, in the shared catalogs. */
  database: unknown;
  /** Tables that the planner has statistics of. */
  analyzed: string[];
}

export async function describeDatabase(cluster: Cluster, database: string): Promise<Description> {
  // The database may have a timeout of its own.
  const { host, port, superuser: user, password } = cluster;
  const client = new pg.Client({ host, port, user, password, database, options: "-c statement_timeout=0" });
  await client.connect();
  try {
    await client.query("SET search_path = pg_catalog; SET bytea_output = 'hex'");
    return {
      schema: await definitions(cluster, database),
      rows: await rowsOf(client),
      sequences: await sequencesOf(client),
      largeObjects: await largeObjectsOf(client),
      extensions: await select(
        client,
        "SELECT extname, extversion, extnamespace::regnamespace::text FROM pg_extension ORDER BY 1",
      ),
      database: await databaseItself(client),
      analyzed: (
        await select<{ name: string }>(
          client,
          `SELECT DISTINCT schemaname || '.' || tablename AS name FROM pg_stats
           WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
        )
      ).map(({ name }) => name),
    };
  } finally {
    await client.end();
  }
}

/** Sorted: pg_dump breaks ties by OID, which a restore cannot keep. */
async function definitions(cluster: Cluster, database: string): Promise<string[]> {
  const text = await cluster.program("pg_dump", ["--schema-only"], database);
  return text
    .split("\n\n")
    .map((part) => part.trim())
    .filter((part) => part !== "" && !/^(-- (Dumped|PostgreSQL database)|\\(un)?restrict)/m.test(part))
    .sort();
}

async function rowsOf(client: pg.Client): Promise<Record<string, string>> {
  const tables = await select<{ name: string }>(
    client,
    `SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE (relkind = 'r' OR relkind = 'm' AND relispopulated) AND nspname !~ '^pg_' AND nspname <> 'information_schema'
     ORDER BY 1`,
  );
  const rows: Record<string, string> = {};
  for (const { name } of tables) {
    const [found] = await select<{ content: string }>(
      client,
      `SELECT CASE WHEN count(*) < 50 AND getdatabaseencoding() = 'UTF8' THEN coalesce(string_agg(r, E'\\n' ORDER BY r COLLATE "C"), '')
         ELSE count(*) || ' rows ' || md5(string_agg(md5(r), '' ORDER BY r COLLATE "C")) END AS content
       FROM (SELECT t::text AS r FROM ONLY ${name} t) AS all_rows`,
    );
    rows[name] = found?.content ?? "";
  }
  return rows;
}

async function sequencesOf(client: pg.Client): Promise<Record<string, string>> {
  const names = await select<{ name: string }>(
    client,
    "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'S' AND relpersistence <> 't' ORDER BY 1",
  );
  const values: Record<string, string> = {};
  for (const { name } of names) {
    const [found] = await select<{ value: string }>(
      client,
      `SELECT last_value || ' ' || is_called AS value FROM ${name}`,
    );
    values[name] = found?.value ?? "";
  }
  return values;
}

async function largeObjectsOf(client: pg.Client): Promise<unknown[]> {
  return select(
    client,
    `SELECT oid::text, pg_get_userbyid(lomowner) AS owner, lomacl::text AS grants, md5(lo_get(oid)) AS content,
       obj_description(oid, 'pg_largeobject') AS comment FROM pg_largeobject_metadata ORDER BY oid`,
  );
}

async function databaseItself(client: pg.Client): Promise<unknown> {
  return select(
    client,
    `SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, datlocprovider, datcollate,
       datctype, coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale') AS locale, datconnlimit,
       (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) AS grants, t.spcname AS tablespace,
       shobj_description(d.oid, 'pg_database') AS comment,
       (SELECT jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), setconfig) ORDER BY r.rolname NULLS FIRST)
        FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = setrole WHERE setdatabase = d.oid) AS settings
     FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()`,
  );
}

/** All roles but PostgreSQL's own, with their passwords' verifiers, settings and memberships. */
export async function describeRoles(cluster: Cluster): Promise<unknown[]> {
  const client = await cluster.connect();
  try {
    return await select(
      client,
      `SELECT to_jsonb(r) - 'oid' AS role, shobj_description(oid, 'pg_authid') AS comment,
         (SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0) AS settings,
         (SELECT jsonb_agg(jsonb_build_array(pg_get_userbyid(roleid), to_jsonb(m) - '{oid,roleid,member,grantor}'::text[])
            ORDER BY pg_get_userbyid(roleid)) FROM pg_auth_members m WHERE member = r.oid) AS memberships
       FROM pg_authid r WHERE rolname !~ '^pg_' AND rolname <> '${cluster.superuser}' ORDER BY rolname`,
    );
  } finally {
    await client.end();
  }
}

async function select<Row>(client: pg.Client, sql: string): Promise<Row[]> {
  return (await client.query(sql)).rows as Row[];
}
