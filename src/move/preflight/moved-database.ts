import { type DatabaseFacts, databaseFacts } from "../../postgres/database-facts.ts";
import type { Session } from "../../postgres/session.ts";
import { ofExtension, userSchema } from "../compare/kinds-sql.ts";

/** What of the database a move must know of before it begins. */
export interface MovedDatabase extends DatabaseFacts {
  readonly tables: number;
  /** The version of its collation that the server has now. */
  readonly actualCollationVersion: string | null;
  /** That no published UPDATE could find the rows of; with a unique index that would do, and its columns that may be null. */
  readonly bare: readonly { name: string; index: string | null; nullable: readonly string[] }[];
  /** Told by all their columns, without an index: each UPDATE reads the whole table on the other side. */
  readonly fullWithoutIndex: readonly { name: string; bytes: number }[];
  /** Tables whose rows are told by all their columns, on one side or both, of which some have no equality. */
  readonly uncomparable: readonly { name: string; columns: readonly string[]; full: boolean }[];
  readonly unlogged: readonly string[];
  /** Sequences in use that an extension has made without declaring them to be the user's. */
  readonly extensionSequences: readonly string[];
  readonly foreignServers: readonly string[];
  readonly eventTriggers: readonly string[];
  readonly publications: readonly string[];
  readonly subscribed: readonly { name: string; enabled: boolean }[];
  readonly prepared: readonly string[];
  readonly slots: readonly string[];
  /** Functions in C that no extension has made, and their libraries. */
  readonly libraries: readonly string[];
  /** Who is in it now, but pgkit. */
  readonly sessions: readonly DatabaseSession[];
}

export interface DatabaseSession {
  readonly user: string;
  readonly application: string;
  readonly address: string | null;
  readonly superuser: boolean;
  readonly count: number;
}

/** Asks the session's own database, in two statements. */
export async function movedDatabase(session: Session): Promise<MovedDatabase> {
  const facts = await databaseFacts(session);
  const [row] = await session.query<{ found: Omit<MovedDatabase, keyof DatabaseFacts> }>(
    `SELECT json_build_object(${parts.map(([name, sql]) => `'${name}', (${sql})`).join(", ")}) AS found`,
  );
  if (row === undefined) throw new Error("a SELECT without FROM gave no row");
  return { ...facts, ...row.found };
}

/** One text for each row, as a JSON array; empty where there is none. */
function list(select: string): string {
  return `SELECT coalesce(json_agg(x ORDER BY x), '[]') FROM (${select}) AS each (x)`;
}

function rows(select: string): string {
  return `SELECT coalesce(json_agg(x), '[]') FROM (${select}) AS x`;
}

const tables = `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND ${userSchema} AND NOT ${ofExtension("pg_class", "c.oid")}`;
const name = "format('%I.%I', n.nspname, c.relname)";
const ofDatabase = "datname = current_database()";

const usableIndex = `SELECT i.* FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL`;
const nullableColumns = `SELECT a.attname FROM unnest(u.indkey[0:u.indnkeyatts - 1]) AS k (n)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.n WHERE NOT a.attnotnull`;

/** Of what a domain stands for, and an array holds. Composites, ranges and enums have an equality of their own. */
const hasEquality = `SELECT e.typtype <> 'b' OR EXISTS (SELECT FROM pg_opclass o JOIN pg_am ON pg_am.oid = o.opcmethod
    WHERE o.opcdefault AND amname IN ('btree', 'hash') AND (o.opcintype = e.oid OR EXISTS (SELECT FROM pg_cast
      WHERE castsource = e.oid AND casttarget = o.opcintype AND castmethod = 'b' AND castcontext = 'i')))
  FROM pg_type d JOIN pg_type e ON e.oid = CASE d.typcategory WHEN 'A' THEN d.typelem ELSE d.oid END
  WHERE d.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END`;

const parts: readonly [string, string][] = [
  ["tables", `SELECT count(*) FROM ${tables} AND c.relpersistence <> 't'`],
  ["actualCollationVersion", `SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE ${ofDatabase}`],
  [
    "bare",
    rows(`SELECT ${name} AS name, (SELECT quote_ident(relname) FROM pg_class WHERE oid = u.indexrelid) AS index, ARRAY(${nullableColumns}) AS nullable
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL (${usableIndex} ORDER BY i.indexrelid LIMIT 1) u ON true
      WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND ${userSchema} AND NOT ${ofExtension("pg_class", "c.oid")}
        AND c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
          AND i.indimmediate AND (i.indisreplident OR (i.indisprimary AND c.relreplident = 'd')))
      ORDER BY 1`),
  ],
  [
    "fullWithoutIndex",
    rows(`SELECT ${name} AS name, pg_table_size(c.oid)::float8 AS bytes FROM ${tables}
      AND c.relreplident = 'f' AND NOT EXISTS (${usableIndex}) ORDER BY 2 DESC`),
  ],
  [
    "uncomparable",
    rows(`SELECT ${name} AS name, json_agg(quote_ident(a.attname) ORDER BY a.attnum) AS columns, c.relreplident = 'f' AS full
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid
      WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND ${userSchema} AND NOT ${ofExtension("pg_class", "c.oid")}
        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
          AND (i.indisprimary OR i.indisreplident)) AND NOT (${hasEquality})
      GROUP BY 1, 3 ORDER BY 1`),
  ],
  ["unlogged", list(`SELECT ${name} FROM ${tables} AND c.relpersistence = 'u'`)],
  [
    "extensionSequences",
    list(`SELECT ${name} FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE ${userSchema} AND ${ofExtension("pg_class", "c.oid")}
        AND NOT EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)) AND pg_sequence_last_value(s.seqrelid) IS NOT NULL`),
  ],
  ["foreignServers", list("SELECT quote_ident(srvname) FROM pg_foreign_server")],
  ["eventTriggers", list("SELECT quote_ident(evtname) FROM pg_event_trigger WHERE evtenabled <> 'D'")],
  ["publications", list("SELECT quote_ident(pubname) FROM pg_publication WHERE pubname !~ '^pgkit_'")],
  [
    "subscribed",
    rows(`SELECT quote_ident(subname) AS name, subenabled AS enabled FROM pg_subscription
      WHERE subdbid = (SELECT oid FROM pg_database WHERE ${ofDatabase}) AND subname !~ '^pgkit_' ORDER BY 1`),
  ],
  ["prepared", list("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")],
  [
    "slots",
    list(
      "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() AND slot_name !~ '^pgkit_'",
    ),
  ],
  [
    "libraries",
    list(`SELECT DISTINCT p.probin FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
      WHERE l.lanname = 'c' AND p.oid >= 16384 AND NOT ${ofExtension("pg_proc", "p.oid")}`),
  ],
  [
    "sessions",
    rows(`SELECT a.usename AS user, a.application_name AS application, a.client_addr::text AS address,
        coalesce(r.rolsuper, false) AS superuser, count(*)::int AS count
      FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
      WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
        AND a.application_name !~ '^pgkit' GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2`),
  ],
];
