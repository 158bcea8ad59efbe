import { createHash } from "node:crypto";
import type { Connection } from "../postgres/connection.ts";
import { listTables, type TableEntry } from "../postgres/database-facts.ts";
import { identifier } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";

/** The content of a database in a few numbers; two databases of the same `hash` hold the same. */
export interface Fingerprint {
  /** SHA-256, in hex, over every row, column, index, constraint, sequence, owner and grant. */
  hash: string;
  tables: number;
  rows: number;
}

/** Reads all of the database. Depends on nothing that a restore may change, such as OIDs or the order of rows. */
export async function fingerprint(connection: Connection, database: string, signal: AbortSignal): Promise<Fingerprint> {
  return withSession(connection, { database, signal }, async (session) => {
    const tables = await listTables(session);
    const hash = createHash("sha256").update(await structureOf(session));
    let rows = 0;
    for (const table of tables.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))) {
      const content = await contentOf(session, table);
      hash.update(`\n${nameOf(table)} ${content.rows} ${content.hash}`);
      rows += content.rows;
    }
    return { hash: hash.digest("hex"), tables: tables.length, rows };
  });
}

async function contentOf(session: Session, { schema, name }: TableEntry): Promise<{ rows: number; hash: string }> {
  const [content] = await session.query<{ rows: number; hash: string }>(
    `SELECT count(*)::float8 AS rows, encode(sha256(coalesce(string_agg(row, '' ORDER BY row COLLATE "C"), '')::bytea), 'hex') AS hash
     FROM (SELECT md5(pgkit_row::text) AS row FROM ONLY ${identifier(schema)}.${identifier(name)} AS pgkit_row) AS rows`,
  );
  return content ?? { rows: 0, hash: "" };
}

async function structureOf(session: Session): Promise<string> {
  const [structure] = await session.query<{ text: string }>(
    `WITH relations AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
       WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relpersistence <> 't')
     SELECT string_agg(line, E'\\n' ORDER BY line COLLATE "C") AS text FROM (
       SELECT concat_ws(' ', 'relation', oid::regclass, relkind, pg_get_userbyid(relowner), obj_description(oid, 'pg_class'),
         (SELECT array_agg(acl::text ORDER BY acl::text COLLATE "C") FROM unnest(relacl) AS acl)) FROM relations
       UNION ALL SELECT concat_ws(' ', 'column', r.oid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
         pg_get_expr(adbin, adrelid)) FROM relations r JOIN pg_attribute a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped
         LEFT JOIN pg_attrdef ON adrelid = r.oid AND adnum = attnum
       UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(k.oid))
         FROM pg_constraint k JOIN relations r ON r.oid = conrelid
       UNION ALL SELECT pg_get_indexdef(oid) FROM relations WHERE relkind = 'i'
       UNION ALL SELECT concat_ws(' ', 'sequence', schemaname, sequencename, last_value) FROM pg_sequences
       UNION ALL SELECT concat_ws(' ', 'database', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datconnlimit,
         (SELECT array_agg(acl::text ORDER BY acl::text COLLATE "C") FROM unnest(datacl) AS acl))
         FROM pg_database WHERE datname = current_database()
     ) AS lines (line)`,
  );
  return structure?.text ?? "";
}

function nameOf({ schema, name }: TableEntry): string {
  return `${identifier(schema)}.${identifier(name)}`;
}
