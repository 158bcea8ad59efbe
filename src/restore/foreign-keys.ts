import { isPgkitError } from "../lib/errors.ts";
import type { Bytes } from "../lib/streams.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { sqlStateOf } from "../postgres/session-errors.ts";
import { type ToolTarget, toolInput } from "../postgres/tools.ts";

/** The SQL of an archive that comes after its data, foreign keys and all, in the encoding of its database. */
export async function readPostData(target: ToolTarget, schemaArchive: Bytes): Promise<Buffer> {
  const text = await toolInput(target, "pg_restore", ["--section=post-data", "--file=-"], schemaArchive, {
    // All that it prints is in the table of contents, at the front.
    mayStopReading: true,
    encoding: "latin1",
  });
  return Buffer.from(text, "latin1");
}

/**
 * Adds the foreign keys of and to `tables` that stand in `script` to the target's database, as far as its rows fit them.
 * Gives the statements of those that they do not fit, each with the reason; one that is there already is fine.
 */
export async function addForeignKeys(
  { connection, database, signal }: Pick<ToolTarget, "connection" | "database" | "signal">,
  { script, encoding }: { script: Buffer; encoding: string },
  tables: readonly { schema: string; name: string }[],
): Promise<string[]> {
  return withSession(connection, { database, signal }, async (session) => {
    const text = encoding === "UTF8" ? script.toString("utf8") : await decoded(session, script, encoding);
    const names = await qualifiedNames(session, tables);
    const failures: string[] = [];
    for (const [statement, table = "", referenced = ""] of text.matchAll(foreignKey)) {
      if (!names.includes(table) && !names.includes(referenced)) continue;
      const failure = await tryToAdd(session, statement);
      if (failure !== undefined) failures.push(failure);
    }
    return failures;
  });
}

/** The server knows all encodings that a database can have. */
async function decoded(session: Session, bytes: Buffer, encoding: string): Promise<string> {
  const [row] = await session.query<{ text: string }>("SELECT convert_from($1::bytea, $2) AS text", [bytes, encoding]);
  return row?.text ?? "";
}

/** A name as pg_dump writes it: plain, or in double quotes with anything in it. */
const word = '(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")*")';
const words = `\\(${word}(?:, (?:PERIOD )?${word})*\\)`;
/** As pg_dump writes it, with the two tables' names. */
const foreignKey = new RegExp(
  `^ALTER TABLE (?:ONLY )?(${word}\\.${word})\\n\\s+ADD CONSTRAINT ${word} FOREIGN KEY ${words} ` +
    `REFERENCES (${word}\\.${word})${words}[^;]*;$`,
  "gm",
);

/** Each name as PostgreSQL itself quotes it, which is how pg_dump does. */
async function qualifiedNames(
  session: Session,
  tables: readonly { schema: string; name: string }[],
): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    "SELECT format('%I.%I', s, t) AS name FROM unnest($1::text[], $2::text[]) AS names (s, t)",
    [tables.map((table) => table.schema), tables.map((table) => table.name)],
  );
  return rows.map((row) => row.name);
}

/** Runs a statement that the live rows may not allow; gives it with the reason when they do not. */
export async function tryToAdd(session: Session, statement: string): Promise<string | undefined> {
  try {
    await session.query(statement);
    return undefined;
  } catch (error) {
    if (!isPgkitError(error, "postgres-failed")) throw error;
    // duplicate_object: the constraint is on a live table and never went.
    return sqlStateOf(error) === "42710" ? undefined : `${statement.replaceAll(/\s+/g, " ")} -- ${error.message}`;
  }
}
